package mysql

import (
	"bufio"
	"bytes"
	"errors"
	"regexp"
	"sync"

	"github.com/dataguardian/dataguardian/internal/errs"
)

// Servers keep the words that made a trigger. Those may name its database, which is
// not where a restore makes it: taken literally, they would make it in a database that
// is nobody's target, the dumped one among them.
var (
	triggerHead = []byte("/*!50003 CREATE*/ ")
	triggerBody = lazily(`(?i)\b` + eachRow + `\b|;;\s*$`)

	qualifiedTrigger = lazily(qualifiedHead)
	// wholeHead is how reading on ends: a comment of the head may hold FOR EACH ROW, too.
	wholeHead = lazily(qualifiedHead + gap + eachRow + `\b|;;\s*$`)

	// qualifies finds a head that may name a database all the same.
	qualifies = lazily(`(?is)\bTRIGGER\b.*?\.`)
)

// lazily compiles an expression when it is first needed: those of heads are so large that
// every start of the program would take twice as long.
func lazily(expression string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expression) })
}

const (
	eachRow       = `FOR` + gap + `EACH` + gap + `ROW`
	qualifiedHead = `(?is)^(.*?\bTRIGGER` + gap + `(?:IF` + gap + `NOT` + gap + `EXISTS` + gap + `)?)(?:` + anyName + mayGap + `\.` + mayGap + `)?(` + anyName +
		gap + `(?:BEFORE|AFTER)` + gap + event + `(?:` + gap + `OR` + gap + event + `)*` + gap + `ON` + gap + `)(?:` + anyName + mayGap + `\.` + mayGap + `)?(` + anyName + `)`
)

// What may stand between words: the servers keep comments of a head, too.
const (
	blank  = `(?:\s|/\*(?:[^*]|\*+[^*/])*\*+/|--(?:[ \t][^\n]*)?\n|#[^\n]*\n)`
	gap    = blank + `+`
	mayGap = blank + `*`
)

// event is what sets a trigger off; MariaDB 12 knows columns there.
const event = `(?:INSERT|DELETE|UPDATE(?:` + gap + `OF` + gap + anyName + `(?:` + mayGap + `,` + mayGap + anyName + `)*)?)`

// anyName is one as servers take it: quoted either way, or not.
const anyName = "(?:`(?:[^`]|``)+`" + `|"(?:[^"]|"")+"|[\w$\x{80}-\x{10ffff}]+)`

// maxHead is how far the end of a head is looked for, in bytes.
const maxHead = 64 << 10

// unqualified is the beginning of a trigger's statement without the database.
func unqualified(text []byte) []byte { return qualifiedTrigger().ReplaceAll(text, []byte("$1$2$3")) }

// trigger reads on from the first line of a trigger's statement to where its body
// begins, and returns all that. long says that its last line goes on.
func (f *filter) trigger(piece []byte) (text []byte, long bool) {
	text, long = f.readOn(piece, wholeHead())
	if head := triggerBody().FindIndex(text); f.err == nil && f.keep && !qualifiedTrigger().Match(text) && (head == nil || qualifies().Match(text[:head[0]])) {
		f.err = errs.New(errs.Conflict, errs.CodeRestoreFailed,
			"the dump makes a trigger in a way that is not understood, and it may name another database: restore the backup's text by hand, or without that trigger (%.200q)", text)
	}
	return unqualified(text), long
}

// readOn reads on from the first line of a statement until an expression matches, and
// returns all that. long says that its last line goes on.
func (f *filter) readOn(piece []byte, until *regexp.Regexp) (text []byte, long bool) {
	text = bytes.Clone(piece)
	for f.err == nil && len(text) < maxHead && !until.Match(text) {
		more, err := f.in.ReadSlice('\n')
		text = append(text, more...)
		if long = errors.Is(err, bufio.ErrBufferFull); err != nil && !long {
			f.err = err
		}
	}
	return text, long
}
