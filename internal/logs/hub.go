package logs

import (
	"cmp"
	"context"
	"sync"
	"time"

	"github.com/redis/rueidis"

	"github.com/dataguardian/dataguardian/internal/errs"
)

// HubConfig of a RedisHub. Zero fields take the defaults.
type HubConfig struct {
	Prefix    string        // of every key and channel; "dg:"
	Lines     int64         // kept for replay per execution, at least; 5,000
	Keep      time.Duration // how long lines stay after Close; 10 minutes
	Abandoned time.Duration // how long lines stay after the last one when nobody closes; 24 hours
	Heartbeat time.Duration // Idle events after so long without another; 15 s
	Timeout   time.Duration // for one answer of Redis; 5 s
	TailLines int           // kept in memory for a tail that reads slowly, before it reads from Redis; 128
	TailBytes int           // the same in bytes; 32 KiB
	Watch     int           // events kept in memory for a watcher before it has fallen behind; 4,096
	Readers   int           // reads of streams at one time; 32
	Report    func(error)   // hears when the subscription breaks, once for each outage; nobody
}

func (c *HubConfig) fill() {
	c.Prefix = cmp.Or(c.Prefix, "dg:")
	c.Lines = cmp.Or(c.Lines, 5000)
	c.Keep = cmp.Or(c.Keep, 10*time.Minute)
	c.Abandoned = cmp.Or(c.Abandoned, 24*time.Hour)
	c.Heartbeat = cmp.Or(c.Heartbeat, 15*time.Second)
	c.Timeout = cmp.Or(c.Timeout, 5*time.Second)
	c.TailLines = cmp.Or(c.TailLines, 128)
	c.TailBytes = cmp.Or(c.TailBytes, 32<<10)
	c.Watch = cmp.Or(c.Watch, 4096)
	c.Readers = cmp.Or(c.Readers, 32)
	if c.Report == nil {
		c.Report = func(error) {}
	}
}

// RedisHub is the Hub over Redis: a capped stream per execution for replay, a
// channel per execution for what is new, and one subscription per process that
// serves all tails. While Redis is away, Append and its like fail with
// Unavailable (CodeRedisUnavailable), and tails wait.
//
// A tail trusts what is in the stream, and takes from the channel only what
// follows its last line without a gap; for all else the channel is a hint to
// read the stream. So nothing is lost or repeated when messages are.
type RedisHub struct {
	client  rueidis.Client
	cfg     HubConfig
	bus     *bus
	readers chan struct{}   // one slot for each read of a stream
	life    context.Context // ends with Run; for what tails share and for their end
	kill    context.CancelFunc

	mu       sync.RWMutex
	topics   map[string]*topic // by execution
	watchers map[*watcher]struct{}

	topMu sync.Mutex
	tops  map[string]int64 // the last line of each execution that this process has appended
}

var _ Hub = (*RedisHub)(nil)

// NewHub returns a hub on a client that stays the caller's; queue.Connect makes
// one that fits: it writes while it reads, and does not retry by itself.
// Appending works at once; tails hear what is new while Run runs.
func NewHub(client rueidis.Client, cfg HubConfig) *RedisHub {
	cfg.fill()
	h := &RedisHub{
		client: client, cfg: cfg, readers: make(chan struct{}, cfg.Readers),
		topics: map[string]*topic{}, watchers: map[*watcher]struct{}{}, tops: map[string]int64{},
	}
	h.life, h.kill = context.WithCancel(context.Background())
	h.bus = newBus(client, h.receive, h.listening, cfg.Report)
	return h
}

// Run listens for all tails and watchers until ctx ends, and returns its cause.
// The tails and watchers then end with Unavailable (CodeShuttingDown). Run it
// once.
func (h *RedisHub) Run(ctx context.Context) error {
	defer h.kill()
	return h.bus.run(ctx)
}

func errStopped() error {
	return errs.New(errs.Unavailable, errs.CodeShuttingDown, "this server is shutting down; connect again to go on after the last line")
}

func errRedis(err error) error {
	return errs.Wrap(err, errs.Unavailable, errs.CodeRedisUnavailable, "Redis does not answer, so that live lines wait; they go on when it is back")
}

const (
	liveSpace = "live:"
	stateName = "states"
)

func (h *RedisHub) streamKey(executionID string) string { return h.cfg.Prefix + "log:" + executionID }
func (h *RedisHub) liveChannel(executionID string) string {
	return h.cfg.Prefix + liveSpace + executionID
}
func (h *RedisHub) livePattern() string  { return h.cfg.Prefix + liveSpace + "*" }
func (h *RedisHub) stateChannel() string { return h.cfg.Prefix + stateName }

// topOf returns the last line this process knows the execution to have.
func (h *RedisHub) topOf(executionID string) int64 {
	h.topMu.Lock()
	defer h.topMu.Unlock()
	return h.tops[executionID]
}

// appended notes the last line of an execution until Close. Executions that
// other processes close leave their notes behind: many are forgotten at random.
func (h *RedisHub) appended(executionID string, seq int64) {
	const most = 10_000
	h.topMu.Lock()
	defer h.topMu.Unlock()
	if len(h.tops) >= most {
		for id := range h.tops {
			delete(h.tops, id)
			if len(h.tops) < most/2 {
				break
			}
		}
	}
	h.tops[executionID] = max(h.tops[executionID], seq)
}

func (h *RedisHub) forget(executionID string) {
	h.topMu.Lock()
	defer h.topMu.Unlock()
	delete(h.tops, executionID)
}
