package postgres

import (
	"fmt"
	"regexp"

	"github.com/dataguardian/dataguardian/internal/engine/postgres/archive"
)

// Members of a dump by several connections. One behind the other, in the order of
// their numbers, they are one archive: the header and the table of contents, the rows
// of the tables that were shared out, and all other data.
const memberPattern = "backup-%05d.dump"

var numberedMember = regexp.MustCompile(`^backup-\d{5}\.dump$`)

// mostSlices bounds the members of a dump: above it slices become larger.
const mostSlices = 1000

// slice is a run of a shared table's rows, a member of its own.
type slice struct {
	member      string
	entry       *archive.Entry
	table       sharedTable
	from, to    int64 // pages; the last slice goes on behind to
	first, last bool
	bytes       int64 // estimated
}

// statement reads the rows. What all slices of a table read does not depend on how
// many pages it is thought to have.
func (s slice) statement() string {
	if s.first && s.last {
		return fmt.Sprintf("COPY %s (%s) TO STDOUT", s.table.ident(), s.table.columns)
	}
	until := ""
	if !s.last {
		until = fmt.Sprintf(" AND ctid < '(%d,0)'::pg_catalog.tid", s.to)
	}
	return fmt.Sprintf("COPY (SELECT %s FROM ONLY %s WHERE ctid >= '(%d,0)'::pg_catalog.tid%s) TO STDOUT",
		s.table.columns, s.table.ident(), s.from, until)
}

// layOut cuts tables into slices, in the order of the archive.
func layOut(tables []sharedTable, entries []*archive.Entry, size int64, sliced bool) (all []slice) {
	var bytes int64
	for _, t := range tables {
		bytes += t.bytes
	}
	size = max(size, bytes/mostSlices)
	for i, t := range tables {
		for _, s := range cut(t, size, sliced) {
			s.member, s.entry = fmt.Sprintf(memberPattern, len(all)+2), entries[i]
			all = append(all, s)
		}
	}
	return all
}

// cut makes slices of about the same size.
func cut(t sharedTable, size int64, sliced bool) []slice {
	n := int64(1)
	if sliced && t.heap {
		n = max(1, min((t.bytes+size-1)/size, t.pages))
	}
	slices := make([]slice, n)
	for i := range n {
		slices[i] = slice{
			table: t, from: t.pages * i / n, to: t.pages * (i + 1) / n, first: i == 0, last: i == n-1, bytes: t.bytes / n,
		}
	}
	return slices
}
