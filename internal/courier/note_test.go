package courier

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/notification"
)

// A notification quotes names and errors of databases. Whatever they hold, what is
// sent is bounded text without a control character or a mark that turns its direction.
func FuzzANoteIsBoundedPlainText(f *testing.F) {
	f.Add("Backup of \x1b[31mshop\x1b[0m failed\r\nBcc: all@example.com", "<b>@everyone</b>\u202e\x00\xff", uint8(40))
	f.Add(strings.Repeat("é", 300), "", uint8(1))
	f.Fuzz(func(t *testing.T, title, message string, limit uint8) {
		n := note{notification.Notification{Title: title, Message: message, Severity: notification.Critical}}
		most := int(limit) + 1
		for name, text := range map[string]string{"title": n.title(most), "body": n.body(most), "whole": n.whole(most)} {
			require.True(t, utf8.ValidString(text), name)
			require.LessOrEqual(t, utf8.RuneCountInString(text), most, name)
			for _, r := range text {
				require.False(t, unicode.IsControl(r) && r != '\n' && r != '\t' || unicode.Is(unicode.Cf, r), "%s: %q", name, text)
			}
		}
		require.NotContains(t, n.title(most), "\n", "a head of a letter is one line")
		markup := escapeMarkup.Replace(n.body(most))
		require.NotContains(t, markup, "<")
		require.NotContains(t, quiet(n.body(most))+" ", "@e")
	})
}
