package notification

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/paging"
	"github.com/dataguardian/dataguardian/internal/settings"
)

// Channels is what callers may do with channels.
type Channels struct {
	store   ChannelStore
	courier Courier
}

// NewChannels returns a service on store that sends through courier.
func NewChannels(store ChannelStore, courier Courier) *Channels {
	return &Channels{store: store, courier: courier}
}

// NewChannel describes a channel to create.
type NewChannel struct {
	Name        string
	Type        string
	Config      map[string]any // with its secrets
	Types       []Type
	MinSeverity Severity // empty: info
	Enabled     *bool    // nil: true
	MaxPerHour  int      // 0: no limit
}

// ChannelPatch holds the fields to change; nil ones stay.
type ChannelPatch struct {
	Name        *string
	Config      map[string]any
	Types       *[]Type
	MinSeverity Severity // empty: stays
	Enabled     *bool
	MaxPerHour  *int
}

// Types returns every type of channel, by name.
func (s *Channels) Types() []ChannelType { return s.courier.Types() }

// Create checks and stores a channel. It sends nothing: see Test.
func (s *Channels) Create(ctx context.Context, n NewChannel) (Channel, error) {
	t, err := s.typeOf(n.Type)
	if err != nil {
		return Channel{}, err
	}
	name, fields := settings.Name(n.Name)
	open, secrets, err := checkConfig(t, n.Config)
	if err != nil {
		fields = append(fields, errs.As(err).Fields...)
	}
	if len(fields) > 0 {
		return Channel{}, errs.InvalidFields(codeFor(err), fields...)
	}
	c := Channel{
		ID: uuid.NewString(), Name: name, Type: t.Name, Config: open, Secrets: secrets, Types: n.Types,
		MinSeverity: n.MinSeverity, Enabled: n.Enabled == nil || *n.Enabled, MaxPerHour: n.MaxPerHour,
	}
	if c.MinSeverity == "" {
		c.MinSeverity = Info
	}
	return s.store.Create(ctx, c)
}

// Get returns one channel with its settings.
func (s *Channels) Get(ctx context.Context, id string) (Channel, error) {
	return s.settled(s.store.Get(ctx, id))
}

// settled is a channel as its type is now; one of an unknown type shows no settings.
func (s *Channels) settled(c Channel, err error) (Channel, error) {
	if err != nil {
		return c, err
	}
	if t, err := s.typeOf(c.Type); err == nil {
		settle(t, &c)
	} else {
		c.Config, c.Secrets = nil, nil
	}
	return c, nil
}

// Seal stores every channel as its type is now: settings that became secret after a
// channel was made are encrypted. It returns how many it has changed, and an error that
// names each channel it could not change; the others are. Any number of processes may
// call it at once.
func (s *Channels) Seal(ctx context.Context) (changed int, err error) {
	all, err := s.all(ctx)
	if err != nil {
		return 0, err
	}
	var failed error
	for _, c := range all {
		sealed, err := s.seal(ctx, c.ID)
		switch {
		case ctx.Err() != nil:
			return changed, errors.Join(failed, context.Cause(ctx))
		case err != nil && errs.KindOf(err) != errs.NotFound: // deleted meanwhile
			failed = errors.Join(failed, errs.Wrap(err, errs.KindOf(err), errs.CodeOf(err), "the channel %q: %s", c.Name, errs.Message(err)))
		case sealed:
			changed++
		}
	}
	return changed, failed
}

// all lists every channel.
func (s *Channels) all(ctx context.Context) ([]Channel, error) {
	var all []Channel
	for page := (paging.Page{Number: 1, Limit: paging.MaxLimit}); ; page.Number++ {
		listed, total, err := s.store.List(ctx, page)
		if err != nil {
			return nil, err
		}
		all = append(all, listed...)
		if page.Number >= page.Pages(total) {
			return all, nil
		}
	}
}

func (s *Channels) seal(ctx context.Context, id string) (bool, error) {
	c, err := s.store.Get(ctx, id)
	if err != nil {
		return false, err
	}
	t, err := s.typeOf(c.Type)
	if err != nil || !unsettled(t, c) {
		return false, nil //nolint:nilerr // a newer version of this program made it
	}
	_, err = s.store.Update(ctx, id, func(c *Channel) error {
		settle(t, c)
		return nil
	})
	return err == nil, err
}

// List returns a page by name and the rows in all.
func (s *Channels) List(ctx context.Context, p paging.Page) ([]Channel, int, error) {
	return s.store.List(ctx, p)
}

// Update changes the fields that are set.
func (s *Channels) Update(ctx context.Context, id string, p ChannelPatch) (Channel, error) {
	return s.settled(s.store.Update(ctx, id, func(c *Channel) error { return s.apply(p, c) }))
}

func (s *Channels) apply(p ChannelPatch, c *Channel) error {
	t, err := s.typeOf(c.Type)
	if err != nil {
		return err
	}
	settle(t, c)
	var fields []errs.Field
	if p.Name != nil {
		name, bad := settings.Name(*p.Name)
		c.Name, fields = name, bad
	}
	var configErr error
	if p.Config != nil {
		open, secrets, err := mergeConfig(t, *c, p.Config)
		if err != nil {
			configErr, fields = err, append(fields, errs.As(err).Fields...)
		}
		c.Config, c.Secrets = open, secrets
	}
	if p.Types != nil {
		c.Types = *p.Types
	}
	if p.MinSeverity != "" {
		c.MinSeverity = p.MinSeverity
	}
	if p.Enabled != nil {
		c.Enabled = *p.Enabled
	}
	if p.MaxPerHour != nil {
		c.MaxPerHour = *p.MaxPerHour
	}
	if len(fields) > 0 {
		return errs.InvalidFields(codeFor(configErr), fields...)
	}
	return nil
}

// Delete removes a channel with its deliveries.
func (s *Channels) Delete(ctx context.Context, id string) error { return s.store.Delete(ctx, id) }

// Deliveries returns a page, newest first, and the rows in all.
func (s *Channels) Deliveries(ctx context.Context, id string, status DeliveryStatus, p paging.Page) ([]Delivery, int, error) {
	return s.store.Deliveries(ctx, id, status, p)
}

// Test sends one message through a channel now, enabled or not. The first error
// says what came of it, the second that it could not be tried.
func (s *Channels) Test(ctx context.Context, id string) (sent, err error) {
	c, err := s.store.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	n := Notification{
		ID: uuid.NewString(), Type: HealthDegraded, Severity: Info, EntityType: System,
		Title:     "Test of the channel " + c.Name,
		Message:   "This is a test: nothing happened. Notifications that match the channel's filters will arrive here.",
		Metadata:  map[string]any{"test": true},
		CreatedAt: time.Now().UTC(),
	}
	sent = s.courier.Send(ctx, c, n, uuid.NewString())
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return sent, nil
}

func (s *Channels) typeOf(name string) (ChannelType, error) {
	types := s.courier.Types()
	i := slices.IndexFunc(types, func(t ChannelType) bool { return t.Name == name })
	if i >= 0 {
		return types[i], nil
	}
	names := make([]string, 0, len(types))
	for _, t := range types {
		names = append(names, t.Name)
	}
	return ChannelType{}, errs.InvalidFields(errs.CodeValidation, errs.Field{Field: "type", Message: "must be one of " + strings.Join(names, ", ")})
}

func codeFor(configErr error) errs.Code {
	if configErr != nil {
		return CodeInvalidChannel
	}
	return errs.CodeValidation
}
