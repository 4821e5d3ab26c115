package datasource_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/datasource"
	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
)

// one is a store of one datasource.
type one struct {
	datasource.Store
	kind engine.Type
}

func (s one) Get(_ context.Context, id string) (datasource.Datasource, error) {
	if id != "id" {
		return datasource.Datasource{}, errs.New(errs.NotFound, errs.CodeNotFound, "there is none")
	}
	return datasource.Datasource{ID: id, Type: s.kind, Conn: engine.Conn{Database: "shop"}}, nil
}

// explorer is an engine that only looks.
type explorer struct {
	engine.Engine
	entered chan struct{}
	leave   chan struct{}
}

func (e explorer) Schema(_ context.Context, c engine.Conn) ([]engine.Schema, error) {
	return []engine.Schema{{Name: c.Database}}, nil
}

func (e explorer) Query(_ context.Context, c engine.Conn, sql string, l engine.QueryLimits) (engine.QueryResult, error) {
	if e.entered != nil {
		e.entered <- struct{}{}
		<-e.leave
	}
	return engine.QueryResult{Columns: []string{c.Database, sql}, Rows: make([][]any, l.Rows), Took: l.Timeout}, nil
}

func TestALookGoesToTheDatasourcesEngineWithLimits(t *testing.T) {
	s := datasource.NewService(one{kind: engine.Postgres}, map[engine.Type]engine.Engine{engine.Postgres: explorer{}})
	schemas, err := s.Schema(t.Context(), "id")
	require.NoError(t, err)
	require.Equal(t, []datasource.Schema{{Name: "shop"}}, schemas)
	r, err := s.Query(t.Context(), "id", "SELECT 1")
	require.NoError(t, err)
	require.Equal(t, []string{"shop", "SELECT 1"}, r.Columns)
	require.Len(t, r.Rows, 1000)
	require.Equal(t, 10*time.Second, r.Took)

	_, err = s.Query(t.Context(), "other", "SELECT 1")
	require.Equal(t, errs.CodeNotFound, errs.CodeOf(err))
	_, err = datasource.NewService(one{kind: engine.MySQL}, nil).Schema(t.Context(), "id")
	require.Equal(t, errs.Unimplemented, errs.KindOf(err))
}

func TestOnlySoManyLookAtOnce(t *testing.T) {
	e := explorer{entered: make(chan struct{}), leave: make(chan struct{})}
	s := datasource.NewService(one{kind: engine.Postgres}, map[engine.Type]engine.Engine{engine.Postgres: e})
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() { _, _ = s.Query(t.Context(), "id", "SELECT 1") })
		<-e.entered
	}
	_, err := s.Query(t.Context(), "id", "SELECT 1")
	require.Equal(t, errs.CodeRateLimited, errs.CodeOf(err))
	close(e.leave)
	all.Wait()
	_, err = s.Schema(t.Context(), "id")
	require.NoError(t, err)
}
