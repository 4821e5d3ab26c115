package backup

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/location"
	"github.com/dataguardian/dataguardian/internal/paging"
	"github.com/dataguardian/dataguardian/internal/schedule"
	"github.com/dataguardian/dataguardian/internal/settings"
)

// Service is what callers may do with jobs and backups.
type Service struct {
	jobs      JobStore
	catalogue Catalogue
	locations Locations
	inspect   Inspector
	recipient func(string) error
}

// Locations is what jobs need of storage locations.
type Locations interface {
	Default(ctx context.Context) (location.Location, error)
}

// Inspector looks into storages whether copies are still there. It sets Live,
// LiveMessage and FullPath of every copy and never fails as a whole.
type Inspector interface {
	Inspect(ctx context.Context, backups []Backup)
}

// Config is what a Service stands on.
type Config struct {
	Jobs           JobStore
	Catalogue      Catalogue
	Locations      Locations
	Inspector      Inspector
	CheckRecipient func(string) error // nil error: a usable encryption key
}

// NewService returns a service.
func NewService(c Config) *Service {
	return &Service{jobs: c.Jobs, catalogue: c.Catalogue, locations: c.Locations, inspect: c.Inspector, recipient: c.CheckRecipient}
}

// NewJob describes a job to create.
type NewJob struct {
	Name              string
	DatasourceID      string
	StorageLocationID string // empty: the default one
	ScheduleCron      string
	ScheduleTimezone  string // empty: UTC
	Enabled           *bool  // default true
	Retention         RetentionPolicy
	Options           Options
}

// JobPatch holds the fields to change; nil ones stay.
type JobPatch struct {
	Name              *string
	DatasourceID      *string
	StorageLocationID *string
	ScheduleCron      *string
	ScheduleTimezone  *string
	Enabled           *bool
	Retention         *RetentionPolicy
	Options           *Options
}

// CreateJob checks and stores a job.
func (s *Service) CreateJob(ctx context.Context, n NewJob) (Job, error) {
	name, fields := settings.Name(n.Name)
	j := Job{
		ID: uuid.NewString(), Name: name, DatasourceID: n.DatasourceID, StorageLocationID: n.StorageLocationID,
		ScheduleCron: n.ScheduleCron, ScheduleTimezone: n.ScheduleTimezone, Enabled: n.Enabled == nil || *n.Enabled,
		Retention: n.Retention, Options: n.Options.WithDefaults(),
	}
	set(&j.ScheduleTimezone, "UTC")
	if j.StorageLocationID == "" {
		l, err := s.locations.Default(ctx)
		switch {
		case errs.KindOf(err) == errs.NotFound:
			fields = append(fields, errs.Field{Field: "storage_location_id", Message: "is required: there is no default storage location yet"})
		case err != nil:
			return Job{}, err
		}
		j.StorageLocationID = l.ID
	}
	fields = append(fields, s.check(&j)...)
	if len(fields) > 0 {
		return Job{}, errs.InvalidFields(errs.CodeValidation, fields...)
	}
	return s.jobs.Create(ctx, j)
}

// check completes a job (normal schedule, next due time) and returns what is wrong.
func (s *Service) check(j *Job) []errs.Field {
	var fields []errs.Field
	fields = append(fields, s.schedule(j)...)
	fields = append(fields, j.Retention.check()...)
	return append(fields, j.Options.check(s.recipient)...)
}

// schedule sets the next due time of a job.
func (s *Service) schedule(j *Job) []errs.Field {
	j.NextExecutionAt = nil
	if j.ScheduleCron == "" {
		if _, err := schedule.LoadZone(j.ScheduleTimezone); err != nil {
			return errs.As(err).Fields
		}
		return nil
	}
	due, err := schedule.Parse(j.ScheduleCron, j.ScheduleTimezone)
	if err != nil {
		return errs.As(err).Fields
	}
	if j.Enabled {
		next := due.Next(time.Now())
		j.NextExecutionAt = &next
	}
	return nil
}

func (p RetentionPolicy) check() []errs.Field {
	rules := map[string]*int{"max_backups": p.MaxBackups, "keep_daily": p.KeepDaily, "keep_weekly": p.KeepWeekly, "keep_monthly": p.KeepMonthly}
	var fields []errs.Field
	some := false
	for name, rule := range rules {
		some = some || rule != nil
		if rule != nil && *rule < 1 {
			fields = append(fields, errs.Field{Field: "retention_policy." + name, Message: "must be at least 1"})
		}
	}
	if !some {
		fields = append(fields, errs.Field{Field: "retention_policy", Message: "needs one of max_backups, keep_daily, keep_weekly, keep_monthly"})
	}
	return fields
}

var levels = map[Compression][2]int{Zstd: {1, 4}, Gzip: {1, 9}, LZ4: {0, 9}, NoCompression: {0, 0}}

func (o Options) check(recipient func(string) error) []errs.Field {
	var fields []errs.Field
	complain := func(field, format string, args ...any) {
		fields = append(fields, errs.Field{Field: "backup_options." + field, Message: fmt.Sprintf(format, args...)})
	}
	span, known := levels[o.Compression]
	if !known {
		complain("compression", "must be one of zstd, gzip, lz4, none")
	}
	if level := o.CompressionLevel; known && level != nil && (*level < span[0] || *level > span[1]) {
		complain("compression_level", "must be between %d and %d for %s", span[0], span[1], o.Compression)
	}
	for i, r := range o.Recipients {
		if err := recipient(r); err != nil {
			complain(fmt.Sprintf("encryption.recipients[%d]", i), "is not an age public key (age1...)")
		}
	}
	names := map[string]bool{}
	for i, a := range o.Assertions {
		if names[a.Name] {
			complain(fmt.Sprintf("verification.assertions[%d].name", i), "is taken by another assertion")
		}
		names[a.Name] = true
	}
	seen := map[string]bool{}
	for i, target := range o.Targets {
		if seen[target.StorageLocationID] {
			complain(fmt.Sprintf("storage_targets[%d]", i), "names a storage location for the second time")
		}
		seen[target.StorageLocationID] = true
	}
	if o.Spool == SpoolBounded && o.Strategy == Fallback && len(o.Targets) > 0 {
		complain("spool", "must be full for fallback: what was sent to a storage that fails must still be there for the next one")
	}
	return fields
}

// GetJob returns one job.
func (s *Service) GetJob(ctx context.Context, id string) (Job, error) { return s.jobs.Get(ctx, id) }

// ListJobs returns a page by name and the rows in all.
func (s *Service) ListJobs(ctx context.Context, f JobFilter, p paging.Page) ([]Job, int, error) {
	return s.jobs.List(ctx, f, p)
}

// UpdateJob changes the fields that are set.
func (s *Service) UpdateJob(ctx context.Context, id string, p JobPatch) (Job, error) {
	return s.jobs.Update(ctx, id, func(j *Job) error {
		fields := p.apply(j)
		next := j.NextExecutionAt
		fields = append(fields, s.check(j)...)
		if len(fields) > 0 {
			return errs.InvalidFields(errs.CodeValidation, fields...)
		}
		if !p.reschedules() {
			j.NextExecutionAt = next
		}
		return nil
	})
}

func (p JobPatch) reschedules() bool {
	return p.ScheduleCron != nil || p.ScheduleTimezone != nil || p.Enabled != nil
}

func (p JobPatch) apply(j *Job) []errs.Field {
	var fields []errs.Field
	if p.Name != nil {
		j.Name, fields = settings.Name(*p.Name)
	}
	replace(&j.DatasourceID, p.DatasourceID)
	replace(&j.StorageLocationID, p.StorageLocationID)
	replace(&j.ScheduleCron, p.ScheduleCron)
	replace(&j.ScheduleTimezone, p.ScheduleTimezone)
	replace(&j.Enabled, p.Enabled)
	replace(&j.Retention, p.Retention)
	if p.Options != nil {
		j.Options = p.Options.WithDefaults()
	}
	set(&j.ScheduleTimezone, "UTC")
	return fields
}

func replace[T any](field, value *T) {
	if value != nil {
		*field = *value
	}
}

// DeleteJob removes a job; its backups stay.
func (s *Service) DeleteJob(ctx context.Context, id string) error { return s.jobs.Delete(ctx, id) }

// Preview is a job with what its policy would do now.
type Preview struct {
	Job  Job
	Plan Plan
}

// PreviewRetention shows what the policy of a job keeps and deletes now.
func (s *Service) PreviewRetention(ctx context.Context, jobID string) (Preview, error) {
	j, err := s.jobs.Get(ctx, jobID)
	if err != nil {
		return Preview{}, err
	}
	plan, err := RetentionOf(ctx, s.catalogue, j)
	return Preview{Job: j, Plan: plan}, err
}

// RetentionOf plans the retention of a job by the catalogue and its clock.
func RetentionOf(ctx context.Context, c Catalogue, j Job) (Plan, error) {
	loc, err := schedule.LoadZone(j.ScheduleTimezone)
	if err != nil {
		return Plan{}, err
	}
	backups, err := c.OfJob(ctx, j.ID)
	if err != nil {
		return Plan{}, err
	}
	now, err := c.Now(ctx)
	if err != nil {
		return Plan{}, err
	}
	return PlanRetention(j.Retention, backups, now, loc), nil
}

// Datasources lists datasources with their backups counted.
func (s *Service) Datasources(ctx context.Context) ([]DatasourceBackups, error) {
	return s.catalogue.Datasources(ctx)
}

// Backups lists the backups of a datasource, newest first, with what each storage
// says of its copies right now.
func (s *Service) Backups(ctx context.Context, datasourceID string) ([]Backup, error) {
	backups, err := s.catalogue.OfDatasource(ctx, datasourceID)
	if err != nil {
		return nil, err
	}
	s.inspect.Inspect(ctx, backups)
	return backups, nil
}

// Remover removes the objects of copies and records it.
type Remover interface {
	Remove(ctx context.Context, copies []Copy) error
}

// ApplyRetention deletes what the policy of a job does not keep: marked first,
// then manifests, then parts. It returns what is on its way out, and makes one
// notification when that is anything. An error leaves marked copies to the
// cleanup worker.
func ApplyRetention(ctx context.Context, c Catalogue, remover Remover, j Job) ([]Backup, error) {
	plan, err := RetentionOf(ctx, c, j)
	if err != nil {
		return nil, err
	}
	doomed := plan.Deletions()
	if len(doomed) == 0 {
		return nil, nil
	}
	marked, err := c.MarkDeleting(ctx, idsOf(doomed))
	if err != nil || len(marked) == 0 {
		return nil, err
	}
	var copies []Copy
	var gone []Backup
	for _, b := range doomed {
		if !slices.Contains(marked, b.ExecutionID) {
			continue
		}
		gone = append(gone, b)
		copies = append(copies, b.Copies...)
	}
	removeErr := remover.Remove(ctx, copies)
	if err := c.NoteCleanup(ctx, j, gone); err != nil {
		return gone, errors.Join(removeErr, err)
	}
	return gone, removeErr
}

func idsOf(backups []Backup) []string {
	ids := make([]string, 0, len(backups))
	for _, b := range backups {
		ids = append(ids, b.ExecutionID)
	}
	return ids
}
