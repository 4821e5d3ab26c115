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
	Kind                       string // as the server calls it, empty where it does not show that
	Endable                    bool   // it is a client's, and may be ended by us
	Own                        bool   // it is of the user that logged in
}

func (v visitor) String() string {
	s := fmt.Sprintf("user %q (application %q", v.User, v.Application)
	if v.Address != "" {
		s += " from " + v.Address
	}
	s += ")"
	if v.Kind == preparedTransaction {
		return fmt.Sprintf("prepared transaction %q of user %q", v.Application, v.User)
	}
	if v.isClient() {
		return s
	}
	return v.Kind + " of " + s
}

func (v visitor) stays() bool { return !v.Endable }

// isClient is also true of what the server does not show us.
func (v visitor) isClient() bool { return v.Kind == "" || v.Kind == clientBackend }

// named names visitors for people, the same ones once.
func named(visitors []visitor) string {
	var names []string
	for _, v := range visitors {
		names = append(names, v.String())
	}
	slices.Sort(names)
	return strings.Join(slices.Compact(names), ", ")
}

const (
	clientBackend       = "client backend"
	preparedTransaction = "prepared transaction"
)

type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// visitorsOf lists the sessions in a database that keep it from being renamed. What the
// server does not show us of a session, its kind or its address, we may not end either.
// Parallel workers go with the client that they work for. A session outlives its role, and
// a prepared transaction its session. What is of the user that logged in may be ended as
// that user, whatever is shown of it to the role that the user's settings take on.
func visitorsOf(ctx context.Context, conn querier, database string) ([]visitor, error) {
	rows, err := conn.Query(ctx, `SELECT pid, coalesce(them.rolname, usesysid::text), coalesce(application_name, ''), coalesce(host(client_addr), ''),
			coalesce(backend_type, ''),
			coalesce(backend_type = 'client backend', own) AND (own OR me.rolsuper OR NOT coalesce(them.rolsuper, false) AND
				(coalesce(pg_has_role(them.oid, 'USAGE'), false) OR pg_has_role('pg_signal_backend', 'USAGE'))), own
		FROM pg_stat_activity LEFT JOIN pg_roles them ON them.oid = usesysid JOIN pg_roles me ON me.rolname = current_user,
			LATERAL (SELECT coalesce(them.rolname = session_user, false) AS own) ours
		WHERE datname = $1 AND pid <> pg_backend_pid() AND usesysid IS NOT NULL AND backend_type IS DISTINCT FROM 'parallel worker'
		UNION ALL SELECT 0, owner, gid, '', 'prepared transaction', false, false FROM pg_prepared_xacts WHERE database = $1`, database)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[visitor])
}

// endVisitors ends sessions and returns those that it has ended.
func endVisitors(ctx context.Context, conn *pgx.Conn, visitors []visitor) (ended []visitor, err error) {
	var batch pgx.Batch
	queueEnds(&batch, visitors, &ended)
	return ended, conn.SendBatch(ctx, &batch).Close()
}

// queueEnds lets a batch end sessions, those of the user that logged in as that user, and
// adds those that it has ended to ended.
func queueEnds(batch *pgx.Batch, visitors []visitor, ended *[]visitor) {
	var own, others []int32
	for _, v := range visitors {
		if v.Own {
			own = append(own, v.PID)
		} else {
			others = append(others, v.PID)
		}
	}
	end := func(pids []int32) {
		batch.Queue("SELECT pid FROM unnest($1::int[]) AS pid WHERE pg_terminate_backend(pid)", pids).Query(func(rows pgx.Rows) error {
			gone, err := pgx.CollectRows(rows, pgx.RowTo[int32])
			for _, v := range visitors {
				if slices.Contains(gone, v.PID) {
					*ended = append(*ended, v)
				}
			}
			return err
		})
	}
	if len(own) > 0 {
		batch.Queue("SET ROLE NONE")
		end(own)
		batch.Queue("RESET ROLE")
	}
	if len(others) > 0 {
		end(others)
	}
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
