package test

import (
	"bufio"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/dop251/goja"
	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/test/harness"
)

// browserShim is as much of a browser as the example's page needs: elements without
// markup of their own, and an EventSource that the test feeds. What it lacks, such as
// innerHTML, shows nothing.
const browserShim = `
class Element {
  constructor(tag) { this.tag = tag; this.id = ""; this.className = ""; this.textContent = ""; this.children = []; }
  append(...children) { this.children.push(...children); }
  prepend(...children) { this.children.unshift(...children); }
}
const find = (elements, id) => {
  for (const element of elements) {
    const found = element.id === id ? element : find(element.children, id);
    if (found) { return found; }
  }
  return null;
};
const document = {
  body: new Element("body"),
  createElement: (tag) => new Element(tag),
  getElementById: (id) => find(document.body.children, id),
};
class EventSource {
  constructor(url) { this.url = url; this.listeners = {}; EventSource.last = this; }
  addEventListener(name, listener) { (this.listeners[name] = this.listeners[name] || []).push(listener); }
}
const opened = () => EventSource.last.onopen();
const failed = () => EventSource.last.onerror();
const receive = (name, data) => (EventSource.last.listeners[name] || []).forEach((listener) => listener({ data }));
const text = (id) => { const element = document.getElementById(id); return element ? element.textContent : ""; };
const classOf = (id) => document.getElementById(id).className;
const rows = (id) => document.getElementById(id).children.map((row) => row.textContent);
const address = () => EventSource.last.url;
`

var (
	pageID     = regexp.MustCompile(`<[a-z]+ id="(\w+)"`)
	pageScript = regexp.MustCompile(`(?s)<script>(.*)</script>`)
)

// page is the page of the browser example in a browser without windows: its script
// runs, and hears what the server sends.
type page struct {
	t    *testing.T
	url  string
	vm   *goja.Runtime
	body io.Closer
	in   *bufio.Scanner
	last string // id of the last event
}

// loadPage gets the page and runs its script.
func loadPage(t *testing.T, url string) *page {
	t.Helper()
	res, err := http.Get(url)
	require.NoError(t, err)
	raw, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	require.Equal(t, http.StatusOK, res.StatusCode)
	p := &page{t: t, url: url, vm: goja.New()}
	p.run(browserShim)
	for _, id := range pageID.FindAllStringSubmatch(string(raw), -1) {
		p.run(`{ const element = new Element("?"); element.id = "` + id[1] + `"; document.body.append(element); }`)
	}
	script := pageScript.FindStringSubmatch(string(raw))
	require.NotNil(t, script, "the page has a script")
	p.run(script[1])
	return p
}

func (p *page) run(script string) {
	p.t.Helper()
	_, err := p.vm.RunString(script)
	require.NoError(p.t, err, "%s", script)
}

// call calls a function of the shim.
func (p *page) call(name string, args ...string) goja.Value {
	p.t.Helper()
	values := make([]goja.Value, len(args))
	for i, arg := range args {
		values[i] = p.vm.ToValue(arg)
	}
	f, err := p.vm.RunString(name)
	require.NoError(p.t, err)
	function, ok := goja.AssertFunction(f)
	require.True(p.t, ok, name)
	result, err := function(goja.Undefined(), values...)
	require.NoError(p.t, err, "%s%q", name, args)
	return result
}

func (p *page) text(id string) string { return p.call("text", id).String() }

func (p *page) rows(id string) (texts []string) {
	p.t.Helper()
	require.NoError(p.t, p.vm.ExportTo(p.call("rows", id), &texts))
	return texts
}

// connect asks for the stream as a browser does: without a credential, after the last
// event.
func (p *page) connect() {
	p.t.Helper()
	r, err := http.NewRequestWithContext(p.t.Context(), http.MethodGet, p.url+p.call("address").String(), nil)
	require.NoError(p.t, err)
	r.Header.Set("Accept", "text/event-stream")
	if p.last != "" {
		r.Header.Set("Last-Event-ID", p.last)
	}
	res, err := http.DefaultClient.Do(r) //nolint:bodyclose // lose closes it
	require.NoError(p.t, err)
	require.Equal(p.t, http.StatusOK, res.StatusCode)
	require.Equal(p.t, "text/event-stream", res.Header.Get("Content-Type"))
	p.body, p.in = res.Body, bufio.NewScanner(res.Body)
	p.in.Buffer(nil, 1<<20)
	p.call("opened")
	require.Equal(p.t, "live", p.text("connection"))
}

// lose breaks the connection.
func (p *page) lose() {
	p.t.Helper()
	require.NoError(p.t, p.body.Close())
	p.call("failed")
	require.Equal(p.t, "connecting again", p.text("connection"))
}

// hearUntil gives events to the page until the stream tells that an execution has ended,
// which the page must show.
func (p *page) hearUntil(execution, status string) {
	p.t.Helper()
	for name := ""; p.in.Scan(); {
		key, value, _ := strings.Cut(p.in.Text(), ": ")
		switch key {
		case "id":
			p.last = value
		case "event":
			name = value
		case "data":
			p.call("receive", name, value)
			if e := harness.ParseJSON(p.t, value); name == "state" && e.Text("execution_id") == execution && e.Text("status") == status {
				require.Equal(p.t, status, p.call("classOf", execution).String(), "the page shows no end of the execution")
				return
			}
		}
	}
	require.FailNow(p.t, "the stream has ended", "%v", p.in.Err())
}
