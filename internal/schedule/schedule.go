// Package schedule says when a cron expression is due in a time zone.
//
// The expression is read against the wall clock. A local time that daylight
// saving skips is due once, right after the gap; one that it repeats is due
// once, at its first occurrence.
package schedule

import (
	"fmt"
	"strings"
	"time"

	"github.com/netresearch/go-cron"

	"github.com/dataguardian/dataguardian/internal/errs"
)

// Schedule is a parsed expression in a zone. It is immutable.
type Schedule struct {
	wall cron.Schedule // over wall-clock times written down as UTC
	loc  *time.Location
}

// maxSearchYears bounds the search for expressions that are never due, such as
// February 30th. Eight years hold every leap day.
const maxSearchYears = 9

var descriptors = []string{"@hourly", "@daily", "@midnight", "@weekly", "@monthly", "@yearly", "@annually"}

// Parse reads five fields (minute, hour, day of month, month, day of week) or one
// of @hourly, @daily, @midnight, @weekly, @monthly, @yearly, @annually, in an IANA
// zone. The error is Invalid and names the bad field (schedule_cron or
// schedule_timezone).
func Parse(expression, zone string) (Schedule, error) {
	var bad []errs.Field
	loc, err := LoadZone(zone)
	if err != nil {
		bad = append(bad, errs.As(err).Fields...)
	}
	wall, message := parseWall(strings.TrimSpace(expression))
	if message != "" {
		bad = append(bad, errs.Field{Field: "schedule_cron", Message: message})
	}
	if len(bad) > 0 {
		return Schedule{}, errs.InvalidFields(errs.CodeValidation, bad...)
	}
	return Schedule{wall: wall, loc: loc}, nil
}

// LoadZone returns the location of an IANA zone name. "Local" is refused: it
// means another zone on every machine.
func LoadZone(zone string) (*time.Location, error) {
	if zone != "" && zone != "Local" {
		if loc, err := time.LoadLocation(zone); err == nil {
			return loc, nil
		}
	}
	return nil, errs.InvalidFields(errs.CodeValidation, errs.Field{
		Field: "schedule_timezone", Message: fmt.Sprintf("%q is not an IANA time zone such as Europe/Berlin or UTC", zone),
	})
}

func parseWall(expression string) (cron.Schedule, string) {
	fields := strings.Fields(expression)
	switch {
	case len(fields) == 0:
		return nil, "is empty"
	case strings.HasPrefix(fields[0], "@"):
		if len(fields) != 1 || !knownDescriptor(fields[0]) {
			return nil, "knows only " + strings.Join(descriptors, ", ")
		}
	case strings.Contains(fields[0], "="):
		return nil, "must not name a time zone; use schedule_timezone"
	case len(fields) == 6:
		return nil, "has six fields; a seconds field is not supported, use five: minute hour day-of-month month day-of-week"
	case len(fields) != 5:
		return nil, fmt.Sprintf("has %d fields; it takes five: minute hour day-of-month month day-of-week", len(fields))
	}
	parser, err := cron.TryNewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow | cron.Descriptor)
	if err != nil {
		return nil, err.Error()
	}
	wall, err := parser.WithMaxSearchYears(maxSearchYears).Parse("TZ=UTC " + strings.Join(fields, " "))
	if err != nil {
		return nil, "cannot be read: " + err.Error()
	}
	if wall.Next(time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)).IsZero() {
		return nil, "is never due"
	}
	return wall, ""
}

func knownDescriptor(name string) bool {
	for _, d := range descriptors {
		if d == name {
			return true
		}
	}
	return false
}

// Next returns the first due time after t, in UTC.
func (s Schedule) Next(t time.Time) time.Time {
	wall := asWall(t.In(s.loc))
	for {
		wall = s.wall.Next(wall)
		if wall.IsZero() {
			return time.Time{}
		}
		if due := instant(wall, s.loc); due.After(t) {
			return due.UTC()
		}
	}
}

// Missed returns how many due times lie in (after, until] and the newest of
// them. Counting stops at limit; the newest is exact all the same.
func (s Schedule) Missed(after, until time.Time, limit int) (count int, newest time.Time) {
	for due := s.Next(after); !due.IsZero() && !due.After(until); due = s.Next(due) {
		count++
		newest = due
		if count >= limit {
			return count, s.newestBefore(newest, until)
		}
	}
	return count, newest
}

// newestBefore finds the newest due time in [known, until] by halving the span.
func (s Schedule) newestBefore(known, until time.Time) time.Time {
	low, high := known, until
	for high.Sub(low) > time.Second {
		middle := low.Add(high.Sub(low) / 2)
		if due := s.Next(middle); !due.IsZero() && !due.After(until) {
			low, known = middle, due
		} else {
			high = middle
		}
	}
	return known
}

// asWall writes the wall-clock time of t down as if it were UTC.
func asWall(t time.Time) time.Time {
	return time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), time.UTC)
}

// instant returns when the clocks of loc show wall: the first time when they show
// it twice, the end of the gap when they never do.
func instant(wall time.Time, loc *time.Location) time.Time {
	guess := time.Date(wall.Year(), wall.Month(), wall.Day(), wall.Hour(), wall.Minute(), wall.Second(), 0, loc)
	_, before := guess.Add(-24 * time.Hour).Zone()
	_, after := guess.Add(24 * time.Hour).Zone()
	first := wall.Add(-time.Duration(before) * time.Second).In(loc)
	second := wall.Add(-time.Duration(after) * time.Second).In(loc)
	if second.Before(first) {
		first, second = second, first
	}
	for _, t := range []time.Time{first, second, guess} {
		if asWall(t).Equal(wall) {
			return t
		}
	}
	return gapEnd(first, second)
}

// gapEnd returns the moment at which the clocks jump, which lies between the two
// readings of a time that they never show.
func gapEnd(first, second time.Time) time.Time {
	if start, _ := second.ZoneBounds(); start.After(first) {
		return start
	}
	return second
}
