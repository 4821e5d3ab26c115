package notification

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/paging"
)

var hook = ChannelType{Name: "webhook", Fields: []Field{
	{Name: "url", Kind: URLField, Required: true, Place: true, Help: "address"},
	{Name: "secret", Kind: TextField, Secret: true},
	{Name: "port", Kind: NumberField},
	{Name: "mode", Kind: ChoiceField, Choices: []string{"a", "b"}},
	{Name: "host", Kind: HostField}, {Name: "from", Kind: EmailField}, {Name: "to", Kind: EmailsField}, {Name: "ca", Kind: PEMField},
}}

// pigeon is a courier of one type; it sends what err says.
type pigeon struct {
	types []ChannelType // hook when nil
	sent  []Notification
	err   error
}

func (p *pigeon) Types() []ChannelType {
	if p.types != nil {
		return p.types
	}
	return []ChannelType{hook}
}
func (p *pigeon) Send(_ context.Context, _ Channel, n Notification, _ string) error {
	p.sent = append(p.sent, n)
	return p.err
}

// shelf keeps one channel.
type shelf struct{ c Channel }

func (s *shelf) Create(_ context.Context, c Channel) (Channel, error) { s.c = c; return c, nil }
func (s *shelf) Get(context.Context, string) (Channel, error)         { return s.c, nil }
func (s *shelf) List(context.Context, paging.Page) ([]Channel, int, error) {
	return []Channel{s.c}, 1, nil
}
func (s *shelf) Delete(context.Context, string) error { return nil }
func (s *shelf) Deliveries(context.Context, string, DeliveryStatus, paging.Page) ([]Delivery, int, error) {
	return nil, 0, nil
}
func (s *shelf) Update(_ context.Context, _ string, change func(*Channel) error) (Channel, error) {
	c := s.c
	if err := change(&c); err != nil {
		return Channel{}, err
	}
	s.c = c
	return c, nil
}

func fieldsOf(err error) []string {
	var names []string
	if e := errs.As(err); e != nil {
		for _, f := range e.Fields {
			names = append(names, f.Field)
		}
	}
	return names
}

func TestEveryBadSettingIsNamed(t *testing.T) {
	t.Parallel()
	s := NewChannels(&shelf{}, &pigeon{})
	for name, c := range map[string]struct {
		config map[string]any
		fields []string
	}{
		"nothing":      {nil, []string{"config.url"}},
		"blank":        {map[string]any{"url": "  "}, []string{"config.url"}},
		"no URL":       {map[string]any{"url": "ftp://x"}, []string{"config.url"}},
		"credentials":  {map[string]any{"url": "https://u:p@x"}, []string{"config.url"}},
		"a line break": {map[string]any{"url": "https://x\r\nHost: y"}, []string{"config.url"}},
		"a number":     {map[string]any{"url": 7.0}, []string{"config.url"}},
		"unknown":      {map[string]any{"url": "https://x", "urls": "y"}, []string{"config.urls"}},
		"many": {map[string]any{"url": "https://x", "port": 70000.0, "mode": "c", "host": "http://x", "from": "x", "to": "a@b.c, x", "ca": "x", "secret": "a\x00"},
			[]string{"config.ca", "config.from", "config.host", "config.mode", "config.port", "config.secret", "config.to"}},
	} {
		_, err := s.Create(t.Context(), NewChannel{Name: "n", Type: "webhook", Config: c.config})
		require.Equal(t, CodeInvalidChannel, errs.CodeOf(err), name)
		require.Equal(t, c.fields, fieldsOf(err), name)
	}
	_, err := s.Create(t.Context(), NewChannel{Name: " ", Type: "webhook"})
	require.Equal(t, []string{"name", "config.url"}, fieldsOf(err))
	_, err = s.Create(t.Context(), NewChannel{Name: "n", Type: "fax"})
	require.Equal(t, []string{"type"}, fieldsOf(err))
}

func TestSecretsAreShownAsSetAndStayUnlessTheAddressChanges(t *testing.T) {
	t.Parallel()
	s := NewChannels(&shelf{}, &pigeon{})
	c, err := s.Create(t.Context(), NewChannel{Name: "n", Type: "webhook", Config: map[string]any{"url": " https://x ", "secret": "s"}})
	require.NoError(t, err)
	require.True(t, c.Enabled)
	require.Equal(t, Info, c.MinSeverity)
	set := map[string]any{"set": true}
	require.Equal(t, map[string]any{"url": "https://x", "secret": set}, ConfigView(c))
	require.Nil(t, ConfigView(Channel{}))

	update := func(config map[string]any) error {
		c, err = s.Update(t.Context(), c.ID, ChannelPatch{Config: config})
		return err
	}
	require.NoError(t, update(map[string]any{"mode": "a", "secret": set}))
	require.Equal(t, map[string]any{"secret": "s"}, c.Secrets)
	kept := c
	for _, moved := range []map[string]any{{"url": "https://evil"}, {"url": "https://evil", "secret": set}} {
		require.Equal(t, []string{"config.secret"}, fieldsOf(update(moved)))
	}
	c = kept
	require.NoError(t, update(map[string]any{"url": "https://x"}), "the same address is no change")
	require.NoError(t, update(map[string]any{"url": "https://new", "secret": "t"}))
	require.Equal(t, map[string]any{"secret": "t"}, c.Secrets)
	require.NoError(t, update(map[string]any{"url": "https://other", "secret": nil}), "without the secret it may move")
	require.Empty(t, c.Secrets)

	secret := hook
	secret.Fields = append([]Field{{Name: "url", Kind: URLField, Required: true, Secret: true, Place: true}}, hook.Fields[1:]...)
	old := &shelf{c: Channel{ID: "1", Type: "webhook", Config: map[string]any{"url": "https://x/key", "mode": "a"}, Secrets: map[string]any{"secret": "s"}}}
	later := NewChannels(old, &pigeon{types: []ChannelType{secret}})
	on := map[string]any{"set": true, "host": "x"}
	got, err := later.Get(t.Context(), "1")
	require.NoError(t, err)
	require.Equal(t, map[string]any{"url": on, "mode": "a", "secret": set}, ConfigView(got), "it was stored when the address was no secret")
	got, err = later.Update(t.Context(), "1", ChannelPatch{Config: map[string]any{"url": on, "mode": "b"}})
	require.NoError(t, err)
	require.Equal(t, map[string]any{"url": on, "mode": "b", "secret": set}, ConfigView(got))
	require.Equal(t, map[string]any{"url": "https://x/key", "secret": "s"}, old.c.Secrets)
	_, err = later.Update(t.Context(), "1", ChannelPatch{Config: map[string]any{"url": "https://evil/key"}})
	require.Equal(t, []string{"config.secret"}, fieldsOf(err))

	types, off, name, most := []Type{BackupFailed}, false, "m", 30
	c, err = s.Update(t.Context(), c.ID, ChannelPatch{Name: &name, Types: &types, MinSeverity: Critical, Enabled: &off, MaxPerHour: &most})
	require.NoError(t, err)
	require.Equal(t, []any{"m", types, Critical, false, 30}, []any{c.Name, c.Types, c.MinSeverity, c.Enabled, c.MaxPerHour})
}

// rack keeps channels, some of which do not open.
type rack struct {
	ChannelStore
	shelves []*shelf
	broken  map[string]error
}

func (r *rack) List(_ context.Context, p paging.Page) ([]Channel, int, error) {
	first := min((p.Number-1)*p.Limit, len(r.shelves))
	var page []Channel
	for _, s := range r.shelves[first:min(first+p.Limit, len(r.shelves))] {
		page = append(page, Channel{ID: s.c.ID, Name: s.c.Name, Type: s.c.Type})
	}
	return page, len(r.shelves), nil
}

func (r *rack) find(id string) (*shelf, error) {
	for _, s := range r.shelves {
		if s.c.ID == id {
			return s, r.broken[id]
		}
	}
	return nil, errs.New(errs.NotFound, errs.CodeNotFound, "no such channel")
}

func (r *rack) Get(_ context.Context, id string) (Channel, error) {
	s, err := r.find(id)
	if err != nil {
		return Channel{}, err
	}
	return s.c, nil
}

func (r *rack) Update(ctx context.Context, id string, change func(*Channel) error) (Channel, error) {
	s, err := r.find(id)
	if err != nil {
		return Channel{}, err
	}
	return s.Update(ctx, id, change)
}

func TestAChannelThatDoesNotOpenKeepsNoOtherFromBeingSealed(t *testing.T) {
	t.Parallel()
	secret := ChannelType{Name: "webhook", Fields: []Field{{Name: "url", Kind: URLField, Secret: true}}}
	r := &rack{broken: map[string]error{
		"3":   errs.New(errs.Internal, errs.CodeInternal, "it does not open"),
		"120": errs.New(errs.NotFound, errs.CodeNotFound, "deleted meanwhile"),
	}}
	const all = 2*paging.MaxLimit + 5
	for i := range all {
		r.shelves = append(r.shelves, &shelf{c: Channel{ID: strconv.Itoa(i), Name: fmt.Sprint("channel ", i), Type: "webhook", Config: map[string]any{"url": "https://x"}}})
	}
	changed, err := NewChannels(r, &pigeon{types: []ChannelType{secret}}).Seal(t.Context())
	require.ErrorContains(t, err, `"channel 3": it does not open`)
	require.NotContains(t, err.Error(), "channel 120")
	require.Equal(t, all-2, changed)
	for id, s := range r.shelves {
		require.Equal(t, r.broken[strconv.Itoa(id)] != nil, s.c.Config["url"] != nil, id)
	}
	delete(r.broken, "3")
	changed, err = NewChannels(r, &pigeon{types: []ChannelType{secret}}).Seal(t.Context())
	require.NoError(t, err)
	require.Equal(t, 1, changed)
}

func TestATestSaysWhatCameOfIt(t *testing.T) {
	t.Parallel()
	p := &pigeon{}
	s := NewChannels(&shelf{c: Channel{ID: "c", Name: "ops"}}, p)
	sent, err := s.Test(t.Context(), "c")
	require.NoError(t, err)
	require.NoError(t, sent)
	require.Contains(t, p.sent[0].Title, "ops")
	p.err = errors.New("no")
	sent, err = s.Test(t.Context(), "c")
	require.NoError(t, err)
	require.ErrorIs(t, sent, p.err)
}
