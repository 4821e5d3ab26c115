package schedule_test

import (
	"testing"
	"time"
	_ "time/tzdata"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/schedule"
)

func at(t *testing.T, text string) time.Time {
	t.Helper()
	parsed, err := time.Parse(time.RFC3339, text)
	require.NoError(t, err)
	return parsed.UTC()
}

func TestNextFollowsTheWallClockThroughDaylightSaving(t *testing.T) {
	for _, c := range []struct{ name, cron, zone, after, want string }{
		{"plain", "30 2 * * *", "UTC", "2026-03-01T00:00:00Z", "2026-03-01T02:30:00Z"},
		{"strictly after", "30 2 * * *", "UTC", "2026-03-01T02:30:00Z", "2026-03-02T02:30:00Z"},
		{"skipped time runs right after the gap", "30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", "2026-03-29T01:00:00Z"},
		{"the day after the gap is as ever", "30 2 * * *", "Europe/Berlin", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"},
		{"several skipped times are one", "*/15 * * * *", "Europe/Berlin", "2026-03-29T00:45:00Z", "2026-03-29T01:00:00Z"},
		{"and go on after it", "*/15 * * * *", "Europe/Berlin", "2026-03-29T01:00:00Z", "2026-03-29T01:15:00Z"},
		{"repeated time runs at its first occurrence", "30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", "2026-10-25T00:30:00Z"},
		{"and not at its second", "30 2 * * *", "Europe/Berlin", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"},
		{"half-hour shift", "15 2 * * *", "Australia/Lord_Howe", "2026-10-03T00:00:00Z", "2026-10-03T15:30:00Z"},
		{"a skipped midnight", "0 0 * * *", "America/Santiago", "2026-09-05T12:00:00Z", "2026-09-06T04:00:00Z"},
		{"a skipped day", "0 12 30 12 *", "Pacific/Apia", "2011-12-01T00:00:00Z", "2011-12-30T10:00:00Z"},
		{"leap day", "0 0 29 2 *", "UTC", "2026-01-01T00:00:00Z", "2028-02-29T00:00:00Z"},
		{"descriptor", "@monthly", "UTC", "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := schedule.Parse(c.cron, c.zone)
			require.NoError(t, err)
			require.Equal(t, at(t, c.want), s.Next(at(t, c.after)))
		})
	}
}

func TestParseSaysWhatIsWrong(t *testing.T) {
	for _, c := range []struct{ name, cron, zone, field, message string }{
		{"seconds", "0 30 2 * * *", "UTC", "schedule_cron", "seconds field is not supported"},
		{"too few", "30 2 *", "UTC", "schedule_cron", "has 3 fields"},
		{"out of range", "61 * * * *", "UTC", "schedule_cron", "cannot be read"},
		{"never", "0 0 30 2 *", "UTC", "schedule_cron", "is never due"},
		{"every", "@every 1h", "UTC", "schedule_cron", "knows only"},
		{"reboot", "@reboot", "UTC", "schedule_cron", "knows only"},
		{"zone in expression", "TZ=UTC 0 0 * * *", "UTC", "schedule_cron", "must not name a time zone"},
		{"empty", " ", "UTC", "schedule_cron", "is empty"},
		{"unknown zone", "@daily", "Mars/Base", "schedule_timezone", "not an IANA time zone"},
		{"local", "@daily", "Local", "schedule_timezone", "not an IANA time zone"},
		{"path", "@daily", "../../etc/passwd", "schedule_timezone", "not an IANA time zone"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := schedule.Parse(c.cron, c.zone)
			require.Equal(t, errs.CodeValidation, errs.CodeOf(err))
			fields := errs.As(err).Fields
			require.Len(t, fields, 1)
			require.Equal(t, c.field, fields[0].Field)
			require.Contains(t, fields[0].Message, c.message)
		})
	}
}

var zones = []string{"UTC", "Europe/Berlin", "America/New_York", "America/Sao_Paulo", "Australia/Lord_Howe", "Asia/Kathmandu", "America/Santiago", "Africa/Casablanca"}

func TestEveryWallClockMinuteIsDueExactlyOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		loc, err := time.LoadLocation(rapid.SampledFrom(zones).Draw(t, "zone"))
		require.NoError(t, err)
		s, err := schedule.Parse("*/10 * * * *", loc.String())
		require.NoError(t, err)
		start := time.Unix(rapid.Int64Range(1_600_000_000, 1_900_000_000).Draw(t, "start"), 0).UTC()
		seen := map[string]bool{}
		previous := start
		for range 200 {
			next := s.Next(previous)
			require.True(t, next.After(previous), "time must move on")
			require.LessOrEqual(t, next.Sub(previous), 3*time.Hour, "no more than the repeated hours may be left out")
			wall := next.In(loc).Format("2006-01-02T15:04")
			require.False(t, seen[wall], "%s came twice", wall)
			seen[wall] = true
			previous = next
		}
	})
}

func TestMissedAgreesWithCounting(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cron := rapid.SampledFrom([]string{"* * * * *", "*/7 * * * *", "0 * * * *", "30 2 * * *", "0 0 1 * *"}).Draw(t, "cron")
		s, err := schedule.Parse(cron, rapid.SampledFrom(zones).Draw(t, "zone"))
		require.NoError(t, err)
		after := time.Unix(rapid.Int64Range(1_600_000_000, 1_900_000_000).Draw(t, "after"), 0).UTC()
		until := after.Add(time.Duration(rapid.Int64Range(0, int64(40*24*time.Hour)).Draw(t, "span")))
		limit := rapid.IntRange(1, 50).Draw(t, "limit")
		count, newest := s.Missed(after, until, limit)

		var all []time.Time
		for due := s.Next(after); !due.After(until) && len(all) < 60_000; due = s.Next(due) {
			all = append(all, due)
		}
		require.Equal(t, min(len(all), limit), count)
		if count > 0 {
			require.Equal(t, all[len(all)-1], newest)
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{"30 2 * * *", "@daily", "*/5 0-3 1,15 * mon-fri", "0 30 2 * * *", "TZ=UTC * * * * *", "L * * * *"} {
		f.Add(seed, "Europe/Berlin")
	}
	f.Fuzz(func(t *testing.T, cron, zone string) {
		s, err := schedule.Parse(cron, zone)
		if err != nil {
			require.NotEmpty(t, errs.As(err).Fields)
			return
		}
		now := time.Unix(1_800_000_000, 0)
		require.True(t, s.Next(now).After(now))
	})
}
