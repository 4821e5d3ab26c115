package storetest

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/dataguardian/dataguardian/internal/backup"
	"github.com/dataguardian/dataguardian/internal/execution"
)

// model compares an execution with what it should be after any sequence of
// operations, by its worker, by workers that lost it, and by everybody else.
func model(t *testing.T, w *world) {
	j := w.newJob(t)
	rapid.Check(t, func(t *rapid.T) {
		w.exec(t, "delete from backup_executions")
		m := &machine{w: w, j: j}
		t.Repeat(map[string]func(*rapid.T){
			"":          m.compare,
			"create":    m.create,
			"claim":     m.claim,
			"heartbeat": m.heartbeat,
			"lines":     m.lines,
			"copy":      m.copy,
			"finish":    m.finish,
			"release":   m.release,
			"cancel":    m.requestCancel,
			"expire":    m.expire,
			"reap":      m.reap,
		})
		m.final(t)
	})
}

// machine is the job's newest execution as it should be.
type machine struct {
	w *world
	j backup.Job

	id       string
	status   execution.Status
	fence    int64
	attempt  int
	expired  bool
	cancel   bool
	leases   []execution.Lease // every lease there was, the newest last
	finished map[string]execution.Execution
}

func (m *machine) store() execution.Store { return m.w.Executions() }

func (m *machine) compare(t *rapid.T) {
	if m.id == "" {
		return
	}
	type state struct {
		Status           execution.Status
		Fence            int64
		Attempt          int
		Leased, Finished bool
	}
	var got state
	row := m.w.conn.QueryRow(context.Background(), `select status, fence, attempt, lease_expires_at is not null, finished_at is not null
		from backup_executions where id = $1`, m.id)
	require.NoError(t, row.Scan(&got.Status, &got.Fence, &got.Attempt, &got.Leased, &got.Finished))
	require.Equal(t, state{m.status, m.fence, m.attempt, m.status == execution.Running, m.status.Terminal()}, got)
}

// final compares what had ended long ago with what it was then.
func (m *machine) final(t *rapid.T) {
	for id, want := range m.finished {
		got, err := m.store().Get(context.Background(), id)
		require.NoError(t, err)
		require.Equal(t, want, got, "a terminal state never changes")
	}
}

// ended keeps the final state for later comparisons.
func (m *machine) ended(t *rapid.T, status execution.Status) {
	m.status = status
	e, err := m.store().Get(context.Background(), m.id)
	require.NoError(t, err)
	if m.finished == nil {
		m.finished = map[string]execution.Execution{}
	}
	m.finished[m.id] = e
}

// lease is any lease there was; the second result says whether it counts.
func (m *machine) lease(t *rapid.T) (execution.Lease, bool) {
	if len(m.leases) == 0 {
		t.Skip("no lease yet")
	}
	l := rapid.SampledFrom(m.leases).Draw(t, "lease")
	if rapid.Bool().Draw(t, "newest") {
		l = m.leases[len(m.leases)-1]
	}
	return l, m.status == execution.Running && l.ExecutionID == m.id && l.Fence == m.fence
}

func (m *machine) create(t *rapid.T) {
	n := execution.NewBackup(m.j, execution.Manual, nil)
	_, err := m.store().Create(context.Background(), n)
	if m.id != "" && !m.status.Terminal() {
		require.Error(t, err)
		require.Equal(t, m.id, detail(err, "execution_id"))
		return
	}
	require.NoError(t, err)
	m.id, m.status, m.fence, m.attempt, m.expired, m.cancel = n.ID, execution.Queued, 0, 0, false, false
}

func (m *machine) claim(t *rapid.T) {
	if m.id != "" {
		m.w.ready(t, m.id)
	}
	worker := rapid.SampledFrom([]string{"worker-1", "worker-2"}).Draw(t, "worker")
	e, ok, err := m.store().Claim(context.Background(), execution.Claimant{WorkerID: worker}, allOperations, minute)
	require.NoError(t, err)
	require.Equal(t, m.status == execution.Queued, ok)
	if !ok {
		return
	}
	require.Equal(t, m.id, e.ID)
	m.status, m.fence, m.attempt, m.expired = execution.Running, m.fence+1, m.attempt+1, false
	m.leases = append(m.leases, execution.Lease{ExecutionID: m.id, WorkerID: worker, Fence: m.fence})
}

// under checks that a write was refused exactly when its lease does not count.
func under(t *rapid.T, counts bool, err error) {
	if counts {
		require.NoError(t, err)
	} else {
		require.ErrorIs(t, err, execution.ErrLeaseLost)
	}
}

func (m *machine) heartbeat(t *rapid.T) {
	l, counts := m.lease(t)
	cancel, err := m.store().Heartbeat(context.Background(), l, minute, execution.Progress{Phase: execution.Dumping})
	under(t, counts, err)
	if counts {
		require.Equal(t, m.cancel, cancel)
		m.expired = false
	}
}

func (m *machine) lines(t *rapid.T) {
	l, counts := m.lease(t)
	under(t, counts, m.store().SaveLogs(context.Background(), l, lines(2)))
}

func (m *machine) copy(t *rapid.T) {
	l, counts := m.lease(t)
	path := rapid.SampledFrom([]string{"a", "b"}).Draw(t, "path")
	under(t, counts, m.store().BeginCopy(context.Background(), l, m.j.StorageLocationID, path))
}

func (m *machine) finish(t *rapid.T) {
	l, counts := m.lease(t)
	r := rapid.SampledFrom([]execution.Result{goodResult(m.j, "a"), failedResult("X"), {Status: execution.Cancelled}}).Draw(t, "result")
	under(t, counts, m.store().Finish(context.Background(), l, r))
	if counts {
		m.ended(t, r.Status)
	}
}

func (m *machine) release(t *rapid.T) {
	l, counts := m.lease(t)
	burn := rapid.Bool().Draw(t, "burn")
	under(t, counts, m.store().Release(context.Background(), l, 0, burn, lines(1)))
	if !counts {
		return
	}
	if !burn {
		m.attempt--
	}
	if m.cancel {
		m.ended(t, execution.Cancelled)
	} else {
		m.status = execution.Queued
	}
}

func (m *machine) requestCancel(t *rapid.T) {
	if m.id == "" {
		t.Skip("nothing to cancel")
	}
	status, err := m.store().RequestCancel(context.Background(), m.id)
	switch {
	case m.status.Terminal():
		require.Error(t, err)
	case m.status == execution.Queued:
		require.NoError(t, err)
		require.Equal(t, execution.Cancelled, status)
		m.ended(t, status)
	default:
		require.NoError(t, err)
		require.Equal(t, execution.Running, status)
		m.cancel = true
	}
}

func (m *machine) expire(t *rapid.T) {
	if m.id == "" {
		t.Skip("nothing to expire")
	}
	m.w.expire(t, m.id)
	m.expired = m.status == execution.Running
}

func (m *machine) reap(t *rapid.T) {
	l, _ := m.lease(t)
	status, err := m.store().Reap(context.Background(), execution.Execution{ID: l.ExecutionID, Fence: l.Fence}, lines(3))
	counts := m.status == execution.Running && l.ExecutionID == m.id && l.Fence == m.fence && m.expired
	under(t, counts, err)
	if !counts {
		return
	}
	want := execution.Failed
	switch {
	case m.cancel:
		want = execution.Cancelled
	case m.attempt < execution.BackupAttempts:
		want = execution.Queued
	}
	require.Equal(t, want, status)
	if want.Terminal() {
		m.ended(t, want)
	} else {
		m.status = want
	}
}
