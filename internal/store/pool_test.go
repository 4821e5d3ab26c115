package store

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheAddressMaySayHowManyConnectionsAProcessKeeps(t *testing.T) {
	for dsn, want := range map[string]int32{
		"postgres://u@h/d": 16, "postgres://u@h/d?pool_max_conns=3": 3, "host=h pool_max_conns=40": 40,
	} {
		c, err := poolOf(Config{DSN: dsn})
		require.NoError(t, err)
		require.Equal(t, want, c.MaxConns, dsn)
		require.NotContains(t, c.ConnConfig.RuntimeParams, "pool_max_conns", "the server does not know it")
	}
}
