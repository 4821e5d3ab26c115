package queue_test

import (
	"testing"

	"github.com/redis/rueidis"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/dataguardian/dataguardian/internal/embedded"
	"github.com/dataguardian/dataguardian/internal/queue"
	"github.com/dataguardian/dataguardian/internal/testkit"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(testkit.Wrap(m))
}

// eachRedis runs a test against the in-process Redis and a real server.
func eachRedis(t *testing.T, test func(t *testing.T, opt rueidis.ClientOption)) {
	t.Run("in-process", func(t *testing.T) {
		server, err := embedded.StartRedis()
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, server.Close()) })
		test(t, server.ClientOption())
	})
	t.Run("server", func(t *testing.T) { test(t, parse(t, testkit.Redis(t).URL())) })
}

func parse(t *testing.T, url string) rueidis.ClientOption {
	t.Helper()
	opt, err := queue.ParseURL(url)
	require.NoError(t, err)
	return opt
}

func connect(t *testing.T, opt rueidis.ClientOption) rueidis.Client {
	t.Helper()
	client, err := queue.Connect(opt)
	require.NoError(t, err)
	t.Cleanup(client.Close)
	return client
}
