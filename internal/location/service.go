package location

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/paging"
	"github.com/dataguardian/dataguardian/internal/settings"
	"github.com/dataguardian/dataguardian/storage"
)

// testTimeout bounds a storage test.
const testTimeout = 20 * time.Second

// Service is what callers may do with storage locations.
type Service struct {
	store     Store
	opener    Opener
	supported map[Type]bool
}

// NewService returns a service on store that opens the given types through opener.
func NewService(store Store, opener Opener, types ...Type) *Service {
	s := &Service{store: store, opener: opener, supported: map[Type]bool{}}
	for _, t := range types {
		s.supported[t] = true
	}
	return s
}

// New describes a storage location to create.
type New struct {
	Name      string
	Type      Type
	Config    map[string]any
	IsDefault *bool
}

// Patch holds the fields to change; nil ones stay.
type Patch struct {
	Name      *string
	Type      Type // must be the present one, or empty
	Config    map[string]any
	IsDefault *bool
}

// TestResult says what a live check found.
type TestResult struct {
	Latency        time.Duration
	AvailableBytes *int64
	Warnings       []string // what works and may still surprise, in sentences
	Err            error    // nil when it works
}

// Create checks and stores a location. It tries it once for its status; a
// location that does not answer is stored all the same, as unreachable.
func (s *Service) Create(ctx context.Context, n New) (Location, error) {
	if err := s.checkType(n.Type); err != nil {
		return Location{}, err
	}
	name, fields := settings.Name(n.Name)
	config, err := CheckConfig(n.Type, n.Config)
	if err != nil {
		fields = append(fields, errs.As(err).Fields...)
	}
	if len(fields) > 0 {
		return Location{}, errs.InvalidFields(codeFor(err), fields...)
	}
	l := Location{ID: uuid.NewString(), Name: name, Type: n.Type, Config: config, IsDefault: n.IsDefault != nil && *n.IsDefault}
	result := s.try(ctx, l)
	l.Status, l.AvailableBytes = result.Status(), result.AvailableBytes
	return s.store.Create(ctx, l)
}

// Status is the status that follows from a check.
func (r TestResult) Status() Status {
	switch {
	case r.Err == nil:
		return Healthy
	case errs.CodeOf(r.Err) == errs.CodeStorageFull:
		return Full
	default:
		return Unreachable
	}
}

// Get returns one location with its config.
func (s *Service) Get(ctx context.Context, id string) (Location, error) { return s.store.Get(ctx, id) }

// List returns a page by name and the rows in all.
func (s *Service) List(ctx context.Context, f Filter, p paging.Page) ([]Location, int, error) {
	return s.store.List(ctx, f, p)
}

// Update changes the fields that are set. While backups lie in a location it
// cannot be pointed to another place.
func (s *Service) Update(ctx context.Context, id string, p Patch) (Location, error) {
	copies, err := s.store.InUse(ctx, id)
	if err != nil {
		return Location{}, err
	}
	return s.store.Update(ctx, id, func(l *Location) error { return p.apply(l, copies) })
}

func (p Patch) apply(l *Location, copies int) error {
	var fields []errs.Field
	if p.Type != "" && p.Type != l.Type {
		fields = append(fields, errs.Field{Field: "type", Message: "cannot change; create another storage location"})
	}
	if p.Name != nil {
		name, bad := settings.Name(*p.Name)
		l.Name, fields = name, append(fields, bad...)
	}
	var configErr error
	if p.Config != nil {
		config, moved, err := mergeConfig(l.Type, l.Config, p.Config)
		if err != nil {
			configErr, fields = err, append(fields, errs.As(err).Fields...)
		}
		if err == nil && moved && copies > 0 {
			return errs.New(errs.Conflict, errs.CodeResourceInUse,
				"%d backup copies lie in this storage location and would be out of reach; create another storage location instead", copies).With("backups", copies)
		}
		l.Config = config
	}
	if p.IsDefault != nil {
		if !*p.IsDefault && l.IsDefault {
			fields = append(fields, errs.Field{Field: "is_default", Message: "make another storage location the default instead"})
		}
		l.IsDefault = *p.IsDefault
	}
	if len(fields) > 0 {
		return errs.InvalidFields(codeFor(configErr), fields...)
	}
	return nil
}

// Delete removes a location that nothing needs.
func (s *Service) Delete(ctx context.Context, id string) error { return s.store.Delete(ctx, id) }

// Test tries a stored location now and records what it found.
func (s *Service) Test(ctx context.Context, id string) (TestResult, error) {
	l, err := s.store.Get(ctx, id)
	if err != nil {
		return TestResult{}, err
	}
	result := s.try(ctx, l)
	if ctx.Err() != nil {
		return TestResult{}, context.Cause(ctx)
	}
	return result, s.store.SetStatus(ctx, id, result.Status(), result.AvailableBytes)
}

// TestConfig tries a configuration that is not stored.
func (s *Service) TestConfig(ctx context.Context, t Type, config map[string]any) (TestResult, error) {
	if err := s.checkType(t); err != nil {
		return TestResult{}, err
	}
	checked, err := CheckConfig(t, config)
	if err != nil {
		return TestResult{}, err
	}
	return s.try(ctx, Location{Name: "test", Type: t, Config: checked}), nil
}

// try writes, reads and deletes one small object.
func (s *Service) try(ctx context.Context, l Location) TestResult {
	ctx, cancel := context.WithTimeout(ctx, testTimeout)
	defer cancel()
	started := time.Now()
	driver, err := s.opener.Open(ctx, l)
	if err != nil {
		return TestResult{Latency: time.Since(started), Err: storage.Explain(err)}
	}
	report, err := storage.Validate(ctx, driver, storage.ValidateOptions{})
	if closeErr := driver.Close(); err == nil {
		err = closeErr
	}
	result := TestResult{Latency: time.Since(started), AvailableBytes: report.Available, Warnings: report.Warnings}
	if err != nil {
		result.Err = storage.Explain(err)
	}
	return result
}

func (s *Service) checkType(t Type) error {
	if s.supported[t] {
		return nil
	}
	return errs.New(errs.Unimplemented, errs.CodeNotImplemented, "this server cannot store backups in %s yet", t).With("type", string(t))
}

func codeFor(configErr error) errs.Code {
	if configErr != nil {
		return errs.CodeInvalidStorage
	}
	return errs.CodeValidation
}
