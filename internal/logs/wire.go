package logs

import (
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/dataguardian/dataguardian/internal/engine"
)

// What the hub writes to Redis, and how it reads it back. Anybody who reaches
// Redis may have written there: what cannot be read is dropped, and what can be
// is escaped and bounded again.

const (
	lineField  = "line"  // of a stream's entry lineSeq-0: the line as JSON
	endField   = "end"   // of the entry lastSeq-1 that Close adds
	maxMessage = 4 << 20 // of a message on a channel, in bytes
	maxState   = 64 << 10
)

// message is what a channel carries.
type message struct {
	ID    string            `json:"id,omitempty"` // the execution, where the channel does not say
	Lines []json.RawMessage `json:"lines,omitempty"`
	Top   int64             `json:"top,omitempty"` // the stream has lines up to here
	State []byte            `json:"state,omitempty"`
	End   bool              `json:"end,omitempty"`
}

func encodeLine(l Line) ([]byte, error) { return json.Marshal(l) }

func encodeMessage(m message) (string, error) {
	b, err := json.Marshal(m)
	return string(b), err
}

func decodeMessage(text string) (message, bool) {
	var m message
	if len(text) > maxMessage || json.Unmarshal([]byte(text), &m) != nil || len(m.State) > maxState {
		return message{}, false
	}
	return m, true
}

func decodeLine(text []byte) (*Line, bool) {
	var l Line
	if json.Unmarshal(text, &l) != nil || l.Seq < 1 {
		return nil, false
	}
	l.Message = Escape(l.Message)
	l.Level = knownLevel(l.Level)
	l.Time = l.Time.UTC()
	return &l, true
}

func knownLevel(level engine.Level) engine.Level {
	switch level {
	case engine.LevelDebug, engine.LevelInfo, engine.LevelWarn, engine.LevelError, engine.LevelSuccess:
		return level
	default:
		return engine.LevelInfo
	}
}

// entry is one entry of a stream: a line, or the mark of Close.
type entry struct {
	seq  int64
	line *Line  // nil for the mark
	id   string // of the mark
}

// decodeEntry reads an entry. Its id, which Redis keeps in order, says which
// line it is.
func decodeEntry(e rueidis.XRangeSlice) (entry, bool) {
	_, tail, _ := strings.Cut(e.ID, "-")
	seq := numberOf(e.ID)
	if len(e.FieldValues) != 1 || seq == math.MaxInt64 {
		return entry{}, false
	}
	field := e.FieldValues[0]
	switch {
	case field.Field == endField && tail != "0":
		return entry{seq: seq, id: e.ID}, true
	case field.Field == lineField && tail == "0":
		line, ok := decodeLine([]byte(field.Value))
		if !ok || line.Seq != seq {
			line = &Line{Seq: seq, Time: time.Unix(0, 0).UTC(), Level: engine.LevelWarn, Message: "this line cannot be read"}
		}
		return entry{seq: seq, line: line}, true
	default:
		return entry{}, false
	}
}

// numberOf returns the first half of a stream's id.
func numberOf(id string) int64 {
	head, _, _ := strings.Cut(id, "-")
	seq, err := strconv.ParseInt(head, 10, 64)
	if err != nil { // ids are unsigned: this one is beyond all of ours
		return math.MaxInt64
	}
	return seq
}

func lineID(seq int64) string { return strconv.FormatInt(seq, 10) + "-0" }

// endID is the id of the n-th mark behind a line, from 1: Redis takes no id again,
// also not one that was removed.
func endID(seq int64, n int) string {
	return strconv.FormatInt(seq, 10) + "-" + strconv.Itoa(n)
}

// behindID is the last possible id of a number: reading after it skips the
// line, the mark and whatever else may be there.
func behindID(seq int64) string { return strconv.FormatInt(seq, 10) + "-18446744073709551615" }

// size is what a line weighs in memory and, about, in the database.
func size(l *Line) int { return len(l.Message) + 64 }
