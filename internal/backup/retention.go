package backup

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Verdict is what a policy says of one backup, and why.
type Verdict struct {
	Backup Backup
	Reason string
}

// Plan is what a policy says of all backups of a job, both lists newest first.
type Plan struct {
	Keep   []Verdict
	Delete []Verdict
	// Halted says why nothing may be deleted although Delete names some; empty
	// otherwise.
	Halted string
}

// Deletions returns the backups to delete now: none when the plan is halted.
func (p Plan) Deletions() []Backup {
	if p.Halted != "" {
		return nil
	}
	deletions := make([]Backup, 0, len(p.Delete))
	for _, v := range p.Delete {
		deletions = append(deletions, v.Backup)
	}
	return deletions
}

// PlanRetention applies a policy to the good backups of one job: completed ones
// with an available copy, in any order. It is a pure function. now must come
// from the clock that dated the backups; loc is the zone of the job's days.
//
// The rules add up: what any of them keeps, stays. max_backups keeps the newest
// N. keep_daily, keep_weekly and keep_monthly keep the newest backup of each of
// the last N days, ISO weeks and months that have one. The newest backup always
// stays. A clock that is behind the newest backup halts the plan: nothing that is
// said about age can be trusted then.
func PlanRetention(policy RetentionPolicy, backups []Backup, now time.Time, loc *time.Location) Plan {
	sorted := slices.Clone(backups)
	slices.SortFunc(sorted, newestFirst)
	reasons := make([][]string, len(sorted))
	keep := func(i int, format string, args ...any) {
		reasons[i] = append(reasons[i], fmt.Sprintf(format, args...))
	}
	if len(sorted) > 0 {
		keep(0, "newest good backup of the job")
	}
	if policy.MaxBackups != nil {
		for i := range min(*policy.MaxBackups, len(sorted)) {
			keep(i, "number %d of the newest %d (max_backups)", i+1, *policy.MaxBackups)
		}
	}
	for _, rule := range policy.periods() {
		for i, period := range newestOfEach(rule.of, rule.count, sorted, loc) {
			keep(i, "newest of %s (%s)", period, rule.name)
		}
	}
	return assemble(policy, sorted, reasons, now)
}

func assemble(policy RetentionPolicy, sorted []Backup, reasons [][]string, now time.Time) Plan {
	var plan Plan
	for i, b := range sorted {
		if len(reasons[i]) > 0 {
			plan.Keep = append(plan.Keep, Verdict{Backup: b, Reason: strings.Join(reasons[i], "; ")})
			continue
		}
		plan.Delete = append(plan.Delete, Verdict{Backup: b, Reason: "no rule of the policy keeps it"})
	}
	switch {
	case len(plan.Delete) == 0:
	case !policy.AutoDelete:
		plan.Halted = "auto_delete is off: nothing is deleted by itself"
	case now.Before(sorted[0].completedAt()):
		plan.Halted = "the clock is behind the newest backup: nothing is deleted until it is right again"
	}
	return plan
}

type periodRule struct {
	name  string
	count int
	of    func(time.Time) string
}

// periods lists the calendar rules that are set.
func (p RetentionPolicy) periods() []periodRule {
	var rules []periodRule
	add := func(name string, count *int, of func(time.Time) string) {
		if count != nil {
			rules = append(rules, periodRule{name, *count, of})
		}
	}
	add("keep_daily", p.KeepDaily, func(t time.Time) string { return t.Format("2006-01-02") })
	add("keep_weekly", p.KeepWeekly, func(t time.Time) string {
		year, week := t.ISOWeek()
		return fmt.Sprintf("%d-W%02d", year, week)
	})
	add("keep_monthly", p.KeepMonthly, func(t time.Time) string { return t.Format("2006-01") })
	return rules
}

// newestOfEach returns the index of the newest backup of each of the last count
// periods that have one.
func newestOfEach(period func(time.Time) string, count int, sorted []Backup, loc *time.Location) map[int]string {
	newest := map[int]string{}
	seen := map[string]bool{}
	for i, b := range sorted {
		name := period(b.TakenAt().In(loc))
		if seen[name] || len(seen) == count {
			continue
		}
		seen[name] = true
		newest[i] = name
	}
	return newest
}

// TakenAt is the time whose state the backup holds.
func (b Backup) TakenAt() time.Time {
	if b.StartedAt != nil {
		return *b.StartedAt
	}
	return b.CreatedAt
}

func (b Backup) completedAt() time.Time {
	if b.FinishedAt != nil {
		return *b.FinishedAt
	}
	return b.TakenAt()
}

func newestFirst(a, b Backup) int {
	if c := b.TakenAt().Compare(a.TakenAt()); c != 0 {
		return c
	}
	return strings.Compare(b.ExecutionID, a.ExecutionID)
}
