package restore

import (
	"context"
	"fmt"

	"github.com/dataguardian/dataguardian/internal/artifact"
	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/execution"
	"github.com/dataguardian/dataguardian/worker/attempt"
)

// restore proves a copy first and then hands it to the engine.
func (r *run) restore(ctx context.Context, result execution.Result) (execution.Result, error) {
	if r.target.ID == "" {
		return result, errs.New(errs.NotFound, errs.CodeNotFound, "the target datasource was deleted; restore into another one")
	}
	e, ok := r.Engines[r.target.Type]
	if !ok {
		return result, errs.New(errs.Unimplemented, errs.CodeRestoreNotSupported, "this worker cannot restore %s", r.target.Type)
	}
	conn := r.conn()
	r.Log.Logf(engine.LevelInfo, "Restoring the backup of %s into database %q of %q", r.backup.TakenAt().UTC().Format("2006-01-02 15:04:05 MST"), conn.Database, r.target.Name)
	r.Phase(execution.Downloading, "proven")
	source, err := r.prove(ctx)
	if err != nil {
		return result, err
	}
	defer r.closeDriver(source.driver)
	m := source.report.Manifest
	result.SizeBytes, result.StoredBytes = &m.Totals.RawSize, &m.Totals.StoredSize
	result.Record.ServerVersion, result.Record.Format, result.Record.Tables = m.ServerVersion, m.DumpFormat, len(m.Tables)
	if err := r.Held(); err != nil {
		return result, err
	}
	if err := r.intoTarget(ctx, e, conn, source); err != nil {
		return result, err
	}
	if !r.request.VerificationMode {
		return result, nil
	}
	result.Record.Checked, err = r.check(ctx, e, conn, m)
	if dropErr := r.dropScratch(e, conn); err == nil {
		err = dropErr
	}
	return result, err
}

// conn is the database to restore into: the target's own, another one of its
// server, or a scratch one of this execution.
func (r *run) conn() engine.Conn {
	conn := r.target.Conn
	if r.request.TargetDatabase != "" {
		conn.Database = r.request.TargetDatabase
	}
	if r.request.VerificationMode {
		conn.Database = scratchName(conn.Database, r.Execution.ID)
	}
	return conn
}

// maxDatabaseName is PostgreSQL's limit in bytes, the lowest of all engines.
const maxDatabaseName = 63

// scratchName is unique per execution and tells what it is.
func scratchName(database, executionID string) string {
	suffix := "_verify_" + executionID[:8]
	cut := min(len(database), maxDatabaseName-len(suffix))
	for cut > 0 && cut < len(database) && database[cut]&0xC0 == 0x80 {
		cut-- // not in the middle of a character
	}
	return database[:cut] + suffix
}

// intoTarget is the point of no return: the target changes from here on.
func (r *run) intoTarget(ctx context.Context, e engine.Engine, conn engine.Conn, source proven) error {
	r.Phase(execution.Restoring, "restored")
	r.Execution.Progress.Phase = execution.Restoring
	m := source.report.Manifest
	err := e.Restore(ctx, conn, engine.RestoreOptions{
		DropExisting: r.request.DropExisting && !r.request.VerificationMode, CreateDatabase: true, IncludeTables: r.request.IncludeTables,
		WithOwners: r.request.WithOwners, WithPrivileges: r.request.WithPrivileges,
		DumpVersion: m.ServerVersionNum, Format: m.DumpFormat, StallTimeout: r.StallTimeout, TempDir: r.Temp,
		Log: r.Log.Log, Progress: r.Progress,
	}, artifact.NewSource(source.driver, source.copy.Path, m, r.identities...))
	if err != nil && r.request.VerificationMode {
		if dropErr := r.dropScratch(e, conn); dropErr != nil {
			r.Log.Logf(engine.LevelWarn, "The database %q was not dropped: %s", conn.Database, errs.Message(dropErr))
		}
	}
	return err
}

// check compares the restored tables with what the dump's own snapshot held.
func (r *run) check(ctx context.Context, e engine.Engine, conn engine.Conn, m artifact.Manifest) (map[string]any, error) {
	r.Phase(execution.Verifying, "")
	inspector, ok := e.(engine.Inspector)
	if !ok {
		return nil, errs.New(errs.Unimplemented, errs.CodeRestoreNotSupported, "this worker cannot look into restored databases of %s", r.target.Type)
	}
	var tables []engine.Table
	for _, t := range m.Tables {
		if t.Rows != nil {
			tables = append(tables, engine.Table{Schema: t.Schema, Name: t.Name, Rows: *t.Rows})
		}
	}
	counts, err := inspector.CountRows(ctx, conn, tables)
	if err != nil {
		return nil, err
	}
	differences := []any{}
	var rows int64
	for i, t := range tables {
		rows += counts[i]
		if counts[i] != t.Rows {
			differences = append(differences, map[string]any{"table": t.Schema + "." + t.Name, "dumped": t.Rows, "restored": counts[i]})
		}
	}
	checked := map[string]any{"database": conn.Database, "tables": len(tables), "rows": rows, "differences": differences}
	if len(differences) > 0 {
		return checked, errs.New(errs.Conflict, errs.CodeVerificationFailed, "the restored database differs from the dump in %d of %d tables; see checked.differences of the execution", len(differences), len(tables))
	}
	r.Log.Logf(engine.LevelSuccess, "Checked: %d tables with %d rows are as they were dumped", len(tables), rows)
	return checked, nil
}

// dropScratch removes the scratch database, also after a failure, unless it is
// to be kept.
func (r *run) dropScratch(e engine.Engine, conn engine.Conn) error {
	if r.request.KeepVerificationDatabase {
		r.Log.Logf(engine.LevelInfo, "The database %q is kept", conn.Database)
		return nil
	}
	inspector, ok := e.(engine.Inspector)
	if !ok {
		return fmt.Errorf("the engine cannot drop %q", conn.Database)
	}
	ctx, cancel := attempt.Ending()
	defer cancel()
	return inspector.DropDatabase(ctx, conn)
}
