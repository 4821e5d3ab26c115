package app

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	pb "github.com/dataguardian/dataguardian/gen/dataguardian/v1"
	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/logs"
	"github.com/dataguardian/dataguardian/internal/queue"
	"github.com/dataguardian/dataguardian/internal/secret"
	"github.com/dataguardian/dataguardian/internal/testkit"
	"github.com/dataguardian/dataguardian/worker"
)

func TestMain(m *testing.M) { testkit.Main(m) }

const (
	waveTails = 1000 // of as many executions
	waves     = 3
	// A leak of 1 KiB for each tail would leave twice as much after the third wave.
	waveGrowth  = waveTails << 10
	wavePatient = 5 * time.Minute
)

// What a process keeps after its tails have left (connections, what the runtime keeps
// for goroutines to come) it keeps once, not for each tail.
func TestWavesOfTailsLeaveNoMoreThanTheFirstDid(t *testing.T) {
	h := newShore(t)
	var first settled
	for n := range waves {
		h.wave(t)
		if n == 0 {
			first = settle()
			continue
		}
		var now settled
		require.Eventually(t, func() bool {
			now = settle()
			return now.goroutines <= first.goroutines+20 && now.heap <= first.heap+waveGrowth
		}, wavePatient, time.Millisecond, "after wave %d; the first left %+v", n+1, first)
		t.Logf("after wave %d: %+v, %d more than after the first", n+1, now, now.heap-first.heap)
	}
}

// settled is what a process keeps.
type settled struct {
	goroutines int
	heap       int64
}

// settle collects garbage until there is no less of it: what ends needs a moment, and
// pools keep what they have through one collection.
func settle() settled {
	const same = 5
	least := settled{goroutines: 1 << 30, heap: 1 << 62}
	for again := 0; again < same; again++ {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		now := settled{runtime.NumGoroutine(), int64(m.HeapAlloc)}
		if now.goroutines < least.goroutines || now.heap < least.heap-16<<10 {
			again = 0
		}
		least = settled{min(now.goroutines, least.goroutines), min(now.heap, least.heap)}
	}
	return least
}

// shore is a control plane in this process that waves of tails come to.
type shore struct {
	conn       *pgx.Conn
	hub        *logs.RedisHub
	http, grpc string
	token      string
}

func newShore(t *testing.T) *shore {
	t.Helper()
	server, redis, dir := testkit.Postgres(t), testkit.Redis(t), t.TempDir()
	database := server.NewDatabase(t)
	key := filepath.Join(dir, "keyset.json")
	_, err := secret.Create(key)
	require.NoError(t, err)
	dsn := server.DSN(database)
	c := Config{
		DataDir: dir, HTTPAddr: "127.0.0.1:0", GRPCAddr: "127.0.0.1:0", Roles: []string{RoleAPI}, KeyFile: key, RedisURL: redis.URL(),
		DatabaseURL: dsn + map[bool]string{true: "&", false: "?"}[strings.Contains(dsn, "?")] + "pool_max_conns=4", // the first wave needs all of them
		LogFormat:   "json", LogLevel: "info", Concurrency: 1, Version: "test", Stdout: io.Discard, Stderr: io.Discard,
		Timing:        worker.Timing{Lease: time.Minute, Heartbeat: 10 * time.Second, Poll: 3 * time.Second, Grace: time.Second},
		SweepInterval: time.Minute, CleanupInterval: time.Minute, HealthInterval: time.Minute, StallTimeout: time.Minute, SpoolKeep: time.Hour,
	}
	require.NoError(t, Migrate(t.Context(), c))
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, c) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-ended)
	})

	h := &shore{conn: server.Conn(t, database)}
	var at struct{ HTTP, GRPC string }
	require.Eventually(t, func() bool {
		raw, err := os.ReadFile(filepath.Join(dir, endpointsFile))
		return err == nil && json.Unmarshal(raw, &at) == nil
	}, wavePatient, time.Millisecond)
	token, err := os.ReadFile(filepath.Join(dir, adminTokenFile))
	require.NoError(t, err)
	h.http, h.grpc, h.token = "http://"+at.HTTP, at.GRPC, strings.TrimSpace(string(token))

	options, err := queue.ParseURL(redis.URL())
	require.NoError(t, err)
	client, err := queue.Connect(options)
	require.NoError(t, err)
	t.Cleanup(client.Close)
	h.hub = logs.NewHub(client, logs.HubConfig{})
	_, err = h.conn.Exec(t.Context(), `INSERT INTO datasources (id, name, type, status, enabled, protected, tags, connection_config)
		VALUES (gen_random_uuid(), 'shop', 'postgres', 'healthy', true, false, '{}', '{}')`)
	require.NoError(t, err)
	return h
}

// wave opens the tails, half of them over gRPC and half over REST, and writes a line that
// each must see. Then half of each kind leave by themselves, and the others are told of
// the end.
func (h *shore) wave(t *testing.T) {
	t.Helper()
	ids := h.executions(t)
	h.append(t, ids, 1)
	conn, err := grpc.NewClient(h.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	client := &http.Client{Transport: &http.Transport{}}
	ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+h.token), wavePatient)
	defer cancel()

	group, ctx := errgroup.WithContext(ctx)
	seen := make(chan int64, 2*len(ids))
	for i, id := range ids {
		stays := i%4 < 2
		group.Go(func() error {
			ctx, leave := context.WithCancel(ctx)
			defer leave()
			tail := func() (func() (int64, error), error) { return h.grpcTail(ctx, conn, id) }
			if i%2 == 1 {
				tail = func() (func() (int64, error), error) { return h.restTail(ctx, client, id) }
			}
			next, err := tail()
			for want := int64(1); err == nil; want++ {
				var seq int64
				seq, err = next()
				switch {
				case err == nil && seq == 0 && want == 3:
					return nil // the end
				case err == nil && seq != want:
					return fmt.Errorf("tail %d saw line %d instead of %d", i, seq, want)
				case err == nil:
					seen <- seq
				}
				if seq == 2 && !stays {
					return nil
				}
			}
			return fmt.Errorf("tail %d: %w", i, err)
		})
	}
	await := func(line int64) {
		for range ids {
			select {
			case got := <-seen:
				require.Equal(t, line, got)
			case <-ctx.Done():
				require.NoError(t, group.Wait())
			}
		}
	}
	await(1)
	h.append(t, ids, 2)
	await(2)
	h.end(t, ids)
	require.NoError(t, group.Wait())
	client.CloseIdleConnections()
	require.NoError(t, conn.Close())
}

func (h *shore) executions(t *testing.T) []string {
	t.Helper()
	rows, err := h.conn.Query(t.Context(), `INSERT INTO backup_executions (id, datasource_id, operation, status, trigger, started_at, attempt, max_attempts,
			fence, worker_id, lease_expires_at, request)
		SELECT gen_random_uuid(), d.id, 'backup', 'running', 'manual', now(), 1, 1, 1, 'test', now() + interval '1 day', '{}'
		FROM datasources d, generate_series(1, $1) RETURNING id::text`, waveTails)
	require.NoError(t, err)
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return ids
}

func (h *shore) append(t *testing.T, ids []string, seq int64) {
	t.Helper()
	for _, id := range ids {
		require.NoError(t, h.hub.Append(t.Context(), id, logs.Line{Seq: seq, Time: time.Now().UTC(), Level: engine.LevelInfo, Message: "a line"}))
	}
}

// end ends executions as workers do: the row first, then the log.
func (h *shore) end(t *testing.T, ids []string) {
	t.Helper()
	_, err := h.conn.Exec(t.Context(), `UPDATE backup_executions SET status = 'completed', finished_at = now(), lease_expires_at = NULL,
		metadata = jsonb_build_object('execution_logs', jsonb_build_array(jsonb_build_object('seq', 2, 'ts', now(), 'level', 'info', 'message', 'a line')))
		WHERE id = ANY ($1::text[]::uuid[])`, ids)
	require.NoError(t, err)
	for _, id := range ids {
		require.NoError(t, h.hub.Close(t.Context(), id))
	}
}

// grpcTail returns what reads the number of the next line; 0 is the end.
func (h *shore) grpcTail(ctx context.Context, conn *grpc.ClientConn, id string) (next func() (int64, error), err error) {
	stream, err := pb.NewExecutionServiceClient(conn).StreamExecutionLogs(ctx, &pb.StreamExecutionLogsRequest{Id: id})
	return func() (int64, error) {
		for {
			event, err := stream.Recv()
			if err != nil || event.GetLine() != nil || event.GetEnd() != nil {
				return event.GetLine().GetSeq(), err
			}
		}
	}, err
}

// restTail is a tail by Server-Sent Events.
func (h *shore) restTail(ctx context.Context, client *http.Client, id string) (next func() (int64, error), err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, h.http+"/api/executions/"+id+"/logs/stream", nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Authorization", "Bearer "+h.token)
	r.Header.Set("Accept", "text/event-stream")
	res, err := client.Do(r)
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { _ = res.Body.Close() }) // whatever is left is not wanted
	in := bufio.NewScanner(res.Body)
	return func() (int64, error) {
		for in.Scan() {
			var event struct {
				Line *struct {
					Seq int64 `json:"seq,string"`
				}
				End *struct{}
			}
			data, ok := strings.CutPrefix(in.Text(), "data: ")
			if !ok {
				continue
			}
			if err := json.Unmarshal([]byte(data), &event); err != nil || event.End != nil {
				return 0, err
			}
			if event.Line != nil {
				return event.Line.Seq, nil
			}
		}
		if err := in.Err(); err != nil {
			return 0, err
		}
		return 0, io.ErrUnexpectedEOF
	}, nil
}
