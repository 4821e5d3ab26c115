package app

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestDurationsInTheLogAreLegibleInEveryFormat(t *testing.T) {
	for _, format := range []string{"json", "text", "auto"} {
		var out bytes.Buffer
		c := Config{LogLevel: "info", LogFormat: format, Stderr: &out}
		logger, err := c.logger()
		require.NoError(t, err)
		logger.Info("done", "duration", 1500*time.Millisecond+time.Nanosecond)
		require.Regexp(t, `duration("?[:=]"?)1\.5s\b`, out.String(), format)
	}
}
