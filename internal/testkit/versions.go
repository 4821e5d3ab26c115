package testkit

import (
	"os"
	"path/filepath"
)

// Variables that name programs of other versions than the system's; see
// scripts/matrix.sh. Without them the system's are used.
const (
	// PostgresEnv is the directory of initdb and postgres, with clients of the same version.
	PostgresEnv = "TESTKIT_POSTGRES"
	// MySQLEnv is what the server and its clients are below: bin, sbin, lib and share.
	MySQLEnv = "TESTKIT_MYSQL"
	// PostgresClientsEnv and MySQLClientsEnv list the only directories in which the
	// product finds its tools.
	PostgresClientsEnv = "TESTKIT_POSTGRES_CLIENTS"
	MySQLClientsEnv    = "TESTKIT_MYSQL_CLIENTS"
)

// ClientDirs returns the directories that one of the variables for clients lists, nil
// without it.
func ClientDirs(variable string) []string {
	if list := os.Getenv(variable); list != "" {
		return filepath.SplitList(list)
	}
	return nil
}

// mysqlProgram finds a program of the server that is under test.
func mysqlProgram(name string) (string, error) {
	prefix := os.Getenv(MySQLEnv)
	if prefix == "" {
		return program(name, mariaPackages)
	}
	return programIn(name, "is not below "+prefix, filepath.Join(prefix, "bin"), filepath.Join(prefix, "sbin"))
}
