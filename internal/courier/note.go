package courier

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/dataguardian/dataguardian/internal/notification"
)

// note is a notification as receivers show it. Its texts quote names and errors of
// databases, which are not to be trusted: control characters go, and what a
// receiver takes for markup must be escaped by whoever writes it there.
type note struct{ notification.Notification }

// title returns the title on one line of at most limit characters.
func (n note) title(limit int) string { return clip(oneLine(n.Title), limit) }

// body returns the message in at most limit characters.
func (n note) body(limit int) string { return clip(clean(n.Message), limit) }

// whole returns title and message in at most limit characters.
func (n note) whole(limit int) string {
	return clip(n.label()+" "+oneLine(n.Title)+"\n"+clean(n.Message), limit)
}

// label says how grave it is.
func (n note) label() string { return "[" + strings.ToUpper(string(n.Severity)) + "]" }

// colour is the severity's, as RGB.
func (n note) colour() int {
	switch n.Severity {
	case notification.Critical:
		return 0xD93025
	case notification.Warning:
		return 0xF9AB00
	case notification.Info:
	}
	return 0x1A73E8
}

// rank returns one of three values by the severity.
func rank[T any](n note, info, warning, critical T) T {
	switch n.Severity {
	case notification.Critical:
		return critical
	case notification.Warning:
		return warning
	case notification.Info:
	}
	return info
}

// condition is the state of affairs an event belongs to, named by the event that
// begins it, and whether the event ends it.
func (n note) condition() (begun notification.Type, ends bool) {
	switch n.Type { //nolint:exhaustive // only these come in pairs
	case notification.ConnectionRestored:
		return notification.ConnectionLost, true
	case notification.StorageRestored:
		return notification.StorageUnreachable, true
	case notification.StorageFull: // ended by StorageRestored too
		return notification.StorageUnreachable, false
	case notification.BackupSuccess:
		return notification.BackupFailed, true
	case notification.RestoreSuccess:
		return notification.RestoreFailed, true
	}
	return n.Type, false
}

// key names the condition of one thing: on-call services put events with the same
// key into one incident.
func (n note) key() string {
	begun, _ := n.condition()
	return "dataguardian/" + string(begun) + "/" + string(n.EntityType) + "/" + n.EntityID
}

func oneLine(s string) string { return strings.Join(strings.Fields(clean(s)), " ") }

// clean takes out control characters but the end of a line, and marks that change
// the direction of text.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return r
		case unicode.IsControl(r), unicode.Is(unicode.Cf, r):
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
}

// clip shortens s to limit characters.
func clip(s string, limit int) string {
	if utf8.RuneCountInString(s) <= limit {
		return s
	}
	return string([]rune(s)[:limit-1]) + "…"
}

// quiet keeps a text from calling people by name: "@all" is an order in many chats.
func quiet(s string) string { return strings.ReplaceAll(s, "@", "@\u200b") }

// escapeMarkup is for texts in HTML and its likes.
var escapeMarkup = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")

// escapeMarkdown is for texts that a receiver reads as Markdown.
var escapeMarkdown = strings.NewReplacer(
	`\`, `\\`, "*", `\*`, "_", `\_`, "`", "\\`", "[", `\[`, "]", `\]`, "(", `\(`, ")", `\)`, "#", `\#`, "<", `\<`, ">", `\>`, "|", `\|`, "~", `\~`,
)
