package archive

import (
	"slices"
	"strconv"
)

// TableData is data of a table whose definition an archive has without it.
type TableData struct {
	Table   *Entry
	OID     int64
	Columns string // in the order of the data, quoted, separated by commas
	Name    string // of the table, quoted and with its schema
}

// InsertTableData adds entries for data to a table of contents, before all other
// data. head is what v followed up to ContentsEnd. It returns the same with the
// entries, all entries in their new order, and the new ones in the order of data:
// their blocks must come in this order before all others, since only so an archive
// can be restored from a pipe. The archive must not be compressed.
func (v *Verifier) InsertTableData(head []byte, data []TableData) (edited []byte, contents, added []*Entry, err error) {
	if v.header.Compressed || v.contentsEnd == 0 || int64(len(head)) != v.contentsEnd {
		return nil, nil, nil, v.malformed("data cannot be added to it")
	}
	before, at := slices.IndexFunc(v.contents, func(e *Entry) bool { return e.section >= sectionData }), v.contentsEnd
	if before < 0 {
		before = len(v.contents)
	} else {
		at = v.contents[before].from
	}
	id := 0
	for _, e := range v.contents {
		id = max(id, e.DumpID)
	}
	w := entryWriter(slices.Clone(head[:v.countAt]))
	w.integer(v.expected + int64(len(data)))
	w = append(w, head[v.countAt+intLen:at]...)
	for _, d := range data {
		id++
		e := &Entry{
			DumpID: id, Tag: d.Table.Tag, Desc: "TABLE DATA", Namespace: d.Table.Namespace, Owner: d.Table.Owner,
			HasData: true, Dependencies: []int{d.Table.DumpID}, rows: -1,
		}
		w.tableData(e, d, v.header.Minor, v.offSize)
		added = append(added, e)
	}
	return append(w, head[at:]...), slices.Insert(slices.Clone(v.contents), before, added...), added, nil
}

// entryWriter writes as pg_dump does.
type entryWriter []byte

func (w *entryWriter) integer(n int64) { *w = appendInteger(*w, n) }

func (w *entryWriter) text(s string) {
	w.integer(int64(len(s)))
	*w = append(*w, s...)
}

func (w *entryWriter) null() { *w = append(*w, 1, 1, 0, 0, 0) }

func (w *entryWriter) tableData(e *Entry, d TableData, minor, offSize int) {
	w.integer(int64(e.DumpID))
	w.integer(1) // it has data
	w.text("0")  // no catalog has it
	w.text(strconv.FormatInt(d.OID, 10))
	w.text(e.Tag)
	w.text(e.Desc)
	w.integer(sectionData)
	w.null() // definition
	w.null() // drop statement
	w.text("COPY " + d.Name + " (" + d.Columns + ") FROM stdin;\n")
	w.text(e.Namespace)
	w.null() // tablespace
	if minor >= minorTableAM {
		w.null()
	}
	if minor >= minorRelKind {
		w.integer(0)
	}
	w.text(e.Owner)
	w.text("false") // with OIDs
	for _, id := range e.Dependencies {
		w.text(strconv.Itoa(id))
	}
	w.null()
	*w = append(*w, offsetNotSet)
	*w = append(*w, make([]byte, offSize)...)
}

// appendInteger writes an integer that is not negative and below 2^31.
func appendInteger(b []byte, n int64) []byte {
	return append(b, 0, byte(n&0xff), byte(n>>8&0xff), byte(n>>16&0xff), byte(n>>24&0xff))
}
