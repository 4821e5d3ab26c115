package harness

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/testkit"
)

// Source is a database that is backed up. Its owner's password is the secret
// of the plane.
type Source struct {
	PG       *testkit.PG
	Database string
	User     string
	Password string
}

// NewSource makes a database of the shared PostgreSQL: table notes with rows
// rows of about 1 KiB that hardly compress, and a view.
func (p *Plane) NewSource(t testing.TB, rows int) Source {
	t.Helper()
	pg := testkit.Postgres(t)
	return p.fill(t, Source{PG: pg, Database: pg.NewDatabase(t), Password: p.Secret}, rows)
}

// NewSourceNamed is NewSource with any name that PostgreSQL takes.
func (p *Plane) NewSourceNamed(t testing.TB, database string) Source {
	t.Helper()
	pg := testkit.Postgres(t)
	name := pgx.Identifier{database}.Sanitize()
	pg.Exec(t, "postgres", "CREATE DATABASE "+name)
	t.Cleanup(func() { pg.Exec(t, "postgres", "DROP DATABASE "+name+" WITH (FORCE)") })
	return p.fill(t, Source{PG: pg, Database: database, Password: p.Secret}, 10)
}

func (p *Plane) fill(t testing.TB, s Source, rows int) Source {
	t.Helper()
	s.User = "owner_" + strings.ToLower(plant()[6:16])
	database := pgx.Identifier{s.Database}.Sanitize()
	s.PG.Exec(t, "postgres", "CREATE ROLE "+s.User+" LOGIN PASSWORD '"+strings.ReplaceAll(s.Password, "'", "''")+"'")
	s.PG.Exec(t, "postgres", "ALTER DATABASE "+database+" OWNER TO "+s.User)
	t.Cleanup(func() {
		s.PG.Exec(t, s.Database, "DROP OWNED BY "+s.User)
		s.PG.Exec(t, "postgres", "ALTER DATABASE "+database+" OWNER TO postgres; DROP ROLE "+s.User)
	})
	conn := s.Connect(t)
	for _, sql := range []string{
		"CREATE TABLE public.notes (id bigint PRIMARY KEY, body text NOT NULL)",
		fmt.Sprintf(`INSERT INTO public.notes SELECT n, (SELECT string_agg(md5((n * 32 + k)::text), '') FROM generate_series(1, 32) k) FROM generate_series(1, %d) n`, rows),
		"CREATE VIEW public.recent AS SELECT * FROM public.notes ORDER BY id DESC LIMIT 10",
	} {
		_, err := conn.Exec(context.Background(), sql)
		require.NoError(t, err)
	}
	return s
}

// Shareable makes the database worth the connections of parallel_jobs: a second table
// has the same rows, notes_too, and both have few of them on a page, so that they are
// large on the disk alone. It takes a thousand rows.
func (s Source) Shareable(t testing.TB) Source {
	t.Helper()
	for _, sql := range []string{
		"CREATE TABLE public.notes_too WITH (fillfactor = 10) AS SELECT * FROM public.notes",
		"ALTER TABLE public.notes_too OWNER TO " + s.User,
		"ALTER TABLE public.notes SET (fillfactor = 10)",
		"VACUUM FULL public.notes",
	} {
		s.PG.Exec(t, s.Database, sql)
	}
	return s
}

// Connect opens a connection as the owner, closed when the test ends.
func (s Source) Connect(t testing.TB) *pgx.Conn {
	t.Helper()
	config, err := pgx.ParseConfig(s.PG.DSN("postgres"))
	require.NoError(t, err)
	config.Database, config.User, config.Password = s.Database, s.User, s.Password
	conn, err := pgx.ConnectConfig(context.Background(), config)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close(context.Background())) })
	return conn
}

// Lock keeps dumps of the database waiting until release is called.
func (s Source) Lock(t testing.TB) (release func()) {
	t.Helper()
	conn := s.Connect(t)
	tx, err := conn.Begin(context.Background())
	require.NoError(t, err)
	_, err = tx.Exec(context.Background(), "LOCK TABLE public.notes IN ACCESS EXCLUSIVE MODE")
	require.NoError(t, err)
	return func() { require.NoError(t, tx.Rollback(context.Background())) }
}

// AwaitDump waits until pg_dump waits for the lock.
func (s Source) AwaitDump(t testing.TB) { t.Helper(); s.AwaitDumps(t, 1) }

// AwaitDumps waits until so many sessions of pg_dump wait for the lock.
func (s Source) AwaitDumps(t testing.TB, n int) {
	t.Helper()
	s.awaitSessions(t, "AND wait_event_type = 'Lock' AND query ILIKE 'LOCK TABLE%'", func(sessions int) bool { return sessions >= n }, "no dump waits for the lock")
}

// AwaitNoDump waits until no session of a dump is left.
func (s Source) AwaitNoDump(t testing.TB) {
	t.Helper()
	s.awaitSessions(t, "", func(sessions int) bool { return sessions == 0 }, "a dump goes on")
}

// awaitSessions asks by one connection: each new one is a process of the server.
func (s Source) awaitSessions(t testing.TB, and string, enough func(sessions int) bool, message string) {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), s.PG.DSN("postgres"))
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(context.Background())) }()
	Eventually(t, func() bool {
		var n int
		require.NoError(t, conn.QueryRow(context.Background(),
			"SELECT count(*) FROM pg_stat_activity WHERE datname = $1 AND application_name = 'dataguardian' "+and, s.Database).Scan(&n))
		return enough(n)
	}, message)
}

// Super is Config with a user who may make databases, as a verification does.
func (s Source) Super() map[string]any {
	config := s.Config()
	config["username"], config["password"] = s.PG.User, s.PG.Password
	return config
}

// Config is the connection_config of the source.
func (s Source) Config() map[string]any {
	return map[string]any{"host": s.PG.Host, "port": s.PG.Port, "database": s.Database, "username": s.User, "password": s.Password}
}

// Config is any part of a request.
type Config = map[string]any

// unique makes a name that no other test has taken.
func unique(what string) string { return what + " " + plant()[6:18] }

// AddDatasource creates a datasource and returns its id.
func (s *Server) AddDatasource(t testing.TB, connection Config) string {
	t.Helper()
	return s.Post(t, "/api/datasources", Config{"name": unique("source"), "type": "postgres", "connection_config": connection}, http.StatusCreated).Text("id")
}

// AddStorage creates a local storage location and returns its id.
func (s *Server) AddStorage(t testing.TB, path string) string {
	t.Helper()
	return s.Post(t, "/api/storage-locations", Config{"name": unique("disk"), "type": "local", "config": Config{"path": path}}, http.StatusCreated).Text("id")
}

// StorageDir returns a new directory for backups.
func (s *Server) StorageDir(t testing.TB) string {
	t.Helper()
	return filepath.Join(s.Dir, strings.ReplaceAll(unique("backups"), " ", "-"))
}

// AddJob creates a job on demand that keeps three backups, and returns its id.
func (s *Server) AddJob(t testing.TB, datasource, storage string, options ...Config) string {
	t.Helper()
	body := Config{
		"name": unique("job"), "datasource_id": datasource, "storage_location_id": storage,
		"retention_policy": Config{"max_backups": 3, "auto_delete": true},
	}
	for _, o := range options {
		for key, value := range o {
			body[key] = value
		}
	}
	return s.Post(t, "/api/backup-jobs", body, http.StatusCreated).Text("id")
}

// NewJob makes a job for a source with a storage of its own.
func (s *Server) NewJob(t testing.TB, source Source, options ...Config) (job, storageDir string) {
	t.Helper()
	storageDir = s.StorageDir(t)
	return s.AddJob(t, s.AddDatasource(t, source.Config()), s.AddStorage(t, storageDir), options...), storageDir
}

// Run starts a backup and returns the execution's id.
func (s *Server) Run(t testing.TB, job string) string {
	t.Helper()
	return s.Post(t, "/api/backup-jobs/"+job+"/run", Config{}, http.StatusAccepted).Text("execution_id")
}

// Await follows an execution to its end and returns it.
func (s *Server) Await(t testing.TB, execution string) JSON {
	t.Helper()
	events := s.Stream(t, "/api/executions/"+execution+"/logs/stream").Events()
	require.NotEmpty(t, events)
	require.True(t, events[len(events)-1].Has("end"), "the stream of a running execution ended: %s", events[len(events)-1])
	return s.Get(t, "/api/executions/"+execution)
}

// Backup runs a job to its end and requires that it completes.
func (s *Server) Backup(t testing.TB, job string) JSON {
	t.Helper()
	e := s.Await(t, s.Run(t, job))
	require.Equal(t, "completed", e.Text("status"), "%s", e)
	return e
}

// Fails runs a job to its end and requires that it fails with a code. It returns
// the execution.
func (s *Server) Fails(t testing.TB, job, code string) JSON {
	t.Helper()
	e := s.Await(t, s.Run(t, job))
	require.Equal(t, "failed", e.Text("status"), "%s", e)
	require.Equal(t, code, e.Text("error_code"), e.Text("error_message"))
	return e
}

// AwaitStatus polls an execution until it has a status.
func (s *Server) AwaitStatus(t testing.TB, execution, status string) {
	t.Helper()
	Eventually(t, func() bool { return s.Get(t, "/api/executions/"+execution).Text("status") == status }, "the execution is not "+status)
}
