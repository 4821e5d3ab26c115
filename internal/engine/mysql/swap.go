package mysql

import (
	"context"
	"errors"
	"slices"
	"strings"

	driver "github.com/go-sql-driver/mysql"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
)

// swap lets the tables of a scratch database take their place in the target. These
// servers cannot exchange databases, but they move tables between them in one
// statement that happens wholly or not at all. What does not move (triggers, views,
// routines, events, keys to tables that stay) is made anew; should that fail while we
// live, everything goes back. All that is needed to go on or back is in here, and noted on
// the server before the target changes, so that whoever comes after a killed process
// can do either.
type swap struct {
	Version  int    `json:"version"` // see notesLibraries
	Target   string `json:"target"`
	Fresh    string `json:"fresh"`
	Replaced string `json:"replaced"`
	Made     bool   `json:"made"`     // the target was absent
	Partial  bool   `json:"partial"`  // only some tables are restored
	Replaces bool   `json:"replaces"` // nothing of the target's old content stays

	Incoming []string       `json:"incoming"` // tables
	Outgoing []string       `json:"outgoing"`
	Views    []string       `json:"views"`    // of a partial restore
	Objects  []byte         `json:"objects"`  // the script of what comes besides tables
	Old      []byte         `json:"old"`      // that of what goes
	Inward   []foreignKey   `json:"inward"`   // of incoming tables, to tables that stay
	Children []foreignKey   `json:"children"` // of tables that stay, to tables that go
	Triggers []trigger      `json:"triggers"` // of tables that go
	Ours     []object       `json:"ours"`     // what Objects makes, unless Partial
	Theirs   []object       `json:"theirs"`   // what Old makes, with Replaces
	Grants   []routineGrant `json:"grants"`   // on those of Theirs, with Replaces
	Default  string         `json:"default"`  // collation of a target that was there, which the scripts change for a while

	created bool // by us, the target
	making  bool // nobody knows whether it was created
	done    bool // all is restored: the old content may be dropped
	undoing bool // tables that had moved went back, or are about to
	touched bool // triggers or keys of the target were taken away
}

// notesLibraries is the version of notes since Ours and Theirs have libraries. With an
// earlier one, nobody knows of those in the target whether they were there before; the
// scripts replace the ones that they make, and the others stay.
const notesLibraries = 1

// plan looks at both databases; the target does not change, but with Replaces its
// sessions end.
func (b *beside) plan(ctx context.Context) (*swap, error) {
	r := b.restore
	w := &swap{
		Version: notesLibraries,
		Target:  r.conn.Database, Fresh: b.fresh, Replaced: b.replaced, Made: !b.exists, Partial: len(r.options.IncludeTables) > 0,
		Replaces: b.exists && r.options.DropExisting && len(r.options.IncludeTables) == 0,
	}
	var err error
	if w.Incoming, err = b.s.movable(ctx, b.fresh); err != nil {
		return nil, err
	}
	if err := b.refuseOthers(ctx, w); err != nil {
		return nil, err
	}
	if w.Objects, err = r.objects(ctx, b.s, b.fresh, withoutEvents); err != nil {
		return nil, err
	}
	if w.Ours, err = b.s.objectsOf(ctx, b.fresh); err != nil {
		return nil, err
	}
	for _, text := range [][]byte{b.views, b.events} {
		if len(text) > 0 {
			w.Objects = slices.Concat(w.Objects, []byte("SET SESSION sql_mode = '';\n"), text, []byte("\n"+trailer+"\n"))
		}
	}
	if err := b.planKeys(ctx, w); err != nil || !b.exists {
		return w, err
	}
	if err := r.create(ctx, b.s, b.replaced, charset{}); err != nil {
		return nil, err
	}
	b.madeReplaced = true
	return w, b.planReplaced(ctx, w)
}

// refuseOthers: what a restore of some tables has made besides them would replace
// what the target has of that name. Views among them have been kept out.
func (b *beside) refuseOthers(ctx context.Context, w *swap) error {
	if !w.Partial {
		return nil
	}
	others, err := b.s.views(ctx, w.Fresh)
	if err != nil {
		return err
	}
	for _, name := range w.Incoming {
		if !slices.ContainsFunc(b.restore.options.IncludeTables, func(wanted string) bool { // servers may fold case
			return strings.EqualFold(wanted, name) || strings.EqualFold(b.restore.shortName(wanted), name)
		}) {
			others = append(others, name)
		}
	}
	if len(others) > 0 {
		return errs.New(errs.Conflict, errs.CodeRestoreFailed,
			"the dump makes %q in a place where only tables of include_tables are expected, so nothing was exchanged: restore the whole backup into another database, and take the tables from there", others[0])
	}
	return nil
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
	if err := r.requireRoom(ctx, b.s); err != nil { // something may have come since it was looked for
		return err
	}
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
	if w.Default, err = b.s.collationOf(ctx, w.Target); err != nil {
		return err
	}
	if w.Triggers, err = b.s.triggers(ctx, w.Target, w.Outgoing); err != nil {
		return err
	}
	if err := b.s.withStatements(ctx, w.Target, w.Triggers); err != nil {
		return err
	}
	if err := b.proveDefiners(ctx, w); err != nil {
		return err
	}
	switch {
	case w.Replaces:
		if err := r.toolsBeside(ctx, b.s, b.exists); err != nil {
			return err
		}
		if err := r.endSessions(ctx, b.s); err != nil {
			return err
		}
		if w.Theirs, err = b.s.objectsOf(ctx, w.Target); err != nil {
			return err
		}
		if err := b.planGrants(ctx, w); err != nil {
			return err
		}
		w.Old, err = r.objects(ctx, b.s, w.Target, withEvents)
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
			w.Old, err = r.objects(ctx, b.s, w.Target, withoutEvents, old...)
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
	if err != nil {
		return err
	}
	if len(names) == 0 {
		return nil
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
		w.making = true
		if err := r.create(ctx, s, w.Target, r.charset); err != nil {
			_, refused := errors.AsType[*driver.MySQLError](err)
			w.making = !refused
			return err
		}
		w.created, w.making = true, false
	}
	if err := w.makeWay(ctx, r, s); err != nil {
		return err
	}
	if err := s.requireLock(ctx, w.Fresh); err != nil {
		return err
	}
	if err := s.move(ctx, w.Target, append(renames(w.Outgoing, w.Target, w.Replaced), renames(w.Incoming, w.Fresh, w.Target)...)); err != nil {
		return err
	}
	if err := w.forward(ctx, r, s); err != nil {
		return err
	}
	return s.requireLock(ctx, w.Fresh)
}

// forward makes anew what did not move. It may be called again.
func (w *swap) forward(ctx context.Context, r *restore, s *session) error {
	if w.Replaces {
		there, err := s.objectsOf(ctx, w.Target)
		if err != nil {
			return err
		}
		there = slices.DeleteFunc(there, func(o object) bool { return w.Version < notesLibraries && o.Kind == "LIBRARY" })
		for _, o := range there {
			if !slices.Contains(w.Ours, o) && !slices.Contains(w.Theirs, o) {
				return errs.New(errs.Conflict, errs.CodeConflict,
					"%s %q came into database %q while it was replaced, and would be lost: move it elsewhere, or start the restore again", strings.ToLower(o.Kind), o.Name, w.Target)
			}
		}
		if err := s.dropThese(ctx, w.Target, there); err != nil {
			return err
		}
	}
	if err := s.dropTriggers(ctx, w.Target, w.Incoming); err != nil {
		return err
	}
	objects := w.Objects
	if w.Version < notesLibraries {
		objects = withOwnLibraries(objects)
	}
	if err := w.run(ctx, r, s, objects); err != nil {
		return err
	}
	if err := w.regrant(ctx, r, s); err != nil {
		return err
	}
	return s.addKeys(ctx, w.Target, r.server.Flavor, slices.Concat(w.Inward, w.Children))
}

// moved reports whether the tables have moved: all of them, or none. It fails when it
// is neither, for then nobody knows what happened. With no tables to move, nothing
// tells them apart, and they count as moved.
func (w *swap) moved(ctx context.Context, s *session) (bool, error) {
	var in [3][]string // tables by database
	for i, database := range []string{w.Target, w.Fresh, w.Replaced} {
		var err error
		if in[i], err = s.movable(ctx, database); err != nil {
			return false, err
		}
	}
	target, fresh, replaced := in[0], in[1], in[2]
	switch {
	case all(w.Incoming, target) && none(w.Incoming, fresh) && all(w.Outgoing, replaced):
		return true, nil
	case all(w.Incoming, fresh) && all(w.Outgoing, target) && none(w.Outgoing, replaced):
		return false, nil
	}
	return false, errs.New(errs.Conflict, errs.CodeConflict,
		"the tables of database %q are neither where they were before the restore nor where they are after it, so all is left as it is: old tables are in %q and in database %q, restored ones in %q; move them where they belong (RENAME TABLE), then drop the last two",
		w.Target, w.Target, w.Replaced, w.Fresh)
}

func all(names, in []string) bool {
	return !slices.ContainsFunc(names, func(name string) bool { return !slices.Contains(in, name) })
}

func none(names, in []string) bool {
	return !slices.ContainsFunc(names, func(name string) bool { return slices.Contains(in, name) })
}

// back makes a target that was there what it was. It may be called again.
func (w *swap) back(ctx context.Context, r *restore, s *session) error {
	moved, err := w.moved(ctx, s)
	if err != nil {
		return err
	}
	if !moved {
		return w.backUnmoved(ctx, r, s)
	}
	if err := w.markUndoing(ctx, s); err != nil {
		return err
	}
	if !w.Partial {
		if err := s.dropThese(ctx, w.Target, w.Ours); err != nil {
			return err
		}
	}
	if err := s.drop(ctx, "VIEW", w.Target, w.Views); err != nil {
		return err
	}
	if err := s.dropTriggers(ctx, w.Target, w.Incoming); err != nil {
		return err
	}
	if err := s.dropKeys(ctx, w.Target, w.Children); err != nil {
		return err
	}
	if err := s.move(ctx, w.Target, append(renames(w.Incoming, w.Target, w.Fresh), renames(w.Outgoing, w.Replaced, w.Target)...)); err != nil {
		return err
	}
	return w.remakeOld(ctx, r, s)
}

// backUnmoved makes again what was dropped before tables move, or what did not move
// back with them.
func (w *swap) backUnmoved(ctx context.Context, r *restore, s *session) error {
	if w.undoing {
		return w.remakeOld(ctx, r, s)
	}
	if err := s.addKeys(ctx, w.Target, r.server.Flavor, w.Children); err != nil || len(w.Triggers) == 0 {
		return err
	}
	inside, err := r.engine.connect(ctx, r.conn, w.Target, patient)
	if err != nil {
		return err
	}
	defer inside.close()
	if err := inside.exec(ctx, r.engine.waitNoLonger(), "undoing"); err != nil {
		return err
	}
	return inside.makeMissing(ctx, w.Target, w.Triggers)
}

// remakeOld makes what belongs to the old tables, once they are back.
func (w *swap) remakeOld(ctx context.Context, r *restore, s *session) error {
	if err := s.addKeys(ctx, w.Target, r.server.Flavor, w.Children); err != nil || len(w.Old) == 0 {
		return err
	}
	if err := s.dropTriggers(ctx, w.Target, w.Outgoing); err != nil {
		return err
	}
	if err := w.run(ctx, r, s, w.Old); err != nil {
		return err
	}
	return w.regrant(ctx, r, s)
}

// run runs a script in the target. One that fails between two changes of the default
// character set leaves the wrong one.
func (w *swap) run(ctx context.Context, r *restore, s *session, text []byte) error {
	err := r.runText(ctx, w.Target, text)
	if w.Default == "" {
		return err
	}
	now, nowErr := s.collationOf(ctx, w.Target)
	if nowErr == nil && now != "" && now != w.Default {
		nowErr = s.exec(ctx, "ALTER DATABASE "+ident(w.Target)+" COLLATE "+w.Default, "setting the default character set back")
	}
	return also(err, nowErr)
}

// recover finishes what a killed process has begun, or makes again what it dropped
// before tables moved. Tables that have moved stay, as they may have been written to
// since. After an error nothing is lost, and it may be called again.
func (w *swap) recover(ctx context.Context, r *restore, s *session) (outcome string, err error) {
	moved, err := w.moved(ctx, s)
	if err != nil {
		return "", err
	}
	there, err := s.names(ctx, "SELECT schema_name FROM information_schema.schemata WHERE schema_name = ?", w.Target)
	switch {
	case err != nil:
		return "", err
	case len(there) == 0 && len(w.Outgoing) == 0:
		return "had not touched database " + w.Target, nil
	case len(there) == 0:
		return "", errs.New(errs.Conflict, errs.CodeConflict,
			"database %q is not there any more, and its old tables are in database %q: move them where they belong, then drop that and %q", w.Target, w.Replaced, w.Fresh)
	case !moved && w.Made:
		return "had made database " + w.Target + " and restored nothing into it", nil
	case !moved:
		return "was taken back: database " + w.Target + " is what it was before", w.back(ctx, r, s)
	}
	if err := w.forward(ctx, r, s); err != nil {
		return "", errs.Wrap(err, errs.KindOf(err), errs.CodeOf(err),
			"the restored tables are in database %q, but what belongs to them could not be made: %s. All is left as it is; the old tables are in database %q",
			w.Target, errs.Message(err), w.Replaced)
	}
	if err := w.markDone(ctx, s); err != nil {
		return "", err
	}
	return "had moved its tables into database " + w.Target + ", and what belongs to them was made now: it is wholly restored", nil
}
