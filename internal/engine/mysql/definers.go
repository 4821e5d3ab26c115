package mysql

import (
	"context"
	"slices"
	"strings"

	"github.com/dataguardian/dataguardian/internal/errs"
)

// proveDefiners fails when we could not make again what goes, were it to come back:
// giving an object to another user takes a privilege.
func (b *beside) proveDefiners(ctx context.Context, w *swap) error {
	definers, err := b.s.definers(ctx, w)
	if err != nil {
		return err
	}
	probe := ident(w.Replaced) + "." + ident("dg_probe")
	for _, definer := range definers {
		err := b.s.exec(ctx, "CREATE DEFINER="+account(definer)+" VIEW "+probe+" AS SELECT 1 AS one", "trying to give a view to "+definer)
		switch {
		case errs.CodeOf(err) == errs.CodeDatasourcePermission:
			return errs.Wrap(err, errs.Unavailable, errs.CodeDatasourcePermission,
				"database %q has views, triggers or routines of %q, which user %q could not make again if the restore had to be taken back (%s): grant SET USER (MariaDB), SET_ANY_DEFINER or SET_USER_ID (MySQL), or let that user restore",
				w.Target, definer, b.restore.conn.Username, errs.Message(err))
		case err != nil:
			return err
		}
		if err := b.s.exec(ctx, "DROP VIEW "+probe, "trying to give a view to "+definer); err != nil {
			return err
		}
	}
	return nil
}

// definers are the users, other than ours, of what is made again when a swap is taken
// back.
func (s *session) definers(ctx context.Context, w *swap) ([]string, error) {
	us, err := s.names(ctx, "SELECT CURRENT_USER()")
	if err != nil {
		return nil, err
	}
	var found []string
	for query, goes := range map[string]func(name string) bool{
		"SELECT definer, table_name FROM information_schema.views WHERE table_schema = ?": func(name string) bool { return w.Replaces || slices.Contains(w.Views, name) },
		"SELECT definer, trigger_name FROM information_schema.triggers WHERE trigger_schema = ?": func(name string) bool {
			return slices.ContainsFunc(w.Triggers, func(t trigger) bool { return t.Name == name })
		},
		"SELECT definer, routine_name FROM information_schema.routines WHERE routine_schema = ?": func(string) bool { return w.Replaces },
		"SELECT definer, event_name FROM information_schema.events WHERE event_schema = ?":       func(string) bool { return w.Replaces },
	} {
		pairs, err := s.pairs(ctx, query, w.Target)
		if err != nil {
			return nil, err
		}
		for _, p := range pairs {
			if goes(p[1]) && !slices.Contains(us, p[0]) && !slices.Contains(found, p[0]) {
				found = append(found, p[0])
			}
		}
	}
	return found, nil
}

// account quotes a user as the catalogue writes it; a role has no host.
func account(definer string) string {
	if i := strings.LastIndexByte(definer, '@'); i >= 0 {
		return ident(definer[:i]) + "@" + ident(definer[i+1:])
	}
	return ident(definer)
}
