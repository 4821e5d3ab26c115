package mysql

import (
	"bytes"
	"strings"

	"github.com/dataguardian/dataguardian/internal/errs"
)

// What the dump tools write between statements.
const (
	trailer        = "-- Dump completed"
	lockPrefix     = "LOCK TABLES `"
	lockSuffix     = "` WRITE;"
	unlock         = "UNLOCK TABLES;"
	insertPrefix   = "INSERT INTO `"
	valuesSuffix   = " VALUES"
	lastRowSuffix  = ");"
	delimiterBegin = "DELIMITER ;;"
	delimiterEnd   = "DELIMITER ;"
)

const (
	lineHead = 512
	lineTail = 16
)

// script follows the SQL text of a dump tool as it passes by: it knows which
// table's data comes, counts rows, of which each has a line of its own or all of a
// statement have one, and proves that the last line is the trailer, which the tools
// write only when all went well. It keeps the ends of one line, however long that is.
//
// Line breaks in values are escaped by the tools, so that a line is a row; they
// stand as they are only in bodies of routines, which are between DELIMITER
// lines, and in odd names of tables, whose rows are not counted.
//
// Lines outside of tables' data define the schema: they are kept whole for as
// long as their statement is not at its end.
type script struct {
	started  func(table string)
	finished func(table string, rows int64) // rows is -1 when not counted

	size      int64
	head      []byte // of the line being read
	tail      []byte
	length    int64
	last      string // the last line that was not empty
	delimited bool
	table     string
	inTable   bool
	inRows    bool
	rows      int64
	insert    string  // what a statement for the table begins with
	tuples    *tuples // of a statement in one line, nil in other lines

	schema definitions
	whole  []byte // the line being read, outside of data
}

// Write follows b; it never fails.
func (s *script) Write(b []byte) (int, error) {
	n := len(b)
	s.size += int64(n)
	for len(b) > 0 {
		i := bytes.IndexByte(b, '\n')
		if i < 0 {
			s.add(b)
			break
		}
		s.add(b[:i])
		s.line()
		b = b[i+1:]
	}
	return n, nil
}

// Done returns an error with the code DUMP_INCOMPLETE unless the text ended
// with the trailer.
func (s *script) Done() error {
	if s.length == 0 && strings.HasPrefix(s.last, trailer) {
		return nil
	}
	return errs.New(errs.Unavailable, errs.CodeDumpIncomplete,
		"the dump ends after %d bytes without the line %q; it cannot be restored, run the backup again", s.size, trailer)
}

// again starts with the next text.
func (s *script) again() { s.last = "" }

func (s *script) add(b []byte) {
	s.length += int64(len(b))
	if !s.inTable && s.schema.err == nil {
		if s.whole = append(s.whole, b...); len(s.whole) > maxDefinition {
			s.schema.err, s.whole = errLongDefinition, nil
		}
	}
	keep := lineHead
	if s.inRows {
		keep = 1 // see row
	}
	if room := keep - len(s.head); room > 0 {
		s.head = append(s.head, b[:min(room, len(b))]...)
	}
	s.follow(b)
	if len(b) >= lineTail {
		s.tail = append(s.tail[:0], b[len(b)-lineTail:]...)
		return
	}
	s.tail = append(s.tail, b...)
	if over := len(s.tail) - lineTail; over > 0 {
		s.tail = append(s.tail[:0], s.tail[over:]...)
	}
}

// follow counts the rows of the line, if it is such a statement.
func (s *script) follow(b []byte) {
	switch name := int64(len(s.insert)); {
	case s.tuples != nil:
		s.tuples.follow(b)
	case !s.inTable || s.inRows || s.length < name || s.length-int64(len(b)) >= name:
	case bytes.HasPrefix(s.head, []byte(s.insert)):
		s.tuples = new(tuples)
		s.tuples.follow(b[int64(len(b))-(s.length-name):])
	}
}

func (s *script) line() {
	if s.length > 0 {
		s.see()
	}
	s.tuples = nil
	s.head, s.tail, s.whole, s.length = s.head[:0], s.tail[:0], s.whole[:0], 0
}

func (s *script) see() {
	if s.inRows {
		s.row()
		return
	}
	line := string(s.head)
	s.last = line
	if !s.inTable {
		s.define(line)
	}
	switch {
	case s.delimited:
		s.delimited = line != delimiterEnd
	case line == delimiterBegin:
		s.delimited = true
	case strings.HasPrefix(line, lockPrefix):
		name, whole := strings.CutSuffix(strings.TrimPrefix(line, lockPrefix), lockSuffix)
		if s.begin(unquoteName(name)); !whole {
			s.rows = -1
		}
	case line == unlock && s.inTable:
		s.end()
	case strings.HasPrefix(line, insertPrefix) && s.inTable && s.rows >= 0:
		switch s.inRows = s.tuples != nil && strings.HasSuffix(string(s.tail), valuesSuffix); {
		case s.inRows:
		case s.tuples != nil && s.tuples.goesOn(): // as MariaDB's tool begins with history
			s.rows, s.inRows = s.rows+s.tuples.rows, true
		case s.tuples != nil && s.tuples.whole():
			s.rows += s.tuples.rows
		default:
			s.rows = -1
		}
	}
}

// define hands a line to what collects definitions. Comments of the tools stand
// between statements and begin their lines.
func (s *script) define(line string) {
	if s.schema.err == nil {
		s.whole = s.schema.uses.line(s.whole)
	}
	switch {
	case s.schema.err != nil, line == delimiterBegin, line == delimiterEnd && s.delimited:
	case len(s.schema.statement) == 0 && strings.HasPrefix(line, "--"):
	case s.delimited:
		s.schema.line(s.whole, ";;")
	case !strings.HasPrefix(line, lockPrefix):
		s.schema.line(s.whole, ";")
	}
}

// row counts a line of an INSERT statement, "(...)," or "(...);".
func (s *script) row() {
	if s.head[0] != '(' {
		s.inRows, s.rows = false, -1
		return
	}
	s.rows++
	s.inRows = !strings.HasSuffix(string(s.tail), lastRowSuffix)
}

func (s *script) begin(table string) {
	s.table, s.inTable, s.rows = table, true, 0
	s.insert = insertPrefix + quoteName(table) + "`"
	if s.started != nil {
		s.started(table)
	}
}

func (s *script) end() {
	s.inTable = false
	if s.finished != nil {
		s.finished(s.table, s.rows)
	}
}

// quoteName writes what stands between the backticks.
func quoteName(name string) string { return strings.ReplaceAll(name, "`", "``") }

func unquoteName(quoted string) string { return strings.ReplaceAll(quoted, "``", "`") }

func ident(name string) string { return "`" + quoteName(name) + "`" }
