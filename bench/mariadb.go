package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/go-sql-driver/mysql"

	pb "github.com/dataguardian/dataguardian/gen/dataguardian/v1"
	"github.com/dataguardian/dataguardian/internal/testkit"
)

// mariadbBackups compares our backup of a database of MariaDB with what people
// would type.
func mariadbBackups(ctx context.Context, b *bench) (t table, _ error) {
	m, size, err := b.mariaCompany(ctx)
	if err != nil {
		return t, err
	}
	contenders, err := b.mariadbTools(m)
	if err != nil {
		return t, err
	}
	tools := len(contenders)
	control, err := b.shared(ctx)
	if err != nil {
		return t, err
	}
	datasource, err := control.datasource(ctx, pb.Datasource_mariadb, "company in MariaDB", mariaConnection(m))
	if err != nil {
		return t, err
	}
	disk, err := control.location(ctx, pb.StorageLocation_local, "disk for MariaDB", map[string]any{"path": control.backups() + "-mariadb"})
	if err != nil {
		return t, err
	}
	job, err := control.jobTo(ctx, "nightly MariaDB", datasource, disk, nil)
	if err != nil {
		return t, err
	}
	contenders = append(contenders, control.contender(b.servers[0].name, job))
	if _, err := contenders[0].once(ctx); err != nil { // its cache is warm for all
		return t, err
	}
	standings, err := b.compete(ctx, contenders)
	if err != nil {
		return t, err
	}
	return backupTable(fmt.Sprintf("Backup of a database of %s of MariaDB %s to the local disk", megabytes(size), m.Version), standings, standings[1:tools], size, b.rounds), nil
}

// mariaConnection is how a server of ours reaches the company in MariaDB.
func mariaConnection(m *testkit.Maria) map[string]any {
	return map[string]any{"host": m.Host, "port": m.Port, "database": source, "username": m.User, "password": m.Password}
}

// mariaTools are the programs that people back MariaDB up with.
type mariaTools struct {
	dump, zstd string
	options    string // file that says how to reach the server
	env        []string
}

// findMariaTools writes the file of options.
func findMariaTools(m *testkit.Maria, options string) (mariaTools, error) {
	t := mariaTools{options: options, env: []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C.UTF-8"}}
	var missing error
	if t.dump, missing = exec.LookPath("mariadb-dump"); missing == nil {
		t.zstd, missing = exec.LookPath("zstd")
	}
	if missing != nil {
		return t, fmt.Errorf("%w; scripts/install-packages.sh bench installs it", missing)
	}
	client := fmt.Sprintf("[client]\nhost=%s\nport=%d\nuser=%s\npassword=%s\n", m.Host, m.Port, m.User, m.Password)
	return t, os.WriteFile(options, []byte(client), 0o600)
}

func (t mariaTools) dumping() []string {
	return []string{t.dump, "--defaults-file=" + t.options, "--single-transaction", "--routines", "--triggers", "--events", source}
}

func (t mariaTools) compressing() []string { return []string{t.zstd, "-q", "-1", "-T2", "-c"} }

// mariadbTools are the contenders that are not ours. mydumper takes part where it
// is installed.
func (b *bench) mariadbTools(m *testkit.Maria) ([]contender, error) {
	t, err := findMariaTools(m, b.path("mariadb.cnf"))
	if err != nil {
		return nil, err
	}
	all := []contender{
		pipeline(dumpOnly, t.env, "", t.dumping()),
		pipeline("mariadb-dump, zstd -1 -T2", t.env, b.path("mariadb.sql"), t.dumping(), t.compressing()),
	}
	if mydumper, err := exec.LookPath("mydumper"); err == nil {
		all = append(all, b.mydumper(mydumper, t.options, t.env))
	} else {
		b.say("mydumper is not installed and does not take part")
	}
	return all, nil
}

// mydumper writes many compressed files, with as many threads as we take.
func (b *bench) mydumper(program, options string, env []string) contender {
	dir := b.path("mydumper")
	c := pipeline("mydumper -c -t 2", env, "", []string{
		program, "--defaults-file=" + options, "--database=" + source, "--outputdir=" + dir, "--compress", "--threads=2", "--routines", "--triggers", "--events",
	})
	run := c.run
	c.run = func(ctx context.Context) (measurement, error) {
		m, err := run(ctx)
		if err != nil {
			return m, err
		}
		m.bytes, err = bytesBelow(dir)
		return m, err
	}
	c.clean = func(context.Context) error { return os.RemoveAll(dir) }
	return c
}

func bytesBelow(dir string) (sum int64, err error) {
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	for _, f := range files {
		info, statErr := os.Stat(f)
		if statErr != nil {
			return sum, errors.Join(err, statErr)
		}
		sum += info.Size()
	}
	return sum, err
}

// makeMariaCompany makes the same company in MariaDB, about size bytes of it.
func makeMariaCompany(ctx context.Context, m *testkit.Maria, size int64) (int64, error) {
	db, err := sql.Open("mysql", m.DSN(""))
	if err != nil {
		return 0, err
	}
	db.SetMaxOpenConns(1) // each statement goes on where the one before was
	_, err = db.ExecContext(ctx, "CREATE DATABASE "+source)
	if err == nil {
		_, err = db.ExecContext(ctx, "USE "+source)
	}
	for i, r := range company() {
		if err == nil {
			err = r.load(ctx, db, newProse(uint64(i)), size/100*int64(r.share))
		}
	}
	var made int64
	if err == nil {
		err = db.QueryRowContext(ctx, "SELECT sum(data_length + index_length) FROM information_schema.tables WHERE table_schema = ?", source).Scan(&made)
	}
	return made, errors.Join(err, db.Close())
}

// load makes a table and streams its rows, whose form both servers read.
func (r relation) load(ctx context.Context, db *sql.DB, p *prose, bytes int64) error {
	columns := strings.NewReplacer(" lines", " `lines`", " uuid", " char(36)", " jsonb", " longtext", " text[]", " text", " timestamptz", " varchar(40)", " inet", " varchar(40)",
		" double precision", " double").Replace(r.columns)
	if _, err := db.ExecContext(ctx, "CREATE TABLE "+r.name+" ("+columns+")"); err != nil {
		return fmt.Errorf("table %s: %w", r.name, err)
	}
	reader, writer := io.Pipe()
	go func() { writer.CloseWithError(r.write(writer, p, bytes)) }() // it gets an error once the reader is closed
	name := r.name + strconv.FormatInt(bytes, 10)
	mysql.RegisterReaderHandler(name, func() io.Reader { return reader })
	defer mysql.DeregisterReaderHandler(name)
	_, err := db.ExecContext(ctx, "LOAD DATA LOCAL INFILE 'Reader::"+name+"' INTO TABLE "+r.name+" CHARACTER SET utf8mb4")
	return errors.Join(err, reader.Close())
}
