package mysql

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
)

// swap lets the tables of a scratch database take their place in the target. These
// servers cannot exchange databases, but they move tables between them in one
// statement that happens wholly or not at all. What does not move (triggers, views,
// routines, events, keys to tables that stay) is made anew; should that fail,
// everything goes back. All that is needed to go on or back is in here, and noted on
// the server before the target changes, so that whoever comes after a killed process
// can do either.
type swap struct {
	Target   string `json:"target"`
	Fresh    string `json:"fresh"`
	Replaced string `json:"replaced"`
	Made     bool   `json:"made"`     // the target was absent
	Partial  bool   `json:"partial"`  // only some tables are restored
	Replaces bool   `json:"replaces"` // nothing of the target's old content stays

	Incoming []string     `json:"incoming"` // tables
	Outgoing []string     `json:"outgoing"`
	Views    []string     `json:"views"`    // of a partial restore
	Objects  []byte       `json:"objects"`  // the script of what comes besides tables
	Old      []byte       `json:"old"`      // that of what goes
	Inward   []foreignKey `json:"inward"`   // of incoming tables, to tables that stay
	Children []foreignKey `json:"children"` // of tables that stay, to tables that go
}

// plan looks at both databases; the target does not change, but with Replaces its
// sessions end.
func (b *beside) plan(ctx context.Context) (*swap, error) {
	r := b.restore
	w := &swap{
		Target: r.conn.Database, Fresh: b.fresh, Replaced: b.replaced, Made: !b.exists, Partial: len(r.options.IncludeTables) > 0,
		Replaces: b.exists && r.options.DropExisting && len(r.options.IncludeTables) == 0,
	}
	var err error
	if w.Incoming, err = b.s.movable(ctx, b.fresh); err != nil {
		return nil, err
	}
	if w.Objects, err = r.objects(ctx, b.fresh); err != nil {
		return nil, err
	}
	if len(b.views) > 0 {
		w.Objects = slices.Concat(w.Objects, []byte("SET SESSION sql_mode = '';\n"), b.views, []byte("\n"+trailer+"\n"))
	}
	if err := b.planKeys(ctx, w); err != nil || !b.exists {
		return w, err
	}
	if err := r.create(ctx, b.s, b.replaced, charset{}); err != nil {
		return nil, err
	}
	return w, b.planReplaced(ctx, w)
}

// planKeys finds the keys of a partial restore that lead to tables outside of it.
func (b *beside) planKeys(ctx context.Context, w *swap) error {
	if !w.Partial {
		return nil
	}
	keys, err := b.s.foreignKeys(ctx, w.Fresh)
	if err != nil {
		return err
	}
	there, err := b.s.movable(ctx, w.Target)
	if err != nil {
		return err
	}
	for _, k := range keys {
		switch {
		case k.RefSchema != w.Fresh || slices.Contains(w.Incoming, k.RefTable):
		case slices.Contains(there, k.RefTable):
			w.Inward = append(w.Inward, k)
		default:
			if err := b.s.dropKey(ctx, w.Fresh, k); err != nil {
				return err
			}
			b.restore.log(engine.LevelWarn, "foreign key "+k.Name+" of table "+k.Table+" is left out: it refers to table "+k.RefTable+", which is not there")
		}
	}
	return nil
}

// planReplaced finds what goes.
func (b *beside) planReplaced(ctx context.Context, w *swap) error {
	r := b.restore
	there, err := b.s.movable(ctx, w.Target)
	if err != nil {
		return err
	}
	if w.Partial {
		if there, err = b.planPartial(ctx, w, there); err != nil {
			return err
		}
	} else if !w.Replaces {
		there = nil // it was empty
	}
	w.Outgoing = there
	if err := b.refuseForeignReferences(ctx, w); err != nil {
		return err
	}
	switch {
	case w.Replaces:
		if err := r.endSessions(ctx, b.s); err != nil {
			return err
		}
		w.Old, err = r.objects(ctx, w.Target)
	case len(w.Outgoing)+len(w.Views) > 0:
		old := slices.Clone(w.Outgoing)
		views, viewErr := b.s.views(ctx, w.Target)
		if viewErr != nil {
			return viewErr
		}
		for _, v := range w.Views {
			if slices.Contains(views, v) {
				old = append(old, v)
			}
		}
		if len(old) > 0 {
			w.Old, err = r.objects(ctx, w.Target, old...)
		}
	}
	return err
}

// planPartial returns the tables of the target that the restored ones replace, with
// the keys that lead to them.
func (b *beside) planPartial(ctx context.Context, w *swap, there []string) (outgoing []string, err error) {
	views, err := b.s.views(ctx, w.Target)
	if err != nil {
		return nil, err
	}
	for _, name := range b.restore.options.IncludeTables {
		name = b.restore.shortName(name)
		isTable := slices.Contains(w.Incoming, name)
		if isTable && slices.Contains(views, name) || !isTable && slices.Contains(there, name) {
			return nil, errs.New(errs.Conflict, errs.CodeRestoreFailed,
				"%q is a view here and a table there: drop that of database %q first, or restore into another database", name, w.Target)
		}
		if !isTable {
			w.Views = append(w.Views, name)
		}
	}
	for _, name := range there {
		if slices.Contains(w.Incoming, name) {
			outgoing = append(outgoing, name)
		}
	}
	keys, err := b.s.foreignKeys(ctx, w.Target)
	for _, k := range keys {
		if k.RefSchema == w.Target && slices.Contains(outgoing, k.RefTable) && !slices.Contains(outgoing, k.Table) {
			w.Children = append(w.Children, k)
		}
	}
	return outgoing, err
}

// refuseForeignReferences: a foreign key of another database would follow the old
// table and be lost with it.
func (b *beside) refuseForeignReferences(ctx context.Context, w *swap) error {
	names, err := b.s.references(ctx, w.Target, w.Outgoing)
	if err != nil || len(names) == 0 {
		return err
	}
	return errs.New(errs.Conflict, errs.CodeRestoreFailed,
		"tables of database %q are referred to by foreign keys of other databases (%s), which would be lost with them: drop those keys first, or restore into another database",
		w.Target, strings.Join(names, ", "))
}

// apply changes the target.
func (w *swap) apply(ctx context.Context, r *restore, s *session) error {
	for _, k := range w.Inward {
		if err := s.dropKey(ctx, w.Fresh, k); err != nil {
			return err
		}
	}
	// Triggers keep tables from moving.
	if err := s.dropTriggers(ctx, w.Fresh, w.Incoming); err != nil {
		return err
	}
	if w.Made {
		if err := r.create(ctx, s, w.Target, r.charset); err != nil {
			return err
		}
	}
	if err := s.dropTriggers(ctx, w.Target, w.Outgoing); err != nil {
		return err
	}
	if err := s.dropKeys(ctx, w.Target, w.Children); err != nil {
		return err
	}
	if err := s.move(ctx, w.Target, append(renames(w.Outgoing, w.Target, w.Replaced), renames(w.Incoming, w.Fresh, w.Target)...)); err != nil {
		return err
	}
	return w.forward(ctx, r, s)
}

// forward makes anew what did not move. It may be called again.
func (w *swap) forward(ctx context.Context, r *restore, s *session) error {
	if w.Replaces {
		if err := s.dropObjects(ctx, w.Target); err != nil {
			return err
		}
	}
	if err := s.dropTriggers(ctx, w.Target, w.Incoming); err != nil {
		return err
	}
	if err := r.runText(ctx, w.Target, w.Objects); err != nil {
		return err
	}
	return s.addKeys(ctx, w.Target, r.server.Flavor, slices.Concat(w.Inward, w.Children))
}

// moved reports whether the tables have moved.
func (w *swap) moved(ctx context.Context, s *session) (bool, error) {
	if len(w.Incoming) > 0 {
		left, err := s.movable(ctx, w.Fresh)
		return !slices.Contains(left, w.Incoming[0]), err
	}
	if len(w.Outgoing) > 0 {
		gone, err := s.movable(ctx, w.Replaced)
		return slices.Contains(gone, w.Outgoing[0]), err
	}
	return false, nil
}

// back makes a target that was there what it was. It may be called again.
func (w *swap) back(ctx context.Context, r *restore, s *session) error {
	moved, err := w.moved(ctx, s)
	if err != nil {
		return err
	}
	if !w.Partial && (moved || !w.Replaces) {
		if err := s.dropObjects(ctx, w.Target); err != nil {
			return err
		}
	}
	if err := s.drop(ctx, "VIEW", w.Target, w.Views); err != nil {
		return err
	}
	if err := s.dropTriggers(ctx, w.Target, slices.Concat(w.Outgoing, w.Incoming)); err != nil {
		return err
	}
	if moved {
		if err := s.dropKeys(ctx, w.Target, w.Children); err != nil {
			return err
		}
		if err := s.move(ctx, w.Target, append(renames(w.Incoming, w.Target, w.Fresh), renames(w.Outgoing, w.Replaced, w.Target)...)); err != nil {
			return err
		}
	}
	if err := s.addKeys(ctx, w.Target, r.server.Flavor, w.Children); err != nil || len(w.Old) == 0 {
		return err
	}
	return r.runText(ctx, w.Target, w.Old)
}

// recover finishes what a killed process has begun, or takes it back. After an
// error nothing is lost, and it may be called again.
func (w *swap) recover(ctx context.Context, r *restore, s *session) (outcome string, err error) {
	moved, err := w.moved(ctx, s)
	if err != nil {
		return "", err
	}
	there, err := s.names(ctx, "SELECT schema_name FROM information_schema.schemata WHERE schema_name = ?", w.Target)
	switch {
	case err != nil:
		return "", err
	case len(there) == 0 && !moved && len(w.Outgoing) == 0:
		return "had not touched database " + w.Target, nil
	case len(there) == 0:
		return "", errs.New(errs.Conflict, errs.CodeConflict,
			"database %q is not there any more, and its old tables are in database %q: move them where they belong, then drop that and %q", w.Target, w.Replaced, w.Fresh)
	case !moved && w.Made:
		return "had made database " + w.Target + " and restored nothing into it", nil
	}
	if moved {
		err := w.forward(ctx, r, s)
		if err == nil {
			return "had moved its tables into database " + w.Target + ", and what belongs to them was made now: it is wholly restored", nil
		}
		if w.Made || ctx.Err() != nil {
			return "", err
		}
		if backErr := w.back(ctx, r, s); backErr != nil {
			return "", errors.Join(err, backErr)
		}
		return "could not be finished (" + errs.Message(err) + "), so database " + w.Target + " is what it was before", nil
	}
	return "was taken back: database " + w.Target + " is what it was before", w.back(ctx, r, s)
}
