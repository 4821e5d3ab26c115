package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/structpb"

	pb "github.com/dataguardian/dataguardian/gen/dataguardian/v1"
)

const (
	// accessShare is what knowing a caller may cost at most, of a GetExecution.
	accessShare = 0.10
	// attackShare is how much slower other calls may be while logins are tried.
	attackShare = 0.10
	// attackEvery is how often a login is tried.
	attackEvery = 10 * time.Millisecond
	mineTag     = "mine"
)

// access measures what it costs to know a caller and what it may do, and what those
// cost the others who try to log in without knowing a password.
func access(ctx context.Context, b *bench) (t table, err error) {
	const name = "access"
	// Attackers have many addresses: the program believes us which.
	control, err := b.startControl(ctx, b.servers[0].path, name, "api", "DATAGUARDIAN_TRUSTED_PROXIES=127.0.0.0/8")
	if err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, control.stop()) }()
	if _, err := control.job(ctx, b.cluster, "postgres", "only"); err != nil {
		return t, err
	}
	var p past
	if err := b.cluster.fillHistory(ctx, name, 1000, &p); err != nil {
		return t, err
	}
	scoped, err := control.scoped(ctx)
	if err != nil {
		return t, err
	}
	t = table{
		title: "Access",
		notes: []string{fmt.Sprintf("One client over gRPC, calls of all kinds in turns, %d rounds of %s. What a caller costs is what GetMe takes longer than the health check, which asks for nobody; aim: under %.0f %% of a GetExecution. Both are of the quickest tenth, which other programs hold up least; the rest are medians. Logins are tried with wrong passwords, one every %s; aim: others are slower by less than %.0f %%.",
			b.rounds, b.window, 100*accessShare, attackEvery, 100*attackShare)},
		head: []string{"what", "time", "share", "within the aim"},
	}
	if err := b.callers(ctx, control, p, scoped, &t); err != nil {
		return t, err
	}
	return t, b.attacks(ctx, control, p, &t)
}

// scoped makes a token that reaches the datasources with a tag, which all have.
func (c *control) scoped(ctx context.Context) (string, error) {
	ctx = c.authorized(ctx)
	datasources := pb.NewDatasourceServiceClient(c.conn)
	all, err := datasources.ListDatasources(ctx, &pb.ListDatasourcesRequest{})
	if err != nil {
		return "", err
	}
	tags, err := structpb.NewList([]any{mineTag})
	if err != nil {
		return "", err
	}
	for _, d := range all.GetData() {
		if _, err := datasources.UpdateDatasource(ctx, &pb.UpdateDatasourceRequest{Id: d.GetId(), Tags: tags}); err != nil {
			return "", err
		}
	}
	token, err := pb.NewAuthServiceClient(c.conn).CreateToken(ctx, &pb.CreateTokenRequest{Name: "scoped", Role: pb.Access_viewer, Scope: []string{mineTag}})
	return token.GetToken(), err
}

// callers asks in turns, so that what else the machine does hits all alike.
func (b *bench) callers(ctx context.Context, c *control, p past, scoped string, t *table) error {
	health, auth, executions := healthpb.NewHealthClient(c.conn), pb.NewAuthServiceClient(c.conn), pb.NewExecutionServiceClient(c.conn)
	admin, tag := c.authorized(ctx), metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+scoped)
	n := 0
	one := func(ctx context.Context) error {
		n++
		_, err := executions.GetExecution(ctx, &pb.GetExecutionRequest{Id: p.ids[n%len(p.ids)]})
		return err
	}
	asks := []func() error{
		func() error { _, err := health.Check(ctx, &healthpb.HealthCheckRequest{}); return err },
		func() error { _, err := auth.GetMe(admin, &pb.GetMeRequest{}); return err },
		func() error { return one(admin) },
		func() error { return one(tag) },
	}
	times := make([][]time.Duration, len(asks))
	for began, round := time.Now(), 0; round == 0 || time.Since(began) < time.Duration(b.rounds)*b.window; round++ {
		for i, ask := range asks {
			asked := time.Now()
			if err := ask(); err != nil {
				return err
			}
			times[i] = append(times[i], time.Since(asked))
		}
	}
	p10 := make([]time.Duration, len(times))
	for i := range times {
		p10[i] = percentile(times[i], 10)
	}
	caller, scope := max(0, p10[1]-p10[0]), max(0, p10[3]-p10[2])
	t.add("GetExecution", millis(p10[2]), "-", "-")
	for _, row := range []struct {
		what string
		cost time.Duration
	}{{"of it: to know the caller and its role", caller}, {"and its scope", caller + scope}} {
		share := float64(row.cost) / float64(p10[2])
		t.add(row.what, millis(row.cost), percent(share), verdict(share < accessShare))
	}
	return nil
}

// attacks asks while nobody attacks and while somebody does, in turns.
func (b *bench) attacks(ctx context.Context, c *control, p past, t *table) error {
	executions := pb.NewExecutionServiceClient(c.conn)
	n := 0
	ask := func(ctx context.Context) error {
		n++
		_, err := executions.GetExecution(c.authorized(ctx), &pb.GetExecutionRequest{Id: p.ids[n%len(p.ids)]})
		return err
	}
	kinds := []struct {
		what    string
		address func(n int) string // of the attacker; nil: nobody attacks
	}{
		{"GetExecution while nobody attacks", nil},
		{"while one address tries to log in", func(int) string { return "198.51.100.1" }},
		{"while as many addresses as tries do", func(n int) string { return fmt.Sprintf("10.%d.%d.%d", n>>16&255, n>>8&255, n&255) }},
	}
	times := make([][]time.Duration, len(kinds))
	for range 2*b.rounds + 1 { // shorter turns, which see the same machine
		for i, kind := range kinds {
			end := func() {}
			if kind.address != nil {
				end = c.attack(ctx, kind.address)
			}
			got, err := repeat(ctx, b.window/2, ask)
			end()
			if err != nil {
				return err
			}
			times[i] = append(times[i], got...)
		}
	}
	quiet := percentile(times[0], 50)
	for i, kind := range kinds {
		p50 := percentile(times[i], 50)
		slower := float64(p50-quiet) / float64(quiet)
		share, aim := percent(slower), verdict(slower < attackShare)
		if i == 0 {
			share, aim = "-", "-"
		}
		t.add(kind.what, millis(p50), share, aim)
	}
	return nil
}

// attack tries to log in every so often until the returned function is called.
func (c *control) attack(ctx context.Context, address func(n int) string) (end func()) {
	ctx, cancel := context.WithCancel(ctx)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	var group sync.WaitGroup
	group.Go(func() {
		ticker := time.NewTicker(attackEvery)
		defer ticker.Stop()
		for n := 0; ; n++ {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				group.Go(func() { c.try(ctx, client, address(n), n) })
			}
		}
	})
	return func() {
		cancel()
		group.Wait()
		client.CloseIdleConnections()
	}
}

// try is one login; what comes of it does not matter to who attacks.
func (c *control) try(ctx context.Context, client *http.Client, address string, n int) {
	body := strings.NewReader(fmt.Sprintf(`{"username":"user %d","password":"not the password"}`, n))
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.http+"/api/auth/login", body)
	if err != nil {
		return
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-Forwarded-For", address)
	answer, err := client.Do(r)
	if err != nil {
		return
	}
	_, _ = io.Copy(io.Discard, answer.Body) // so that the connection can be used again
	_ = answer.Body.Close()
}

func percent(share float64) string { return fmt.Sprintf("%.1f %%", 100*share) }
