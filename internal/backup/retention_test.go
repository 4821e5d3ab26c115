package backup_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
	_ "time/tzdata"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/dataguardian/dataguardian/internal/backup"
)

func taken(id string, at time.Time) backup.Backup {
	finished := at.Add(time.Minute)
	return backup.Backup{ExecutionID: id, CreatedAt: at, StartedAt: &at, FinishedAt: &finished}
}

func day(text string) time.Time {
	t, err := time.Parse("2006-01-02 15:04", text)
	if err != nil {
		panic(err)
	}
	return t
}

func ids(verdicts []backup.Verdict) []string {
	var out []string
	for _, v := range verdicts {
		out = append(out, v.Backup.ExecutionID)
	}
	return out
}

func n(i int) *int { return &i }

func TestTheFourthOfMaxThreeSendsTheOldestAway(t *testing.T) {
	var backups []backup.Backup
	for i := range 4 {
		backups = append(backups, taken(fmt.Sprint("b", i+1), day("2026-11-20 02:00").AddDate(0, 0, i)))
	}
	plan := backup.PlanRetention(backup.RetentionPolicy{MaxBackups: n(3), AutoDelete: true}, backups, day("2026-11-24 00:00"), time.UTC)
	require.Equal(t, []string{"b4", "b3", "b2"}, ids(plan.Keep))
	require.Equal(t, []string{"b1"}, ids(plan.Delete))
	require.Equal(t, "b1", plan.Deletions()[0].ExecutionID)
	require.Equal(t, "newest good backup of the job; number 1 of the newest 3 (max_backups)", plan.Keep[0].Reason)
}

func TestGrandfatherFatherSonKeepsTheNewestOfEachPeriodInTheJobsZone(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	require.NoError(t, err)
	backups := []backup.Backup{
		taken("nov-24-late", day("2026-11-23 23:30")), // 00:30 on the 24th in Berlin
		taken("nov-23", day("2026-11-23 12:00")),
		taken("nov-22", day("2026-11-22 12:00")), // Sunday: the week before
		taken("nov-21", day("2026-11-21 12:00")),
		taken("oct-31", day("2026-10-31 12:00")),
		taken("oct-30", day("2026-10-30 12:00")),
	}
	policy := backup.RetentionPolicy{KeepDaily: n(2), KeepWeekly: n(2), KeepMonthly: n(2), AutoDelete: true}
	plan := backup.PlanRetention(policy, backups, day("2026-11-24 01:00"), berlin)
	require.Equal(t, []string{"nov-24-late", "nov-23", "nov-22", "oct-31"}, ids(plan.Keep))
	require.Equal(t, []string{"nov-21", "oct-30"}, ids(plan.Delete))
	require.Equal(t, "newest of 2026-11-23 (keep_daily)", plan.Keep[1].Reason)
	require.Equal(t, "newest of 2026-W47 (keep_weekly)", plan.Keep[2].Reason)
	require.Equal(t, "newest of 2026-10 (keep_monthly)", plan.Keep[3].Reason)
}

func TestDaysWithoutBackupsDoNotUseUpThePolicy(t *testing.T) {
	backups := []backup.Backup{taken("new", day("2026-11-24 02:00")), taken("old", day("2026-01-01 02:00"))}
	plan := backup.PlanRetention(backup.RetentionPolicy{KeepDaily: n(2), AutoDelete: true}, backups, day("2026-11-24 03:00"), time.UTC)
	require.Equal(t, []string{"new", "old"}, ids(plan.Keep))
}

func TestAHaltedPlanNamesWhatItWouldDeleteAndDeletesNothing(t *testing.T) {
	backups := []backup.Backup{taken("new", day("2026-11-24 02:00")), taken("old", day("2026-11-23 02:00"))}
	for _, c := range []struct {
		name   string
		auto   bool
		now    time.Time
		halted string
	}{
		{"auto_delete off", false, day("2026-11-24 03:00"), "auto_delete is off"},
		{"clock behind the newest backup", true, day("2026-11-24 02:00"), "the clock is behind"},
	} {
		t.Run(c.name, func(t *testing.T) {
			plan := backup.PlanRetention(backup.RetentionPolicy{MaxBackups: n(1), AutoDelete: c.auto}, backups, c.now, time.UTC)
			require.Equal(t, []string{"old"}, ids(plan.Delete))
			require.Empty(t, plan.Deletions())
			require.Contains(t, plan.Halted, c.halted)
		})
	}
}

func TestRetentionProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		base := day("2026-01-01 00:00")
		var backups []backup.Backup
		for i := range rapid.IntRange(0, 60).Draw(t, "count") {
			backups = append(backups, taken(fmt.Sprintf("b%03d", i), base.Add(time.Duration(rapid.IntRange(0, 500*24*60).Draw(t, "minute"))*time.Minute)))
		}
		rule := func(name string) *int {
			if v := rapid.IntRange(0, 12).Draw(t, name); v > 0 {
				return &v
			}
			return nil
		}
		policy := backup.RetentionPolicy{MaxBackups: rule("max"), KeepDaily: rule("daily"), KeepWeekly: rule("weekly"), KeepMonthly: rule("monthly"), AutoDelete: true}
		loc, err := time.LoadLocation(rapid.SampledFrom([]string{"UTC", "Europe/Berlin", "Pacific/Apia", "America/New_York"}).Draw(t, "zone"))
		require.NoError(t, err)
		now := base.AddDate(2, 0, 0)
		plan := backup.PlanRetention(policy, backups, now, loc)

		require.Len(t, append(ids(plan.Keep), ids(plan.Delete)...), len(backups), "every backup has one verdict")
		for _, v := range append(slices.Clone(plan.Keep), plan.Delete...) {
			require.NotEmpty(t, v.Reason)
		}
		if len(backups) == 0 {
			return
		}
		newest := slices.MaxFunc(backups, func(a, b backup.Backup) int { return a.TakenAt().Compare(b.TakenAt()) })
		require.Equal(t, newest.TakenAt(), plan.Keep[0].Backup.TakenAt(), "the newest stays")
		if policy.MaxBackups != nil {
			require.GreaterOrEqual(t, len(plan.Keep), min(*policy.MaxBackups, len(backups)))
			if policy.KeepDaily == nil && policy.KeepWeekly == nil && policy.KeepMonthly == nil {
				require.Len(t, plan.Keep, min(*policy.MaxBackups, len(backups)))
				for _, gone := range plan.Delete {
					require.False(t, gone.Backup.TakenAt().After(plan.Keep[len(plan.Keep)-1].Backup.TakenAt()), "nothing newer goes before something older")
				}
			}
		}

		shuffled := slices.Clone(backups)
		rand.New(rand.NewPCG(1, 2)).Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		require.Equal(t, plan, backup.PlanRetention(policy, shuffled, now, loc), "order does not matter")

		kept := make([]backup.Backup, 0, len(plan.Keep))
		for _, v := range plan.Keep {
			kept = append(kept, v.Backup)
		}
		require.Empty(t, backup.PlanRetention(policy, kept, now, loc).Delete, "what was kept once is kept again")

		more := policy
		more.MaxBackups = n(len(backups))
		require.Empty(t, backup.PlanRetention(more, backups, now, loc).Delete, "a rule that keeps all keeps all")
	})
}
