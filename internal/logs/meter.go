package logs

import (
	"fmt"
	"math"
	"strings"
	"sync"
	"time"

	"github.com/dataguardian/dataguardian/internal/engine"
)

const (
	progressEvery = 5 * time.Second
	sampleEvery   = 200 * time.Millisecond
	smoothOver    = 5 * time.Second      // the time constant of the rate
	firstRated    = 1 << 20              // bytes: what comes before is a preface, and its pace no forecast
	longestETA    = 100 * 24 * time.Hour // what is longer is not a forecast
)

// Numbers say how far a phase is.
type Numbers struct {
	BytesDone   int64
	BytesTotal  *int64   // an estimate; nil when unknown
	Percent     *float64 // 0 to 100; nil when unknown
	Rate        float64  // bytes per second, smoothed
	ETA         *time.Duration
	TablesDone  int
	TablesTotal int // 0 when unknown
}

// meter turns frequent snapshots of progress into a rate, a forecast and a few
// lines. It is safe for concurrent use.
type meter struct {
	mu      sync.Mutex
	verb    string
	latest  engine.Progress
	rate    float64
	rated   bool // rate has a value
	sampled time.Time
	bytes   int64 // at that time
	begun   time.Time
	printed time.Time
	tenth   int // of the last line
}

// begin starts a phase; verb is what its lines say first, such as "dumped".
func (m *meter) begin(verb string, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.verb, m.latest = verb, engine.Progress{}
	m.rate, m.rated, m.sampled, m.bytes = 0, false, now, 0
	m.begun, m.printed, m.tenth = now, now, 0
}

// observe takes a snapshot. It returns a line when one is due: on each tenth,
// else after 5 s.
func (m *meter) observe(p engine.Progress, now time.Time) (line string, due bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p.BytesDone = max(p.BytesDone, m.latest.BytesDone) // snapshots of parallel members may overtake each other
	p.TablesDone = max(p.TablesDone, m.latest.TablesDone)
	m.latest = p
	m.sample(now)
	n := m.numbers(now)
	tenth := m.tenth
	if n.Percent != nil {
		tenth = max(tenth, int(*n.Percent/10))
	}
	if p.BytesDone == 0 && p.TablesDone == 0 || tenth == m.tenth && now.Sub(m.printed) < progressEvery {
		return "", false
	}
	m.tenth, m.printed = tenth, now
	return describe(m.verb, n), true
}

func (m *meter) sample(now time.Time) {
	passed := now.Sub(m.sampled)
	if passed < sampleEvery {
		return
	}
	if !m.rated && m.latest.BytesDone < firstRated && now.Sub(m.begun) < progressEvery {
		m.sampled, m.bytes = now, m.latest.BytesDone
		return
	}
	m.rate = m.smoothed(passed)
	m.rated = true
	m.sampled, m.bytes = now, m.latest.BytesDone
}

// smoothed returns the rate with what came since the last sample.
func (m *meter) smoothed(passed time.Duration) float64 {
	present := float64(m.latest.BytesDone-m.bytes) / passed.Seconds()
	if !m.rated {
		return present
	}
	weight := 1 - math.Exp(-passed.Seconds()/smoothOver.Seconds())
	return m.rate + weight*(present-m.rate)
}

func (m *meter) now(now time.Time) Numbers {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.numbers(now)
}

func (m *meter) numbers(now time.Time) Numbers {
	p := m.latest
	n := Numbers{BytesDone: p.BytesDone, Rate: m.rate, TablesDone: p.TablesDone, TablesTotal: p.TablesTotal}
	if passed := now.Sub(m.sampled); passed >= time.Second { // it has become slow, or stands still
		n.Rate = m.smoothed(passed)
	}
	switch {
	case p.BytesTotal > 0:
		total := p.BytesTotal
		percent := 100 * float64(p.BytesDone) / float64(total)
		if p.BytesDone > total { // the estimate was too low
			percent = 99
		}
		n.BytesTotal, n.Percent = &total, &percent
		n.ETA = forecast(total-p.BytesDone, n.Rate)
	case p.TablesTotal > 0:
		percent := min(100, 100*float64(p.TablesDone)/float64(p.TablesTotal))
		n.Percent = &percent
	}
	return n
}

func forecast(bytes int64, rate float64) *time.Duration {
	if bytes < 0 || rate < 1 || float64(bytes)/rate > longestETA.Seconds() {
		return nil
	}
	eta := time.Duration(float64(bytes) / rate * float64(time.Second))
	return &eta
}

func describe(verb string, n Numbers) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s", verb, HumanBytes(n.BytesDone))
	if n.BytesTotal != nil && *n.BytesTotal >= n.BytesDone {
		fmt.Fprintf(&b, " of about %s", HumanBytes(*n.BytesTotal))
	}
	if n.Percent != nil {
		fmt.Fprintf(&b, " (%.0f %%)", math.Floor(*n.Percent))
	}
	if n.TablesTotal > 0 {
		fmt.Fprintf(&b, ", %d of %d tables", n.TablesDone, n.TablesTotal)
	}
	if n.Rate >= 1 {
		fmt.Fprintf(&b, ", %s/s", HumanBytes(int64(n.Rate)))
	}
	if n.ETA != nil {
		fmt.Fprintf(&b, ", %s left", HumanDuration(*n.ETA))
	}
	return b.String()
}
