package health

import (
	"cmp"
	"math/rand/v2"
	"time"

	"github.com/dataguardian/dataguardian/internal/datasource"
	"github.com/dataguardian/dataguardian/internal/location"
)

// Rules say what follows from checks. Zero fields take the defaults, which are
// written here and nowhere else.
type Rules struct {
	Interval  time.Duration // between two checks of one thing; 1 min
	Failures  int           // checks in a row that must fail, or be slow, before a status gets worse; 3
	Successes int           // checks in a row that must be good before it gets better; 2
	Slow      time.Duration // an answer that takes longer is slow; 5 s
	FullBelow int64         // bytes available below which a storage is full; 64 MiB
	LowBelow  int64         // bytes available below which its space is low; 1 GiB
}

// WithDefaults returns r with its defaults filled in.
func (r Rules) WithDefaults() Rules {
	r.Interval = cmp.Or(r.Interval, time.Minute)
	r.Failures = cmp.Or(r.Failures, 3)
	r.Successes = cmp.Or(r.Successes, 2)
	r.Slow = cmp.Or(r.Slow, 5*time.Second)
	r.FullBelow = cmp.Or(r.FullBelow, 64<<20)
	r.LowBelow = cmp.Or(r.LowBelow, 1<<30)
	return r
}

// Grade is what one check says by itself.
type Grade string

// Grades.
const (
	Good     Grade = "good"
	TooSlow  Grade = "slow"
	Bad      Grade = "bad"
	FullUp   Grade = "full" // of a storage: it answers, and takes nothing more
	Ungraded Grade = ""     // never checked
)

// Streak is how the newest checks of one thing went: how many in a row had the
// same grade.
type Streak struct {
	Grade  Grade
	Length int
}

// then returns the streak after one more check.
func (s Streak) then(g Grade) Streak {
	if s.Grade != g {
		return Streak{Grade: g, Length: 1}
	}
	return Streak{Grade: g, Length: s.Length + 1}
}

// Datasource returns the status of a datasource after a check. One lost packet
// wakes nobody: a status changes after some checks in a row that say the same. A
// new one is healthy with its first good check.
func (r Rules) Datasource(now datasource.Status, before Streak, c Check) (datasource.Status, Streak) {
	r = r.WithDefaults()
	after := before.then(r.grade(c))
	switch {
	case after.Grade == Bad && after.Length >= r.Failures:
		return datasource.Critical, after
	case after.Grade == TooSlow && after.Length >= r.Failures:
		return datasource.Warning, after
	case after.Grade == Good && (after.Length >= r.Successes || now == datasource.Unknown):
		return datasource.Healthy, after
	}
	return now, after
}

func (r Rules) grade(c Check) Grade {
	switch {
	case c.Outcome != OK:
		return Bad
	case c.LatencyMS != nil && time.Duration(*c.LatencyMS)*time.Millisecond > r.Slow:
		return TooSlow
	}
	return Good
}

// Storage returns the status of a storage location after a check, and whether its
// space is low. That it is full is a fact and needs no second check. Space that
// comes and goes around a threshold does not change anything each time: twice the
// threshold must be free before a full storage counts as healthy, and a quarter
// more than it before low space is over.
func (r Rules) Storage(now location.Status, before Streak, low bool, c Check) (location.Status, Streak, bool) {
	r = r.WithDefaults()
	grade := r.spaceGrade(now, c)
	after := before.then(grade)
	if c.AvailableBytes != nil {
		low = *c.AvailableBytes < r.LowBelow || low && *c.AvailableBytes < r.LowBelow+r.LowBelow/4
	}
	switch {
	case grade == FullUp:
		return location.Full, after, low
	case grade == Bad && after.Length >= r.Failures:
		return location.Unreachable, after, low
	case grade == Good && after.Length >= r.Successes:
		return location.Healthy, after, low
	}
	return now, after, low
}

func (r Rules) spaceGrade(now location.Status, c Check) Grade {
	need := r.FullBelow
	if now == location.Full {
		need *= 2
	}
	switch {
	case c.Full, c.Outcome == OK && c.AvailableBytes != nil && *c.AvailableBytes < need:
		return FullUp
	case c.Outcome != OK:
		return Bad
	}
	return Good
}

// Pause returns how long to wait for the next check: the interval, give or take a
// tenth, so that checks of many things spread by themselves. While a status may be
// about to change it is shorter.
func (r Rules) Pause(s Streak) time.Duration {
	r = r.WithDefaults()
	pause := r.Interval
	if s.Grade != Good && s.Length < r.Failures || s.Grade == Good && s.Length < r.Successes {
		pause /= 4
	}
	return pause*9/10 + time.Duration(rand.Int64N(int64(pause/5)+1)) //nolint:gosec // jitter, not a secret
}
