// Package demo fills an empty control plane with something to look at: a sample
// database, a datasource, a storage location, a job and its first backup.
package demo

import (
	"context"
	"crypto/rand"
	_ "embed"
	"fmt"
	"path/filepath"

	"github.com/jackc/pgx/v5"

	"github.com/dataguardian/dataguardian/internal/backup"
	"github.com/dataguardian/dataguardian/internal/datasource"
	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/execution"
	"github.com/dataguardian/dataguardian/internal/location"
	"github.com/dataguardian/dataguardian/internal/paging"
)

//go:embed shop.sql
var shopSQL string

// Names of what the demo makes.
const (
	Database   = "demo_shop"
	role       = "demo_shop"
	Datasource = "Demo shop"
	Storage    = "Demo backups"
	JobName    = "Demo shop nightly"
)

// Cluster is the private PostgreSQL that holds the sample database.
type Cluster interface {
	// DSN returns the administrator's connection string for a database.
	DSN(database string) string
	SocketDir() string
	Port() int
}

// Demo makes the sample. DataDir is where its backups go, in a folder of their own.
type Demo struct {
	Cluster     Cluster
	Datasources *datasource.Service
	Locations   *location.Service
	Jobs        *backup.Service
	Executions  *execution.Service
	DataDir     string
}

// Result says what is there.
type Result struct {
	Job     backup.Job
	Created bool // false when it was there already
}

// Prepare makes what is not there yet; calling it again changes nothing. Each
// step is found again by its name, so that an interrupted start goes on.
func (d Demo) Prepare(ctx context.Context) (Result, error) {
	if job, found, err := d.job(ctx); err != nil || found {
		return Result{Job: job}, err
	}
	source, err := d.source(ctx)
	if err != nil {
		return Result{}, err
	}
	place, err := d.place(ctx)
	if err != nil {
		return Result{}, err
	}
	three := 3
	job, err := d.Jobs.CreateJob(ctx, backup.NewJob{
		Name: JobName, DatasourceID: source, StorageLocationID: place, ScheduleCron: "0 3 * * *",
		Retention: backup.RetentionPolicy{MaxBackups: &three, AutoDelete: true},
	})
	return Result{Job: job, Created: true}, err
}

// FirstBackup runs a backup of the job when it never had one, and waits for its
// end; the worker shows its lines on the terminal.
func (d Demo) FirstBackup(ctx context.Context, job backup.Job) error {
	_, total, err := d.Executions.List(ctx, execution.Filter{JobID: job.ID}, paging.Page{Limit: 1})
	if err != nil || total > 0 {
		return err
	}
	e, err := d.Executions.RunJob(ctx, job.ID)
	if err != nil {
		return err
	}
	for event, err := range d.Executions.Follow(ctx, e.ID, 0) {
		if err != nil {
			return err
		}
		if event.End != nil {
			break
		}
	}
	return nil
}

func (d Demo) job(ctx context.Context) (backup.Job, bool, error) {
	for page := (paging.Page{Number: 1, Limit: paging.MaxLimit}); ; page.Number++ {
		jobs, total, err := d.Jobs.ListJobs(ctx, backup.JobFilter{}, page)
		if err != nil {
			return backup.Job{}, false, err
		}
		for _, j := range jobs {
			if j.Name == JobName {
				return j, true, nil
			}
		}
		if page.Number >= page.Pages(total) {
			return backup.Job{}, false, nil
		}
	}
}

// source makes the database with its owner, and the datasource. The datasource
// comes last: while it is missing, the database is made afresh.
func (d Demo) source(ctx context.Context) (string, error) {
	sources, _, err := d.Datasources.List(ctx, datasource.Filter{Tag: "demo"}, paging.Page{Limit: paging.MaxLimit})
	if err != nil {
		return "", err
	}
	for _, s := range sources {
		if s.Name == Datasource {
			return s.ID, nil
		}
	}
	password := rand.Text()
	if err := d.createDatabase(ctx, password); err != nil {
		return "", fmt.Errorf("make the sample database: %w", err)
	}
	s, err := d.Datasources.Create(ctx, datasource.New{
		Name: Datasource, Type: engine.Postgres, Tags: []string{"demo"},
		Config: map[string]any{
			"host": d.Cluster.SocketDir(), "port": d.Cluster.Port(), "database": Database, "username": role, "password": password,
		},
	})
	return s.ID, err
}

func (d Demo) createDatabase(ctx context.Context, password string) error {
	admin, err := pgx.Connect(ctx, d.Cluster.DSN("postgres"))
	if err != nil {
		return err
	}
	defer func() { _ = admin.Close(context.WithoutCancel(ctx)) }() // nothing is left to be lost
	// rand.Text is base32: it needs no quoting.
	for _, sql := range []string{
		"DROP DATABASE IF EXISTS " + Database,
		"DROP ROLE IF EXISTS " + role,
		"CREATE ROLE " + role + " LOGIN CREATEDB PASSWORD '" + password + "'",
		"CREATE DATABASE " + Database + " OWNER " + role,
	} {
		if _, err := admin.Exec(ctx, sql); err != nil {
			return err
		}
	}
	return d.fill(ctx, password)
}

// fill connects as the owner, so that everything belongs to it.
func (d Demo) fill(ctx context.Context, password string) error {
	config, err := pgx.ParseConfig(d.Cluster.DSN(Database))
	if err != nil {
		return err
	}
	config.User, config.Password = role, password
	owner, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	defer func() { _ = owner.Close(context.WithoutCancel(ctx)) }() // nothing is left to be lost
	_, err = owner.PgConn().Exec(ctx, shopSQL).ReadAll()
	return err
}

func (d Demo) place(ctx context.Context) (string, error) {
	places, _, err := d.Locations.List(ctx, location.Filter{Type: location.Local}, paging.Page{Limit: paging.MaxLimit})
	if err != nil {
		return "", err
	}
	for _, p := range places {
		if p.Name == Storage {
			return p.ID, nil
		}
	}
	path, err := filepath.Abs(filepath.Join(d.DataDir, "backups"))
	if err != nil {
		return "", err
	}
	p, err := d.Locations.Create(ctx, location.New{Name: Storage, Type: location.Local, Config: map[string]any{"path": path}})
	return p.ID, err
}
