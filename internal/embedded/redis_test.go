package embedded

import (
	"context"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/rueidis"
	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/errs"
)

func redisClient(t *testing.T, r *Redis) rueidis.Client {
	t.Helper()
	c, err := rueidis.NewClient(r.ClientOption())
	require.NoError(t, err)
	return c
}

func TestRedisServesWhatAQueueAndATailNeed(t *testing.T) {
	r, err := StartRedis()
	require.NoError(t, err)
	defer func() { require.NoError(t, r.Close()) }()
	c := redisClient(t, r)
	defer c.Close()
	ctx := t.Context()

	popped := make(chan []string, 1)
	go func() {
		got, err := c.Do(ctx, c.B().Blpop().Key("wake").Timeout(10).Build()).AsStrSlice()
		if err != nil {
			t.Error(err)
		}
		popped <- got
	}()
	require.NoError(t, c.Do(ctx, c.B().Rpush().Key("wake").Element("job").Build()).Error())
	require.Equal(t, []string{"wake", "job"}, <-popped)

	heard := make(chan string, 1)
	listening := make(chan struct{})
	dedicated, release := c.Dedicate()
	ended := dedicated.SetPubSubHooks(rueidis.PubSubHooks{
		OnSubscription: func(rueidis.PubSubSubscription) { close(listening) },
		OnMessage:      func(m rueidis.PubSubMessage) { heard <- m.Message },
	})
	require.NoError(t, dedicated.Do(ctx, c.B().Subscribe().Channel("log").Build()).Error())
	<-listening
	require.NoError(t, c.Do(ctx, c.B().Publish().Channel("log").Message("line").Build()).Error())
	require.Equal(t, "line", <-heard)
	release()
	require.NoError(t, <-ended)

	require.NoError(t, c.Do(ctx, c.B().Xadd().Key("s").Id("*").FieldValue().FieldValue("m", "1").Build()).Error())
	entries, err := c.Do(ctx, c.B().Xrange().Key("s").Start("-").End("+").Build()).AsXRange()
	require.NoError(t, err)
	require.Len(t, entries, 1)

	script := rueidis.NewLuaScript("return redis.call('GET', KEYS[1]) == false")
	absent, err := script.Exec(ctx, c, []string{"nothing"}, nil).AsBool()
	require.NoError(t, err)
	require.True(t, absent)
}

func TestClosedRedisBreaksItsClientsAndIsNotRevived(t *testing.T) {
	r, err := StartRedis()
	require.NoError(t, err)
	c := redisClient(t, r)
	defer c.Close()
	require.NoError(t, c.Do(t.Context(), c.B().Ping().Build()).Error())
	require.NoError(t, r.Close())
	require.NoError(t, r.Close())
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	require.Error(t, c.Do(ctx, c.B().Ping().Build()).Error())

	_, err = r.Dial(t.Context(), "", nil, nil)
	require.ErrorIs(t, err, net.ErrClosed)
	require.Equal(t, errs.CodeRedisUnavailable, errs.CodeOf(err))
}

func TestRedisKeysExpireByTheClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, err := StartRedis()
		require.NoError(t, err)
		c := redisClient(t, r)
		ctx := t.Context()
		require.NoError(t, c.Do(ctx, c.B().Set().Key("k").Value("v").Ex(time.Minute).Build()).Error())
		<-time.After(59 * time.Second)
		require.NoError(t, c.Do(ctx, c.B().Get().Key("k").Build()).Error())
		<-time.After(2 * time.Second)
		require.True(t, rueidis.IsRedisNil(c.Do(ctx, c.B().Get().Key("k").Build()).Error()))
		c.Close()
		require.NoError(t, r.Close())
	})
}
