package queue

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/redis/rueidis"

	"github.com/dataguardian/dataguardian/internal/errs"
)

// MonitorConfig of a Monitor. Zero fields take the defaults, with which a dead
// or hanging Redis is noticed within 4 s and its return within 3 s.
type MonitorConfig struct {
	Interval time.Duration // between two pings; 1 s
	Timeout  time.Duration // for an answer; 1 s
	Failures int           // how many in a row mean down; 2
	Logger   *slog.Logger  // is told when Redis goes and comes; nil: nobody
}

// Monitor knows whether Redis answers. Until Ask or Run has asked, it does not.
// Its methods are safe for concurrent use.
type Monitor struct {
	client rueidis.Client
	cfg    MonitorConfig

	mu      sync.Mutex
	err     error // nil while up
	asked   bool  // err is of an answer, not of there having been none yet
	changed chan struct{}
}

// NewMonitor returns a monitor that does nothing before Run.
func NewMonitor(client rueidis.Client, cfg MonitorConfig) *Monitor {
	cfg.Interval = cmp.Or(cfg.Interval, time.Second)
	cfg.Timeout = cmp.Or(cfg.Timeout, time.Second)
	cfg.Failures = cmp.Or(cfg.Failures, 2)
	cfg.Logger = cmp.Or(cfg.Logger, slog.New(slog.DiscardHandler))
	return &Monitor{
		client: client, cfg: cfg, changed: make(chan struct{}),
		err: errs.New(errs.Unavailable, errs.CodeRedisUnavailable, "Redis has not been asked yet"),
	}
}

// Ask asks once, before Run: who starts afterwards does not take a Redis that has
// not been asked yet for one that is down.
func (m *Monitor) Ask(ctx context.Context) {
	err := m.ping(ctx)
	if err == nil {
		m.set(nil)
		return
	}
	m.set(down(err))
}

func down(err error) error {
	return errs.Wrap(err, errs.Unavailable, errs.CodeRedisUnavailable,
		"Redis does not answer; queued work starts when it is back, nothing is lost")
}

// Run asks until ctx ends and returns its cause. Run it once.
func (m *Monitor) Run(ctx context.Context) error {
	for failures := 0; ; {
		err := m.ping(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		next := m.cfg.Interval
		switch {
		case err == nil:
			failures = 0
			m.set(nil)
		case failures+1 < m.cfg.Failures: // one answer may be late: make sure, soon
			failures++
			next = m.cfg.Interval / 4
		default:
			m.set(down(err))
		}
		if err := pause(ctx, next); err != nil {
			return err
		}
	}
}

func (m *Monitor) ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, m.cfg.Timeout)
	defer cancel()
	return m.client.Do(ctx, m.client.B().Ping().Build()).Error()
}

func (m *Monitor) set(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	turned, first := (m.err == nil) != (err == nil), !m.asked
	m.err, m.asked = err, true
	switch {
	case err != nil && (turned || first):
		m.cfg.Logger.Warn("Redis does not answer: nothing new starts until it does, what runs goes on", "error", errors.Unwrap(err))
	case err == nil && turned && !first:
		m.cfg.Logger.Info("Redis answers again: everything goes on")
	}
	if turned {
		close(m.changed)
		m.changed = make(chan struct{})
	}
}

// Up reports whether Redis answers.
func (m *Monitor) Up() bool { return m.Err() == nil }

// Err returns nil while Redis answers, else why it is held to be down:
// Unavailable (CodeRedisUnavailable).
func (m *Monitor) Err() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.err
}

// Changed returns a channel that is closed when Up changes next. Ask for it
// before Up, so that no change slips through between.
func (m *Monitor) Changed() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.changed
}

// WaitUp returns nil as soon as Redis answers, or the cause of ctx.
func (m *Monitor) WaitUp(ctx context.Context) error {
	for {
		changed := m.Changed()
		if m.Up() {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
