package mysql

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"

	"github.com/dataguardian/dataguardian/internal/errs"
)

// Headings that the dump tools write before what belongs to one table, between two
// lines that are headingRule. They end with the name, quoted. What is before a table
// is not called the same by MariaDB and, since 5.7, MySQL.
const (
	headingRule    = "--"
	structureOf    = "-- Table structure for table `"
	dataOf         = "-- Dumping data for table `"
	sequenceOf     = "-- Sequence structure for `"
	standInOf      = "-- Temporary table structure for view `"
	standInOfMySQL = "-- Temporary view structure for view `"
	finalViewOf    = "-- Final view structure for view `"
	ofTheServer    = "-- Host: " // the frame follows, which is kept
	// Which rows, and how they are sorted, where a tool was told; both stand right after
	// the heading of a table's rows.
	onlyRows    = "-- WHERE: "
	sortedRows  = "-- ORDER BY: "
	footerBegin = "/*!40103 SET TIME_ZONE=@OLD_TIME_ZONE */;"
)

// filter passes on a dump as it is meant for the database it runs in, or only its
// frame and the sections of some tables. Lines are read in pieces, so a line of any
// length costs no memory.
type filter struct {
	in       *bufio.Reader
	database string
	wanted   map[string]bool // and whether it came
	pending  []byte          // passed, not yet read
	err      error

	setAside bool // views are kept out, and collected; events are collected, and come disabled
	views    bytes.Buffer
	inView   bool
	inert    bool // events are disabled wherever they go
	events   events

	midLine   bool // the next piece continues a line
	ruled     bool // the line before was headingRule
	keep      bool // the section is wanted
	delimited bool
	uses      libraryUses
}

const filterBuffer = 256 << 10

func newFilter(in io.Reader, database string, names []string) *filter {
	f := &filter{in: bufio.NewReaderSize(in, filterBuffer), database: database, wanted: map[string]bool{}, keep: true}
	for _, name := range names {
		f.wanted[name] = false
	}
	return f
}

// missing returns wanted tables that did not come.
func (f *filter) missing() (names []string) {
	for name, came := range f.wanted {
		if !came {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Read gives the text that is kept, as much of it as there is room for: what reads it
// makes a system call of each answer, and a line is often a row.
func (f *filter) Read(b []byte) (n int, err error) {
	for n < len(b) {
		if len(f.pending) == 0 && f.err == nil {
			f.next()
			continue
		}
		if len(f.pending) == 0 {
			break
		}
		k := copy(b[n:], f.pending)
		f.pending = f.pending[k:]
		n += k
	}
	if n == 0 {
		return 0, f.err
	}
	return n, nil
}

// next reads a line, or a piece of a long one.
func (f *filter) next() {
	piece, err := f.in.ReadSlice('\n')
	long := errors.Is(err, bufio.ErrBufferFull)
	if err != nil && !long {
		f.err = err
	}
	if !f.midLine && !long {
		piece = f.uses.line(piece)
	}
	switch {
	case f.midLine:
	case len(piece) == 0 || strings.IndexByte("-D/A", piece[0]) < 0: // not the beginning of what matters
		f.ruled = false
	default:
		switch piece = retargeted(piece); {
		case long:
		case bytes.HasPrefix(piece, triggerHead):
			piece, long = f.trigger(piece)
		case f.events.inSection && bytes.HasPrefix(piece, createEvent):
			piece, long = f.readOn(piece, wholeEvent())
		}
		f.see(strings.TrimSuffix(string(piece[:min(len(piece), lineHead)]), "\n"))
	}
	begins := !f.midLine
	if f.midLine = long; bytes.HasSuffix(piece, spacedLine) {
		piece = f.beforeEnd(bytes.Clone(piece)) // looking on may move what was read
	}
	f.pass(withoutSurplus(piece), begins)
}

// pass passes a line on, or a piece of it, where it belongs.
func (f *filter) pass(piece []byte, begins bool) {
	text := piece
	if f.events.inSection && (f.setAside || f.inert) {
		text, piece = f.events.line(piece, begins, f.delimited, f.inert)
	}
	switch {
	case f.keep && f.inView && f.setAside:
		if f.views.Write(piece); f.views.Len() > maxDefinition {
			f.err = errs.New(errs.Conflict, errs.CodeRestoreFailed, "the views of include_tables are longer than %d bytes: restore the whole backup, or fewer of them", maxDefinition)
		}
	case f.keep:
		f.pending = piece
	}
	if f.keep && f.events.inSection && f.setAside {
		if f.events.text.Write(text); f.events.text.Len() > maxEvents {
			f.err = errs.New(errs.Conflict, errs.CodeRestoreFailed, "the events of the backup are longer than %d bytes: restore its text by hand", maxEvents)
		}
	}
}

var spacedLine = []byte(" \n") // as MariaDB's tool ends a statement whose comment ends on the next

// beforeEnd takes the surplus off a line that is the last in its comment.
func (f *filter) beforeEnd(line []byte) []byte {
	next, err := f.in.Peek(len(spacedEnd))
	if err != nil && !errors.Is(err, io.EOF) {
		f.err = err
	}
	if bytes.HasPrefix(next, commentEnd) || bytes.HasPrefix(next, spacedEnd) {
		if text, ok := bytes.CutSuffix(bytes.TrimRight(line, " \n"), []byte(";")); ok {
			return append(text, spacedLine...)
		}
	}
	return line
}

func (f *filter) see(line string) {
	after := f.ruled
	f.ruled = line == headingRule
	switch {
	case f.delimited:
		f.delimited, f.ruled = line != delimiterEnd, false
	case line == delimiterBegin:
		f.delimited = true
	case line == footerBegin:
		f.keep, f.inView, f.events.inSection = true, false, false
	case strings.HasPrefix(line, "-- "):
		f.heading(line, after)
	}
}

// heading begins a section, if the line is one. A heading that is not known is of no
// table that was asked for: routines, events, and what else a tool may come to write.
func (f *filter) heading(line string, ruled bool) {
	if ruled {
		f.events.inSection = len(f.wanted) == 0 && strings.HasPrefix(line, eventsOf)
	}
	if len(f.wanted) == 0 {
		return
	}
	for _, of := range []string{structureOf, dataOf, sequenceOf, standInOf, standInOfMySQL, finalViewOf} {
		if quoted, ok := strings.CutPrefix(line, of); ok {
			f.keep = f.wants(unquoteName(strings.TrimSuffix(quoted, "`")))
			f.inView = of == standInOf || of == standInOfMySQL || of == finalViewOf
			return
		}
	}
	if ruled && !slices.ContainsFunc([]string{ofTheServer, onlyRows, sortedRows}, func(known string) bool { return strings.HasPrefix(line, known) }) {
		f.keep, f.inView = false, false
	}
}

func (f *filter) wants(name string) bool {
	for _, n := range []string{name, f.database + "." + name} {
		if _, ok := f.wanted[n]; ok {
			f.wanted[n] = true
			return true
		}
	}
	return false
}
