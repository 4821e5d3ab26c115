package execution

import (
	"encoding/base64"
	"encoding/binary"
	"time"

	"github.com/google/uuid"
)

// cursor is how far a watcher is: the id of an event, in a form that any process
// can go on from.
type cursor struct {
	since   time.Time // every change before was told
	partial bool      // no: what there was at that time is being told, and it is in seats
	cut     bool      // not every place fitted in
	seats   []place
}

// place is what a watcher has been told of one execution.
type place struct {
	id      string
	changed time.Time // of the last state that was told
	seq     int64     // of the last line
}

const (
	cursorVersion = 1
	flagCut       = 1
	flagPartial   = 2
	// cursorPlaces bounds an id to about a kilobyte.
	cursorPlaces = 32
)

// encode writes a cursor of at most cursorPlaces seats.
func (c cursor) encode() string {
	buf := []byte{cursorVersion, 0}
	if c.cut {
		buf[1] |= flagCut
	}
	if c.partial {
		buf[1] |= flagPartial
	}
	buf = binary.AppendVarint(buf, microsOf(c.since))
	for _, s := range c.seats {
		id, err := uuid.Parse(s.id)
		if err != nil {
			buf[1] |= flagCut
			continue
		}
		buf = append(buf, id[:]...)
		buf = binary.AppendVarint(buf, microsOf(s.changed)-microsOf(c.since))
		buf = binary.AppendVarint(buf, s.seq)
	}
	return base64.RawURLEncoding.EncodeToString(buf)
}

// decodeCursor reads an id back; false when it is none.
func decodeCursor(text string) (cursor, bool) {
	buf, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(buf) < 3 || buf[0] != cursorVersion {
		return cursor{}, false
	}
	c := cursor{cut: buf[1]&flagCut != 0, partial: buf[1]&flagPartial != 0}
	buf = buf[2:]
	next := func() (n int64, ok bool) {
		n, read := binary.Varint(buf)
		if read <= 0 {
			return 0, false
		}
		buf = buf[read:]
		return n, true
	}
	since, ok := next()
	if !ok || since <= 0 {
		return cursor{}, false
	}
	c.since = timeOf(since)
	for len(buf) > 0 {
		if len(buf) < len(uuid.UUID{}) || len(c.seats) == cursorPlaces {
			return cursor{}, false
		}
		id := uuid.UUID(buf[:16])
		buf = buf[16:]
		changed, ok := next()
		seq, also := next()
		if !ok || !also || seq < 0 {
			return cursor{}, false
		}
		c.seats = append(c.seats, place{id: id.String(), changed: timeOf(since + changed), seq: seq})
	}
	return c, true
}

// microsOf counts from 1970, which stands for no time at all.
func microsOf(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func timeOf(micros int64) time.Time {
	if micros <= 0 {
		return time.Time{}
	}
	return time.UnixMicro(micros)
}
