package settings_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/settings"
)

func TestReaderListsEveryComplaintAtOnce(t *testing.T) {
	r := settings.NewReader("config", map[string]any{
		"port": 0.5, "mode": "odd", "flag": "yes", "size": -1.0, "extra": 1.0, "line": "a\nb", "nul": "a\x00b", "number": 4.0,
	})
	r.Required("host", 10)
	r.Int("port", 1, 65535)
	r.Choice("mode", "a", "b")
	r.Bool("flag", false)
	r.Number("size", 10)
	r.Line("line", 10)
	r.String("nul", 10)
	r.String("number", 10)
	require.Equal(t, []errs.Field{
		{Field: "config.extra", Message: "is not a known setting"},
		{Field: "config.flag", Message: "must be true or false"},
		{Field: "config.host", Message: "is required"},
		{Field: "config.line", Message: "must not hold control characters"},
		{Field: "config.mode", Message: "must be one of a, b"},
		{Field: "config.nul", Message: "must not hold a NUL byte"},
		{Field: "config.number", Message: "must be a string"},
		{Field: "config.port", Message: "must be a whole number between 1 and 65535"},
		{Field: "config.size", Message: "must be a positive number"},
	}, r.Fields())
}

func TestMergeKeepsWhatIsNotSentAndSecretsThatComeBackAsRead(t *testing.T) {
	current := map[string]any{"host": "a", "password": "old", "ssl_mode": "require"}
	merged := settings.Merge(current, map[string]any{"password": settings.Set(), "ssl_mode": nil, "database": "d"})
	require.Equal(t, map[string]any{"host": "a", "password": "old", "database": "d"}, merged)
	require.Equal(t, "require", current["ssl_mode"], "the current settings must not change")
}
