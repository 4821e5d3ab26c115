package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/pprof"
	"strings"
	"time"

	"github.com/dataguardian/dataguardian/internal/app"
	"github.com/dataguardian/dataguardian/worker"
)

// profileEnv names the file a server inside this program writes its profile to.
const profileEnv = "DATAGUARDIAN_BENCH_PROFILE"

// serveProfiled is the server in this program, under a CPU profile. It takes the
// commands and flags that the benchmark gives to a server.
func serveProfiled(ctx context.Context, profile string, args []string) (err error) {
	if len(args) == 0 {
		return errors.New("the profiled server needs a command")
	}
	c := app.Config{
		DatabaseURL: os.Getenv("DATAGUARDIAN_DATABASE_URL"), RedisURL: os.Getenv("DATAGUARDIAN_REDIS_URL"), KeyFile: os.Getenv("DATAGUARDIAN_KEY_FILE"),
		LogLevel: "info", Concurrency: 2, Version: "bench", Stdout: os.Stdout, Stderr: os.Stderr,
		Timing:         worker.Timing{Lease: time.Minute, Heartbeat: time.Second, Poll: 3 * time.Second, Grace: 30 * time.Second},
		TrustedProxies: strings.Fields(os.Getenv("DATAGUARDIAN_TRUSTED_PROXIES")),
		SweepInterval:  5 * time.Second, CleanupInterval: 5 * time.Minute, HealthInterval: time.Minute, StallTimeout: 10 * time.Minute, SpoolKeep: 24 * time.Hour,
	}
	f := flag.NewFlagSet(args[0], flag.ContinueOnError)
	f.StringVar(&c.DataDir, "data-dir", "", "")
	f.StringVar(&c.HTTPAddr, "http-addr", "", "")
	f.StringVar(&c.GRPCAddr, "grpc-addr", "", "")
	f.StringVar(&c.LogFormat, "log-format", "json", "")
	roles := f.String("roles", "all", "")
	if err := f.Parse(args[1:]); err != nil {
		return err
	}
	c.Roles = strings.Split(*roles, ",")
	if args[0] == "migrate" {
		return app.Migrate(ctx, c)
	}
	file, err := os.Create(profile) //nolint:gosec // the person who profiles names it
	if err != nil {
		return fmt.Errorf("-profile: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if err := pprof.StartCPUProfile(file); err != nil {
		return err
	}
	served := app.Serve(ctx, c)
	pprof.StopCPUProfile()
	return errors.Join(served, writeHeap(profile+".heap"))
}

// writeHeap writes what is still in use when the server has ended: what it
// should have let go.
func writeHeap(path string) error {
	file, err := os.Create(path) //nolint:gosec // beside the file that the person named
	if err != nil {
		return err
	}
	runtime.GC()
	return errors.Join(pprof.WriteHeapProfile(file), file.Close())
}
