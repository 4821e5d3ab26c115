package storetest

import (
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/backup"
	"github.com/dataguardian/dataguardian/internal/datasource"
	"github.com/dataguardian/dataguardian/internal/execution"
)

// claimAll lets several workers claim side by side until none gets anything.
func claimAll(t *testing.T, w *world, limits execution.Limits) []execution.Execution {
	t.Helper()
	var (
		group  sync.WaitGroup
		lock   sync.Mutex
		all    []execution.Execution
		failed = make([]error, 6)
	)
	for i := range failed {
		group.Go(func() {
			for found := true; found && failed[i] == nil; {
				var e execution.Execution
				c := execution.Claimant{WorkerID: fmt.Sprint("worker-", i), Limits: limits}
				e, found, failed[i] = w.Executions().Claim(t.Context(), c, allOperations, minute)
				if found {
					lock.Lock()
					all = append(all, e)
					lock.Unlock()
				}
			}
		})
	}
	group.Wait()
	for _, err := range failed {
		require.NoError(t, err)
	}
	return all
}

func limits(t *testing.T, w *world) {
	host := func(name string) string {
		return w.newDatasource(t, func(d *datasource.Datasource) { d.Conn.Host = name }).ID
	}
	queued := func(datasource, location string) execution.Execution {
		return w.queue(t, w.newJob(t, func(j *backup.Job) { j.DatasourceID, j.StorageLocationID = datasource, location }))
	}
	phase := func(e execution.Execution) execution.Phase {
		got, err := w.Executions().Get(t.Context(), e.ID)
		require.NoError(t, err)
		return got.Progress.Phase
	}
	finish := func(all []execution.Execution) {
		for _, e := range all {
			require.NoError(t, w.Executions().Finish(t.Context(), leaseOf(e), failedResult("X")))
		}
	}
	busy, twin, calm := host("busy.example.com"), host("BUSY.example.com"), host("calm.example.com")

	t.Run("no more run on one host than may, whoever claims", func(t *testing.T) {
		for range 3 {
			queued(busy, w.newLocation(t).ID)
			queued(twin, w.newLocation(t).ID)
		}
		last := queued(calm, w.newLocation(t).ID)
		first := claimAll(t, w, execution.Limits{PerHost: 2})
		require.Len(t, first, 3, "two on the busy host, however it is written, and one on the other")
		require.Equal(t, execution.Phase(""), phase(last))
		waiting, _, err := w.Executions().List(t.Context(), execution.Filter{Status: execution.Queued}, firstPage)
		require.NoError(t, err)
		require.Len(t, waiting, 4)
		for _, e := range waiting {
			require.Equal(t, execution.WaitingForHost, e.Progress.Phase)
		}
		_, err = w.Executions().RequestCancel(t.Context(), waiting[0].ID)
		require.NoError(t, err)
		require.Empty(t, phase(waiting[0]), "it waits no more")
		finish(first)
		second := claimAll(t, w, execution.Limits{PerHost: 2})
		require.Len(t, second, 2)
		require.Empty(t, second[0].Progress.Phase)
		third := claimAll(t, w, execution.Limits{})
		require.Len(t, third, 1)
		finish(append(second, third...))
	})
	t.Run("no more run on one storage than may", func(t *testing.T) {
		full, free := w.newLocation(t).ID, w.newLocation(t).ID
		for range 3 {
			queued(calm, full)
		}
		queued(busy, free)
		got := claimAll(t, w, execution.Limits{PerHost: 10, PerStorage: 1})
		require.Len(t, got, 2)
		waiting, _, err := w.Executions().List(t.Context(), execution.Filter{Status: execution.Queued}, firstPage)
		require.NoError(t, err)
		require.Len(t, waiting, 2)
		require.Equal(t, execution.WaitingForStorage, waiting[0].Progress.Phase)
		more := claimAll(t, w, execution.Limits{PerStorage: 2})
		require.Len(t, more, 1)
		finish(append(append(got, more...), claimAll(t, w, execution.Limits{})...))
	})
	t.Run("an execution is on every storage that it writes to", func(t *testing.T) {
		full := w.newLocation(t).ID
		toBoth := func(s backup.Strategy) execution.Execution {
			return w.queue(t, w.newJob(t, func(j *backup.Job) {
				j.Options.Strategy, j.Options.Targets = s, []backup.Target{{StorageLocationID: full}}
			}))
		}
		limits := execution.Limits{PerStorage: 1}
		toBoth(backup.Replicate)
		got := claimAll(t, w, limits)
		require.Len(t, got, 1)
		toBoth(backup.Replicate)
		queued(calm, full)
		require.Empty(t, claimAll(t, w, limits))
		finish(append(got, claimAll(t, w, execution.Limits{})...))

		toBoth(backup.Fallback)
		queued(calm, full)
		got = claimAll(t, w, limits)
		require.Len(t, got, 2, "what nothing falls back to is free")
		require.NoError(t, w.Executions().BeginCopy(t.Context(), leaseOf(got[0]), full, "fallen/back/"))
		finish(got[1:])
		queued(calm, full)
		require.Empty(t, claimAll(t, w, limits))
		finish(append(got[:1], claimAll(t, w, execution.Limits{})...))
	})
}
