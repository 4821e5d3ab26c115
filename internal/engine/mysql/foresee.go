package mysql

import (
	"context"
	"slices"
)

// foresee fails with what the exchange would be refused for after the load, as far as that
// can be known before: no byte of the backup has been loaded by then, and nobody's session
// ended. The plan asks again, for what has changed meanwhile.
func (b *beside) foresee(ctx context.Context) error {
	r := b.restore
	if err := r.toolsBeside(ctx, b.s, b.exists); err != nil || !b.exists || !r.options.DropExisting {
		return err
	}
	// What is tried is tried in the scratch database, where there is nothing yet.
	w := &swap{Target: r.conn.Database, Fresh: b.fresh, Replaced: b.fresh, Partial: len(r.options.IncludeTables) > 0}
	w.Replaces = !w.Partial
	stays := func(name string) bool { return w.Partial && !r.includes(name) }
	var err error
	if w.Outgoing, err = b.s.movable(ctx, w.Target); err != nil {
		return err
	}
	w.Outgoing = slices.DeleteFunc(w.Outgoing, stays)
	if w.Views, err = b.s.views(ctx, w.Target); err != nil {
		return err
	}
	w.Views = slices.DeleteFunc(w.Views, stays)
	if err := b.refuseForeignReferences(ctx, w); err != nil {
		return err
	}
	if w.Triggers, err = b.s.triggers(ctx, w.Target, w.Outgoing); err != nil {
		return err
	}
	return b.proveDefiners(ctx, w)
}

// toolsBeside fails when a restore beside the target lacks a tool that the load does not
// need: the one that reads what is to be made anew. Such a tool of the other kind must not
// lose any of what is replaced.
func (r *restore) toolsBeside(ctx context.Context, s *session, exists bool) error {
	dumper, err := r.engine.tools.choose(ctx, dumpNames[:], r.server)
	if err != nil || !exists || !r.options.DropExisting || len(r.options.IncludeTables) > 0 {
		return err
	}
	return s.refuseLostRoutines(ctx, dumper, r.server, r.conn.Database)
}
