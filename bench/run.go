package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/dataguardian/dataguardian/internal/testkit"
)

// section measures one thing and returns its table.
type section struct {
	name    string
	measure func(ctx context.Context, b *bench) (table, error)
}

func sections() []section {
	return []section{
		{"backup", backups},
		{"mariadb", mariadbBackups},
		{"restore", restores},
		{"uploads", uploads},
		{"spool", spools},
		{"memory", memory},
		{"requests", requests},
		{"tails", tails},
		{"overview", overview},
		{"access", access},
		{"fleet", fleet},
	}
}

func sectionNames() []string {
	var names []string
	for _, s := range sections() {
		names = append(names, s.name)
	}
	return names
}

// bench is one run of the benchmark.
type bench struct {
	options
	log     io.Writer
	work    string // everything is below it
	cluster *cluster

	schemas map[string]string // databases with the schemas of server programs

	size   int64    // of the database "company"; 0 until it is made
	server *control // that several sections share; nil until one needs it

	stage     *stage         // of servers that several sections share
	maria     *testkit.Maria // with the company; nil until a section needs it
	mariaSize int64
}

// run measures what the options ask for and prints each table when it is there.
func run(ctx context.Context, o options, out, log io.Writer) (tables []table, err error) {
	b := &bench{options: o, log: log, schemas: map[string]string{}}
	if b.work, err = os.MkdirTemp(o.dir, "dataguardian-bench-"); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.work)) }()
	// The account that PostgreSQL runs as has to get through.
	if err := os.Chmod(b.work, 0o755); err != nil { //nolint:gosec // what lies below is private
		return nil, err
	}
	if err := b.programs(ctx); err != nil {
		return nil, err
	}
	if b.cluster, err = startCluster(ctx, b.path("cluster")); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.cluster.stop(ctx)) }()
	defer func() { err = errors.Join(err, b.stopShared()) }()
	if _, err := fmt.Fprintf(out, "%s\n", describeMachine(b.cluster)); err != nil {
		return nil, err
	}
	err = b.onStage(ctx, func(s *stage) error {
		b.stage = s
		tables, err = b.measure(ctx, out)
		return err
	})
	return tables, err
}

// measure goes through the sections.
func (b *bench) measure(ctx context.Context, out io.Writer) (tables []table, _ error) {
	for _, s := range sections() {
		if !b.wants(s.name) {
			continue
		}
		b.say("section %s", s.name)
		t, err := s.measure(ctx, b)
		if err != nil {
			return tables, fmt.Errorf("%s: %w", s.name, err)
		}
		tables = append(tables, t)
		if _, err := fmt.Fprintf(out, "\n%s", t); err != nil {
			return tables, err
		}
	}
	return tables, nil
}

// company returns the size of the database that most sections back up, and makes it
// for the first.
func (b *bench) company(ctx context.Context) (int64, error) {
	if b.size > 0 {
		return b.size, nil
	}
	b.say("making a database of about %d MB", b.sizeMB)
	if err := b.cluster.makeCompany(ctx, source, int64(b.sizeMB)*1e6); err != nil {
		return 0, err
	}
	var err error
	b.size, err = b.cluster.databaseSize(ctx, source)
	return b.size, err
}

// mariaCompany returns a server of MariaDB with the same company, and how large that
// is. It makes them for the first section that asks.
func (b *bench) mariaCompany(ctx context.Context) (*testkit.Maria, int64, error) {
	if b.maria != nil {
		return b.maria, b.mariaSize, nil
	}
	m := testkit.NewMariaDB(b.stage, testkit.WithFlag("--innodb-buffer-pool-size=512M"))
	b.say("making a database of about %d MB in MariaDB %s", b.sizeMB, m.Version)
	size, err := makeMariaCompany(ctx, m, int64(b.sizeMB)*1e6)
	if err != nil {
		return nil, 0, err
	}
	b.maria, b.mariaSize = m, size
	return m, size, nil
}

// shared returns a server of ours for sections that compare nothing but its work.
func (b *bench) shared(ctx context.Context) (*control, error) {
	if b.server != nil {
		return b.server, nil
	}
	var err error
	b.server, err = b.startControl(ctx, b.servers[0].path, "shared", "all")
	return b.server, err
}

func (b *bench) stopShared() error {
	if b.server == nil {
		return nil
	}
	return b.server.stop()
}

func (b *bench) path(elements ...string) string {
	return filepath.Join(append([]string{b.work}, elements...)...)
}

// say tells people that wait what goes on.
func (b *bench) say(format string, args ...any) {
	_, _ = fmt.Fprintf(b.log, time.Now().Format("15:04:05 ")+format+"\n", args...) // nobody depends on it
}

// programs builds the server, unless others are to be measured.
func (b *bench) programs(ctx context.Context) error {
	if len(b.servers) > 0 {
		return nil
	}
	if b.profile != "" {
		self, err := os.Executable()
		b.servers = servers{{"dataguardian", self}}
		return err
	}
	b.say("building the server")
	program := b.path("dataguardian")
	// Linked without what only debuggers read, which is sooner done.
	build := exec.CommandContext(ctx, "go", "build", "-ldflags=-w", "-o", program, "github.com/dataguardian/dataguardian/cmd/dataguardian") //nolint:gosec // our own program
	build.Stdout, build.Stderr = b.log, b.log
	if err := build.Run(); err != nil {
		return fmt.Errorf("build the server: %w", err)
	}
	b.servers = servers{{"dataguardian", program}}
	return nil
}
