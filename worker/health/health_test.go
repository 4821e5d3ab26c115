package health

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/datasource"
	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/health"
	"github.com/dataguardian/dataguardian/internal/location"
	"github.com/dataguardian/dataguardian/storage"
	"github.com/dataguardian/dataguardian/worker"
)

// ward is a control plane in memory. What is due is taken once.
type ward struct {
	health.Store

	mu       sync.Mutex
	due      []string // datasources
	disks    []string // storage locations
	limits   []int    // of what was asked for
	ping     func(ctx context.Context, id string) error
	open     error // of a storage
	away     error // of the store when checks are recorded
	busy     int
	most     int
	recorded map[string]health.Check
}

// patients are its datasources.
type patients struct{ datasource.Store }

func (patients) Get(_ context.Context, id string) (datasource.Datasource, error) {
	if id == "deleted" {
		return datasource.Datasource{}, errs.New(errs.NotFound, errs.CodeNotFound, "no such datasource")
	}
	return datasource.Datasource{ID: id, Type: engine.Postgres, Conn: engine.Conn{Host: id}}, nil
}

func (w *ward) take(from *[]string, limit int) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.limits = append(w.limits, limit)
	n := min(limit, len(*from))
	ids := (*from)[:n]
	*from = (*from)[n:]
	return ids
}

func (w *ward) TakeDatasources(_ context.Context, limit int, _ time.Duration) ([]string, error) {
	return w.take(&w.due, limit), nil
}

func (w *ward) TakeStorages(_ context.Context, limit int, _ time.Duration) ([]string, error) {
	return w.take(&w.disks, limit), nil
}

func (w *ward) record(c health.Check) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.recorded[c.EntityID] = c
	return w.away
}

func (w *ward) RecordDatasource(_ context.Context, c health.Check, _ health.Rules) error {
	return w.record(c)
}

func (w *ward) RecordStorage(_ context.Context, c health.Check, _ health.Rules) error {
	return w.record(c)
}

// doctor asks the datasources of a ward.
type doctor struct {
	engine.Engine
	ward *ward
}

func (d doctor) Ping(ctx context.Context, c engine.Conn) (engine.ServerInfo, error) {
	w := d.ward
	w.mu.Lock()
	w.busy++
	w.most = max(w.most, w.busy)
	w.mu.Unlock()
	err := w.ping(ctx, c.Host)
	w.mu.Lock()
	w.busy--
	w.mu.Unlock()
	return engine.ServerInfo{Version: "15.1"}, err
}

// vault opens storages with an error.
type vault struct{ *ward }

func (v vault) Open(context.Context, string) (location.Location, storage.Driver, error) {
	return location.Location{}, nil, v.open
}

// run lets a checker work for d.
func (w *ward) run(t *testing.T, d time.Duration) {
	t.Helper()
	logger := slog.New(slog.DiscardHandler)
	c := &Checker{
		Datasources: patients{}, Engines: map[engine.Type]engine.Engine{engine.Postgres: doctor{ward: w}}, Vault: vault{w}, Store: w,
		Entry: worker.NewRegistry(w, time.Minute, logger).Register(health.RoleHealth), Logger: logger,
	}
	w.recorded = map[string]health.Check{}
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	require.NoError(t, c.Run(ctx))
}

func TestACheckRecordsWhatItFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &ward{due: []string{"good", "locked", "gone", "hangs", "odd", "deleted"}, disks: []string{"full"}}
		w.open = errs.New(errs.Unavailable, errs.CodeStorageFull, "no space")
		w.ping = func(ctx context.Context, id string) error {
			switch id {
			case "good":
				<-time.After(7 * time.Millisecond)
				return nil
			case "locked":
				return errs.New(errs.Denied, errs.CodeDatasourceAuth, "wrong password")
			case "gone":
				return errs.New(errs.Unavailable, errs.CodeDatasourceUnreachable, "nobody listens")
			case "hangs":
				<-ctx.Done()
				return ctx.Err()
			}
			return errs.New(errs.Internal, errs.CodeInternal, "odd")
		}
		w.run(t, time.Minute)
		outcomes := map[string]health.Outcome{}
		for id, c := range w.recorded {
			outcomes[id] = c.Outcome
		}
		require.Equal(t, map[string]health.Outcome{
			"good": health.OK, "locked": health.AuthFailed, "gone": health.Unreachable, "hangs": health.Timeout, "odd": health.Error, "full": health.Error,
		}, outcomes, "nothing is kept of what was deleted")
		require.Equal(t, 7, *w.recorded["good"].LatencyMS)
		require.Equal(t, map[string]any{"server_version": "15.1"}, w.recorded["good"].Metadata)
		require.Equal(t, "wrong password", w.recorded["locked"].ErrorMessage)
		require.Nil(t, w.recorded["hangs"].LatencyMS)
		require.True(t, w.recorded["full"].Full)
	})
}

func TestOneThatHangsHoldsUpNoOtherAndNoMoreAreTakenThanThereIsRoomFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &ward{}
		for i := range 5 * parallel {
			w.due = append(w.due, fmt.Sprint(i))
		}
		w.ping = func(ctx context.Context, id string) error {
			if id == "0" {
				<-ctx.Done()
			}
			return ctx.Err()
		}
		began := time.Now()
		w.run(t, 10*time.Second)
		require.Less(t, time.Since(began), checkTimeout, "a checker that ends does not wait for one that hangs")
		require.Len(t, w.recorded, 5*parallel-1, "what was cut off is no finding")
		require.LessOrEqual(t, w.most, parallel)
		for _, limit := range w.limits {
			require.Positive(t, limit)
			require.LessOrEqual(t, limit, parallel)
		}
	})
}

func TestAFindingThatCannotBeKeptIsTriedWithTheNextTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &ward{due: []string{"a"}, away: errs.New(errs.Unavailable, errs.CodeInternal, "away")}
		w.ping = func(context.Context, string) error { return nil }
		go func() {
			<-time.After(5 * time.Second)
			w.mu.Lock()
			defer w.mu.Unlock()
			w.due, w.away = []string{"a", "b"}, nil
		}()
		w.run(t, 20*time.Second)
		require.Len(t, w.recorded, 2)
	})
}
