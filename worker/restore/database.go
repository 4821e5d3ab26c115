package restore

import (
	"context"
	"errors"

	"github.com/dataguardian/dataguardian/internal/artifact"
	"github.com/dataguardian/dataguardian/internal/backup"
	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/execution"
	"github.com/dataguardian/dataguardian/worker/attempt"
)

// restore takes the first copy that serves: it is asked whether the restore can
// work at all, then the copy is proven, and then the target changes.
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
	var m artifact.Manifest
	err := r.fromAny(ctx, func(c backup.Copy) error {
		s, err := r.open(ctx, c)
		if err != nil {
			return err
		}
		defer r.closeDriver(s.driver)
		m = s.manifest
		return r.from(ctx, e, conn, s)
	})
	result.Record.Sources = r.sources
	if m.ExecutionID != "" {
		result.SizeBytes, result.StoredBytes = &m.Totals.RawSize, &m.Totals.StoredSize
		result.Record.ServerVersion, result.Record.Format, result.Record.Tables = m.ServerVersion, m.DumpFormat, len(m.Tables)
	}
	if err == nil && r.request.VerificationMode {
		result.Record.Checked, err = r.check(ctx, e, conn, m)
	}
	if r.noted {
		r.clean(e, conn, result.Record.Checked)
	}
	return result, err
}

// from restores one copy.
func (r *run) from(ctx context.Context, e engine.Engine, conn engine.Conn, s *source) error {
	if err := r.opens(ctx, s); err != nil {
		return err
	}
	options := r.options(s.manifest)
	inPlace, err := r.admit(ctx, e, conn, options)
	if err != nil {
		return err
	}
	r.doubtTables(s.manifest)
	r.Phase(execution.Downloading, "proven")
	if err := r.prove(ctx, s, inPlace); err != nil {
		return err
	}
	if err := r.Held(); err != nil {
		return err
	}
	if err := r.noteLeftovers(ctx, conn); err != nil {
		return err
	}
	options.Proven = s.report.Decoded
	return r.intoTarget(ctx, e, conn, options, s)
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

func (r *run) options(m artifact.Manifest) engine.RestoreOptions {
	return engine.RestoreOptions{
		DropExisting: r.request.DropExisting && !r.request.VerificationMode, CreateDatabase: true, IncludeTables: r.request.IncludeTables,
		WithOwners: r.request.WithOwners, WithPrivileges: r.request.WithPrivileges, ParallelJobs: r.request.ParallelJobs,
		Inert:       r.request.VerificationMode,
		DumpVersion: m.ServerVersionNum, RawSize: m.Totals.RawSize, Format: m.DumpFormat, StallTimeout: r.StallTimeout, TempDir: r.Temp,
		Token: execution.Token(r.Execution.ID), Log: r.Log.Log, Progress: r.Progress,
	}
}

// admit asks, before anything is read or changed, whether the target can take the
// backup, and keeps other restores out of its database. inPlace says that the database
// itself will change, as it may also where nobody can be asked.
func (r *run) admit(ctx context.Context, e engine.Engine, conn engine.Conn, o engine.RestoreOptions) (inPlace bool, _ error) {
	if err := requireScratch(r.Temp, scratchRoom); err != nil {
		return false, err
	}
	preparer, ok := e.(engine.Preparer)
	if !ok {
		return true, nil
	}
	target, err := preparer.Preflight(ctx, conn, o)
	if err != nil {
		return false, err
	}
	for _, warning := range target.Warnings {
		r.Log.Log(engine.LevelWarn, warning)
	}
	state := "it is there"
	switch {
	case !target.Exists:
		state = "it will be made"
	case o.DropExisting && len(o.IncludeTables) == 0:
		state = "its content will be replaced, and sessions in it ended"
	}
	r.Log.Logf(engine.LevelInfo, "The target is %s %s; database %q: %s", target.Server.Flavor, target.Server.Version, conn.Database, state)
	if r.request.VerificationMode {
		return target.InPlace, nil
	}
	return target.InPlace, r.holdTarget(ctx, preparer, conn)
}

// holdTarget keeps other restores out of the database, and this one out of DataGuardian's
// own. Only who may not ask which server it is goes on without.
func (r *run) holdTarget(ctx context.Context, preparer engine.Preparer, conn engine.Conn) error {
	server, err := preparer.Identify(ctx, conn)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errs.CodeOf(err) == errs.CodeDatasourcePermission:
		r.Log.Logf(engine.LevelWarn, "The server does not say what it is, so only restores by the same address are kept apart: %s", errs.Message(err))
		return nil
	case err != nil:
		return err
	}
	return r.Restores.HoldTarget(ctx, r.Lease(), execution.TargetKey(server, conn.Database))
}

// intoTarget is the point of no return: the target changes from here on.
func (r *run) intoTarget(ctx context.Context, e engine.Engine, conn engine.Conn, o engine.RestoreOptions, s *source) error {
	r.Phase(execution.Restoring, "restored")
	r.touched = true
	from := &watched{Source: artifact.NewSource(s.driver, s.copy.Path, s.manifest, r.identities...)}
	err := e.Restore(ctx, conn, o, from)
	if err == nil {
		if !o.Proven { // else that was noted when it was proven, and the engine may have ended early
			r.found(ctx, s.copy) // it was read to its end
		}
		return nil
	}
	broken := from.failure()
	switch {
	case broken == nil || ctx.Err() != nil:
		return err
	case errors.Is(err, engine.ErrUnsettled): // no other copy mends that
		r.judge(ctx, s.copy, broken)
		return err
	}
	return ofCopy(ctx, broken)
}

// noteLeftovers notes what the engine is about to make, once.
func (r *run) noteLeftovers(ctx context.Context, conn engine.Conn) error {
	if r.noted {
		return nil
	}
	x := execution.Leftovers{ExecutionID: r.Execution.ID, DatasourceID: r.target.ID}
	if r.request.VerificationMode {
		x.Database = conn.Database
	}
	err := r.Restores.NoteLeftovers(ctx, r.Lease(), x)
	r.noted = err == nil
	return err
}

// clean drops what was made for a while, also after a failure. What cannot be
// dropped is told, and left to the cleanup worker. A database that is kept is
// nobody's leftover.
func (r *run) clean(e engine.Engine, conn engine.Conn, checked map[string]any) {
	ctx, cancel := attempt.Ending()
	defer cancel()
	kept := r.request.VerificationMode && r.request.KeepVerificationDatabase && checked != nil
	x := execution.Leftovers{ExecutionID: r.Execution.ID}
	if kept {
		r.Log.Logf(engine.LevelInfo, "The database %q is kept", conn.Database)
	} else if r.request.VerificationMode {
		x.Database = conn.Database
	}
	err := Sweep(ctx, e, conn, x, r.Log.Log)
	if err == nil {
		err = r.Restores.ForgetLeftovers(ctx, r.Execution.ID)
	}
	if err != nil {
		r.Log.Logf(engine.LevelWarn, "What the restore made for a while is still there, and is dropped later: %s", errs.Message(err))
	}
	if checked != nil && r.request.VerificationMode {
		checked["dropped"] = err == nil && !kept
	}
}

// Sweep drops what a restore has left on the server of conn, and tells log what it
// had to finish or to take back.
func Sweep(ctx context.Context, e engine.Engine, conn engine.Conn, x execution.Leftovers, log func(engine.Level, string)) error {
	if sweeper, ok := e.(engine.Sweeper); ok {
		if err := sweeper.Sweep(ctx, conn, execution.Token(x.ExecutionID), log); err != nil {
			return err
		}
	}
	if x.Database == "" {
		return nil
	}
	inspector, ok := e.(engine.Inspector)
	if !ok {
		return errs.New(errs.Unimplemented, errs.CodeRestoreNotSupported, "the database %q was made for a verification, and this engine cannot drop it", x.Database)
	}
	conn.Database = x.Database
	return inspector.DropDatabase(ctx, conn)
}
