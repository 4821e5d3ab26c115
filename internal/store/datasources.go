package store

import (
	"context"

	"github.com/dataguardian/dataguardian/internal/auth"
	"github.com/dataguardian/dataguardian/internal/datasource"
	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/paging"
	"github.com/dataguardian/dataguardian/internal/store/db"
)

const (
	datasourcesTable = "datasources"
	passwordKey      = "password"
)

type datasources struct{ *Store }

var _ datasource.Store = datasources{}

// Datasources keeps datasources.
func (s *Store) Datasources() datasource.Store { return datasources{s} }

// connection is a connection_config as it is stored: all but the password.
type connection struct {
	Host        string         `json:"host"`
	Port        int            `json:"port"`
	Database    string         `json:"database"`
	Username    string         `json:"username"`
	SSLMode     engine.SSLMode `json:"ssl_mode"`
	SSLRootCert string         `json:"ssl_root_cert,omitempty"`
}

func (s datasources) Create(ctx context.Context, d datasource.Datasource) (datasource.Datasource, error) {
	if d.Status == "" {
		d.Status = datasource.Unknown
	}
	config, secrets, err := s.split(d)
	if err != nil {
		return datasource.Datasource{}, err
	}
	err = s.q.CreateDatasource(ctx, db.CreateDatasourceParams{
		ID: d.ID, Name: d.Name, Type: string(d.Type), Status: string(d.Status), Enabled: d.Enabled, Protected: d.Protected,
		Tags: tags(d.Tags), ConnectionConfig: config, Secrets: secrets,
	})
	if err != nil {
		return datasource.Datasource{}, failure(err)
	}
	return s.Get(ctx, d.ID)
}

func (s datasources) Get(ctx context.Context, id string) (datasource.Datasource, error) {
	row, err := s.q.GetDatasource(ctx, id)
	if err != nil {
		return datasource.Datasource{}, missing(err, "datasource", id)
	}
	return s.whole(row)
}

func (s datasources) List(ctx context.Context, f datasource.Filter, p paging.Page) ([]datasource.Datasource, int, error) {
	where := db.CountDatasourcesParams{Type: filter(f.Type), Status: filter(f.Status), Enabled: f.Enabled, Tag: filter(f.Tag), Scope: auth.ScopeOf(ctx)}
	total, err := s.q.CountDatasources(ctx, where)
	if err != nil {
		return nil, 0, failure(err)
	}
	limit, offset := window(p)
	rows, err := s.q.ListDatasources(ctx, db.ListDatasourcesParams{
		Type: where.Type, Status: where.Status, Enabled: where.Enabled, Tag: where.Tag, Scope: where.Scope, PageLimit: limit, PageOffset: offset,
	})
	if err != nil {
		return nil, 0, failure(err)
	}
	return each(rows, listed), int(total), nil
}

func (s datasources) Update(ctx context.Context, id string, change func(*datasource.Datasource) error) (datasource.Datasource, error) {
	err := s.tx(ctx, func(q *db.Queries) error {
		row, err := q.LockDatasource(ctx, id)
		if err != nil {
			return missing(err, "datasource", id)
		}
		d, err := s.whole(row)
		if err != nil {
			return err
		}
		if err := change(&d); err != nil {
			return err
		}
		d.ID = row.ID
		config, secrets, err := s.split(d)
		if err != nil {
			return err
		}
		return q.UpdateDatasource(ctx, db.UpdateDatasourceParams{
			ID: row.ID, Name: d.Name, Type: string(d.Type), Status: string(d.Status), Enabled: d.Enabled, Protected: d.Protected,
			Tags: tags(d.Tags), ConnectionConfig: config, Secrets: secrets, LastHealthCheckAt: d.LastHealthCheckAt,
		})
	})
	if err != nil {
		return datasource.Datasource{}, err
	}
	return s.Get(ctx, id)
}

func (s datasources) Delete(ctx context.Context, id string) error {
	return s.tx(ctx, func(q *db.Queries) error {
		row, err := q.LockDatasource(ctx, id)
		if err != nil {
			return missing(err, "datasource", id)
		}
		use, err := q.DatasourceUse(ctx, id)
		if err != nil {
			return err
		}
		if err := inUse("datasource", row.Name, use.Jobs, use.Executions, use.Backups); err != nil {
			return err
		}
		return q.DeleteDatasource(ctx, id)
	})
}

// inUse is the refusal to remove what others need.
func inUse(noun, name string, jobs, executions, backups int64) error {
	if jobs+executions+backups == 0 {
		return nil
	}
	return errs.New(errs.Conflict, errs.CodeResourceInUse,
		"the %s %q is in use by %s, %s and %s; remove those first",
		noun, name, count(jobs, "job"), count(executions, "running or queued execution"), count(backups, "backup")).
		With("jobs", jobs).With("executions", executions).With("backups", backups)
}

// split returns the open and the sealed part of a connection.
func (s datasources) split(d datasource.Datasource) (config, secrets []byte, err error) {
	config, err = encode(connection{
		Host: d.Conn.Host, Port: d.Conn.Port, Database: d.Conn.Database, Username: d.Conn.Username,
		SSLMode: d.Conn.SSLMode, SSLRootCert: d.Conn.SSLRootCert,
	})
	if err != nil || d.Conn.Password == "" {
		return config, nil, err
	}
	secrets, err = s.seal(datasourcesTable, d.ID, map[string]any{passwordKey: d.Conn.Password})
	return config, secrets, err
}

// whole is a row with its connection.
func (s datasources) whole(row db.Datasource) (datasource.Datasource, error) {
	d := listed(row)
	var c connection
	if err := decode(row.ConnectionConfig, &c); err != nil {
		return d, err
	}
	secrets, err := s.unseal(datasourcesTable, row.ID, row.Secrets)
	if err != nil {
		return d, err
	}
	password, _ := secrets[passwordKey].(string)
	d.Conn = engine.Conn{
		Type: d.Type, Host: c.Host, Port: c.Port, Database: c.Database, Username: c.Username, Password: password,
		SSLMode: c.SSLMode, SSLRootCert: c.SSLRootCert,
	}
	return d, nil
}

// listed is a row without its connection.
func listed(row db.Datasource) datasource.Datasource {
	return datasource.Datasource{
		ID: row.ID, Name: row.Name, Type: engine.Type(row.Type), Status: datasource.Status(row.Status), Enabled: row.Enabled,
		Protected: row.Protected, Tags: row.Tags, LastHealthCheckAt: row.LastHealthCheckAt, CreatedAt: row.CreatedAt, UpdatedAt: row.UpdatedAt,
	}
}

// tags are never null.
func tags(in []string) []string {
	if in == nil {
		return []string{}
	}
	return in
}
