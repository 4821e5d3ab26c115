package datasource

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/paging"
	"github.com/dataguardian/dataguardian/internal/settings"
)

// testTimeout bounds a connection test.
const testTimeout = 10 * time.Second

// Service is what callers may do with datasources.
type Service struct {
	store   Store
	engines map[engine.Type]engine.Engine
	looks   chan struct{} // one for each look into a database
}

// NewService returns a service on store that reaches databases through engines.
func NewService(store Store, engines map[engine.Type]engine.Engine) *Service {
	return &Service{store: store, engines: engines, looks: make(chan struct{}, looksAtOnce)}
}

// New describes a datasource to create.
type New struct {
	Name      string
	Type      engine.Type
	Config    map[string]any // connection_config of the API
	Enabled   *bool          // default true
	Protected bool
	Tags      []string
}

// Patch holds the fields to change; nil ones stay.
type Patch struct {
	Name      *string
	Type      engine.Type // must be the present one, or empty
	Config    map[string]any
	Enabled   *bool
	Protected *bool
	Tags      *[]string
}

// TestResult says what a connection attempt found.
type TestResult struct {
	Latency       time.Duration
	ServerVersion string
	Err           error // nil when it connected
}

// Create checks and stores a datasource. It does not connect: a database that is
// down now may be up when it is due.
func (s *Service) Create(ctx context.Context, n New) (Datasource, error) {
	if err := s.supported(n.Type); err != nil {
		return Datasource{}, err
	}
	name, fields := settings.Name(n.Name)
	conn, err := ParseConfig(n.Type, n.Config)
	if err != nil {
		fields = append(fields, errs.As(err).Fields...)
	}
	if len(fields) > 0 {
		return Datasource{}, errs.InvalidFields(codeFor(err), fields...)
	}
	return s.store.Create(ctx, Datasource{
		ID: uuid.NewString(), Name: name, Type: n.Type, Status: Unknown, Enabled: n.Enabled == nil || *n.Enabled,
		Protected: n.Protected, Tags: normalTags(n.Tags), Conn: conn,
	})
}

// Get returns one datasource with its connection.
func (s *Service) Get(ctx context.Context, id string) (Datasource, error) {
	return s.store.Get(ctx, id)
}

// List returns a page by name and the rows in all.
func (s *Service) List(ctx context.Context, f Filter, p paging.Page) ([]Datasource, int, error) {
	return s.store.List(ctx, f, p)
}

// Update changes the fields that are set.
func (s *Service) Update(ctx context.Context, id string, p Patch) (Datasource, error) {
	return s.store.Update(ctx, id, func(d *Datasource) error { return p.apply(d) })
}

func (p Patch) apply(d *Datasource) error {
	var fields []errs.Field
	if p.Type != "" && p.Type != d.Type {
		fields = append(fields, errs.Field{Field: "type", Message: "cannot change; create another datasource"})
	}
	if p.Name != nil {
		name, bad := settings.Name(*p.Name)
		d.Name, fields = name, append(fields, bad...)
	}
	var configErr error
	if p.Config != nil {
		conn, err := mergeConfig(d.Conn, p.Config)
		if err != nil {
			configErr, fields = err, append(fields, errs.As(err).Fields...)
		}
		if conn != d.Conn {
			d.Status = Unknown
		}
		d.Conn = conn
	}
	if len(fields) > 0 {
		return errs.InvalidFields(codeFor(configErr), fields...)
	}
	if p.Enabled != nil {
		d.Enabled = *p.Enabled
	}
	if p.Protected != nil {
		d.Protected = *p.Protected
	}
	if p.Tags != nil {
		d.Tags = normalTags(*p.Tags)
	}
	return nil
}

// Delete removes a datasource that nothing needs.
func (s *Service) Delete(ctx context.Context, id string) error { return s.store.Delete(ctx, id) }

// Test connects now. A database that cannot be reached is a result, not an error.
func (s *Service) Test(ctx context.Context, id string) (TestResult, error) {
	d, err := s.store.Get(ctx, id)
	if err != nil {
		return TestResult{}, err
	}
	e, ok := s.engines[d.Type]
	if !ok {
		return TestResult{}, s.supported(d.Type)
	}
	ctx, cancel := context.WithTimeout(ctx, testTimeout)
	defer cancel()
	started := time.Now()
	info, err := e.Ping(ctx, d.Conn)
	return TestResult{Latency: time.Since(started), ServerVersion: info.Version, Err: err}, nil
}

func (s *Service) supported(t engine.Type) error {
	if _, ok := s.engines[t]; ok {
		return nil
	}
	return errs.New(errs.Unimplemented, errs.CodeNotImplemented, "this server cannot back up %s yet", t).With("type", string(t))
}

// codeFor keeps the more telling code when the connection is what is wrong.
func codeFor(configErr error) errs.Code {
	if configErr != nil {
		return errs.CodeInvalidConnection
	}
	return errs.CodeValidation
}

func normalTags(tags []string) []string {
	normal := make([]string, 0, len(tags))
	for _, tag := range tags {
		if tag = strings.TrimSpace(tag); tag != "" {
			normal = append(normal, tag)
		}
	}
	slices.Sort(normal)
	return slices.Compact(normal)
}
