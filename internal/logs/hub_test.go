package logs_test

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/rueidis"
	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/embedded"
	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/logs"
	"github.com/dataguardian/dataguardian/internal/testkit"
)

func TestATailReplaysThenFollowsAcrossProcessesThenEnds(t *testing.T) {
	eachRedis(t, func(t *testing.T, opt rueidis.ClientOption) {
		writer, reader := newHub(t, opt, logs.HubConfig{}), newHub(t, opt, logs.HubConfig{})
		require.NoError(t, writer.Append(t.Context(), "e1", lineRange(1, 700)...))

		all := tail(t.Context(), reader, "e1", 0, nil)
		some := tail(t.Context(), reader, "e1", 650, nil)
		other := tail(t.Context(), reader, "e2", 0, nil)
		all.reached(t, 700)
		some.reached(t, 700)
		for seq := int64(701); seq <= 720; seq++ {
			require.NoError(t, writer.Append(t.Context(), "e1", line(seq)))
		}
		all.reached(t, 720)
		require.NoError(t, writer.Close(t.Context(), "e1"))
		require.NoError(t, all.ended(720))
		require.NoError(t, some.ended(720))
		require.Empty(t, all.gaps)

		late := tail(t.Context(), reader, "e1", 0, nil)
		require.NoError(t, late.ended(720))
		require.NoError(t, tail(t.Context(), reader, "e1", 720, nil).ended(720))
		require.NoError(t, tail(t.Context(), reader, "e1", 999, nil).ended(999))
		require.Zero(t, other.at())
		require.NoError(t, writer.Close(t.Context(), "e2"))
		require.NoError(t, other.ended(0))
	})
}

func TestRetriesAndOutdatedWritersRepeatNothing(t *testing.T) {
	eachRedis(t, func(t *testing.T, opt rueidis.ClientOption) {
		hub, outdated := newHub(t, opt, logs.HubConfig{}), newHub(t, opt, logs.HubConfig{})
		tr := tail(t.Context(), hub, "e", 0, nil)
		require.NoError(t, hub.Append(t.Context(), "e", lineRange(1, 10)...))
		require.NoError(t, hub.Append(t.Context(), "e", lineRange(6, 12)...))
		forged := lineRange(3, 12)
		for i := range forged {
			forged[i].Message = "from a worker that lost its lease"
		}
		require.NoError(t, outdated.Append(t.Context(), "e", forged...))
		require.NoError(t, hub.Close(t.Context(), "e"))
		require.NoError(t, outdated.Append(t.Context(), "e", forged...))
		require.NoError(t, hub.Close(t.Context(), "e"), "closing twice is fine")
		require.NoError(t, tr.ended(12))
		read, err := hub.Read(t.Context(), "e", 0)
		require.NoError(t, err)
		require.Equal(t, lineRange(1, 12), read)
		read, err = hub.Read(t.Context(), "e", 12)
		require.NoError(t, err)
		require.Empty(t, read)
	})
}

func TestALogThatGoesOnAfterItsEndIsOpenedAgain(t *testing.T) {
	eachRedis(t, func(t *testing.T, opt rueidis.ClientOption) {
		hub := newHub(t, opt, logs.HubConfig{})
		require.NoError(t, hub.Open(t.Context(), "e"), "nothing to open")
		require.NoError(t, hub.Append(t.Context(), "e", lineRange(1, 3)...))
		require.NoError(t, hub.Close(t.Context(), "e"))
		require.NoError(t, hub.Open(t.Context(), "e"))
		tr := tail(t.Context(), hub, "e", 0, nil)
		tr.reached(t, 3)
		require.NoError(t, hub.Append(t.Context(), "e", lineRange(2, 5)...))
		require.NoError(t, hub.Close(t.Context(), "e"))
		require.NoError(t, tr.ended(5))
		// Without a line in between it can be closed again, and again.
		for range 3 {
			require.NoError(t, hub.Open(t.Context(), "e"))
			tr := tail(t.Context(), hub, "e", 0, nil)
			tr.reached(t, 5)
			require.NoError(t, hub.Close(t.Context(), "e"))
			require.NoError(t, tr.ended(5))
		}
		// Lines alone open it, too.
		require.NoError(t, hub.Append(t.Context(), "e", line(6)))
		require.NoError(t, hub.Close(t.Context(), "e"))
		require.NoError(t, tail(t.Context(), hub, "e", 0, nil).ended(6))
	})
}

func TestASlowTailLosesNothingAndBlocksNobody(t *testing.T) {
	eachRedis(t, func(t *testing.T, opt rueidis.ClientOption) {
		hub := newHub(t, opt, logs.HubConfig{TailLines: 8, TailBytes: 1 << 10})
		gate := make(chan struct{})
		slow := tail(t.Context(), hub, "e", 0, func() { <-gate })
		fast := tail(t.Context(), hub, "e", 0, nil)
		for seq := int64(1); seq <= 2000; seq += 20 {
			require.NoError(t, hub.Append(t.Context(), "e", lineRange(seq, seq+19)...))
		}
		fast.reached(t, 2000)
		require.LessOrEqual(t, slow.at(), int64(1))
		close(gate)
		slow.reached(t, 2000)
		require.NoError(t, hub.Close(t.Context(), "e"))
		require.NoError(t, slow.ended(2000))
		require.NoError(t, fast.ended(2000))
		require.Empty(t, append(slow.gaps, fast.gaps...))
	})
}

func TestTailsThatNeverReadCostNeitherTheWriterNorTheProcessAnything(t *testing.T) {
	const tails, written = 500, 8000
	opt := optionFor(testkit.Redis(t))
	writer, reader := newHub(t, opt, logs.HubConfig{}), newHub(t, opt, logs.HubConfig{TailLines: 8, TailBytes: 1 << 10})
	ctx, cancel := context.WithCancel(t.Context())
	gate := make(chan struct{})
	stuck := make([]*transcript, tails)
	for i := range stuck {
		stuck[i] = tail(ctx, reader, "e", 0, func() { <-gate })
	}
	keen := tail(ctx, reader, "e", 0, nil)
	require.NoError(t, writer.Append(t.Context(), "e", line(1)))
	for _, tr := range stuck {
		tr.reached(t, 1)
	}
	heap := heapBytes()
	for seq := int64(2); seq < written; seq += 100 {
		require.NoError(t, writer.Append(t.Context(), "e", lineRange(seq, seq+99)...))
	}
	keen.reached(t, written)
	require.Less(t, int64(heapBytes())-int64(heap), int64(8<<20), "a line more does not wait in memory for each of them")
	cancel()
	close(gate)
	for _, tr := range stuck {
		<-tr.done
		require.NoError(t, tr.bad)
	}
}

func TestWhatTheStreamHasDroppedIsAGap(t *testing.T) {
	eachRedis(t, func(t *testing.T, opt rueidis.ClientOption) {
		hub := newHub(t, opt, logs.HubConfig{Lines: 100})
		require.NoError(t, hub.Append(t.Context(), "e", lineRange(1, 1000)...))
		tr := tail(t.Context(), hub, "e", 10, nil)
		require.NoError(t, hub.Close(t.Context(), "e"))
		require.NoError(t, tr.ended(1000))
		require.Len(t, tr.gaps, 1)
		require.EqualValues(t, 11, tr.gaps[0].From)
		require.Greater(t, tr.gaps[0].To, int64(700))
		require.LessOrEqual(t, tr.gaps[0].To, int64(900), "at least 100 stay")
	})
}

func TestATailSurvivesARedisThatRestartsEmpty(t *testing.T) {
	server := testkit.Redis(t)
	hub := newHub(t, optionFor(server), logs.HubConfig{})
	tr := tail(t.Context(), hub, "e", 0, nil)
	require.NoError(t, hub.Append(t.Context(), "e", lineRange(1, 10)...))
	tr.reached(t, 10)

	server.Stop(t)
	err := hub.Append(t.Context(), "e", line(11))
	require.Equal(t, errs.CodeRedisUnavailable, errs.CodeOf(err))
	require.Equal(t, errs.Unavailable, errs.KindOf(err))
	server.Start(t)
	require.Eventually(t, func() bool { return hub.Append(t.Context(), "e", line(12)) == nil }, long, 10*time.Millisecond)
	tr.reached(t, 12)
	require.Equal(t, []logs.Gap{{From: 11, To: 11}}, tr.gaps)
	fresh := tail(t.Context(), hub, "e", 0, nil)
	fresh.reached(t, 12)
	require.Equal(t, []logs.Gap{{From: 1, To: 11}}, fresh.gaps)

	server.Stop(t)
	server.Start(t)
	require.Eventually(t, func() bool { return hub.Close(t.Context(), "e") == nil }, long, 10*time.Millisecond)
	require.NoError(t, tr.ended(12))
	require.NoError(t, tail(t.Context(), hub, "e", 5, nil).ended(12), "who closes knows what there was")
}

func TestAHangingRedisIsGivenUpAndFoundAgain(t *testing.T) {
	server := testkit.Redis(t)
	hub := newHub(t, optionFor(server), logs.HubConfig{Timeout: 200 * time.Millisecond, Heartbeat: 50 * time.Millisecond})
	// A busy machine may take longer than the short timeout, so try again.
	require.Eventually(t, func() bool { return hub.Append(t.Context(), "e", line(1)) == nil }, long, 10*time.Millisecond)
	server.Freeze(t)
	idle := make(chan struct{}, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		for e, err := range hub.Follow(ctx, "e", 0) {
			if err == nil && e.Idle {
				select {
				case idle <- struct{}{}:
				default:
				}
			}
		}
	}()
	require.Error(t, hub.Append(t.Context(), "e", line(2)))
	select {
	case <-idle: // heartbeats go on
	case <-time.After(long):
		t.Fatal("no heartbeat")
	}
	tr := tail(t.Context(), hub, "e", 0, nil)
	server.Thaw(t)
	require.Eventually(t, func() bool { return hub.Append(t.Context(), "e", line(2)) == nil }, long, 10*time.Millisecond)
	require.Eventually(t, func() bool { return hub.Close(t.Context(), "e") == nil }, long, 10*time.Millisecond)
	require.NoError(t, tr.ended(2))
}

func TestHeartbeatsComeWhenNothingElseDoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, err := embedded.StartRedis()
		require.NoError(t, err)
		hub, stop := startHub(t, inProcess(server), logs.HubConfig{})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		began := time.Now()
		var idle []time.Duration
		for e, err := range hub.Follow(ctx, "e", 0) {
			if err != nil {
				break
			}
			if e.Idle {
				idle = append(idle, time.Since(began))
				if len(idle) == 1 {
					pass(5 * time.Second)
					require.NoError(t, hub.Append(ctx, "e", line(1)))
				}
			}
			if len(idle) == 2 {
				cancel()
			}
		}
		require.Equal(t, []time.Duration{15 * time.Second, 35 * time.Second}, idle)
		stop()
		require.NoError(t, server.Close())
	})
}

func TestLinesExpireAfterTheEndOrWhenNobodyCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, err := embedded.StartRedis()
		require.NoError(t, err)
		hub, stop := startHub(t, inProcess(server), logs.HubConfig{Abandoned: time.Hour})
		has := func(id string) bool {
			lines, err := hub.Read(t.Context(), id, 0)
			require.NoError(t, err)
			return len(lines) > 0
		}
		require.NoError(t, hub.Append(t.Context(), "closed", line(1)))
		require.NoError(t, hub.Append(t.Context(), "left", line(1)))
		require.NoError(t, hub.Close(t.Context(), "closed"))
		pass(9 * time.Minute)
		require.True(t, has("closed"))
		pass(2 * time.Minute)
		require.False(t, has("closed"))
		pass(45 * time.Minute)
		require.True(t, has("left"))
		pass(10 * time.Minute)
		require.False(t, has("left"))
		stop()
		require.NoError(t, server.Close())
	})
}

func TestTheEndOfTheHubEndsTailsAndWatchersWithAMessage(t *testing.T) {
	eachRedis(t, func(t *testing.T, opt rueidis.ClientOption) {
		hub, stop := startHub(t, opt, logs.HubConfig{})
		tr := tail(t.Context(), hub, "e", 0, nil)
		watched := make(chan error, 1)
		go func() {
			for _, err := range hub.Watch(t.Context(), true) {
				if err != nil {
					watched <- err
				}
			}
		}()
		require.NoError(t, hub.Append(t.Context(), "e", line(1)))
		tr.reached(t, 1)
		stop()
		<-tr.done
		require.Equal(t, errs.CodeShuttingDown, errs.CodeOf(tr.err))
		require.Equal(t, errs.CodeShuttingDown, errs.CodeOf(<-watched))
	})
}

func TestATailEndsWithTheCauseOfItsContext(t *testing.T) {
	eachRedis(t, func(t *testing.T, opt rueidis.ClientOption) {
		hub := newHub(t, opt, logs.HubConfig{})
		cause := errors.New("the client is gone")
		ctx, cancel := context.WithCancelCause(t.Context())
		tr := tail(ctx, hub, "e", 0, nil)
		require.NoError(t, hub.Append(t.Context(), "e", line(1)))
		tr.reached(t, 1)
		cancel(cause)
		<-tr.done
		require.ErrorIs(t, tr.err, cause)
	})
}

func TestAnnouncementsReachTailsAndWatchersTheNewestFirstOfAll(t *testing.T) {
	eachRedis(t, func(t *testing.T, opt rueidis.ClientOption) {
		hub, other := newHub(t, opt, logs.HubConfig{}), newHub(t, opt, logs.HubConfig{})
		states := make(chan string, 100)
		var group sync.WaitGroup
		defer group.Wait()
		group.Go(func() {
			for e, err := range hub.Follow(t.Context(), "e", 0) {
				if err == nil && e.State != nil {
					states <- string(e.State)
				}
			}
		})
		watcher := startWatch(t, hub, false)
		require.Eventually(t, func() bool { // announcements are not kept: the tail must listen first
			require.NoError(t, other.Announce(t.Context(), "e", []byte("running")))
			return len(states) > 0
		}, long, 10*time.Millisecond)
		require.NoError(t, other.Announce(t.Context(), "f", []byte("queued")))
		watcher.await(t, func(a logs.Announcement) bool { return a.ExecutionID == "f" && string(a.Event.State) == "queued" })
		require.NoError(t, other.Announce(t.Context(), "e", []byte("completed")))
		require.NoError(t, other.Close(t.Context(), "e"))
		group.Wait()
		close(states)
		var last string
		for s := range states {
			last = s
		}
		require.Equal(t, "completed", last, "the state comes before the end")
		require.Error(t, hub.Announce(t.Context(), "e", make([]byte, 1<<20)))
	})
}

func TestAWatcherSeesAllLinesFromItsBeginningOn(t *testing.T) {
	eachRedis(t, func(t *testing.T, opt rueidis.ClientOption) {
		hub := newHub(t, opt, logs.HubConfig{})
		w := startWatch(t, hub, true)
		for seq := int64(1); seq <= 50; seq++ {
			require.NoError(t, hub.Append(t.Context(), "a", line(seq)))
			require.NoError(t, hub.Append(t.Context(), "b", line(seq), line(seq+1)))
		}
		require.NoError(t, hub.Append(t.Context(), "b", line(60)))
		require.NoError(t, hub.Close(t.Context(), "b"))
		w.await(t, func(a logs.Announcement) bool { return a.ExecutionID == "b" && a.Event.End })
		next := map[string]int64{"a": 1, "b": 1}
		for _, a := range w.seen() {
			switch {
			case a.Event.Line != nil:
				require.Equal(t, next[a.ExecutionID], a.Event.Line.Seq)
				next[a.ExecutionID]++
			case a.Event.Gap != nil:
				require.Equal(t, "b", a.ExecutionID)
				require.Equal(t, logs.Gap{From: 52, To: 59}, *a.Event.Gap)
				next["b"] = 60
			}
		}
		require.Equal(t, map[string]int64{"a": 51, "b": 61}, next)
		second := startWatch(t, hub, true) // on a subscription that is there already
		require.NoError(t, hub.Append(t.Context(), "c", line(9)))
		second.await(t, func(a logs.Announcement) bool { return a.Event.Line != nil && a.Event.Line.Seq == 9 })
	})
}

func TestAWatcherThatFallsBehindIsToldSo(t *testing.T) {
	eachRedis(t, func(t *testing.T, opt rueidis.ClientOption) {
		hub := newHub(t, opt, logs.HubConfig{Watch: 10})
		ready, gate, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
		go func() {
			first := true
			for _, err := range hub.Watch(t.Context(), true) {
				if err != nil {
					ended <- err
				}
				if first {
					first = false
					close(ready)
					<-gate
				}
			}
		}()
		<-ready
		probe := tail(t.Context(), hub, "e", 0, nil)
		require.NoError(t, hub.Append(t.Context(), "e", lineRange(1, 30)...))
		require.NoError(t, hub.Append(t.Context(), "e", line(31)))
		probe.reached(t, 31)
		require.Eventually(t, func() bool {
			select {
			case gate <- struct{}{}:
			default:
			}
			return len(ended) > 0
		}, long, time.Millisecond)
		require.ErrorIs(t, <-ended, logs.ErrBehind)
	})
}

func TestAWatcherLearnsThatItMayHaveMissedSomething(t *testing.T) {
	f := newFickle(t)
	defer f.close(t)
	hub := newHub(t, f.option(), logs.HubConfig{})
	w := startWatch(t, hub, false)
	f.cut()
	w.await(t, func(a logs.Announcement) bool { return a.Event.Gap != nil && a.ExecutionID == "" })
}

func TestForgedMessagesAreEscapedBoundedOrDropped(t *testing.T) {
	eachRedis(t, func(t *testing.T, opt rueidis.ClientOption) {
		hub := newHub(t, opt, logs.HubConfig{})
		client, err := rueidis.NewClient(opt)
		require.NoError(t, err)
		t.Cleanup(client.Close)
		do := func(args ...string) {
			require.NoError(t, client.Do(t.Context(), client.B().Arbitrary(args...).Build()).Error())
		}
		do("XADD", "dg:log:e", "1-0", "line", `{"seq":1,"level":"<b>","message":"\u001b[2J\r\nx"}`)
		do("XADD", "dg:log:e", "2-0", "line", `{"seq":7,"message":"not mine"}`)
		do("XADD", "dg:log:e", "3-0", "line", `nonsense`)
		for i := range 300 { // more than a page of what is not ours
			do("XADD", "dg:log:e", "3-"+strconv.Itoa(i+1), "junk", "junk")
		}
		do("XADD", "dg:log:e", "4-0", "line", `{"seq":4,"level":"info","message":"good"}`)
		var got []logs.Line
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		for e, err := range hub.Follow(ctx, "e", 0) {
			if err != nil || e.Line == nil {
				continue
			}
			got = append(got, *e.Line)
			if e.Line.Seq == 4 {
				do("PUBLISH", "dg:live:e", `{`)
				do("PUBLISH", "dg:live:e", `{"lines":[{"seq":0},{"seq":-5},{"seq":"x"},3],"top":9223372036854775807,"state":"!"}`)
				do("PUBLISH", "dg:live:e", `{"lines":[{"seq":2,"message":"again"}],"top":-3,"end":true}`)
				do("XADD", "dg:log:e", "5-0", "line", `{"seq":5,"level":"warn","message":"last"}`)
				do("PUBLISH", "dg:live:e", `{"top":5}`)
			}
			if e.Line.Seq == 5 {
				cancel()
			}
		}
		require.Len(t, got, 5)
		require.Equal(t, `\x1b[2J\r\nx`, got[0].Message)
		require.Equal(t, engine.LevelInfo, got[0].Level)
		require.Equal(t, "this line cannot be read", got[1].Message)
		require.Equal(t, "good", got[3].Message)
	})
}

// watching is a watcher in the background.
type watching struct {
	mu   sync.Mutex
	all  []logs.Announcement
	used int
	more chan struct{}
}

// startWatch returns when the watcher listens.
func startWatch(t *testing.T, hub logs.Hub, lines bool) *watching {
	t.Helper()
	w := &watching{more: make(chan struct{}, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	t.Cleanup(func() { cancel(); <-done })
	go func() {
		defer close(done)
		for a, err := range hub.Watch(ctx, lines) {
			if err != nil {
				return
			}
			w.mu.Lock()
			w.all = append(w.all, a)
			w.mu.Unlock()
			select {
			case w.more <- struct{}{}:
			default:
			}
		}
	}()
	w.await(t, func(a logs.Announcement) bool { return a.Event.Gap != nil && a.ExecutionID == "" })
	return w
}

// await skips what came until one fits.
func (w *watching) await(t *testing.T, fits func(logs.Announcement) bool) {
	t.Helper()
	for limit := time.After(long); ; {
		w.mu.Lock()
		for w.used < len(w.all) {
			w.used++
			if fits(w.all[w.used-1]) {
				w.mu.Unlock()
				return
			}
		}
		w.mu.Unlock()
		select {
		case <-w.more:
		case <-limit:
			t.Fatal("it did not come")
		}
	}
}

func (w *watching) seen() []logs.Announcement {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.all[1:] // without the one that says it listens
}
