package testkit

import (
	"fmt"
	"regexp"
)

// numbersOf is a table with the numbers from 1 on in a database that no test looks at.
const numbersOf = "testkit_numbers.numbers"

// mysqlScript is run on every start. A statement takes one line.
func (m *Maria) mysqlScript() string {
	return fmt.Sprintf("CREATE USER IF NOT EXISTS 'root'@'127.0.0.1';\n"+
		"ALTER USER 'root'@'127.0.0.1' IDENTIFIED BY '%[1]s';\n"+
		"GRANT ALL ON *.* TO 'root'@'127.0.0.1' WITH GRANT OPTION;\n"+
		"ALTER USER 'root'@'localhost' IDENTIFIED BY '%[1]s';\n"+
		"CREATE DATABASE IF NOT EXISTS testkit_numbers;\n"+
		"CREATE TABLE IF NOT EXISTS %[2]s (seq int PRIMARY KEY);\n"+
		"SET SESSION cte_max_recursion_depth = 20000;\n"+
		"INSERT IGNORE INTO %[2]s WITH RECURSIVE n AS (SELECT 1 AS seq UNION ALL SELECT seq + 1 FROM n WHERE seq < 20000) SELECT seq FROM n;\n",
		m.Password, numbersOf)
}

var (
	sequence    = regexp.MustCompile(`\bseq_1_to_(\d+)\b`)
	ownSequence = regexp.MustCompile(`CREATE SEQUENCE [^;]*(;|$)`)
)

// forMySQL gives statements for MariaDB to MySQL, which knows no tables of numbers and
// no sequences.
func forMySQL(statements string) string {
	statements = ownSequence.ReplaceAllString(statements, "")
	return sequence.ReplaceAllString(statements, "(SELECT seq FROM "+numbersOf+" WHERE seq <= $1) AS seq_1_to_$1")
}

// Numbers is a table, as part of a statement, with the numbers from 1 to n as seq. Above
// 20,000 MySQL has 400 million rows of lower ones.
func (m *Maria) Numbers(n int) string {
	table := fmt.Sprintf("seq_1_to_%d", n)
	switch {
	case !m.IsMySQL:
		return table
	case n <= 20_000:
		return forMySQL(table)
	}
	return fmt.Sprintf("%[1]s JOIN (SELECT seq AS other FROM %[1]s) AS more", numbersOf)
}
