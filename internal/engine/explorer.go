package engine

import (
	"context"
	"time"
)

// Explorer is an engine that can show what is in a database.
type Explorer interface {
	// Schema describes the tables of the database of c, without what belongs to the
	// server itself. It fails with Exhausted (CodePayloadTooLarge) when there are
	// more than MaxColumns columns.
	Schema(ctx context.Context, c Conn) ([]Schema, error)
	// Query runs one statement that reads. Whatever it does is rolled back, and the
	// server refuses what writes; what a function does outside of transactions, by
	// the rights of c's user, cannot be held back. A refusal of the server or of
	// ours is Invalid (CodeQueryFailed) with the server's own code as detail "code".
	Query(ctx context.Context, c Conn, sql string, l QueryLimits) (QueryResult, error)
}

// MaxColumns is how many columns a schema is shown with.
const MaxColumns = 200_000

// Schema is a namespace of relations, by name.
type Schema struct {
	Name   string
	Tables []Relation
}

// Relation is a table or a view, with its columns in their order.
type Relation struct {
	Name    string
	Columns []Column
}

// Column of a relation.
type Column struct {
	Name       string
	Type       string // as the server writes it
	Nullable   bool
	PrimaryKey bool    // it is part of it
	Unique     bool    // a key covers it alone
	ForeignKey *string // "schema.table.column" it refers to; the first of several
	Default    *string // the server's expression
}

// QueryLimits bound one query. All are required.
type QueryLimits struct {
	Rows    int
	Bytes   int64 // of the values' text
	Timeout time.Duration
}

// QueryResult holds what JSON can: a value is nil, a bool, a finite float64, a
// string, a []any or a map[string]any. Numbers that a float64 would change are
// strings.
type QueryResult struct {
	Columns []string
	Rows    [][]any // one value per column
	Took    time.Duration
	Message string // that rows are left out, and why; else empty
}
