package storagetest

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/Shopify/toxiproxy/v2/collectors"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
)

// Network is a TCP proxy before a server that can be slow, stall, reset
// connections or be down.
type Network struct {
	// Endpoint leads to the server, through the proxy.
	Endpoint string

	proxy *toxiproxy.Proxy
}

// StartNetwork puts a proxy before the server at endpoint. It ends with the
// test.
func StartNetwork(t testing.TB, endpoint string) *Network {
	t.Helper()
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(prometheus.NewRegistry()), zerolog.Nop())
	server.Metrics.ProxyMetrics = collectors.NewProxyMetricCollectors()
	n := &Network{proxy: toxiproxy.NewProxy(server, "network", "127.0.0.1:0", strings.TrimPrefix(endpoint, "http://"))}
	n.Up(t)
	n.Endpoint = "http://" + n.proxy.Listen
	t.Cleanup(n.proxy.Stop)
	return n
}

// Down refuses and breaks all connections.
func (n *Network) Down() { n.proxy.Stop() }

// Up ends Down, at the same address.
func (n *Network) Up(t testing.TB) {
	t.Helper()
	if err := n.proxy.Start(); err != nil {
		t.Fatalf("start the proxy: %v", err)
	}
}

// Direction of the bytes a toxic works on.
type Direction string

// The directions, seen from the client.
const (
	Sending   Direction = "upstream"
	Receiving Direction = "downstream"
)

// Poison adds a toxic of the kinds of toxiproxy: latency, bandwidth, timeout,
// reset_peer, limit_data, ...
func (n *Network) Poison(t testing.TB, kind string, direction Direction, attributes map[string]int64) {
	t.Helper()
	text, err := json.Marshal(map[string]any{"type": kind, "stream": direction, "attributes": attributes})
	if err == nil {
		_, err = n.proxy.Toxics.AddToxicJson(strings.NewReader(string(text)))
	}
	if err != nil {
		t.Fatalf("add a toxic: %v", err)
	}
}

// Heal removes all toxics.
func (n *Network) Heal(t testing.TB) { n.proxy.Toxics.ResetToxics(t.Context()) }

// Front is an HTTP proxy before a server that can answer itself.
type Front struct {
	// Endpoint leads to the server, through the proxy.
	Endpoint string

	mu        sync.Mutex
	intercept func(w http.ResponseWriter, r *http.Request, forward http.Handler) bool
}

// StartFront puts an HTTP proxy before the server at endpoint. It ends with the
// test.
func StartFront(t testing.TB, endpoint string) *Front {
	t.Helper()
	target, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DisableCompression: true}
	proxy := &httputil.ReverseProxy{
		Transport: transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host // which signatures cover
		},
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	f := &Front{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		intercept := f.intercept
		f.mu.Unlock()
		if intercept == nil || !intercept(w, r, proxy) {
			proxy.ServeHTTP(w, r)
		}
	}))
	f.Endpoint = server.URL
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
		transport.CloseIdleConnections()
	})
	return f
}

// Intercept lets answer decide about each request: true means it has answered,
// itself or by forward, which asks the server; false passes the request on. Nil
// ends that.
func (f *Front) Intercept(answer func(w http.ResponseWriter, r *http.Request, forward http.Handler) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.intercept = answer
}

// Answer makes every request that matches fail with status.
func (f *Front) Answer(status int, matches func(*http.Request) bool) {
	f.Intercept(func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		if !matches(r) {
			return false
		}
		w.WriteHeader(status)
		return true
	})
}

// FailFirst makes the first of all requests with the same method and URL fail
// with status.
func (f *Front) FailFirst(status int) {
	var mu sync.Mutex
	seen := map[string]bool{}
	f.Answer(status, func(r *http.Request) bool {
		mu.Lock()
		defer mu.Unlock()
		id := r.Method + r.URL.String()
		again := seen[id]
		seen[id] = true
		return !again
	})
}

// LoseAnswers forwards the requests that match and breaks the connection
// instead of answering.
func (f *Front) LoseAnswers(matches func(*http.Request) bool) {
	f.Intercept(func(_ http.ResponseWriter, r *http.Request, forward http.Handler) bool {
		if !matches(r) {
			return false
		}
		forward.ServeHTTP(httptest.NewRecorder(), r)
		panic(http.ErrAbortHandler)
	})
}

// CutAnswers breaks the connection halfway through the bodies of the answers to
// the requests that match.
func (f *Front) CutAnswers(matches func(*http.Request) bool) {
	f.Intercept(func(w http.ResponseWriter, r *http.Request, forward http.Handler) bool {
		if !matches(r) {
			return false
		}
		whole := httptest.NewRecorder()
		forward.ServeHTTP(whole, r)
		for name, values := range whole.Header() {
			w.Header()[name] = values
		}
		w.Header().Set("Content-Length", strconv.Itoa(whole.Body.Len()))
		w.WriteHeader(whole.Code)
		_, _ = w.Write(whole.Body.Bytes()[:whole.Body.Len()/2]) // the client may be gone
		panic(http.ErrAbortHandler)
	})
}
