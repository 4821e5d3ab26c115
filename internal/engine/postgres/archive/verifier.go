package archive

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"hash"
)

// Events are called from Write, in the order of the archive. Any may be nil.
type Events struct {
	// Contents is called once, when the table of contents is complete.
	Contents func(Header, []*Entry)
	// Started and Finished frame the data of one entry.
	Started  func(*Entry)
	Finished func(*Entry)
}

// stage says what part of the archive the fields being read belong to.
type stage uint8

const (
	inPreamble stage = iota
	inDescription
	inEntry
	inDependencies
	inPosition
	inBlocks
)

// Verifier is an io.Writer that follows an archive as it passes by. It is used
// by one goroutine.
type Verifier struct {
	events Events
	err    error
	pos    int64 // bytes followed

	// The field being read.
	stage  stage
	fields []field
	at     int
	item   []byte
	need   int   // bytes the item must have
	inText bool  // the length of a text is known, its bytes come
	skip   int64 // bytes of a text that are passed over
	num    int64
	str    string
	null   bool
	sum    hash.Hash
	seam   []byte // the end of what was summed
	attach bool   // what was summed holds attaching

	header  Header
	offSize int

	entryFields []field
	expected    int64 // entries
	countAt     int64 // where their number is written
	entry       *Entry
	contents    []*Entry
	contentsEnd int64 // 0 until it is known
	byID        map[int]*Entry
	missing     int // blocks still to come

	blocks blocks
}

// NewVerifier returns a verifier at the start of an archive.
func NewVerifier(e Events) *Verifier {
	v := &Verifier{events: e, byID: map[int]*Entry{}, sum: sha256.New()}
	v.read(inPreamble, preamble())
	return v
}

// Header returns what was read of the header.
func (v *Verifier) Header() Header { return v.header }

// Position returns how many bytes were followed; in an event, up to what it tells of.
func (v *Verifier) Position() int64 { return v.pos }

// Contents returns the table of contents, nil until it is complete.
func (v *Verifier) Contents() []*Entry {
	if v.stage != inBlocks {
		return nil
	}
	return v.contents
}

// ContentsEnd returns how many bytes the header and the table of contents have, 0
// until they are complete.
func (v *Verifier) ContentsEnd() int64 { return v.contentsEnd }

// Write follows b. An archive that is not understood gives an error with the
// code DUMP_INCOMPLETE, now and from then on.
func (v *Verifier) Write(b []byte) (int, error) {
	n := len(b)
	for len(b) > 0 && v.err == nil {
		if v.stage == inBlocks {
			b, v.err = v.followBlocks(b)
		} else {
			b, v.err = v.followField(b)
		}
	}
	return n - len(b), v.err
}

// Done returns nil when the archive is whole, else an error with the code
// DUMP_INCOMPLETE that says what is missing.
func (v *Verifier) Done() error {
	switch {
	case v.err != nil:
		return v.err
	case v.stage != inBlocks:
		return incomplete("the dump ends after %d bytes, within its table of contents", v.pos)
	case v.blocks.entry != nil:
		return incomplete("the dump ends after %d bytes, within %s", v.pos, v.blocks.entry.describe())
	case v.missing > 0:
		return incomplete("the dump ends after %d bytes, without the data of %d of its %d entries",
			v.pos, v.missing, len(v.contents))
	case len(v.item) > 0:
		return incomplete("the dump ends after %d bytes, within a block", v.pos)
	}
	return nil
}

func (v *Verifier) malformed(format string, args ...any) error {
	return incomplete("the dump is malformed near byte %d: %s", v.pos, fmt.Sprintf(format, args...))
}

// read makes the first of the fields the one being read.
func (v *Verifier) read(s stage, fs []field) {
	v.stage, v.fields, v.at = s, fs, 0
	v.expect()
}

func (v *Verifier) expect() {
	v.item, v.inText, v.need = v.item[:0], false, intLen
	if f := v.fields[v.at]; f.kind == raw {
		v.need = f.n
	}
}

// followField uses the first bytes of b for the field being read and returns
// the others.
func (v *Verifier) followField(b []byte) ([]byte, error) {
	if len(v.item) == v.need && v.skip > 0 {
		n := min(v.skip, int64(len(b)))
		v.digest(b[:n])
		v.pos += n
		if v.skip -= n; v.skip > 0 {
			return nil, nil
		}
		return b[n:], v.finish()
	}
	n := min(v.need-len(v.item), len(b))
	v.item = append(v.item, b[:n]...)
	if v.inText {
		v.digest(b[:n])
	}
	v.pos += int64(n)
	if len(v.item) < v.need {
		return nil, nil
	}
	return b[n:], v.complete()
}

// attaching is in the definition of a partition, up to pg_dump 13.
const attaching = " ATTACH PARTITION "

// digest follows the bytes of a text that is summed.
func (v *Verifier) digest(b []byte) {
	if v.fields[v.at].kind != summed {
		return
	}
	v.sum.Write(b)
	v.seam = append(v.seam, b...)
	v.attach = v.attach || bytes.Contains(v.seam, []byte(attaching))
	v.seam = append(v.seam[:0], v.seam[max(0, len(v.seam)-len(attaching)+1):]...)
}

// complete is called when the item has all its bytes.
func (v *Verifier) complete() (err error) {
	f := v.fields[v.at]
	if f.kind == raw {
		return v.finish()
	}
	if v.inText {
		v.str = string(v.item)
		if v.skip > 0 {
			return nil
		}
		return v.finish()
	}
	if v.num, err = v.decode(v.item); err != nil {
		return err
	}
	if f.kind == integer {
		return v.finish()
	}
	return v.beginText(f.n)
}

func (v *Verifier) beginText(limit int) error {
	if v.num < -1 {
		return v.malformed("a text of %d bytes", v.num)
	}
	v.str, v.null = "", v.num == -1
	v.sum.Reset()
	v.seam, v.attach = v.seam[:0], false
	if v.num <= 0 {
		return v.finish()
	}
	v.item, v.inText = v.item[:0], true
	v.need = int(min(v.num, int64(limit)))
	v.skip = v.num - int64(v.need)
	return nil
}

// finish hands the field over and goes to the next one.
func (v *Verifier) finish() error {
	if set := v.fields[v.at].set; set != nil {
		if err := set(v); err != nil {
			return err
		}
	}
	if v.at++; v.at < len(v.fields) {
		v.expect()
		return nil
	}
	v.nextFields()
	return nil
}

func (v *Verifier) nextFields() {
	switch v.stage {
	case inPreamble:
		v.entryFields = entryFields(v.header.Minor)
		v.read(inDescription, description(v.header.Minor))
	case inEntry:
		v.read(inDependencies, dependency())
	case inDependencies:
		if v.null {
			v.read(inPosition, position(v.offSize))
		} else {
			v.read(inDependencies, v.fields)
		}
	default:
		v.nextEntry()
	}
}

func (v *Verifier) nextEntry() {
	if int64(len(v.contents)) < v.expected {
		v.read(inEntry, v.entryFields)
		return
	}
	v.stage, v.entry, v.item, v.contentsEnd = inBlocks, nil, v.item[:0], v.pos
	if v.events.Contents != nil {
		v.events.Contents(v.header, v.contents)
	}
}

// decode returns an integer of the format.
func (v *Verifier) decode(b []byte) (int64, error) {
	n := int64(b[1]) | int64(b[2])<<8 | int64(b[3])<<16 | int64(b[4])<<24
	switch {
	case b[0] == 0:
		return n, nil
	case b[0] == 1 && n != 0:
		return -n, nil
	}
	return 0, v.malformed("an integer with the sign %d", b[0])
}
