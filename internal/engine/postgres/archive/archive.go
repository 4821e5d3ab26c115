// Package archive reads the custom format of pg_dump as a stream and proves
// that it is whole. It keeps the table of contents in memory and nothing of
// the data.
//
// The format, as PostgreSQL's pg_dump writes it (archive versions 1.12 to
// 1.16, which are those of PostgreSQL 9.0 to 18):
//
//	file    = header count entry* block*
//	header  = "PGDMP" major minor revision intSize offSize format
//	          compression second minute hour day month year isDST
//	          database serverVersion toolVersion
//	entry   = dumpID hadDumper tableOID objectOID tag desc section defn
//	          dropStmt copyStmt namespace tablespace [tableAM, since 1.14]
//	          [relkind, since 1.16] owner withOIDs dependency* null
//	          dataState offset
//	block   = 0x01 dumpID chunks | 0x03 dumpID (oid chunks)* 0
//	chunks  = (length byte{length})* 0
//	integer = sign byte, then intSize bytes, least significant first
//	string  = length integer, -1 for null, then the bytes
//
// Up to 1.14 the compression is an integer (a zlib level), since 1.15 a byte
// (an algorithm). Every entry that has data owns exactly one block, also when
// there are no rows; the file has no trailer, so an archive is whole when each
// of those blocks came once and came to its end.
package archive

import (
	"crypto/sha256"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/dataguardian/dataguardian/internal/errs"
)

// Constants of the format.
const (
	magic          = "PGDMP"
	major          = 1
	oldestMinor    = 12
	minorTableAM   = 14
	minorAlgorithm = 15
	minorRelKind   = 16
	newestMinor    = 16
	intSize        = 4
	intLen         = 1 + intSize // with the sign
	formatCustom   = 1
	blockData      = 1
	blockBlobs     = 3
	offsetNotSet   = 1
	offsetSet      = 2
	offsetNone     = 3
	sectionData    = 3 // 2 is what comes before the data, 4 what comes behind
)

// Header is what an archive says about itself.
type Header struct {
	Minor         int // of archive version 1.x
	Compressed    bool
	Database      string
	ServerVersion string // of the dumped server
	ToolVersion   string // of pg_dump
}

// MinToolMajor returns the oldest major version of pg_restore that reads the
// archive.
func (h Header) MinToolMajor() int {
	switch {
	case h.Minor >= minorRelKind:
		return 17
	case h.Minor >= minorAlgorithm:
		return 16
	case h.Minor >= minorTableAM:
		return 12
	default:
		return 10
	}
}

// attachesInTables reports whether partitions are attached where they are defined.
func (h Header) attachesInTables() bool {
	release, _, _ := strings.Cut(h.ToolVersion, ".")
	return slices.Contains([]string{"10", "11", "12", "13"}, release)
}

// Entry is one item of the table of contents.
type Entry struct {
	DumpID       int
	Tag          string // the object's name; of some kinds with its arguments
	Desc         string // the object's kind, e.g. "TABLE DATA"
	Namespace    string // its schema, empty for objects without one
	Owner        string
	HasData      bool
	Attaches     bool              // a table's definition makes it a partition; with pg_dump 14 and later an entry of its own does
	Definition   string            // SQL, of the kinds "DATABASE" and "SEQUENCE SET" only
	Sum          [sha256.Size]byte // of the definition, of any kind
	Dependencies []int             // dump ids

	copyText bool
	section  int64
	from     int64 // where it begins
	at       int64 // where its data state and offset are written
	start    int64 // of its block
	size     int64 // of its block
	state    byte
	offset   int64
	done     bool
	rows     int64
}

// Name returns "schema.name".
func (e *Entry) Name() string {
	if e.Namespace == "" {
		return e.Tag
	}
	return e.Namespace + "." + e.Tag
}

// DataSize returns how many bytes of the archive the entry's data takes, 0 while it
// is not at its end.
func (e *Entry) DataSize() int64 { return e.size }

// Rows returns how many rows the entry's data holds, -1 when the archive does
// not tell (it is compressed, or no COPY text) or the data is not at its end.
func (e *Entry) Rows() int64 {
	if !e.done {
		return -1
	}
	return e.rows
}

// SetRows notes that the entry's data, of which the archive is written elsewhere, is
// whole and holds n rows.
func (e *Entry) SetRows(n int64) { e.done, e.rows = true, n }

// SetOffsets notes in a copy of the archive, of which v has followed every byte,
// where the data of each entry begins: an archive that was written to a pipe does
// not tell, and a parallel restore needs to know.
func (v *Verifier) SetOffsets(copied io.WriterAt) error {
	if err := v.Done(); err != nil {
		return err
	}
	for _, e := range v.contents {
		if !e.HasData {
			continue
		}
		position := make([]byte, 1+v.offSize)
		position[0] = offsetSet
		for i := range v.offSize {
			position[1+i] = byte(e.start >> (8 * i) & 0xff)
		}
		if _, err := copied.WriteAt(position, e.at); err != nil {
			return err
		}
	}
	return nil
}

func (e *Entry) describe() string { return fmt.Sprintf("%s %q", e.Desc, e.Name()) }

func incomplete(format string, args ...any) *errs.Error {
	return errs.New(errs.Unavailable, errs.CodeDumpIncomplete,
		format+"; it cannot be restored, run the backup again", args...)
}
