package archive

import "bytes"

// copyEnd is what pg_dump writes after the rows of a table; its line breaks
// are not rows.
const (
	copyEnd       = "\\.\n\n\n"
	copyEndBreaks = 3
)

// blockHeaderLen is the length of a block's type and dump id.
const blockHeaderLen = 1 + intLen

// blocks is where in the data part the archive is.
type blocks struct {
	entry *Entry // the owner of the block, nil between blocks
	blobs bool   // the block holds large objects
	inOID bool   // a large object's number comes next, else a chunk's length
	left  int64  // bytes of the chunk still to come

	counting bool // line breaks are rows
	breaks   int64
	ending   []byte // the last bytes of the data, at most those of copyEnd
}

// followBlocks uses b to its end or to the first error.
func (v *Verifier) followBlocks(b []byte) (rest []byte, err error) {
	s := &v.blocks
	for len(b) > 0 && err == nil {
		if s.left > 0 {
			n := min(s.left, int64(len(b)))
			if s.counting {
				s.count(b[:n])
			}
			s.left -= n
			v.pos += n
			b = b[n:]
			continue
		}
		var item []byte
		if item, b = v.control(b); item != nil {
			err = v.followControl(item)
		}
	}
	return b, err
}

// control takes the bytes between chunks: nil when they are not all there yet.
func (v *Verifier) control(b []byte) (item, rest []byte) {
	need := intLen
	if v.blocks.entry == nil {
		need = blockHeaderLen
	}
	if len(v.item) == 0 && len(b) >= need {
		v.pos += int64(need)
		return b[:need], b[need:]
	}
	n := min(need-len(v.item), len(b))
	v.item = append(v.item, b[:n]...)
	v.pos += int64(n)
	if len(v.item) < need {
		return nil, nil
	}
	item, v.item = v.item, v.item[:0]
	return item, b[n:]
}

func (v *Verifier) followControl(item []byte) error {
	s := &v.blocks
	if s.entry == nil {
		return v.beginBlock(item)
	}
	n, err := v.decode(item)
	if err != nil {
		return err
	}
	switch {
	case s.inOID && n == 0:
		v.endBlock()
	case s.inOID:
		s.inOID = false // numbers over 2^31 are written as negative ones
	case n < 0:
		return v.malformed("a chunk of %d bytes in %s", n, s.entry.describe())
	case n > 0:
		s.left = n
	case s.blobs:
		s.inOID = true
	default:
		v.endBlock()
	}
	return nil
}

func (v *Verifier) beginBlock(item []byte) error {
	start := v.pos - blockHeaderLen
	id, err := v.decode(item[1:])
	if err != nil {
		return err
	}
	e := v.byID[int(id)]
	switch {
	case item[0] != blockData && item[0] != blockBlobs:
		return v.malformed("a block of type %d", item[0])
	case e == nil:
		return v.malformed("a block of an entry %d that is not in the table of contents", id)
	case !e.HasData:
		return v.malformed("data of %s, which has none", e.describe())
	case e.done:
		return v.malformed("data of %s a second time", e.describe())
	case e.state == offsetSet && e.offset != start:
		return v.malformed("data of %s is at %d, not at %d", e.describe(), start, e.offset)
	}
	e.start = start
	blobs := item[0] == blockBlobs
	v.blocks = blocks{
		entry: e, blobs: blobs, inOID: blobs,
		counting: e.copyText && !blobs && !v.header.Compressed,
		ending:   v.blocks.ending[:0],
	}
	if v.events.Started != nil {
		v.events.Started(e)
	}
	return nil
}

func (v *Verifier) endBlock() {
	s := &v.blocks
	e := s.entry
	e.done, e.size = true, v.pos-e.start
	if s.counting && string(s.ending) == copyEnd {
		e.rows = s.breaks - copyEndBreaks
	}
	s.entry = nil
	v.missing--
	if v.events.Finished != nil {
		v.events.Finished(e)
	}
}

// count counts the line breaks of b; in COPY text a row has exactly one.
func (s *blocks) count(b []byte) {
	s.breaks += int64(bytes.Count(b, []byte{'\n'}))
	if len(b) >= len(copyEnd) {
		s.ending = append(s.ending[:0], b[len(b)-len(copyEnd):]...)
		return
	}
	s.ending = append(s.ending, b...)
	if over := len(s.ending) - len(copyEnd); over > 0 {
		s.ending = append(s.ending[:0], s.ending[over:]...)
	}
}
