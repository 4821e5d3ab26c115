package mysql

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	driver "github.com/go-sql-driver/mysql"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
)

// Events run by themselves, wherever they are: one that names other databases would act on
// what is in them twice, once from where it was dumped and once from a scratch database
// beside it. So they are made disabled there, which also proves that they can be made, and
// as they were dumped only in the target, after all else. A verification's stay disabled.

// eventsOf heads the section of events. The tools write nothing into it but statements
// that begin like these; any other is of something else.
const eventsOf = "-- Dumping events for database '"

var (
	createEvent   = []byte("/*!50106 CREATE*/ ")
	eventSections = [][]byte{createEvent, []byte("/*!50106 DROP EVENT "), []byte("/*!50106 SET "), []byte("/*!50003 SET "), []byte("ALTER DATABASE ")}
)

// The head of an event as servers tell it, up to its status, and then with it.
const eventSchedule = "EVENT (" + quotedName + ") ON SCHEDULE (?:AT ('[^']*')|EVERY [^\n]*?(?: ENDS ('[^']*'))?) ON COMPLETION (?:NOT )?PRESERVE "

var (
	dumpedEvent = lazily(`^/\*!50106 CREATE\*/ (?:/\*!50117 DEFINER=` + quotedName + `(?:@` + quotedName + `)?\*/ )?/\*!50106 ` + eventSchedule + `(ENABLE|DISABLE(?: ON (?:SLAVE|REPLICA))?)\b`)
	wholeEvent  = lazily(`^/\*!50106 CREATE\*/ (?:/\*!50117 DEFINER=` + quotedName + `(?:@` + quotedName + `)?\*/ )?/\*!50106 ` + eventSchedule + `[A-Z]+\b|;;\s*$`)
	toldEvent   = lazily(`^CREATE ` + eventSchedule + `(DISABLE) `)
)

// maxEvents bounds the text of the events of a database, in bytes.
const maxEvents = 64 << 20

// events follows the section of events in a dump.
type events struct {
	text      bytes.Buffer // the section, as the target is to have it
	names     []string     // of those that were understood
	disabled  []string     // those of them that the dump enables, quoted as there
	strange   int          // the others
	inSection bool
	statement bool // a statement of the section has begun
	leftOut   bool // it is not for a scratch database
	clock     bool // the session's may be set
	turnedTo  bool // it was set for the statement
}

// line takes a piece of the section, and returns what the target is to have and what a
// scratch database is to have. inert makes them the same.
func (v *events) line(piece []byte, begins, delimited, inert bool) (text, fresh []byte) {
	text, fresh = piece, piece
	if begins && !v.statement {
		switch plain := bytes.TrimSpace(piece); {
		case len(plain) == 0, bytes.HasPrefix(plain, []byte("--")), bytes.HasPrefix(plain, []byte("DELIMITER ")):
			return text, fresh
		case !slices.ContainsFunc(eventSections, func(head []byte) bool { return bytes.HasPrefix(piece, head) }):
			v.inSection = false
			return text, fresh
		}
		v.statement = true
		if bytes.HasPrefix(piece, createEvent) {
			fresh = v.disable(piece, inert)
		}
	} else if v.leftOut {
		fresh = nil
	}
	end := []byte(";\n")
	if delimited {
		end = []byte(";;\n")
	}
	if bytes.HasSuffix(piece, end) {
		if v.turnedTo {
			fresh = append(bytes.Clone(fresh), "SET SESSION timestamp = DEFAULT ;;\n"...)
		}
		v.statement, v.leftOut, v.turnedTo = false, false, false
	}
	if inert {
		text = fresh
	}
	return text, fresh
}

// disable returns the beginning of a statement that makes an event, so that it does not
// run. Servers do not make one whose time has passed, which a verification would miss:
// with inert the session's clock is set to before that, where the server lets us.
func (v *events) disable(piece []byte, inert bool) []byte {
	m := dumpedEvent().FindSubmatchIndex(piece)
	if m == nil {
		v.strange++
		v.leftOut = true
		return nil
	}
	quoted := string(piece[m[2]:m[3]])
	v.names = append(v.names, unquoted([]byte(quoted)))
	text := piece
	if string(piece[m[8]:m[9]]) == "ENABLE" {
		v.disabled = append(v.disabled, quoted)
		text = slices.Concat(piece[:m[8]], []byte("DISABLE"), piece[m[9]:])
	}
	until := max(m[4], m[6]) // of AT, or of ENDS
	if !inert || until < 0 || !v.clock {
		return text
	}
	v.turnedTo = true
	over := piece[until : until+bytes.IndexByte(piece[until+1:], '\'')+2]
	return append(fmt.Appendf(nil, "SET SESSION timestamp = GREATEST(1, LEAST(UNIX_TIMESTAMP(), UNIX_TIMESTAMP(%s) - 1)) ;;\n", over), text...)
}

// askForClock finds out whether the session's clock may be set (secure_timestamp of MariaDB).
func (r *restore) askForClock(ctx context.Context, s *session) error {
	if !r.options.Inert {
		return nil
	}
	const doing = "trying to set the clock of a session"
	err := s.exec(ctx, "SET SESSION timestamp = UNIX_TIMESTAMP()", doing)
	if _, refused := errors.AsType[*driver.MySQLError](err); refused {
		return nil
	}
	if err != nil {
		return err
	}
	r.clock = true
	return s.exec(ctx, "SET SESSION timestamp = DEFAULT", doing)
}

// judgeEvents fails when the scratch database has events that were not seen to come, which
// would be lost, and tells of those that the server did not make.
func (b *beside) judgeEvents(ctx context.Context, v *events) error {
	there, err := b.s.names(ctx, "SELECT event_name FROM information_schema.events WHERE event_schema = ?", b.fresh)
	if err != nil {
		return err
	}
	if v.strange > 0 {
		b.restore.warn(fmt.Sprintf("%s of the dump are written in a way that is not understood: look at them in the target", engine.Count(v.strange, "event")))
	}
	switch {
	case len(there) > len(v.names):
		return errs.New(errs.Conflict, errs.CodeRestoreFailed,
			"the dump makes events in a place where none are expected (%s), so nothing was exchanged: restore the backup's text by hand", listed(there))
	case len(there) < len(v.names):
		missing := slices.DeleteFunc(slices.Clone(v.names), func(name string) bool { return slices.Contains(there, name) })
		b.restore.warn("the server does not make these events, because the time at which they were to run for the last time has passed: " + listed(missing))
	}
	return nil
}

// place is a database of a server.
type place struct {
	host     string
	port     int
	database string
}

func placeOf(c engine.Conn) place { return place{c.Host, c.Port, c.Database} }

// noteInert keeps in mind what a verification has disabled, and says so.
func (r *restore) noteInert(v *events) {
	if !r.options.Inert {
		return
	}
	r.engine.noteInert(r.conn, v.disabled)
	if len(v.disabled) > 0 {
		r.log(engine.LevelInfo, fmt.Sprintf("the events of database %s are disabled there, so that they do not run twice: %s", r.conn.Database, listed(v.disabled)))
	}
}

// noteInert keeps in mind which events of a database were made disabled, until it is
// dropped: its fingerprint is that of the dump, which enables them.
func (e *Engine) noteInert(c engine.Conn, disabled []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if delete(e.inert, placeOf(c)); len(disabled) > 0 {
		e.inert[placeOf(c)] = disabled
	}
}

func (e *Engine) inertIn(c engine.Conn) []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.inert[placeOf(c)]
}

// asDumped is the definition of an event as it was before it was made disabled.
func asDumped(text string, disabled []string) string {
	m := toldEvent().FindStringSubmatchIndex(text)
	if m == nil || !slices.ContainsFunc(disabled, func(quoted string) bool { return evened(quoted) == text[m[2]:m[3]] }) {
		return text
	}
	return text[:m[8]] + "ENABLE" + text[m[9]:]
}

// evened is text without what the tools put in between.
func evened(text string) string {
	return strings.TrimSpace(spaces.ReplaceAllString(versionComment.ReplaceAllString(text, " "), " "))
}
