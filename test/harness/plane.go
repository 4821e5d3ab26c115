package harness

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/dataguardian/dataguardian/internal/secret"
	"github.com/dataguardian/dataguardian/internal/testkit"
)

// Plane is one control plane: where its metadata is, and the processes that
// share it.
type Plane struct {
	Dir     string
	DSN     string               // of the metadata; empty until an embedded plane runs
	KeyFile string               // empty when embedded
	Redis   *testkit.RedisServer // nil: each process has its own
	Secret  string               // a password that must never be seen
	Env     []string             // of every server and worker, beside the least they need

	embedded  bool
	mu        sync.Mutex
	processes []*Process
	api       []string // answers, for the search for secrets
}

// fast shrinks every interval, so that nothing is waited for long. The lease is
// long enough for a busy machine; a test that kills workers shortens it.
var fast = []string{
	"--lease", "30s", "--heartbeat", "300ms", "--poll-interval", "300ms", "--sweep-interval", "300ms",
	"--cleanup-interval", "2s", "--shutdown-grace", "1s", "--concurrency", "4",
}

// NewPlane makes an empty control plane on a database of the shared PostgreSQL.
// What must always hold is checked when the test ends.
func NewPlane(t testing.TB) *Plane {
	t.Helper()
	pg := testkit.Postgres(t)
	return newPlane(t, pg.DSN(pg.NewDatabaseLike(t, migrated.on(t, pg))))
}

// NewPlaneOn is NewPlane on a PostgreSQL of the test's own, which it may stop.
func NewPlaneOn(t testing.TB, pg *testkit.PG) *Plane {
	t.Helper()
	database := pg.NewDatabase(t)
	migrate(t, pg, database)
	return newPlane(t, pg.DSN(database))
}

func newPlane(t testing.TB, dsn string) *Plane {
	t.Helper()
	dir := testkit.Dir(t)
	p := &Plane{Dir: dir, DSN: dsn, KeyFile: filepath.Join(dir, "keys.json"), Secret: plant()}
	_, err := secret.Create(p.KeyFile)
	require.NoError(t, err)
	return p
}

// migrate lets the program migrate an empty database, and the witness watch it.
func migrate(t testing.TB, pg *testkit.PG, database string) {
	t.Helper()
	r := Start(t, testkit.Dir(t), "migrate", nil, "migrate", "--database-url", pg.DSN(database))
	require.Zero(t, r.Code, r.Stderr)
	pg.Exec(t, database, witness)
}

// migrated is the database of the shared PostgreSQL that those of planes are copies of:
// the program makes it for the first of them.
var migrated template

type template struct {
	mu   sync.Mutex
	name string
}

func (m *template) on(t testing.TB, pg *testkit.PG) string {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.name == "" {
		name := "migrated_" + strings.ToLower(plant()[6:16])
		pg.Exec(t, "postgres", "CREATE DATABASE "+name)
		migrate(t, pg, name)
		m.name = name
	}
	return m.name
}

// NewSharedRedisPlane is NewPlane with a Redis that processes have in common.
func NewSharedRedisPlane(t testing.TB) *Plane {
	t.Helper()
	p := NewPlane(t)
	p.Redis = testkit.Redis(t)
	return p
}

// NewEmbeddedPlane is the single-node default: everything below one directory.
func NewEmbeddedPlane(t testing.TB) *Plane {
	t.Helper()
	return &Plane{Dir: testkit.Dir(t), Secret: plant(), embedded: true}
}

// flags are those every process of the plane needs.
func (p *Plane) flags() []string {
	flags := append([]string{}, fast...)
	if !p.embedded {
		flags = append(flags, "--database-url", p.DSN, "--key-file", p.KeyFile)
	}
	if p.Redis != nil {
		flags = append(flags, "--redis-url", p.Redis.URL())
	}
	return flags
}

func (p *Plane) keep(process *Process) *Process {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.processes = append(p.processes, process)
	return process
}

// hasLost tells whether a process of the plane was killed.
func (p *Plane) hasLost() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.ContainsFunc(p.processes, func(process *Process) bool { return process.killed.Load() })
}

// Worker starts a worker process. It is stopped when the test ends.
func (p *Plane) Worker(t testing.TB, name string, flags ...string) *Process {
	t.Helper()
	process := p.StartWorker(t, name, flags...)
	t.Cleanup(func() { process.Stop(t) })
	return process
}

// StartWorker starts a worker process that the test ends itself.
func (p *Plane) StartWorker(t testing.TB, name string, flags ...string) *Process {
	t.Helper()
	args := append(append([]string{"worker"}, p.flags()...), flags...)
	process := p.keep(launch(t, p.Dir, name, p.Env, args...))
	t.Cleanup(func() {
		if !process.Ended() { // the test failed before it could do so
			process.Kill(t)
		}
	})
	return process
}

// Server is a process with the API.
type Server struct {
	*Process
	*Client
	Plane *Plane
	HTTP  string // host:port
	GRPC  string // host:port
	Conn  *grpc.ClientConn
}

// Serve starts a process with the API and waits until it is ready. When the
// test ends, it is stopped after what must always hold was checked.
func (p *Plane) Serve(t testing.TB, name string, flags ...string) *Server {
	t.Helper()
	s := p.serve(t, name, flags...)
	t.Cleanup(func() {
		if s.Ended() {
			return
		}
		if t.Failed() {
			s.Kill(t)
			return
		}
		s.CheckInvariants(t)
		s.Stop(t)
		p.CheckSecrets(t)
	})
	return s
}

func (p *Plane) serve(t testing.TB, name string, flags ...string) *Server {
	t.Helper()
	args := append([]string{"serve", "--http-addr", "127.0.0.1:0", "--grpc-addr", "127.0.0.1:0"}, p.flags()...)
	s := p.ready(t, p.keep(launch(t, p.Dir, name, p.Env, append(args, flags...)...)))
	var err error
	s.Conn, err = grpc.NewClient(s.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() {
		s.http.CloseIdleConnections()
		require.NoError(t, s.Conn.Close())
	})
	if p.embedded {
		p.DSN = embeddedDSN(t, s.DataDir)
	}
	return s
}

// ready waits for a process with the API.
func (p *Plane) ready(t testing.TB, process *Process) *Server {
	t.Helper()
	t.Cleanup(func() {
		if !process.Ended() { // the test failed before it could be stopped in order
			process.Kill(t)
		}
	})
	process.Await(t, process.Stderr, `"msg":"ready"`)
	s := &Server{Process: process, Plane: p}
	var endpoints struct{ HTTP, GRPC string }
	raw, err := os.ReadFile(filepath.Join(process.DataDir, "endpoints.json"))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(raw, &endpoints))
	s.HTTP, s.GRPC = endpoints.HTTP, endpoints.GRPC
	s.Client = newClient(p, "http://"+s.HTTP, p.token(t))
	return s
}

// ServeTLS starts one more process with the API alone, which speaks TLS as the flags
// say: it has no client but the command line. It is stopped when the test ends.
func (p *Plane) ServeTLS(t testing.TB, name string, flags ...string) *Server {
	t.Helper()
	args := append([]string{"serve", "--roles", "api", "--http-addr", "127.0.0.1:0", "--grpc-addr", "127.0.0.1:0"}, p.flags()...)
	s := p.ready(t, p.keep(launch(t, p.Dir, name, p.Env, append(args, flags...)...)))
	t.Cleanup(func() {
		if !s.Ended() {
			s.Stop(t)
		}
	})
	return s
}

// Launch starts the program with these arguments and this environment alone; only where
// its data is belongs to the plane. It is stopped when the test ends.
func (p *Plane) Launch(t testing.TB, name string, env []string, args ...string) *Process {
	t.Helper()
	process := p.keep(launch(t, p.Dir, name, env, args...))
	t.Cleanup(func() {
		if t.Failed() && !process.Ended() {
			process.Kill(t)
			return
		}
		process.Stop(t)
	})
	return process
}

// LaunchAPI is Launch for a process with the API; it waits until that is ready.
func (p *Plane) LaunchAPI(t testing.TB, name string, env []string, args ...string) *Server {
	t.Helper()
	s := p.ready(t, p.Launch(t, name, env, args...))
	t.Cleanup(s.http.CloseIdleConnections)
	return s
}

// token reads the administrator's token, which the first process of a plane
// has made.
func (p *Plane) token(t testing.TB) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(p.Dir, "*", "admin-token"))
	require.NoError(t, err)
	require.Len(t, found, 1)
	raw, err := os.ReadFile(found[0])
	require.NoError(t, err)
	return strings.TrimSpace(string(raw))
}

// embeddedDSN reaches the private cluster by its socket.
func embeddedDSN(t testing.TB, dataDir string) string {
	t.Helper()
	password, err := os.ReadFile(filepath.Join(dataDir, "postgres-password"))
	require.NoError(t, err)
	sockets, err := filepath.Glob(filepath.Join(dataDir, "run", ".s.PGSQL.[0-9]*"))
	require.NoError(t, err)
	var port string
	for _, socket := range sockets {
		if number := strings.TrimPrefix(filepath.Ext(socket), "."); filepath.Ext(socket) != ".lock" {
			port = number
		}
	}
	require.NotEmpty(t, port, "no socket among %v", sockets)
	u := url.URL{Scheme: "postgres", User: url.UserPassword("dataguardian", strings.TrimSpace(string(password))), Path: "/dataguardian",
		RawQuery: fmt.Sprintf("host=%s&port=%s&sslmode=disable", url.QueryEscape(filepath.Join(dataDir, "run")), port)}
	return u.String()
}

// CLI runs a client command against the server and returns how it ended.
func (s *Server) CLI(t testing.TB, args ...string) Result {
	t.Helper()
	p := launch(t, s.Dir, "cli", []string{"DATAGUARDIAN_TOKEN=" + s.Token}, append(args, "--server", s.GRPC)...)
	r := p.Result(t)
	s.Plane.remember(r.Stdout + r.Stderr)
	return r
}

func (p *Plane) remember(answer string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.api = append(p.api, answer)
}
