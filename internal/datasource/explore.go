package datasource

import (
	"context"
	"time"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
)

// What a look into a database shows; see engine.Explorer.
type (
	// Schema is a namespace of tables.
	Schema = engine.Schema
	// Table of a schema, or a view.
	Table = engine.Relation
	// Column of a table.
	Column = engine.Column
	// Result of a statement.
	Result = engine.QueryResult
)

// queryLimits bound one query.
var queryLimits = engine.QueryLimits{Rows: 1000, Bytes: 1 << 20, Timeout: 10 * time.Second}

// looksAtOnce bounds how many looks into databases there are at once, so that a
// page that asks again and again takes neither connections nor memory without end.
const looksAtOnce = 8

// Schema describes what is in a datasource's database now.
func (s *Service) Schema(ctx context.Context, id string) ([]Schema, error) {
	var found []Schema
	err := s.look(ctx, id, func(e engine.Explorer, c engine.Conn) (err error) {
		found, err = e.Schema(ctx, c)
		return err
	})
	return found, err
}

// Query runs one statement that reads: at most 1,000 rows, 1 MiB and 10 s. The
// result says what was left out.
func (s *Service) Query(ctx context.Context, id, sql string) (Result, error) {
	var found Result
	err := s.look(ctx, id, func(e engine.Explorer, c engine.Conn) (err error) {
		found, err = e.Query(ctx, c, sql, queryLimits)
		return err
	})
	return found, err
}

func (s *Service) look(ctx context.Context, id string, at func(engine.Explorer, engine.Conn) error) error {
	d, err := s.store.Get(ctx, id)
	if err != nil {
		return err
	}
	e, ok := s.engines[d.Type].(engine.Explorer)
	if !ok {
		return errs.New(errs.Unimplemented, errs.CodeNotImplemented, "this server cannot look into %s databases yet", d.Type).With("type", string(d.Type))
	}
	select {
	case s.looks <- struct{}{}:
		defer func() { <-s.looks }()
	default:
		return errs.New(errs.Exhausted, errs.CodeRateLimited, "%d others look into databases right now, which is the limit; try again in a moment", looksAtOnce)
	}
	return at(e, d.Conn)
}
