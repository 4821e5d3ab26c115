package mysql

import (
	"context"
	"fmt"
	"regexp"
)

// charset is a database's default character set and collation. The dump tools
// leave it out, and routines depend on it.
type charset struct{ name, collation string }

const charsetLine = "-- dataguardian database charset=%s collation=%s\n"

func (c charset) line() string { return fmt.Sprintf(charsetLine, c.name, c.collation) }

// clause is for CREATE DATABASE; both names are words, see readCharset.
func (c charset) clause() string {
	if c.name == "" {
		return ""
	}
	return fmt.Sprintf(" CHARACTER SET %s COLLATE %s", c.name, c.collation)
}

// readCharset finds the line at the start of a dump; the zero charset is that
// of a dump without it.
func readCharset(head []byte) charset {
	m := regexp.MustCompile(`^-- dataguardian database charset=([a-z0-9_]+) collation=([a-z0-9_]+)\n`).FindSubmatch(head)
	if m == nil {
		return charset{}
	}
	return charset{name: string(m[1]), collation: string(m[2])}
}

func (s *session) charset(ctx context.Context) (charset, error) {
	var c charset
	err := s.conn.QueryRowContext(ctx, "SELECT @@character_set_database, @@collation_database").Scan(&c.name, &c.collation)
	if err != nil {
		return c, s.failed(ctx, err, "asking for the character set")
	}
	return c, nil
}

// collationOf is the default collation of a database; empty when that is not there.
func (s *session) collationOf(ctx context.Context, database string) (string, error) {
	found, err := s.names(ctx, "SELECT default_collation_name FROM information_schema.schemata WHERE schema_name = ?", database)
	if err != nil || len(found) == 0 {
		return "", err
	}
	return found[0], nil
}
