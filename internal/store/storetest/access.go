package storetest

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/audit"
	"github.com/dataguardian/dataguardian/internal/auth"
	"github.com/dataguardian/dataguardian/internal/backup"
	"github.com/dataguardian/dataguardian/internal/dashboard"
	"github.com/dataguardian/dataguardian/internal/datasource"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/execution"
	"github.com/dataguardian/dataguardian/internal/health"
	"github.com/dataguardian/dataguardian/internal/notification"
)

func users(t *testing.T, w *world) {
	s := w.Users()
	var ada auth.User
	t.Run("of many first users there is one", func(t *testing.T) {
		var group sync.WaitGroup
		made, failed := make([]auth.User, 8), make([]error, 8)
		for i := range made {
			group.Go(func() {
				made[i], failed[i] = s.First(t.Context(), auth.User{ID: id(), Username: "Ada", Role: auth.Admin, PasswordHash: "h"})
			})
		}
		group.Wait()
		for i, err := range failed {
			if err == nil {
				require.Empty(t, ada.ID, "two were made")
				ada = made[i]
				continue
			}
			requireCode(t, err, errs.Conflict, auth.CodeSetupDone)
		}
		require.NotEmpty(t, ada.ID)
		some, err := s.Any(t.Context())
		require.NoError(t, err)
		require.True(t, some)
	})
	t.Run("a name is taken in any case, and found in any", func(t *testing.T) {
		_, err := s.Create(t.Context(), auth.User{ID: id(), Username: "aDA", Role: auth.Viewer})
		requireCode(t, err, errs.Exists, errs.CodeConflict)
		requireField(t, err, "username")
		got, err := s.ByName(t.Context(), "ADA")
		require.NoError(t, err)
		require.Equal(t, ada, got)
		for _, nobody := range []string{"", "ad", "a\x00da", "\xff"} {
			_, err := s.ByName(t.Context(), nobody)
			requireNotFound(t, err)
		}
		_, err = s.BySubject(t.Context(), "")
		requireNotFound(t, err)
	})
	t.Run("the last administrator stays, and of two at once one does", func(t *testing.T) {
		demote := func(u *auth.User) { u.Role = auth.Viewer }
		_, err := s.Update(t.Context(), ada.ID, demote)
		requireCode(t, err, errs.Conflict, auth.CodeLastAdministrator)
		requireCode(t, s.Delete(t.Context(), ada.ID), errs.Conflict, auth.CodeLastAdministrator)
		bob, err := s.Create(t.Context(), auth.User{ID: id(), Username: "bob", Role: auth.Admin, Subject: "issuer 1"})
		require.NoError(t, err)
		var group sync.WaitGroup
		failed := make([]error, 2)
		group.Go(func() { _, failed[0] = s.Update(t.Context(), ada.ID, demote) })
		group.Go(func() { failed[1] = s.Delete(t.Context(), bob.ID) })
		group.Wait()
		require.NotEqual(t, failed[0] == nil, failed[1] == nil, "one of them is the last: %v", failed)
		rows, total, err := s.List(t.Context(), firstPage)
		require.NoError(t, err)
		require.Len(t, rows, total)
		require.Equal(t, "Ada", rows[0].Username)
	})
	t.Run("a session ends with its time, its use, its user's password and its user", func(t *testing.T) {
		u, err := s.Create(t.Context(), auth.User{ID: id(), Username: "eve", Role: auth.Operator, PasswordHash: "h"})
		require.NoError(t, err)
		begin := func(lifetime time.Duration) string {
			n := auth.Session{ID: id(), UserID: u.ID, Hash: []byte{1}, Address: "127.0.0.1"}
			require.NoError(t, w.Sessions().Begin(t.Context(), n, lifetime))
			return n.ID
		}
		one, over := begin(time.Hour), begin(-time.Second)
		from, err := w.Sessions().Addresses(t.Context(), "EVE", time.Hour)
		require.NoError(t, err)
		require.Equal(t, []string{"127.0.0.1"}, from)
		got, of, err := w.Sessions().Get(t.Context(), one, time.Hour)
		require.NoError(t, err)
		require.Equal(t, auth.Session{ID: one, UserID: u.ID, Hash: []byte{1}}, got)
		require.Equal(t, auth.Operator, of.Role)
		_, _, err = w.Sessions().Get(t.Context(), over, time.Hour)
		requireNotFound(t, err)
		w.exec(t, "update sessions set last_used_at = now() - interval '2 hours' where id = $1", one)
		_, _, err = w.Sessions().Get(t.Context(), one, time.Hour)
		requireNotFound(t, err)
		require.NoError(t, w.Sessions().Touch(t.Context(), one))
		_, _, err = w.Sessions().Get(t.Context(), one, time.Hour)
		require.NoError(t, err)
		require.NoError(t, w.Sessions().Prune(t.Context(), time.Hour))
		requireNotFound(t, w.Sessions().End(t.Context(), over))
		_, err = s.Update(t.Context(), u.ID, func(u *auth.User) { u.PasswordHash = "other" })
		require.NoError(t, err)
		_, _, err = w.Sessions().Get(t.Context(), one, time.Hour)
		requireNotFound(t, err)
		from, err = w.Sessions().Addresses(t.Context(), "eve", time.Hour)
		require.NoError(t, err)
		require.Empty(t, from)
		oldest := begin(time.Hour)
		for range auth.MaxSessions - 1 {
			begin(time.Hour)
		}
		_, _, err = w.Sessions().Get(t.Context(), oldest, time.Hour)
		require.NoError(t, err)
		last := begin(time.Hour)
		_, _, err = w.Sessions().Get(t.Context(), oldest, time.Hour)
		requireNotFound(t, err)
		_, _, err = w.Sessions().Get(t.Context(), last, time.Hour)
		require.NoError(t, err)
		require.NoError(t, s.Delete(t.Context(), u.ID))
		_, _, err = w.Sessions().Get(t.Context(), last, time.Hour)
		requireNotFound(t, err)
		requireNotFound(t, w.Sessions().Touch(t.Context(), last))
	})
}

func tries(t *testing.T, w *world) {
	s := w.Tries()
	const size = 3
	key, other := []byte("one"), []byte("other")
	take := func(key []byte) time.Duration {
		wait, err := s.Take(t.Context(), key, size, time.Hour)
		require.NoError(t, err)
		return wait
	}
	var group sync.WaitGroup
	waits := make([]time.Duration, 12)
	for i := range waits {
		group.Go(func() { waits[i] = take(key) })
	}
	group.Wait()
	taken := 0
	for _, wait := range waits {
		if wait == 0 {
			taken++
			continue
		}
		require.Positive(t, wait)
		require.LessOrEqual(t, wait, time.Hour)
	}
	require.Equal(t, size, taken, "whoever asks, and however many at once")
	require.Zero(t, take(other))
	require.NoError(t, s.GiveBack(t.Context(), key, size))
	require.Zero(t, take(key))
	require.NotZero(t, take(key))
	w.exec(t, "update login_tries set at = at - interval '1 hour' where key = $1", key)
	require.Zero(t, take(key), "one has come back")
	require.NotZero(t, take(key))
	require.NoError(t, s.GiveBack(t.Context(), []byte("nobody's"), size))

	w.exec(t, "update login_tries set at = now() - interval '2 hours', tries = -1000 where key = $1", other)
	require.NoError(t, s.Prune(t.Context()))
	require.NotZero(t, take(key), "what was used lately is not forgotten")
	for range size {
		require.Zero(t, take(other), "what is forgotten is full")
	}
}

// A caller with a scope sees what belongs to datasources with its tags; every list
// and total is about those only.
func scope(t *testing.T, w *world) {
	tagged := func(tag string) func(*datasource.Datasource) {
		return func(d *datasource.Datasource) { d.Tags = []string{tag, "all"} }
	}
	mine, theirs := w.newDatasource(t, tagged("mine")), w.newDatasource(t, tagged("theirs"))
	next, second := time.Now().Add(time.Hour), w.newLocation(t)
	jobOf := func(d datasource.Datasource) backup.Job {
		return w.newJob(t, func(j *backup.Job) {
			j.DatasourceID, j.NextExecutionAt = d.ID, &next
			j.Options.Targets = []backup.Target{{StorageLocationID: second.ID}}
		})
	}
	myJob, theirJob := jobOf(mine), jobOf(theirs)
	myRun, theirRun := w.queue(t, myJob), w.queue(t, theirJob)
	for _, d := range []datasource.Datasource{mine, theirs} {
		for _, outcome := range []health.Outcome{health.OK, health.Unreachable} {
			require.NoError(t, w.Health().RecordDatasource(t.Context(), health.Check{EntityID: d.ID, Outcome: outcome}, atOnce))
		}
	}
	ctx := auth.WithScope(t.Context(), []string{"mine", "nobody's"})

	found, total, err := w.Datasources().List(ctx, datasource.Filter{}, firstPage)
	require.NoError(t, err)
	require.Equal(t, 1, total)
	require.Equal(t, mine.ID, found[0].ID)
	jobs, total, err := w.Jobs().List(ctx, backup.JobFilter{}, firstPage)
	require.NoError(t, err)
	require.Equal(t, 1, total)
	require.Equal(t, myJob.ID, jobs[0].ID)
	runs, total, err := w.Executions().List(ctx, execution.Filter{}, firstPage)
	require.NoError(t, err)
	require.Equal(t, 1, total)
	require.Equal(t, myRun.ID, runs[0].ID)
	one, err := w.Executions().GetInScope(ctx, myRun.ID)
	require.NoError(t, err)
	whole, err := w.Executions().Get(t.Context(), myRun.ID)
	require.NoError(t, err)
	require.Equal(t, whole, one)
	for _, out := range append(absent(), theirRun.ID) {
		_, err := w.Executions().GetInScope(ctx, out)
		requireNotFound(t, err)
		require.Equal(t, fmt.Sprintf("no execution has the id %q", out), errs.Message(err), "nothing tells what exists")
	}
	_, err = w.Executions().GetInScope(t.Context(), theirRun.ID)
	require.NoError(t, err, "without a scope everything is there")
	_, err = w.Executions().Get(ctx, theirRun.ID)
	require.NoError(t, err, "what is read for all knows no scope")
	runs, total, err = w.Executions().List(ctx, execution.Filter{JobID: theirJob.ID}, firstPage)
	require.NoError(t, err)
	require.Zero(t, total)
	require.Empty(t, runs)
	checks, total, err := w.Health().Datasources(ctx, health.CheckFilter{}, firstPage)
	require.NoError(t, err)
	require.Equal(t, 2, total)
	require.Equal(t, mine.ID, checks[0].EntityID)
	backups, err := w.Catalogue().Datasources(ctx)
	require.NoError(t, err)
	require.Len(t, backups, 1)
	notes, total, unread, err := w.Notifications().List(ctx, notification.Filter{}, firstPage)
	require.NoError(t, err)
	require.NotZero(t, total)
	require.Equal(t, total, unread)
	for _, n := range notes {
		require.Equal(t, mine.ID, n.EntityID)
	}
	all, allTotal, _, err := w.Notifications().List(t.Context(), notification.Filter{}, firstPage)
	require.NoError(t, err)
	require.Greater(t, allTotal, total)

	from := execution.MarkAt(epoch)
	changed, err := w.Changes().Changed(ctx, from, 10)
	require.NoError(t, err)
	require.Len(t, changed, 1)
	require.Equal(t, myRun.ID, changed[0].ID)
	require.Equal(t, []string{"mine", "all"}, changed[0].Tags)
	tags, err := w.Changes().Tagged(t.Context(), []string{"mine", "nobody's"})
	require.NoError(t, err)
	require.Equal(t, map[string][]string{mine.ID: {"mine", "all"}}, tags)
	active, err := w.Changes().Active(ctx, from, 10)
	require.NoError(t, err)
	require.Len(t, active, 1)
	require.Equal(t, myRun.ID, active[0].ID)
	last, err := w.Notifications().Last(ctx)
	require.NoError(t, err)
	require.Equal(t, notes[0].Seq, last)
	after, err := w.Notifications().After(ctx, 0, 100)
	require.NoError(t, err)
	require.Len(t, after, total)
	require.Equal(t, last, after[len(after)-1].Seq)
	stats, err := w.Health().Stats(ctx)
	require.NoError(t, err)
	require.Equal(t, health.Stats{DatasourcesTotal: 1, DatasourcesCritical: 1, JobsTotal: 1, JobsEnabled: 1, ExecutionsToday: stats.ExecutionsToday}, stats)
	broken := health.Instance{ID: id(), Role: health.RoleBackup, State: health.WorkerError, LastError: "theirs is away"}
	require.NoError(t, w.Health().Report(t.Context(), minute, broken))
	instances, err := w.Health().Instances(ctx)
	require.NoError(t, err)
	require.NotContains(t, fmt.Sprint(instances), "theirs")
	page, err := w.Dashboard().Overview(ctx)
	require.NoError(t, err)
	require.Equal(t, dashboard.Stats{
		DatasourcesTotal: 1, JobsTotal: 1, JobsEnabled: 1, StoragesTotal: 2, StoragesHealthy: 2, Created24h: 1, ExecutionsToday: page.Stats.ExecutionsToday,
	}, page.Stats)
	require.Len(t, page.Recent, 1)
	require.Equal(t, myRun.ID, page.Recent[0].ID)
	require.Len(t, page.Upcoming, 1)
	require.Equal(t, myJob.ID, page.Upcoming[0].ID)
	require.Len(t, page.Datasources, 1)
	require.Equal(t, mine.ID, page.Datasources[0].ID)
	require.Equal(t, health.Unreachable, page.Datasources[0].Outcome)
	counted := 0
	for _, d := range page.Days {
		counted += d.Queued
	}
	require.Equal(t, 1, counted)
	require.NotContains(t, fmt.Sprint(page), theirs.Name)
	require.NotContains(t, fmt.Sprint(page), "theirs is away")

	foreign := ""
	for _, n := range all {
		if n.EntityID == theirs.ID {
			foreign = n.ID
		}
	}
	for thing, ids := range map[auth.Thing][2]string{
		auth.Datasources: {mine.ID, theirs.ID}, auth.Jobs: {myJob.ID, theirJob.ID}, auth.Executions: {myRun.ID, theirRun.ID}, auth.Notifications: {notes[0].ID, foreign},
	} {
		in, err := w.Reach().InScope(t.Context(), thing, ids[0], []string{"mine"})
		require.NoError(t, err)
		require.True(t, in, thing)
		for _, out := range append(absent(), ids[1]) {
			in, err := w.Reach().InScope(t.Context(), thing, out, []string{"mine"})
			require.NoError(t, err)
			require.False(t, in, "%s %s", thing, out)
		}
	}
}

func auditLogs(t *testing.T, w *world) {
	s := w.Audit()
	entry := audit.Entry{
		ID: id(), Actor: "ada", Action: "backup.restore", EntityType: "backup", EntityID: id(), Address: "127.0.0.1", Outcome: audit.Started,
		RequestID: "r", Count: 1, Metadata: map[string]any{"a": "b"},
	}
	require.NoError(t, s.Create(t.Context(), entry))
	require.NoError(t, s.Create(t.Context(), audit.Entry{ID: id(), Actor: "bob\x00", Action: "session.login", EntityType: "session", Outcome: "UNAUTHORIZED", Count: 1}))
	require.NoError(t, s.Finish(t.Context(), entry.ID, audit.OK, ""))
	require.NoError(t, s.Add(t.Context(), entry.ID, 4))
	require.NoError(t, s.Add(t.Context(), id(), 4), "one that was pruned counts no more")
	requireNotFound(t, s.Finish(t.Context(), id(), audit.OK, ""))
	rows, total, err := s.List(t.Context(), audit.Filter{}, firstPage)
	require.NoError(t, err)
	require.Equal(t, 2, total)
	require.Equal(t, "session.login", rows[0].Action, "the newest comes first")
	rows[1].CreatedAt = time.Time{}
	entry.Outcome, entry.Count = audit.OK, 5
	require.Equal(t, entry, rows[1])
	for _, f := range []audit.Filter{{Actor: "ada"}, {Action: "backup.restore"}, {EntityType: "backup"}, {EntityID: entry.EntityID}, {Outcome: audit.OK}} {
		_, total, err := s.List(t.Context(), f, firstPage)
		require.NoError(t, err)
		require.Equal(t, 1, total, "%+v", f)
	}
	for f, want := range map[*audit.Filter]int{{From: past(time.Hour)}: 2, {To: past(time.Hour)}: 0} {
		_, total, err := s.List(t.Context(), *f, firstPage)
		require.NoError(t, err)
		require.Equal(t, want, total)
	}
	removed, err := s.Prune(t.Context(), time.Hour)
	require.NoError(t, err)
	require.Zero(t, removed)
	w.exec(t, "update audit_logs set created_at = now() - interval '2 hours' where id = $1", entry.ID)
	removed, err = s.Prune(t.Context(), time.Hour)
	require.NoError(t, err)
	require.Equal(t, 1, removed)
}
