package mysql

import (
	"bufio"
	"bytes"
	"errors"
	"regexp"
)

// Servers keep the words that made a trigger. Those may name its database, which is
// not where a restore makes it: taken literally, they would make it in a database that
// is nobody's target, the dumped one among them.
var (
	triggerHead = []byte("/*!50003 CREATE*/ ")
	triggerBody = regexp.MustCompile(`(?i)\bFOR\s+EACH\s+ROW\b|;;\s*$`)

	qualifiedTrigger = regexp.MustCompile(`(?is)^(.*?\bTRIGGER\s+(?:IF\s+NOT\s+EXISTS\s+)?)(?:` + anyName + `\s*\.\s*)?(` + anyName +
		`\s+(?:BEFORE|AFTER)\s+(?:INSERT|UPDATE|DELETE)(?:\s+OR\s+(?:INSERT|UPDATE|DELETE))*\s+ON\s+)(?:` + anyName + `\s*\.\s*)?(` + anyName + `)`)
)

// anyName is one as servers take it: quoted either way, or not.
const anyName = "(?:`(?:[^`]|``)+`" + `|"(?:[^"]|"")+"|[\w$\x{80}-\x{10ffff}]+)`

// maxTriggerHead is how far the table of a trigger is looked for, in bytes.
const maxTriggerHead = 64 << 10

// unqualified is the beginning of a trigger's statement without the database.
func unqualified(text []byte) []byte { return qualifiedTrigger.ReplaceAll(text, []byte("$1$2$3")) }

// trigger reads on from the first line of a trigger's statement to where its body
// begins, and returns all that. long says that its last line goes on.
func (f *filter) trigger(piece []byte) (text []byte, long bool) {
	text = bytes.Clone(piece)
	for f.err == nil && len(text) < maxTriggerHead && !triggerBody.Match(text) {
		more, err := f.in.ReadSlice('\n')
		text = append(text, more...)
		if long = errors.Is(err, bufio.ErrBufferFull); err != nil && !long {
			f.err = err
		}
	}
	return unqualified(text), long
}
