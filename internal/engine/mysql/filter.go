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

// Headings that the dump tools write before what belongs to one table, and
// before what belongs to none.
const (
	structureHeading = "-- Table structure for table `"
	dataHeading      = "-- Dumping data for table `"
	viewHeading      = "-- Temporary table structure for view `"
	finalViewHeading = "-- Final view structure for view `"
	sequenceHeading  = "-- Sequence structure for `"
	eventsHeading    = "-- Dumping events for database "
	routinesHeading  = "-- Dumping routines for database "
	footerBegin      = "/*!40103 SET TIME_ZONE=@OLD_TIME_ZONE */;"
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

	setAside bool // views are kept out, and collected
	views    bytes.Buffer
	inView   bool

	midLine   bool // the next piece continues a line
	keep      bool // the section is wanted
	delimited bool
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
	if !f.midLine && len(piece) > 0 && strings.IndexByte("-D/A", piece[0]) >= 0 { // beginnings of what matters
		if piece = retargeted(piece); !long && bytes.HasPrefix(piece, triggerHead) {
			piece, long = f.trigger(piece)
		}
		f.see(strings.TrimSuffix(string(piece[:min(len(piece), lineHead)]), "\n"))
	}
	f.midLine = long
	switch {
	case f.keep && f.inView && f.setAside:
		if f.views.Write(piece); f.views.Len() > maxDefinition {
			f.err = errs.New(errs.Conflict, errs.CodeRestoreFailed, "the views of include_tables are longer than %d bytes: restore the whole backup, or fewer of them", maxDefinition)
		}
	case f.keep:
		f.pending = piece
	}
}

func (f *filter) see(line string) {
	if f.delimited {
		f.delimited = line != delimiterEnd
		return
	}
	if len(f.wanted) == 0 {
		return
	}
	switch {
	case line == delimiterBegin:
		f.delimited = true
	case line == footerBegin:
		f.keep, f.inView = true, false
	case strings.HasPrefix(line, eventsHeading), strings.HasPrefix(line, routinesHeading):
		f.keep = false
	default:
		for _, heading := range []string{structureHeading, dataHeading, viewHeading, finalViewHeading, sequenceHeading} {
			if quoted, ok := strings.CutPrefix(line, heading); ok {
				f.keep, f.inView = f.wants(unquoteName(strings.TrimSuffix(quoted, "`"))), heading == viewHeading || heading == finalViewHeading
			}
		}
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
