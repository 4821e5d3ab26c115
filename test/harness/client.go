package harness

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/metadata"
)

// Client speaks REST.
type Client struct {
	Token string

	plane *Plane
	base  string
	http  *http.Client
}

func newClient(p *Plane, base, token string) *Client {
	return &Client{Token: token, plane: p, base: base, http: &http.Client{Transport: &http.Transport{}, Timeout: patience}}
}

// With returns a client with another token.
func (c *Client) With(token string) *Client {
	return &Client{Token: token, plane: c.plane, base: c.base, http: c.http}
}

// Answer is a REST answer.
type Answer struct {
	Status int
	Header http.Header
	Text   string
}

// Do sends a request; body is text as it is, or anything to be written as JSON,
// or nil.
func (c *Client) Do(t testing.TB, method, path string, body any) Answer {
	t.Helper()
	return c.As(t, c.Token, method, path, body)
}

// As is Do with another token; without one there is no credential.
func (c *Client) As(t testing.TB, token, method, path string, body any) Answer {
	t.Helper()
	res, err := c.http.Do(c.request(t, context.Background(), token, method, path, body))
	require.NoError(t, err)
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	c.plane.remember(string(text))
	return Answer{res.StatusCode, res.Header, string(text)}
}

func (c *Client) request(t testing.TB, ctx context.Context, token, method, path string, body any) *http.Request {
	t.Helper()
	var content io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		content = strings.NewReader(b)
	default:
		raw, err := json.Marshal(b)
		require.NoError(t, err)
		content = bytes.NewReader(raw)
	}
	r, err := http.NewRequestWithContext(ctx, method, c.base+path, content)
	require.NoError(t, err)
	if content != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	return r
}

// Get expects 200 and returns the JSON.
func (c *Client) Get(t testing.TB, path string) JSON {
	t.Helper()
	return c.Do(t, http.MethodGet, path, nil).Expect(t, http.StatusOK)
}

// Post expects a status and returns the JSON.
func (c *Client) Post(t testing.TB, path string, body any, status int) JSON {
	t.Helper()
	return c.Do(t, http.MethodPost, path, body).Expect(t, status)
}

// Expect requires the status and returns the JSON.
func (a Answer) Expect(t testing.TB, status int) JSON {
	t.Helper()
	require.Equal(t, status, a.Status, a.Text)
	if a.Text == "" {
		return JSON{t: t}
	}
	return ParseJSON(t, a.Text)
}

// Refused requires the status and code of an error, in its one shape, and
// returns the sentence.
func (a Answer) Refused(t testing.TB, status int, code string) string {
	t.Helper()
	j := a.Expect(t, status)
	require.Equal(t, "application/json", a.Header.Get("Content-Type"))
	require.Equal(t, code, j.Text("error"), a.Text)
	require.ElementsMatch(t, []string{"error", "message", "details"}, j.Keys(), a.Text)
	require.NotEmpty(t, j.Text("message"))
	return j.Text("message")
}

// JSON is a value whose parts are named by paths such as "data.0.id".
type JSON struct {
	t     testing.TB
	Value any
}

// ParseJSON reads a value.
func ParseJSON(t testing.TB, text string) JSON {
	t.Helper()
	var value any
	require.NoError(t, json.Unmarshal([]byte(text), &value), text)
	return JSON{t, value}
}

// At returns a part, which must be there; it may be null.
func (j JSON) At(path string) JSON {
	j.t.Helper()
	value := j.Value
	for step := range strings.SplitSeq(path, ".") {
		switch v := value.(type) {
		case map[string]any:
			next, ok := v[step]
			require.True(j.t, ok, "no %q of %q in %s", step, path, j)
			value = next
		case []any:
			i, err := strconv.Atoi(step)
			require.NoError(j.t, err)
			require.Less(j.t, i, len(v), "no %q of %q in %s", step, path, j)
			value = v[i]
		default:
			require.Fail(j.t, "nothing there", "no %q of %q in %s", step, path, j)
		}
	}
	return JSON{j.t, value}
}

// Text returns a string.
func (j JSON) Text(path string) string {
	j.t.Helper()
	text, ok := j.At(path).Value.(string)
	require.True(j.t, ok, "%q is no string in %s", path, j)
	return text
}

// Number returns a number, or a 64-bit integer, which travels as a string.
func (j JSON) Number(path string) float64 {
	j.t.Helper()
	switch v := j.At(path).Value.(type) {
	case float64:
		return v
	case string:
		n, err := strconv.ParseInt(v, 10, 64)
		require.NoError(j.t, err)
		return float64(n)
	default:
		require.Fail(j.t, "no number", "%q in %s", path, j)
		return 0
	}
}

// Int returns a whole number.
func (j JSON) Int(path string) int64 {
	j.t.Helper()
	n := j.Number(path)
	require.Zero(j.t, n-math.Trunc(n), "%q is no whole number in %s", path, j)
	return int64(n)
}

// True returns a boolean.
func (j JSON) True(path string) bool {
	j.t.Helper()
	value, ok := j.At(path).Value.(bool)
	require.True(j.t, ok, "%q is no boolean in %s", path, j)
	return value
}

// Null reports whether a part is there and null.
func (j JSON) Null(path string) bool {
	j.t.Helper()
	return j.At(path).Value == nil
}

// List returns the items of a list.
func (j JSON) List(path string) []JSON {
	j.t.Helper()
	list, ok := j.At(path).Value.([]any)
	require.True(j.t, ok, "%q is no list in %s", path, j)
	items := make([]JSON, 0, len(list))
	for _, item := range list {
		items = append(items, JSON{j.t, item})
	}
	return items
}

// Keys returns the names of an object's members.
func (j JSON) Keys() []string {
	j.t.Helper()
	object, ok := j.Value.(map[string]any)
	require.True(j.t, ok, "no object: %s", j)
	keys := make([]string, 0, len(object))
	for key := range object {
		keys = append(keys, key)
	}
	return keys
}

// String writes the value as JSON.
func (j JSON) String() string {
	raw, err := json.Marshal(j.Value)
	if err != nil {
		return err.Error()
	}
	return string(raw)
}

// Authorized returns a context for gRPC calls with the token.
func (c *Client) Authorized(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+c.Token)
}

// Stream is an open streaming answer, read line by line.
type Stream struct {
	t       testing.TB
	Header  http.Header
	plane   *Plane
	scanner *bufio.Scanner
}

// Stream opens a streaming answer; it is closed when the test ends.
func (c *Client) Stream(t testing.TB, path string, header ...string) *Stream {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	r := c.request(t, ctx, c.Token, http.MethodGet, path, nil)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	res, err := c.http.Do(r)
	require.NoError(t, err)
	s := &Stream{t: t, Header: res.Header, plane: c.plane, scanner: bufio.NewScanner(res.Body)}
	s.scanner.Buffer(nil, 1<<20)
	t.Cleanup(func() {
		cancel()
		require.NoError(t, res.Body.Close())
	})
	require.Equal(t, http.StatusOK, res.StatusCode)
	return s
}

// Line returns the next line, ok=false at the clean end.
func (s *Stream) Line() (string, bool) {
	s.t.Helper()
	if !s.scanner.Scan() {
		require.NoError(s.t, s.scanner.Err())
		return "", false
	}
	s.plane.remember(s.scanner.Text())
	return s.scanner.Text(), true
}

// Events returns the rest of a stream of one JSON object a line.
func (s *Stream) Events() []JSON {
	s.t.Helper()
	var events []JSON
	for {
		line, ok := s.Line()
		if !ok {
			return events
		}
		events = append(events, ParseJSON(s.t, line))
	}
}

// Has reports whether an object has a member.
func (j JSON) Has(key string) bool {
	object, ok := j.Value.(map[string]any)
	if !ok {
		return false
	}
	_, ok = object[key]
	return ok
}
