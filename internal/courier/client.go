package courier

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/netguard"
	"github.com/dataguardian/dataguardian/internal/notification"
)

const (
	maxAnswer = 64 << 10  // bytes of an answer that are read
	maxQuote  = 200       // characters of an answer that are quoted
	maxPause  = time.Hour // the longest a receiver may ask to be left alone
	userAgent = "dataguardian"
)

// request is one HTTP request of a session.
type request struct {
	method string // POST when empty
	url    string
	header map[string]string
	body   []byte
	kind   string                     // of the body; JSON when empty
	refuse func(answer []byte) string // finds an error in an answer with a good status; may be nil
}

// post sends v as JSON.
func (s *session) post(ctx context.Context, url string, v any, more ...func(*request)) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	r := request{url: url, body: body}
	for _, change := range more {
		change(&r)
	}
	return s.do(ctx, r)
}

// postForm sends values as a form.
func (s *session) postForm(ctx context.Context, url string, values url.Values, more ...func(*request)) error {
	r := request{url: url, body: []byte(values.Encode()), kind: "application/x-www-form-urlencoded"}
	for _, change := range more {
		change(&r)
	}
	return s.do(ctx, r)
}

// header adds a header.
func header(name, value string) func(*request) {
	return func(r *request) {
		if r.header == nil {
			r.header = map[string]string{}
		}
		r.header[name] = value
	}
}

// put sends with PUT.
func put(r *request) { r.method = http.MethodPut }

// refusedWhen finds an error in an answer whose status is good.
func refusedWhen(refuse func(answer []byte) string) func(*request) {
	return func(r *request) { r.refuse = refuse }
}

func (s *session) do(ctx context.Context, r request) error {
	if r.method == "" {
		r.method = http.MethodPost
	}
	if r.kind == "" {
		r.kind = "application/json"
	}
	req, err := http.NewRequestWithContext(ctx, r.method, r.url, bytes.NewReader(r.body))
	if err != nil { // the cause quotes the address, which may be secret
		return errs.New(errs.Invalid, notification.CodeInvalidChannel, "the address of the receiver cannot be understood; set it again")
	}
	req.Header.Set("User-Agent", userAgent)
	req.Header.Set("Content-Type", r.kind)
	for name, value := range r.header {
		req.Header.Set(name, value)
	}
	client, done := s.client()
	defer done()
	res, err := client.Do(req)
	if err != nil {
		return unreachable(err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return unreachable(err)
	}
	answer = []byte(s.redactor().Redact(string(answer))) // before any of it is cut
	if res.StatusCode >= http.StatusMultipleChoices {
		return refused(res, answer)
	}
	if r.refuse != nil {
		if why := r.refuse(answer); why != "" {
			return errs.New(errs.Invalid, notification.CodeChannelRefused, "the receiver refused the message: %s", quote([]byte(why)))
		}
	}
	return nil
}

// client returns a client that follows no redirect: it would turn the message into a
// mere look at another page, or carry it to where nobody has sent it.
func (s *session) client() (client *http.Client, done func()) {
	transport, done := s.courier.transport, func() {}
	if s.text(caName) != "" {
		own := s.courier.policy.Transport()
		own.TLSClientConfig = s.trust("")
		own.TLSClientConfig.NextProtos = []string{"h2", "http/1.1"}
		transport, done = own, own.CloseIdleConnections
	}
	return &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}, done
}

// unreachable says why there was no answer. The error of a client quotes the
// address, which may be secret: it is taken apart.
func unreachable(err error) error {
	if outer, ok := errors.AsType[*url.Error](err); ok {
		err = outer.Err
	}
	var certificate *tls.CertificateVerificationError
	switch {
	case errors.Is(err, netguard.ErrBlocked):
		return errs.Wrap(err, errs.Denied, notification.CodeChannelBlocked,
			"the receiver's address is link-local or belongs to a metadata service, which this server never connects to; set another address")
	case errors.Is(err, context.Canceled):
		return errs.Wrap(err, errs.Cancelled, errs.CodeCancelled, "the message was not sent to its end")
	case errors.Is(err, context.DeadlineExceeded):
		return errs.Wrap(err, errs.Unavailable, notification.CodeChannelUnreachable, "the receiver did not answer within %s", sendTimeout)
	case errors.As(err, &certificate):
		return errs.Wrap(err, errs.Unavailable, notification.CodeChannelUnreachable,
			"the receiver's certificate is not trusted (%v); set ca_certificate if its authority is a private one", quote([]byte(certificate.Err.Error())))
	}
	return errs.Wrap(err, errs.Unavailable, notification.CodeChannelUnreachable, "the receiver cannot be reached: %s", quote([]byte(err.Error())))
}

// refused says what an answer with a bad status means.
func refused(res *http.Response, answer []byte) error {
	status := fmt.Sprintf("%d %s", res.StatusCode, http.StatusText(res.StatusCode))
	said := ""
	if text := quote(answer); text != "" {
		said = ": " + text
	}
	if to, err := res.Location(); err == nil && res.StatusCode < http.StatusBadRequest {
		return errs.New(errs.Denied, notification.CodeChannelAuth,
			"the receiver answered %s and points to %s://%s; set that address, if it is to be trusted", status, to.Scheme, to.Host)
	}
	switch res.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusGone:
		return errs.New(errs.Denied, notification.CodeChannelAuth,
			"the receiver answered %s; check the channel's address and credentials%s", status, said)
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusTooEarly:
	default:
		if res.StatusCode >= http.StatusBadRequest && res.StatusCode < http.StatusInternalServerError {
			return errs.New(errs.Invalid, notification.CodeChannelRefused, "the receiver refused the message with %s%s", status, said)
		}
	}
	e := errs.New(errs.Unavailable, notification.CodeChannelUnreachable, "the receiver answered %s%s", status, said)
	if pause := retryAfter(res.Header.Get("Retry-After")); pause > 0 {
		e = notification.WithRetryAfter(e, pause)
	}
	return e
}

// retryAfter reads the header of that name.
func retryAfter(value string) time.Duration {
	if seconds, err := strconv.ParseFloat(value, 64); err == nil && seconds > 0 {
		return min(time.Duration(min(seconds, maxPause.Seconds())*float64(time.Second))+time.Second, maxPause)
	}
	if at, err := http.ParseTime(value); err == nil {
		return min(max(time.Until(at), 0), maxPause)
	}
	return 0
}

// quote is what a receiver said, short and on one line.
func quote(answer []byte) string { return clip(oneLine(strings.TrimSpace(string(answer))), maxQuote) }

// field returns the text of a field of a JSON object, empty when there is none.
func field(answer []byte, name string) string {
	var object map[string]any
	if json.Unmarshal(answer, &object) != nil {
		return ""
	}
	switch v := object[name].(type) {
	case nil:
		return ""
	case string:
		return v
	default:
		text, err := json.Marshal(v)
		if err != nil {
			return ""
		}
		return string(text)
	}
}

// unless refuses an answer in which a field has another value than the good one. One
// without the field stands by its status.
func unless(name, good, why string) func(*request) {
	return refusedWhen(func(answer []byte) string {
		if got := field(answer, name); got == good || got == "" {
			return ""
		}
		if text := field(answer, why); text != "" {
			return text
		}
		return string(answer)
	})
}
