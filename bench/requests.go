package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	pb "github.com/dataguardian/dataguardian/gen/dataguardian/v1"
)

const (
	jobsOfThePast = 20
	pageSize      = 20
)

// concurrencies are how many clients ask at once.
func concurrencies() []int { return []int{1, 16} }

// question is something that REST and gRPC can be asked.
type question struct {
	name string
	path func(n int) string
	call func(ctx context.Context, c pb.ExecutionServiceClient, n int) error
}

// requests measures how many answers there are in a second.
func requests(ctx context.Context, b *bench) (t table, err error) {
	const name = "requests"
	control, err := b.startControl(ctx, b.servers[0].path, name, "api")
	if err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, control.stop()) }()
	for i := range jobsOfThePast {
		if _, err := control.job(ctx, b.cluster, "postgres", fmt.Sprintf("%02d", i)); err != nil {
			return t, err
		}
	}
	b.say("making %d executions", b.executions)
	var p past
	if err := b.cluster.fillHistory(ctx, name, b.executions, &p); err != nil {
		return t, err
	}
	t = table{
		title: fmt.Sprintf("Requests, with %d executions in the table", b.executions),
		notes: []string{fmt.Sprintf("Medians of %d rounds of %s each. The clients share the machine with the server and its PostgreSQL. Lists have %d rows a page.", b.rounds, b.window, pageSize)},
		head:  []string{"request", "clients", "REST/s", "p50", "p99", "gRPC/s", "p50", "p99", "gRPC x REST"},
	}
	for _, q := range questions(p, b.executions) {
		for _, clients := range concurrencies() {
			row, err := b.ask(ctx, control, q, clients)
			if err != nil {
				return t, fmt.Errorf("%s: %w", q.name, err)
			}
			t.add(row...)
		}
	}
	return t, nil
}

func questions(p past, executions int) []question {
	list := func(name string, r *pb.ListExecutionsRequest) question {
		return question{
			name: "ListExecutions, " + name,
			path: func(int) string { return "/api/executions?" + query(r).Encode() },
			call: func(ctx context.Context, c pb.ExecutionServiceClient, _ int) error {
				answer, err := c.ListExecutions(ctx, r)
				if err == nil && len(answer.GetData()) != pageSize {
					err = fmt.Errorf("%d rows", len(answer.GetData()))
				}
				return err
			},
		}
	}
	page := func(n int) *int32 { number := int32(n); return &number } //nolint:gosec // a page's number is small
	limit := page(pageSize)
	return []question{
		{
			name: "GetExecution",
			path: func(n int) string { return "/api/executions/" + p.ids[n%len(p.ids)] },
			call: func(ctx context.Context, c pb.ExecutionServiceClient, n int) error {
				_, err := c.GetExecution(ctx, &pb.GetExecutionRequest{Id: p.ids[n%len(p.ids)]})
				return err
			},
		},
		list("page 1", &pb.ListExecutionsRequest{Page: page(1), Limit: limit}),
		list(fmt.Sprintf("page %d", executions/pageSize/2), &pb.ListExecutionsRequest{Page: page(executions / pageSize / 2), Limit: limit}),
		list("of a job", &pb.ListExecutionsRequest{Page: page(1), Limit: limit, JobId: p.jobs[3]}),
		list("failed ones", &pb.ListExecutionsRequest{Page: page(1), Limit: limit, Status: pb.Execution_failed}),
	}
}

func query(r *pb.ListExecutionsRequest) url.Values {
	v := url.Values{"page": {strconv.Itoa(int(r.GetPage()))}, "limit": {strconv.Itoa(int(r.GetLimit()))}}
	if r.GetJobId() != "" {
		v.Set("job_id", r.GetJobId())
	}
	if r.GetStatus() != pb.Execution_status_unspecified {
		v.Set("status", r.GetStatus().String())
	}
	return v
}

// pace of one protocol in one round.
type pace struct {
	rate     float64 // answers per second
	p50, p99 time.Duration
}

// ask measures both protocols in turns.
func (b *bench) ask(ctx context.Context, c *control, q question, clients int) ([]string, error) {
	ways := []func(ctx context.Context, n int) error{c.overREST(q, clients), c.overGRPC(q)}
	paces := make([][]pace, len(ways))
	for round := range b.rounds {
		for i := range ways {
			i = (i + round) % len(ways)
			p, err := load(ctx, clients, b.window, ways[i])
			if err != nil {
				return nil, err
			}
			paces[i] = append(paces[i], p)
		}
	}
	rest, rpc := medianPace(paces[0]), medianPace(paces[1])
	b.say("%s, %d clients: REST %.0f/s, gRPC %.0f/s", q.name, clients, rest.rate, rpc.rate)
	return []string{
		q.name, strconv.Itoa(clients), fmt.Sprintf("%.0f", rest.rate), millis(rest.p50), millis(rest.p99),
		fmt.Sprintf("%.0f", rpc.rate), millis(rpc.p50), millis(rpc.p99), ratio(rpc.rate, rest.rate),
	}, nil
}

func medianPace(all []pace) pace {
	var rates []float64
	var p50s, p99s []time.Duration
	for _, p := range all {
		rates, p50s, p99s = append(rates, p.rate), append(p50s, p.p50), append(p99s, p.p99)
	}
	return pace{median(rates), median(p50s), median(p99s)}
}

func (c *control) overREST(q question, clients int) func(ctx context.Context, n int) error {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: clients}}
	return func(ctx context.Context, n int) error {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.http+q.path(n), nil)
		if err != nil {
			return err
		}
		r.Header.Set("Authorization", "Bearer "+c.token)
		answer, err := client.Do(r)
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		if _, err := io.Copy(io.Discard, answer.Body); err != nil {
			return err
		}
		if answer.StatusCode != http.StatusOK {
			return errors.New(answer.Status)
		}
		return nil
	}
}

func (c *control) overGRPC(q question) func(ctx context.Context, n int) error {
	client := pb.NewExecutionServiceClient(c.conn)
	return func(ctx context.Context, n int) error { return q.call(c.authorized(ctx), client, n) }
}

// load asks from several clients at once for a while, each as fast as it is
// answered, after one answer that does not count.
func load(ctx context.Context, clients int, window time.Duration, ask func(ctx context.Context, n int) error) (pace, error) {
	if err := ask(ctx, 0); err != nil {
		return pace{}, err
	}
	var number atomic.Int64
	times, failures := make([][]time.Duration, clients), make([]error, clients)
	var all sync.WaitGroup
	began := time.Now()
	for i := range clients {
		all.Go(func() {
			for last := began; failures[i] == nil && last.Sub(began) < window; {
				failures[i] = ask(ctx, int(number.Add(1)))
				now := time.Now()
				times[i] = append(times[i], now.Sub(last))
				last = now
			}
		})
	}
	all.Wait()
	took := time.Since(began)
	answers := slices.Concat(times...)
	slices.Sort(answers)
	at := func(percent int) time.Duration { return answers[(len(answers)-1)*percent/100] }
	return pace{float64(len(answers)) / took.Seconds(), at(50), at(99)}, errors.Join(failures...)
}
