package mysql

import (
	"context"
	"fmt"
	"slices"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
)

var (
	_ engine.Preparer = (*Engine)(nil)
	_ engine.Sweeper  = (*Engine)(nil)
)

// Identify implements engine.Preparer. MySQL has a UUID of its own, but a copied
// data directory copies it, and MariaDB has none: so it is the host as the server
// knows it, with the port and the directory of the data, which two servers of one
// host cannot share.
func (e *Engine) Identify(ctx context.Context, c engine.Conn) (string, error) {
	s, err := e.connect(ctx, c, "")
	if err != nil {
		return "", err
	}
	defer s.close()
	var host, port, dir string
	if err := s.conn.QueryRowContext(ctx, "SELECT @@hostname, @@port, @@datadir").Scan(&host, &port, &dir); err != nil {
		return "", s.failed(ctx, err, "asking for the server's identity")
	}
	return fmt.Sprintf("mysql:%s:%s:%s", host, port, dir), nil
}

// Preflight implements engine.Preparer.
func (e *Engine) Preflight(ctx context.Context, c engine.Conn, o engine.RestoreOptions) (engine.Target, error) {
	if err := checkFormat(o.Format); err != nil {
		return engine.Target{}, err
	}
	r := &restore{engine: e, conn: c, options: o}
	s, exists, err := r.findTarget(ctx)
	if err != nil {
		return engine.Target{}, err
	}
	defer s.close()
	if r.server, err = s.serverInfo(ctx); err != nil {
		return engine.Target{}, err
	}
	found := engine.Target{Server: r.server, Exists: exists}
	if err := r.refuse(); err != nil {
		return found, err
	}
	if err := r.refuseReadOnly(ctx, s, exists); err != nil {
		return found, err
	}
	if r.tool, err = e.tools.choose(ctx, clientNames[:], r.server); err != nil {
		return found, err
	}
	if warning := r.tool.foreign(r.server.Flavor); warning != "" {
		found.Warnings = append(found.Warnings, warning)
	}
	u := s.askRights(ctx, r.server.Flavor)
	warning, err := r.admits(u, exists)
	if warning != "" {
		found.Warnings = append(found.Warnings, warning)
	}
	if err != nil {
		return found, err
	}
	found.InPlace = exists && !o.DropExisting && u.makesNoScratch()
	if !u.makesNoScratch() {
		if err := r.toolsBeside(ctx, s, exists); err != nil {
			return found, err
		}
	}
	hidden, err := r.hiddenKeys(ctx, s, u, exists)
	if hidden != "" {
		found.Warnings = append(found.Warnings, hidden)
	}
	return found, err
}

// Sweep implements engine.Sweeper.
func (e *Engine) Sweep(ctx context.Context, c engine.Conn, token string, log func(engine.Level, string)) error {
	if err := engine.CheckToken(token); err != nil || token == "" {
		return err
	}
	s, err := e.connect(ctx, c, "", patient)
	if err != nil {
		return err
	}
	defer s.close() // which gives the lock back
	free, err := s.lock(ctx, engine.ScratchPrefix+token, 0)
	if err != nil {
		return err
	}
	if !free {
		return errs.New(errs.Conflict, errs.CodeConflict, "the restore whose leftovers are to be dropped still runs on %s", where(c))
	}
	if log == nil {
		log = func(engine.Level, string) {}
	}
	return e.putInOrder(ctx, s, c, token, log)
}

func checkFormat(format string) error {
	if !slices.Contains([]string{"", FormatMySQL, FormatMariaDB}, format) {
		return otherFormat()
	}
	return nil
}

func otherFormat() error {
	return errs.New(errs.Conflict, errs.CodeRestoreNotSupported,
		"the backup holds no SQL dump (%s): restore it with the engine that made it", Member)
}
