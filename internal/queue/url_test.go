package queue_test

import (
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/redis/rueidis"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/dataguardian/dataguardian/internal/embedded"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/queue"
)

func TestARedisURLIsRead(t *testing.T) {
	for url, want := range map[string]rueidis.ClientOption{
		"redis://localhost":                       {InitAddress: []string{"localhost:6379"}},
		"redis://127.0.0.1:7000/3":                {InitAddress: []string{"127.0.0.1:7000"}, SelectDB: 3},
		"redis://:s%40c%2Fret@cache:1":            {InitAddress: []string{"cache:1"}, Password: "s@c/ret"},
		"redis://me:word@[::1]:7000?db=15":        {InitAddress: []string{"[::1]:7000"}, Username: "me", Password: "word", SelectDB: 15},
		"redis://cache/":                          {InitAddress: []string{"cache:6379"}},
		" redis://cache\n":                        {InitAddress: []string{"cache:6379"}},
		"unix:///run/redis.sock":                  {InitAddress: []string{"/run/redis.sock"}},
		"unix://:word@/run/redis/redis.sock?db=2": {InitAddress: []string{"/run/redis/redis.sock"}, Password: "word", SelectDB: 2},
	} {
		opt, err := queue.ParseURL(url)
		require.NoError(t, err, url)
		require.Equal(t, strings.HasPrefix(url, "unix"), opt.DialCtxFn != nil)
		require.Nil(t, opt.TLSConfig)
		opt.DialCtxFn = nil
		require.Equal(t, want, opt, url)
	}
}

func TestRedissMeansVerifiedTLS(t *testing.T) {
	opt, err := queue.ParseURL("rediss://cache.example:7000/1")
	require.NoError(t, err)
	require.Equal(t, "cache.example", opt.TLSConfig.ServerName)
	require.False(t, opt.TLSConfig.InsecureSkipVerify)
}

func TestABadRedisURLIsRefusedInOneLineThatDoesNotHoldThePassword(t *testing.T) {
	for _, url := range []string{
		"", "localhost:6379", "redis:", "redis://", "redis://:6379", "http://:hunter2@h", "redis://:hunter2@h:99999", "redis://:hunter2@h:0",
		"redis://:hunter2@h/x", "redis://:hunter2@h/hunter2", "redis://:hunter2@h/70000", "redis://:hunter2@h/-1", "redis://:hunter2@h/1/2", "redis://:hunter2@h?db=x",
		"redis://:hunter2@h/1?db=2", "redis://:hunter2@h?db=1&db=2", "redis://:hunter2@h?hunter2=1", "redis://:hunter2#x@h", "redis://:hunter2?x@h", "redis://:hunter2/x@h",
		"redis://:hunter2%zz@h", "redis://hunter2@h", "unix://hunter2", "unix://:hunter2@run/x", "unix:///", "unix://", "redis://:hunter2@h\nx",
	} {
		_, err := queue.ParseURL(url)
		require.Error(t, err, url)
		require.Equal(t, errs.Invalid, errs.KindOf(err), url)
		require.NotContains(t, err.Error(), "hunter2")
		require.NotContains(t, err.Error(), "\n")
	}
}

func TestNoRedisURLPanicsOrLeaksItsSecret(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		before := rapid.SampledFrom([]string{"redis://", "rediss://", "unix://", "redis://:", "redis:", "", "redis://u:"}).Draw(t, "before")
		after := rapid.SampledFrom([]string{"@host", "@host:x", "@/sock", "", "@host/db", "@host?a=b", "#"}).Draw(t, "after")
		junk := rapid.StringMatching(`[%/?#@:\[\] a-z]{0,4}`).Draw(t, "junk")
		if _, err := queue.ParseURL(before + junk + "hunter2" + junk + after); err != nil {
			require.NotContains(t, err.Error(), "hunter2")
		}
	})
}

func TestAUnixSocketIsReached(t *testing.T) {
	server, err := embedded.StartRedis()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Close()) })
	path := filepath.Join(t.TempDir(), "redis.sock")
	forward(t, path, server)
	opt := parse(t, "unix://"+path)
	opt.AlwaysRESP2 = true // what the in-process Redis speaks
	client := connect(t, opt)
	require.NoError(t, client.Do(t.Context(), client.B().Ping().Build()).Error())
}

// forward lets a socket lead to the in-process Redis until the test ends.
func forward(t *testing.T, path string, server *embedded.Redis) {
	t.Helper()
	l, err := net.Listen("unix", path)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			inner, err := server.Dial(t.Context(), "", nil, nil)
			if err != nil {
				_ = conn.Close()
				continue
			}
			go pipe(conn, inner)
			go pipe(inner, conn)
		}
	}()
}

func pipe(to, from net.Conn) {
	_, _ = io.Copy(to, from)
	_ = to.Close()
	_ = from.Close()
}
