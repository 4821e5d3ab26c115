package restore

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/dataguardian/dataguardian/internal/artifact"
	"github.com/dataguardian/dataguardian/internal/backup"
	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/execution"
)

const (
	// assertionTimeout bounds one assertion.
	assertionTimeout = time.Minute
	// assertionBytes bounds its answer.
	assertionBytes = 64 << 10
)

// checks collects what was compared and what differed, for people and programs.
type checks struct {
	found    map[string]any
	failures []string
	warnings []any // sentences: what could not be compared, and why
}

func (c *checks) differs(format string, args ...any) {
	c.failures = append(c.failures, fmt.Sprintf(format, args...))
}

// check compares the restored database with what the dump's own snapshot held,
// and asks what the job wants to hold.
func (r *run) check(ctx context.Context, e engine.Engine, conn engine.Conn, m artifact.Manifest) (map[string]any, error) {
	r.Phase(execution.Verifying, "")
	c := &checks{found: map[string]any{"database": conn.Database}, warnings: []any{}}
	inspector, ok := e.(engine.Inspector)
	if !ok {
		return c.found, errs.New(errs.Unimplemented, errs.CodeRestoreNotSupported, "this worker cannot look into restored databases of %s", r.target.Type)
	}
	if err := r.compareRows(ctx, inspector, conn, m, c); err != nil {
		return c.found, err
	}
	if err := r.compareSchema(ctx, inspector, conn, m, c); err != nil {
		return c.found, err
	}
	if err := r.assert(ctx, e, conn, c); err != nil {
		return c.found, err
	}
	c.found["warnings"] = c.warnings
	switch n := len(c.failures); n {
	case 0:
		return c.found, nil
	case 1:
		return c.found, errs.New(errs.Conflict, errs.CodeVerificationFailed, "the restored backup is not what it has to be: %s", c.failures[0])
	default:
		return c.found, errs.New(errs.Conflict, errs.CodeVerificationFailed,
			"the restored backup is not what it has to be: %s; and %d more, see checked of the execution", c.failures[0], n-1)
	}
}

// compareRows counts the rows of every table whose rows were counted in the dump.
func (r *run) compareRows(ctx context.Context, e engine.Inspector, conn engine.Conn, m artifact.Manifest, c *checks) error {
	tables := r.countedTables(m)
	counts, err := e.CountRows(ctx, conn, tables)
	if err != nil {
		return err
	}
	var rows int64
	for _, n := range counts {
		rows += max(n, 0)
	}
	differences := []any{}
	for _, d := range engine.RowDifferences(tables, counts) {
		name := d.Table.Schema + "." + d.Table.Name
		differences = append(differences, map[string]any{"table": name, "dumped": d.Dumped, "restored": d.Restored})
		if d.Restored < 0 {
			c.differs("table %s, dumped with %d rows, is not there", name, d.Dumped)
		} else {
			c.differs("table %s was dumped with %d rows and has %d", name, d.Dumped, d.Restored)
		}
	}
	c.found["tables"], c.found["rows"], c.found["differences"] = len(tables), rows, differences
	if len(differences) == 0 {
		r.Log.Logf(engine.LevelSuccess, "Checked: %s with %s, all as dumped", engine.Count(len(tables), "table"), engine.Count(rows, "row"))
	} else {
		r.Log.Logf(engine.LevelError, "%d tables differ; the first: %s", len(differences), c.failures[0])
	}
	return nil
}

// countedTables are the restored tables that can be compared.
func (r *run) countedTables(m artifact.Manifest) []engine.Table {
	return slices.DeleteFunc(m.DumpedTables(), func(t engine.Table) bool {
		name, schema := t.Name, t.Schema
		if t.Root != nil {
			name, schema = t.Root.Name, t.Root.Schema
		}
		restored := len(r.request.IncludeTables) == 0 || slices.Contains(r.request.IncludeTables, name) ||
			slices.Contains(r.request.IncludeTables, schema+"."+name)
		return !restored || t.Rows < 0 && t.Root == nil
	})
}

// compareSchema compares the definitions of all that was restored, where the dump
// has their fingerprint and the server at hand words them as the dumped one did.
func (r *run) compareSchema(ctx context.Context, e engine.Inspector, conn engine.Conn, m artifact.Manifest, c *checks) error {
	switch {
	case len(r.request.IncludeTables) > 0:
		r.notCompared(c, m, "", "only some tables were restored")
		return nil
	case m.SchemaDigest == "":
		r.notCompared(c, m, "", "the backup has no fingerprint of its schema, as an older DataGuardian made it or the dump could not be read so far")
		return nil
	}
	restored, err := e.DigestSchema(ctx, conn, m.SchemaDigest, r.Temp)
	switch errs.CodeOf(err) {
	case errs.CodeDumpToolMissing, errs.CodeDumpToolTooOld: // a worker that only restores may do without
		r.notCompared(c, m, "", errs.Message(err))
		return nil
	default:
		if err != nil {
			return err
		}
	}
	if !m.SchemaDigest.Comparable(restored) {
		r.notCompared(c, m, restored, fmt.Sprintf("it was dumped by %s and is told here by %s", m.SchemaDigest.Method(), restored.Method()))
		return nil
	}
	outcome := "equal"
	if m.SchemaDigest != restored {
		outcome = "different"
		c.differs("the schema has the fingerprint %s and was dumped with %s", restored, m.SchemaDigest)
		r.Log.Logf(engine.LevelError, "%s", c.failures[len(c.failures)-1])
	} else {
		r.Log.Logf(engine.LevelSuccess, "Checked: the schema is as it was dumped")
	}
	c.found["schema"] = map[string]any{"outcome": outcome, "dumped": string(m.SchemaDigest), "restored": string(restored), "reason": nil}
	return nil
}

// notCompared says that the schema was not, and why.
func (r *run) notCompared(c *checks, m artifact.Manifest, restored engine.SchemaDigest, why string) {
	warning := "The schema was not compared: " + why
	r.Log.Log(engine.LevelWarn, warning)
	c.warnings = append(c.warnings, warning)
	c.found["schema"] = map[string]any{"outcome": "not comparable", "dumped": orNull(m.SchemaDigest), "restored": orNull(restored), "reason": why}
}

func orNull(d engine.SchemaDigest) any {
	if d == "" {
		return nil
	}
	return string(d)
}

// assert asks every assertion of the job; one that fails does not keep the others
// from it.
func (r *run) assert(ctx context.Context, e engine.Engine, conn engine.Conn, c *checks) error {
	if len(r.request.Assertions) == 0 {
		return nil
	}
	explorer, ok := e.(engine.Explorer)
	if !ok {
		return errs.New(errs.Unimplemented, errs.CodeRestoreNotSupported, "this worker cannot ask databases of %s, so assertions of the job cannot be checked", r.target.Type)
	}
	results := []any{}
	for _, a := range r.request.Assertions {
		began := time.Now()
		got, problem := r.ask(ctx, explorer, conn, a)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		want, passed := expected(a, got)
		passed = passed && problem == ""
		outcome := map[string]any{"name": a.Name, "passed": passed, "expected": want, "got": got, "error": nil, "took_ms": time.Since(began).Milliseconds()}
		switch {
		case problem != "":
			outcome["got"], outcome["error"] = nil, problem
			c.differs("assertion %q, expecting %q, could not be asked: %s", a.Name, want, problem)
		case !passed:
			c.differs("assertion %q expects %q and got %q", a.Name, want, got)
		}
		if passed {
			r.Log.Logf(engine.LevelSuccess, "Assertion %q holds: %s", a.Name, got)
		} else {
			r.Log.Logf(engine.LevelError, "%s", c.failures[len(c.failures)-1])
		}
		results = append(results, outcome)
	}
	c.found["assertions"] = results
	return nil
}

// ask returns the one value an assertion answers as text, or what is wrong.
func (r *run) ask(ctx context.Context, explorer engine.Explorer, conn engine.Conn, a backup.Assertion) (got, problem string) {
	answer, err := explorer.Query(ctx, conn, a.SQL, engine.QueryLimits{Rows: 2, Bytes: assertionBytes, Timeout: assertionTimeout})
	switch {
	case err != nil:
		return "", errs.Message(err)
	case len(answer.Rows) != 1 || len(answer.Columns) != 1 || answer.Message != "":
		return "", "it must answer one row of one column"
	}
	return valueText(answer.Rows[0][0]), ""
}

// expected returns what an assertion wants, and whether got is that. Without an
// expectation it is true, however the engine says that.
func expected(a backup.Assertion, got string) (want string, passed bool) {
	if a.Expect != nil {
		return *a.Expect, got == *a.Expect
	}
	return "true", got == "true" || got == "1"
}

// valueText is a value as an assertion writes it.
func valueText(value any) string {
	switch v := value.(type) {
	case nil:
		return "null"
	case string:
		return v
	}
	text, err := json.Marshal(value)
	if err != nil {
		return fmt.Sprint(value)
	}
	return string(text)
}
