package mysql

import "bytes"

// tuples counts the rows of an INSERT statement that stands in one line, as mysqldump
// and mariadb-dump before 10.6 write it: "INSERT INTO `t` VALUES (1,'a'),(2,'b');", with
// a list of columns before VALUES where some are generated. What it follows begins behind
// the table's name. Values are as those tools write them: quoted with backslashes.
type tuples struct {
	rows   int64
	depth  int
	quote  byte // of the text being read, 0 outside of one
	escape bool // the next byte is part of a text, whatever it is
	last   byte // the last byte outside of texts
}

// follow goes on with the line.
func (t *tuples) follow(b []byte) {
	for len(b) > 0 {
		switch {
		case t.escape:
			t.escape = false
		case t.quote != 0:
			ends := `'\`
			if t.quote == '`' {
				ends = "`"
			}
			i := bytes.IndexAny(b, ends)
			if i < 0 {
				return
			}
			b = b[i:]
			t.escape = b[0] == '\\'
			if b[0] == t.quote {
				t.quote = 0 // a doubled one begins the next text
			}
		default:
			t.outside(b[0])
		}
		b = b[1:]
	}
}

func (t *tuples) outside(c byte) {
	switch c {
	case '\'', '`':
		t.quote = c
	case '(':
		if t.depth == 0 && (t.last == ',' || t.last == 'S') { // after VALUES, or another row
			t.rows++
		}
		t.depth++
	case ')':
		t.depth--
	case ' ':
		return
	}
	t.last = c
}

// whole reports whether the statement is at its end.
func (t *tuples) whole() bool { return t.quote == 0 && t.depth == 0 && t.last == ';' }

// goesOn reports whether more rows come, on lines of their own.
func (t *tuples) goesOn() bool { return t.quote == 0 && t.depth == 0 && t.last == ',' }
