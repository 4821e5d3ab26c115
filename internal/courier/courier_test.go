package courier

import (
	"context"
	"encoding/json"
	"flag"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/netguard"
	"github.com/dataguardian/dataguardian/internal/notification"
)

const deliveryID = "0f0e0d0c-0b0a-4a0b-8c0d-0e0f00010203"

// nasty quotes what a database may say.
func nasty() notification.Notification {
	return notification.Notification{
		ID: "11111111-2222-4333-8444-555555555555", Type: notification.BackupFailed, Severity: notification.Critical,
		EntityType: notification.BackupJob, EntityID: "99999999-2222-4333-8444-555555555555",
		Title:     "Backup of shop\r\nBcc: x@example.com failed",
		Message:   "@all <!channel> <at user_id=\"all\"> **bold** \x1b[31m\u202e \x00 could not be <b>reached</b> & more.",
		Metadata:  map[string]any{"error_code": "DATASOURCE_LOST"},
		CreatedAt: time.Date(2026, 11, 24, 3, 0, 0, 0, time.UTC),
	}
}

// sent is a request as the receiver got it.
type sent struct {
	method, url, body string
	header            http.Header
}

// recorder stands for every receiver.
type recorder struct {
	got    []sent
	status int
	answer string
}

func (r *recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	r.got = append(r.got, sent{req.Method, req.URL.String(), string(body), req.Header})
	return &http.Response{StatusCode: r.status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(r.answer)), Request: req}, nil
}

// example holds, for every type, settings that fill each field, where the message
// must go, and what must be in it.
var example = map[string]struct {
	config map[string]any
	url    string
	says   []string // in the body or a header
	good   string   // an answer that means success
	bad    string   // an answer with status 200 that means failure; empty: there is none
}{
	"webhook":       {config: map[string]any{"url": "https://h.example/x?y=1", "secret": "s3cret", "authorization": "Bearer t0ken"}, url: "https://h.example/x?y=1", says: []string{`"type":"backup_failed"`, `"id":"` + deliveryID, "Bearer t0ken", "sha256="}},
	"ifttt":         {config: map[string]any{"key": "k3y0", "event": "down"}, url: "https://maker.ifttt.com/trigger/down/with/key/k3y0", says: []string{"value1"}},
	"alertmanager":  {config: map[string]any{"url": "http://am:9093/", "authorization": "Bearer t0ken"}, url: "http://am:9093/api/v2/alerts", says: []string{`"alertname":"dataguardian_backup_failed"`, "Bearer t0ken"}},
	"slack":         {config: map[string]any{"url": "https://hooks.slack.com/services/T/B/X"}, url: "https://hooks.slack.com/services/T/B/X", says: []string{"&lt;!channel&gt;", "#d93025"}, good: "ok"},
	"discord":       {config: map[string]any{"url": "https://discord.com/api/webhooks/1/x"}, url: "https://discord.com/api/webhooks/1/x", says: []string{`"allowed_mentions":{"parse":[]}`}},
	"teams":         {config: map[string]any{"url": "https://t.example/workflows/x"}, url: "https://t.example/workflows/x", says: []string{"AdaptiveCard", `\\*\\*bold`}},
	"mattermost":    {config: map[string]any{"url": "https://mm.example/hooks/x", "channel": "town"}, url: "https://mm.example/hooks/x", says: []string{"@\u200ball", `"channel":"town"`}},
	"rocketchat":    {config: map[string]any{"url": "https://rc.example/hooks/x", "channel": "#ops"}, url: "https://rc.example/hooks/x", says: []string{"@\u200ball", "#ops"}, good: `{"success":true}`, bad: `{"success":false,"error":"no such room"}`},
	"googlechat":    {config: map[string]any{"url": "https://chat.googleapis.com/v1/spaces/S/messages?key=k&token=t"}, url: "https://chat.googleapis.com/v1/spaces/S/messages?key=k&token=t", says: []string{"cardsV2", "&lt;b&gt;"}},
	"telegram":      {config: map[string]any{"bot_token": "1:abc", "chat_id": "-100", "thread_id": "7"}, url: "https://api.telegram.org/bot1:abc/sendMessage", says: []string{`"chat_id":"-100"`, `"message_thread_id":7`}, good: `{"ok":true}`, bad: `{"ok":false,"description":"chat not found"}`},
	"matrix":        {config: map[string]any{"url": "https://m.example", "access_token": "t0ken", "room_id": "!r:m.example"}, url: "https://m.example/_matrix/client/v3/rooms/%21r:m.example/send/m.room.message/" + deliveryID, says: []string{"m.text", "Bearer t0ken"}},
	"zulip":         {config: map[string]any{"url": "https://z.example", "email": "bot@z.example", "api_key": "k3y0", "stream": "ops", "topic": "db"}, url: "https://z.example/api/v1/messages", says: []string{"to=ops", "topic=db", "Basic Ym90QHouZXhhbXBsZTprM3kw"}},
	"webex":         {config: map[string]any{"token": "t0ken", "room_id": "r"}, url: "https://webexapis.com/v1/messages", says: []string{`"roomId":"r"`, "Bearer t0ken"}},
	"lark":          {config: map[string]any{"url": "https://open.larksuite.com/open-apis/bot/v2/hook/x", "secret": "s3cret"}, url: "https://open.larksuite.com/open-apis/bot/v2/hook/x", says: []string{"plain_text", `"sign":"`}, good: `{"code":0}`, bad: `{"code":19021,"msg":"sign match fail"}`},
	"dingtalk":      {config: map[string]any{"url": "https://oapi.dingtalk.com/robot/send?access_token=x", "secret": "s3cret"}, url: "https://oapi.dingtalk.com/robot/send?access_token=x&sign=", says: []string{"msgtype"}, good: `{"errcode":0}`, bad: `{"errcode":310000,"errmsg":"sign not match"}`},
	"wecom":         {config: map[string]any{"url": "https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key=x"}, url: "https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key=x", says: []string{"msgtype"}, good: `{"errcode":0}`, bad: `{"errcode":93000,"errmsg":"invalid webhook url"}`},
	"gotify":        {config: map[string]any{"url": "https://g.example/", "token": "t0ken"}, url: "https://g.example/message", says: []string{`"priority":8`, "t0ken"}},
	"ntfy":          {config: map[string]any{"topic": "dg-topic", "token": "t0ken"}, url: "https://ntfy.sh/", says: []string{`"topic":"dg-topic"`, "Bearer t0ken"}},
	"pushover":      {config: map[string]any{"token": "t0ken", "user_key": "us3r", "device": "d"}, url: "https://api.pushover.net/1/messages.json", says: []string{"priority=1", "user=us3r", "device=d"}, good: `{"status":1}`, bad: `{"status":0,"errors":["user is invalid"]}`},
	"pushbullet":    {config: map[string]any{"token": "t0ken", "device": "d", "channel": "c"}, url: "https://api.pushbullet.com/v2/pushes", says: []string{"t0ken", `"guid":"` + deliveryID, "device_iden", "channel_tag"}},
	"bark":          {config: map[string]any{"device_key": "k3y0"}, url: "https://api.day.app/push", says: []string{"timeSensitive"}, good: `{"code":200}`, bad: `{"code":400,"message":"no device"}`},
	"signal":        {config: map[string]any{"url": "http://signal:8080", "number": "+491", "recipients": "+492, +493", "authorization": "Bearer t0ken"}, url: "http://signal:8080/v2/send", says: []string{`["+492","+493"]`, "Bearer t0ken"}},
	"twilio":        {config: map[string]any{"account_sid": "AC1", "auth_token": "t0ken", "from": "+1", "to": "+2"}, url: "https://api.twilio.com/2010-04-01/Accounts/AC1/Messages.json", says: []string{"To=%2B2", "Basic "}},
	"pagerduty":     {config: map[string]any{"routing_key": "k3y0", "region": "eu"}, url: "https://events.eu.pagerduty.com/v2/enqueue", says: []string{`"event_action":"trigger"`, `"severity":"critical"`}},
	"opsgenie":      {config: map[string]any{"api_key": "k3y0", "region": "eu"}, url: "https://api.eu.opsgenie.com/v2/alerts", says: []string{`"priority":"P1"`, "GenieKey k3y0"}},
	"splunkoncall":  {config: map[string]any{"url": "https://alert.victorops.com/integrations/generic/x"}, url: "https://alert.victorops.com/integrations/generic/x", says: []string{"CRITICAL"}, good: `{"result":"success"}`, bad: `{"result":"failure","message":"bad key"}`},
	"homeassistant": {config: map[string]any{"url": "http://ha:8123", "token": "t0ken", "service": "phone"}, url: "http://ha:8123/api/services/notify/phone", says: []string{"Bearer t0ken"}},
}

// channelOf makes a channel of settings, as the domain parts them.
func channelOf(t *testing.T, c *Courier, name string, config map[string]any) notification.Channel {
	t.Helper()
	ch := notification.Channel{ID: "22222222-2222-4333-8444-555555555555", Name: "ops", Type: name, Config: map[string]any{}, Secrets: map[string]any{}}
	for key, value := range config {
		f, known := c.receivers[name].Field(key)
		require.True(t, known, "%s has no setting %q", name, key)
		if f.Secret {
			ch.Secrets[key] = value
		} else {
			ch.Config[key] = value
		}
	}
	return ch
}

func TestEveryReceiverGetsTheMessageInItsForm(t *testing.T) {
	t.Parallel()
	c := New(netguard.Policy{})
	for _, kind := range c.Types() {
		if kind.Name == "smtp" {
			continue // see the tests of mail
		}
		t.Run(kind.Name, func(t *testing.T) {
			e, has := example[kind.Name]
			require.True(t, has, "no example")
			for _, f := range kind.Fields {
				_, set := e.config[f.Name]
				require.True(t, set || f.Name == caName || f.Default != "" && f.Kind == notification.URLField, "%s is not in the example", f.Name)
			}
			r := &recorder{status: http.StatusOK, answer: e.good}
			c := New(netguard.Policy{})
			c.transport = r
			ch := channelOf(t, c, kind.Name, e.config)
			require.NoError(t, c.Send(t.Context(), ch, nasty(), deliveryID))
			require.Len(t, r.got, 1)
			got := r.got[0]
			require.True(t, strings.HasPrefix(got.url, e.url), got.url)
			all := got.body
			for _, values := range got.header {
				all += "\n" + strings.Join(values, "\n")
			}
			for _, part := range e.says {
				require.Contains(t, strings.ReplaceAll(strings.ReplaceAll(all, `\u003c`, "<"), `\u0026`, "&"), strings.ReplaceAll(part, "&gt;", `&gt;`))
			}
			if strings.Contains(got.header.Get("Content-Type"), "json") {
				require.True(t, json.Valid([]byte(got.body)), got.body)
			}
			if kind.Name != "webhook" { // programs get it as it is, in JSON
				require.NotContains(t, got.body, `\u001b`)
				require.NotContains(t, got.body, `\u202e`)
				require.NotContains(t, got.body, "%1B")
			}
			for _, value := range got.header {
				require.NotContains(t, strings.Join(value, ""), "Bcc")
			}

			r.status, r.answer = http.StatusInternalServerError, "try later"
			err := c.Send(t.Context(), ch, nasty(), deliveryID)
			require.Equal(t, notification.CodeChannelUnreachable, errs.CodeOf(err))
			require.True(t, notification.Unsound(err))
			r.status = http.StatusUnauthorized
			require.Equal(t, notification.CodeChannelAuth, errs.CodeOf(c.Send(t.Context(), ch, nasty(), deliveryID)))
			r.status, r.answer = http.StatusBadRequest, "no "+strings.Join(secretsOf(ch), " ")
			err = c.Send(t.Context(), ch, nasty(), deliveryID)
			require.Equal(t, notification.CodeChannelRefused, errs.CodeOf(err))
			require.False(t, notification.Unsound(err))
			for _, text := range secretsOf(ch) {
				require.NotContains(t, errs.Message(err), text)
				r.answer = strings.Repeat("-", maxQuote-len(text)/2) + text // what is quoted ends within it
				require.NotContains(t, errs.Message(c.Send(t.Context(), ch, nasty(), deliveryID)), "-"+text[:2])
			}
			if e.bad != "" {
				r.status, r.answer = http.StatusOK, e.bad
				require.Equal(t, notification.CodeChannelRefused, errs.CodeOf(c.Send(t.Context(), ch, nasty(), deliveryID)))
			}
		})
	}
	for name := range example {
		require.Contains(t, c.receivers, name)
	}
}

func secretsOf(ch notification.Channel) []string {
	var texts []string
	for _, value := range ch.Secrets {
		if text, ok := value.(string); ok {
			texts = append(texts, text)
		}
	}
	return texts
}

func TestTheEventThatEndsAConditionResolvesItsIncident(t *testing.T) {
	t.Parallel()
	begins, ends := nasty(), nasty()
	begins.Type, ends.Type = notification.StorageFull, notification.StorageRestored
	ends.Severity = notification.Info
	for name, says := range map[string][2]string{
		"pagerduty": {`"event_action":"trigger"`, `"event_action":"resolve"`}, "splunkoncall": {"CRITICAL", "RECOVERY"}, "opsgenie": {"/v2/alerts", "/close"},
	} {
		r := &recorder{status: http.StatusAccepted, answer: `{"result":"success"}`}
		c := New(netguard.Policy{})
		c.transport = r
		ch := channelOf(t, c, name, example[name].config)
		require.NoError(t, c.Send(t.Context(), ch, begins, deliveryID))
		require.NoError(t, c.Send(t.Context(), ch, ends, deliveryID))
		key := dedup(note{begins})
		for i := range 2 {
			require.Contains(t, r.got[i].url+r.got[i].body, says[i], name)
			require.Contains(t, r.got[i].url+r.got[i].body, key, name)
		}
	}
}

func TestAWebhookIsSignedAsTheManualSays(t *testing.T) {
	t.Parallel()
	var got sent
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got = sent{method: r.Method, body: string(body), header: r.Header}
	}))
	t.Cleanup(server.Close)
	c := New(netguard.Policy{})
	ch := channelOf(t, c, "webhook", map[string]any{"url": server.URL, "secret": "sésame"})
	require.NoError(t, c.Send(t.Context(), ch, nasty(), deliveryID))
	require.Equal(t, http.MethodPost, got.method)
	require.Equal(t, deliveryID, got.header.Get("X-DataGuardian-Delivery"))
	require.Equal(t, "backup_failed", got.header.Get("X-DataGuardian-Event"))
	stamp := got.header.Get("X-DataGuardian-Timestamp")
	require.Equal(t, "sha256="+Sign("sésame", stamp, []byte(got.body)), got.header.Get("X-DataGuardian-Signature"))
	// As openssl has it: printf '%s' '1700000000.{}' | openssl dgst -sha256 -hmac key
	require.Equal(t, "9d713ed406bb7076d4123f0dc2c39d2df5c654ed4b0cd56b52c8b4c940bd63ae", Sign("key", "1700000000", []byte("{}")))
	var m map[string]any
	require.NoError(t, json.Unmarshal([]byte(got.body), &m))
	require.Equal(t, nasty().Message, m["message"])
	require.Equal(t, map[string]any{"id": ch.ID, "name": "ops"}, m["channel"])
}

// The attackers' rule: an address that must not be reached is refused when it is
// dialled, whatever leads there.
func TestNothingLeadsToAddressesThatMustNotBeReached(t *testing.T) {
	t.Parallel()
	hit := false
	private := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { hit = true }))
	t.Cleanup(private.Close)
	strict := New(netguard.Policy{BlockPrivate: true})
	for name, c := range map[string]struct {
		courier *Courier
		url     string
	}{
		"metadata":             {New(netguard.Policy{}), "http://169.254.169.254/"},
		"link-local":           {New(netguard.Policy{}), "http://[fe80::1]/"},
		"IPv4 inside of IPv6":  {New(netguard.Policy{}), "http://[::ffff:169.254.169.254]/"},
		"a name that resolves": {strict, strings.Replace(private.URL, "127.0.0.1", "localhost", 1)},
	} {
		err := c.courier.Send(t.Context(), channelOf(t, c.courier, "webhook", map[string]any{"url": c.url}), nasty(), deliveryID)
		require.Equal(t, notification.CodeChannelBlocked, errs.CodeOf(err), "%s: %v", name, err)
	}
	mail := channelOf(t, strict, "smtp", map[string]any{"host": "localhost", "port": 25.0, "from": "a@example.com", "to": "b@example.com"})
	require.Equal(t, notification.CodeChannelBlocked, errs.CodeOf(strict.Send(t.Context(), mail, nasty(), deliveryID)))
	require.False(t, hit)
}

// A redirect would lead around what was set, or turn the message into a mere look.
func TestARedirectIsNotFollowedAndSaysWhereItPoints(t *testing.T) {
	t.Parallel()
	elsewhere := 0
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere++ }))
	t.Cleanup(other.Close)
	for _, target := range []string{other.URL + "/T0KEN", "http://169.254.169.254/latest/meta-data/"} {
		for _, status := range []int{301, 302, 303, 307, 308} {
			first := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, target, status) }))
			t.Cleanup(first.Close)
			c := New(netguard.Policy{})
			ch := channelOf(t, c, "webhook", map[string]any{"url": first.URL, "secret": "s3cret", "authorization": "Bearer t0ken"})
			err := c.Send(t.Context(), ch, nasty(), deliveryID)
			require.Equal(t, notification.CodeChannelAuth, errs.CodeOf(err))
			require.Contains(t, errs.Message(err), "points to http://")
			require.NotContains(t, errs.Message(err), "T0KEN")
		}
	}
	require.Zero(t, elsewhere)
}

func TestAReceiverMayAskToBeLeftAlone(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]time.Duration{"": 0, "junk": 0, "-1": 0, "2": 3 * time.Second, "0.5": 1500 * time.Millisecond, "99999999999": time.Hour, "Mon, 01 Jan 2001 00:00:00 GMT": 0} {
		require.Equal(t, want, retryAfter(value), value)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "30")
		w.WriteHeader(http.StatusTooManyRequests)
	}))
	t.Cleanup(server.Close)
	c := New(netguard.Policy{})
	err := c.Send(t.Context(), channelOf(t, c, "webhook", map[string]any{"url": server.URL}), nasty(), deliveryID)
	require.Equal(t, 31*time.Second, notification.RetryAfter(err))
	require.True(t, notification.Unsound(err))
}

func TestACertificateOfAPrivateAuthorityIsTrustedOnRequest(t *testing.T) {
	t.Parallel()
	server := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(server.Close)
	c := New(netguard.Policy{})
	config := map[string]any{"url": server.URL}
	err := c.Send(t.Context(), channelOf(t, c, "webhook", config), nasty(), deliveryID)
	require.Equal(t, notification.CodeChannelUnreachable, errs.CodeOf(err))
	require.Contains(t, errs.Message(err), "ca_certificate")
	config["ca_certificate"] = pemOf(server.Certificate().Raw)
	require.NoError(t, c.Send(t.Context(), channelOf(t, c, "webhook", config), nasty(), deliveryID))
}

func TestAReceiverThatIsGoneIsNamedWithoutItsSecretAddress(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.NotFoundHandler())
	address := server.URL + "/services/T0KEN"
	server.Close()
	c := New(netguard.Policy{})
	err := c.Send(t.Context(), channelOf(t, c, "slack", map[string]any{"url": address}), nasty(), deliveryID)
	require.Equal(t, notification.CodeChannelUnreachable, errs.CodeOf(err))
	require.NotContains(t, errs.Message(err), "T0KEN")
	require.Subset(t, partsOf("https://h.example/hooks/key123/?token=s3cret"), []string{"key123", "s3cret"}, "an answer may repeat them")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.Equal(t, errs.Cancelled, errs.KindOf(c.Send(ctx, channelOf(t, c, "slack", map[string]any{"url": address}), nasty(), deliveryID)))
	require.Equal(t, errs.CodeNotImplemented, errs.CodeOf(c.Send(t.Context(), notification.Channel{Type: "pigeon"}, nasty(), deliveryID)))
}

var update = flag.Bool("update", false, "write the table of channels into the manual")

// The manual has the table of all types between two marks.
func TestTheManualListsEveryTypeWithItsSettings(t *testing.T) {
	t.Parallel()
	path := filepath.Join("..", "..", "docs", "operations.md")
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	before, rest, ok := strings.Cut(string(raw), "<!-- channels -->\n")
	require.True(t, ok)
	table, after, ok := strings.Cut(rest, "<!-- /channels -->")
	require.True(t, ok)
	want := Reference(New(netguard.Policy{}).Types())
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(before+"<!-- channels -->\n"+want+"<!-- /channels -->"+after), 0o600))
		return
	}
	require.Equal(t, want, table, "run: go test ./internal/courier -run Manual -update")
}

func TestEveryAddressOfTheTableIsOne(t *testing.T) {
	t.Parallel()
	for _, kind := range New(netguard.Policy{}).Types() {
		names := map[string]bool{}
		for _, f := range kind.Fields {
			require.False(t, names[f.Name], "%s has %s twice", kind.Name, f.Name)
			names[f.Name] = true
			require.NotEmpty(t, f.Help)
			if f.Kind == notification.URLField && f.Default != "" {
				_, err := url.ParseRequestURI(f.Default)
				require.NoError(t, err)
			}
			require.Equal(t, f.Kind == notification.ChoiceField, len(f.Choices) > 0)
		}
	}
}
