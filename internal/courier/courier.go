// Package courier sends notifications to the receivers people use: their own
// programs over webhooks, mail, chats, phones and on-call services. Each type of
// receiver is one entry of a table: its settings, and how to send to it. All go
// through one client that reaches no address it must not reach.
package courier

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/logs"
	"github.com/dataguardian/dataguardian/internal/netguard"
	"github.com/dataguardian/dataguardian/internal/notification"
)

// sendTimeout bounds one try, from the first look-up of a name to the last byte of
// the answer.
const sendTimeout = 15 * time.Second

// receiver is one entry of the table.
type receiver struct {
	notification.ChannelType
	send func(ctx context.Context, s *session) error
}

// Courier sends. It is safe for concurrent use.
type Courier struct {
	policy    netguard.Policy
	receivers map[string]receiver
	types     []notification.ChannelType
	transport http.RoundTripper // for what needs no certificates of its own
}

var _ notification.Courier = (*Courier)(nil)

// New returns a courier that reaches what policy allows.
func New(policy netguard.Policy) *Courier {
	c := &Courier{policy: policy, receivers: map[string]receiver{}, transport: policy.Transport()}
	for _, r := range slices.Concat(hooks(), mails(), chats(), asianChats(), pushes(), alarms(), homes()) {
		c.receivers[r.Name] = r
		c.types = append(c.types, r.ChannelType)
	}
	slices.SortFunc(c.types, func(a, b notification.ChannelType) int { return cmp.Compare(a.Name, b.Name) })
	return c
}

// Types implements notification.Courier.
func (c *Courier) Types() []notification.ChannelType { return c.types }

// Send implements notification.Courier.
func (c *Courier) Send(ctx context.Context, to notification.Channel, n notification.Notification, deliveryID string) error {
	r, known := c.receivers[to.Type]
	if !known {
		return errs.New(errs.Unimplemented, errs.CodeNotImplemented, "this server knows no channel of the type %q; a newer one made it", to.Type)
	}
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	s := &session{courier: c, receiver: r, channel: to, note: note{n}, deliveryID: deliveryID}
	return s.told(r.send(ctx, s))
}

// session is one try to send.
type session struct {
	courier    *Courier
	receiver   receiver
	channel    notification.Channel
	note       note
	deliveryID string
}

// text returns a setting, or what applies when it is absent.
func (s *session) text(name string) string {
	for _, from := range []map[string]any{s.channel.Secrets, s.channel.Config} {
		if v, ok := from[name].(string); ok && v != "" {
			return v
		}
	}
	f, _ := s.receiver.Field(name)
	return f.Default
}

// port returns the setting of that name, which JSON reads as a float; 0 when it is
// absent.
func (s *session) port() int {
	switch v := s.channel.Config["port"].(type) {
	case float64:
		return int(v)
	case int:
		return v
	}
	return 0
}

// recipients returns the parts of the setting of that name, which commas separate.
func (s *session) recipients() []string {
	var parts []string
	for part := range strings.SplitSeq(s.text("recipients"), ",") {
		if part = strings.TrimSpace(part); part != "" {
			parts = append(parts, part)
		}
	}
	return parts
}

// base returns the address of the receiver's server, without a final slash.
func (s *session) base() string { return strings.TrimRight(s.text("url"), "/") }

// trust returns the TLS settings of a receiver on host.
func (s *session) trust(host string) *tls.Config {
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host}
	if pem := s.text(caName); pem != "" {
		roots, err := x509.SystemCertPool()
		if err != nil {
			roots = x509.NewCertPool() // the receiver's own is enough
		}
		roots.AppendCertsFromPEM([]byte(pem))
		config.RootCAs = roots
	}
	return config
}

func (s *session) dialer() *net.Dialer { return s.courier.policy.Dialer() }

// told is err without the secrets of the channel: what a receiver answers may
// repeat them.
func (s *session) told(err error) error {
	if err == nil {
		return nil
	}
	e := errs.As(err)
	if e == nil {
		e = errs.Wrap(err, errs.Internal, errs.CodeInternal, "the message could not be put together")
	}
	clean := *e
	clean.Msg = s.redactor().Redact(clean.Msg)
	return &clean
}

// redactor masks the secrets of the channel, and the parts of secret addresses that
// a receiver may quote.
func (s *session) redactor() *logs.Redactor {
	var secrets []string
	for _, f := range s.receiver.Fields {
		text := s.text(f.Name)
		if !f.Secret || len(text) < shortestSecret {
			continue
		}
		secrets = append(secrets, text)
		if f.Kind == notification.URLField {
			secrets = append(secrets, partsOf(text)...)
		}
	}
	return logs.NewRedactor(secrets...)
}

// partsOf returns what follows the host of an address, and what in it is long enough
// to be a key.
func partsOf(address string) (parts []string) {
	u, err := url.Parse(address)
	if err != nil {
		return nil
	}
	candidates := append(strings.Split(u.Path, "/"), u.RawQuery, u.Path, u.RequestURI())
	for _, part := range candidates {
		if len(part) >= shortestKey {
			parts = append(parts, part)
		}
	}
	likely := []string{path.Base(u.Path)}
	for _, values := range u.Query() {
		likely = append(likely, values...)
	}
	for _, part := range likely {
		if len(part) >= shortestLikelyKey {
			parts = append(parts, part)
		}
	}
	return parts
}

// shortestSecret is the length below which a secret is likely to be a part of
// ordinary words.
const shortestSecret = 4

// shortestKey is the same for a part of an address; the last one of a path and the
// values of a query are likely to be keys.
const (
	shortestKey       = 12
	shortestLikelyKey = 6
)
