package postgres

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// visitor is a session in a database that is to change its name.
type visitor struct {
	PID                        int32
	User, Application, Address string
	Endable                    bool // it is a client's, and may be ended by us
}

func (v visitor) String() string {
	s := fmt.Sprintf("user %q (application %q", v.User, v.Application)
	if v.Address != "" {
		s += " from " + v.Address
	}
	return s + ")"
}

func (v visitor) stays() bool { return !v.Endable }

// named names visitors for people, the same ones once.
func named(visitors []visitor) string {
	var names []string
	for _, v := range visitors {
		names = append(names, v.String())
	}
	slices.Sort(names)
	return strings.Join(slices.Compact(names), ", ")
}

type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// visitorsOf lists the sessions in a database that keep it from being renamed. What the
// server does not show us of a session, its kind or its address, we may not end either.
func visitorsOf(ctx context.Context, conn querier, database string) ([]visitor, error) {
	rows, err := conn.Query(ctx, `SELECT pid, them.rolname, coalesce(application_name, ''), coalesce(host(client_addr), ''),
			coalesce(backend_type = 'client backend', false) AND (me.rolsuper OR
				NOT them.rolsuper AND (pg_has_role(them.oid, 'USAGE') OR pg_has_role('pg_signal_backend', 'USAGE')))
		FROM pg_stat_activity s JOIN pg_roles them ON them.oid = s.usesysid, pg_roles me
		WHERE datname = $1 AND pid <> pg_backend_pid() AND me.rolname = current_user`, database)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[visitor])
}

// endVisitors ends sessions and returns those that it has ended.
func endVisitors(ctx context.Context, conn querier, visitors []visitor) ([]visitor, error) {
	var pids []int32
	for _, v := range visitors {
		pids = append(pids, v.PID)
	}
	rows, err := conn.Query(ctx, "SELECT pid FROM unnest($1::int[]) AS pid WHERE pg_terminate_backend(pid)", pids)
	if err != nil {
		return nil, err
	}
	ended, err := pgx.CollectRows(rows, pgx.RowTo[int32])
	return slices.DeleteFunc(visitors, func(v visitor) bool { return !slices.Contains(ended, v.PID) }), err
}

// asLogin runs do as the user that logged in: a session is that user's in the eyes of the
// server, and may be hidden from the role that the user's settings take on.
func asLogin(ctx context.Context, conn execer, do func() error) error {
	if _, err := conn.Exec(ctx, "SET ROLE NONE"); err != nil {
		return err
	}
	err := do()
	_, reset := conn.Exec(ctx, "RESET ROLE")
	return also(err, reset)
}
