package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	pb "github.com/dataguardian/dataguardian/gen/dataguardian/v1"
	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/logs"
	"github.com/dataguardian/dataguardian/internal/queue"
)

const (
	tailConnections = 64 // of gRPC, shared by the tails
	tailOpeners     = 64 // tails that connect at one time
	tailPatience    = 5 * time.Minute
)

// tails opens many live logs at once on one process, writes lines as workers do,
// and sees how they arrive.
func tails(ctx context.Context, b *bench) (_ table, err error) {
	t := table{
		title: "Live logs",
		notes: []string{fmt.Sprintf("%d tails on one API process; another process writes into Redis. Each tail must see every line once and in order, and the end. Times are from the append to the client, which shares the machine. Each row has a server of its own, which lives through %d waves of such tails: measured is the first, and what is left is what the server has more than before it, after each. A leak would grow from wave to wave.", b.tails, b.waves)},
		head:  []string{"over", "executions", "lines written", "delivered", "delivered per s", "p50", "p99", "RSS per tail", "goroutines left", "heap left"},
	}
	redis, err := startRedis(ctx, b.path("redis"))
	if err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, redis.stop()) }()
	options, err := queue.ParseURL(redis.url)
	if err != nil {
		return t, err
	}
	client, err := queue.Connect(options)
	if err != nil {
		return t, err
	}
	defer client.Close()
	hub := logs.NewHub(client, logs.HubConfig{})
	for _, executions := range []int{1, b.tails} {
		for _, over := range []string{"gRPC", "SSE"} {
			c := &crowd{bench: b, redis: redis.url, database: numbered("tails", len(t.rows)), hub: hub, over: over}
			row, err := c.on(ctx, executions)
			if err != nil {
				return t, fmt.Errorf("%s, %d executions: %w", over, executions, err)
			}
			t.add(row...)
		}
	}
	return t, nil
}

// runningExecutions makes rows of executions that run, as far as anybody can tell.
func (b *bench) runningExecutions(ctx context.Context, c *control, database string, n int) (ids []string, err error) {
	job, err := c.job(ctx, b.cluster, database, fmt.Sprintf("%d %s", n, time.Now()))
	if err != nil {
		return nil, err
	}
	err = b.cluster.in(ctx, database, func(conn *pgx.Conn) error {
		rows, err := conn.Query(ctx, `INSERT INTO backup_executions (id, job_id, datasource_id, storage_location_id, operation, status, trigger,
				started_at, attempt, max_attempts, fence, worker_id, lease_expires_at, request)
			SELECT gen_random_uuid(), j.id, j.datasource_id, j.storage_location_id, 'backup', 'running', 'manual', now(), 1, 1, 1, 'bench', now() + interval '1 day', '{}'
			FROM backup_jobs j, generate_series(1, $2) WHERE j.id = $1 RETURNING id::text`, job, n)
		if err != nil {
			return err
		}
		ids, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	return ids, err
}

// crowd is many tails of some executions.
type crowd struct {
	*bench
	control  *control
	redis    string
	database string
	hub      *logs.RedisHub
	over     string
	ids      []string
	last     []int64       // line of each
	writing  time.Duration // how long lines are written

	http  *http.Client
	conns []*grpc.ClientConn

	lines atomic.Int64 // that tails have got
	ends  atomic.Int64

	mu        sync.Mutex
	latencies []time.Duration
}

// on measures a wave of tails of so many executions on a server of their own, which
// then sees more waves for a shorter time. It returns a row.
func (c *crowd) on(ctx context.Context, executions int) (row []string, err error) {
	if c.control, err = c.startControl(ctx, c.servers[0].path, c.database, "api", "DATAGUARDIAN_REDIS_URL="+c.redis); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.control.stop()) }()
	before, err := c.control.settled(ctx, math.MaxInt)
	if err != nil {
		return nil, err
	}
	var goroutines, heap []string
	for wave := range c.waves {
		c.say("%d tails over %s of %d executions, wave %d", c.tails, c.over, executions, wave+1)
		if c.ids, err = c.runningExecutions(ctx, c.control, c.database, executions); err != nil {
			return nil, err
		}
		c.writing = 10 * c.window
		if wave > 0 {
			c.writing = c.window
		}
		cells, err := c.measure(ctx)
		if err != nil {
			return nil, err
		}
		if wave == 0 {
			row = cells
		}
		now, err := c.control.settled(ctx, before.goroutines+fewGoroutines)
		if err != nil {
			return nil, err
		}
		goroutines = append(goroutines, strconv.Itoa(max(now.goroutines-before.goroutines, 0)))
		heap = append(heap, fmt.Sprintf("%.1f", float64(max(now.heap-before.heap, 0))/(1<<20)))
	}
	return append(row, strings.Join(goroutines, ", "), strings.Join(heap, ", ")+" MiB"), nil
}

// measure opens the tails, writes until they have seen the end, and returns what is seen
// of one wave.
func (c *crowd) measure(ctx context.Context) (_ []string, err error) {
	c.lines.Store(0)
	c.ends.Store(0)
	c.conns = nil
	resident, _ := residentMemory(c.control.pid())
	// The first line of each tells its tails that they are heard.
	for _, id := range c.ids {
		if err := c.hub.Append(ctx, id, lineNow(1)); err != nil {
			return nil, err
		}
	}
	tailing, stop := context.WithCancel(c.control.authorized(ctx))
	defer stop()
	group, tailing := errgroup.WithContext(tailing)
	if err := c.open(tailing, group); err != nil {
		return nil, errors.Join(err, c.close())
	}
	during, _ := residentMemory(c.control.pid())
	c.mu.Lock()
	c.latencies = nil // of what the tails began with
	c.mu.Unlock()
	began := time.Now()
	written, err := c.write(ctx)
	if err == nil {
		err = c.await(tailing, int64(c.tails)+written*int64(c.tails/len(c.ids)))
	}
	took := time.Since(began)
	delivered := c.lines.Load() - int64(c.tails)
	if err == nil {
		err = c.finish(ctx)
	}
	if err != nil {
		stop()
	}
	err = errors.Join(err, c.awaitEnds(group, stop), c.close())
	if err != nil {
		return nil, err
	}
	slices.Sort(c.latencies)
	at := func(percent int) time.Duration { return c.latencies[(len(c.latencies)-1)*percent/100] }
	return []string{
		c.over, strconv.Itoa(len(c.ids)), strconv.FormatInt(written, 10), strconv.FormatInt(delivered, 10),
		fmt.Sprintf("%.0f", float64(delivered)/took.Seconds()), millis(at(50)), millis(at(99)),
		fmt.Sprintf("%.1f KiB", float64(max(during-resident, 0))/1024/float64(c.tails)),
	}, nil
}

// finish ends the executions as workers do: the row first, then the log.
func (c *crowd) finish(ctx context.Context) error {
	err := c.cluster.in(ctx, c.database, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, `UPDATE backup_executions e SET status = 'completed', finished_at = now(), lease_expires_at = NULL,
				metadata = jsonb_build_object('execution_logs', jsonb_build_array(
					jsonb_build_object('seq', x.last, 'ts', now(), 'level', 'success', 'message', 'completed')))
			FROM unnest($1::text[]::uuid[], $2::bigint[]) AS x (id, last) WHERE e.id = x.id`, c.ids, c.last)
		return err
	})
	for _, id := range c.ids {
		if err == nil {
			err = c.hub.Close(ctx, id)
		}
	}
	return err
}

// awaitEnds waits until every tail was told of the end.
func (c *crowd) awaitEnds(group *errgroup.Group, stop func()) error {
	defer time.AfterFunc(tailPatience, stop).Stop()
	err := group.Wait()
	if ends := c.ends.Load(); err == nil && ends != int64(c.tails) {
		err = fmt.Errorf("%d of %d tails were told of the end", ends, c.tails)
	}
	return err
}

func lineNow(seq int64) logs.Line {
	return logs.Line{Seq: seq, Time: time.Now().UTC(), Level: engine.LevelInfo, Message: "dumped 1.2 GiB of about 3.3 GiB (36 %), 12 of 40 tables, 170 MiB/s, 12 s left"}
}

// open connects every tail and waits until each has got its first line.
func (c *crowd) open(ctx context.Context, group *errgroup.Group) error {
	c.http = &http.Client{Transport: &http.Transport{}}
	at := c.control.conn.Target()
	for range tailConnections {
		conn, err := grpc.NewClient(at, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return err
		}
		c.conns = append(c.conns, conn)
	}
	openers := make(chan struct{}, tailOpeners)
	for i := range c.tails {
		select {
		case openers <- struct{}{}:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		id := c.ids[i%len(c.ids)]
		opened := sync.OnceFunc(func() { <-openers })
		group.Go(func() error {
			defer opened()
			if c.over == "SSE" {
				return c.events(ctx, id, opened)
			}
			return c.stream(ctx, c.conns[i%len(c.conns)], id, opened)
		})
	}
	return c.await(ctx, int64(c.tails))
}

func (c *crowd) close() error {
	var failures []error
	for _, conn := range c.conns {
		failures = append(failures, conn.Close())
	}
	c.http.CloseIdleConnections()
	return errors.Join(failures...)
}

// write appends lines for the time of the measurement: a thousand a second over
// executions with a tail each, and fewer to one with many tails: each line goes to all
// of them, and ten thousand in all are to arrive in a second.
func (c *crowd) write(ctx context.Context) (written int64, err error) {
	each := max(time.Second/1000, time.Duration(c.tails/len(c.ids))*time.Second/10_000)
	ticker := time.NewTicker(each)
	defer ticker.Stop()
	c.last = slices.Repeat([]int64{1}, len(c.ids))
	for end := time.Now().Add(c.writing); time.Now().Before(end); written++ {
		i := int(written) % len(c.ids)
		if err := c.hub.Append(ctx, c.ids[i], lineNow(c.last[i]+1)); err != nil {
			return written, err
		}
		c.last[i]++
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return written, context.Cause(ctx)
		}
	}
	return written, nil
}

// await waits until so many lines were got.
func (c *crowd) await(ctx context.Context, lines int64) error {
	ctx, cancel := context.WithTimeout(ctx, tailPatience)
	defer cancel()
	for c.lines.Load() < lines {
		if err := c.control.pause(ctx); err != nil {
			return fmt.Errorf("%d of %d lines have arrived: %w", c.lines.Load(), lines, err)
		}
	}
	return nil
}

// got counts a line, and how long it took.
func (c *crowd) got(line, after int64, at time.Time) error {
	if line != after+1 {
		return fmt.Errorf("line %d came after %d", line, after)
	}
	took := time.Since(at)
	c.mu.Lock()
	c.latencies = append(c.latencies, took)
	c.mu.Unlock()
	c.lines.Add(1)
	return nil
}

func (c *crowd) stream(ctx context.Context, conn *grpc.ClientConn, id string, opened func()) error {
	stream, err := pb.NewExecutionServiceClient(conn).StreamExecutionLogs(ctx, &pb.StreamExecutionLogsRequest{Id: id})
	for after := int64(0); err == nil; {
		var event *pb.StreamExecutionLogsResponse
		if event, err = stream.Recv(); err == nil && event.GetEnd() != nil {
			c.ends.Add(1)
			return nil
		}
		if err == nil && event.GetLine() != nil {
			err = c.got(event.GetLine().GetSeq(), after, event.GetLine().GetTs().AsTime())
			after++
			opened()
		}
	}
	return cmp.Or(context.Cause(ctx), err)
}

func (c *crowd) events(ctx context.Context, id string, opened func()) (err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.control.http+"/api/executions/"+id+"/logs/stream", nil)
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+c.control.token)
	r.Header.Set("Accept", "text/event-stream")
	res, err := c.http.Do(r)
	if err != nil {
		return cmp.Or(context.Cause(ctx), err)
	}
	defer func() { _ = res.Body.Close() }() // whatever is left is not wanted
	in := bufio.NewReaderSize(res.Body, 1024)
	for after := int64(0); ; {
		text, err := in.ReadBytes('\n')
		if err != nil {
			return cmp.Or(context.Cause(ctx), err)
		}
		data, ok := bytes.CutPrefix(text, []byte("data: "))
		if !ok {
			continue
		}
		var event struct {
			Line *struct {
				Seq int64 `json:"seq,string"`
				TS  time.Time
			}
			End *struct{}
		}
		if err := json.Unmarshal(data, &event); err != nil {
			return err
		}
		if event.End != nil {
			c.ends.Add(1)
			return nil
		}
		if event.Line != nil {
			if err := c.got(event.Line.Seq, after, event.Line.TS); err != nil {
				return err
			}
			after++
			opened()
		}
	}
}

// redisServer is a Redis that several processes share, on a socket.
type redisServer struct {
	url  string
	cmd  *exec.Cmd
	gone <-chan struct{} // closed once the process is gone
}

func startRedis(ctx context.Context, dir string) (*redisServer, error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	socket := filepath.Join(dir, "redis.sock")
	r := &redisServer{url: "unix://" + socket}
	r.cmd = exec.Command("redis-server", "--port", "0", "--unixsocket", socket, "--dir", dir, "--save", "", "--appendonly", "no", "--daemonize", "no") //nolint:gosec // our own directory
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	var err error
	if r.gone, err = keep(r.cmd); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	for {
		if _, err := os.Stat(socket); err == nil {
			return r, nil
		}
		timer := time.NewTimer(pollEvery)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, errors.Join(fmt.Errorf("redis-server did not get ready: %w", context.Cause(ctx)), r.stop())
		}
	}
}

func (r *redisServer) stop() error {
	if err := r.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	<-r.gone
	return nil
}
