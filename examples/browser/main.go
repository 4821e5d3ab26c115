// Command browser shows executions on a page while they run:
//
//	DATAGUARDIAN_TOKEN=... browser [http://127.0.0.1:8080 [127.0.0.1:8088]]
//
// An EventSource sends no Authorization header. This server adds it on the way, so
// that the token stays out of the browser; whoever reaches it sees what the token
// may see.
package main

import (
	_ "embed"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"time"
)

//go:embed page.html
var page []byte

func main() {
	api, listen := "http://127.0.0.1:8080", "127.0.0.1:8088"
	if len(os.Args) > 1 {
		api = os.Args[1]
	}
	if len(os.Args) > 2 {
		listen = os.Args[2]
	}
	if err := run(api, listen); err != nil {
		fmt.Fprintln(os.Stderr, "browser:", err)
		os.Exit(1)
	}
}

func run(address, listen string) error {
	token := os.Getenv("DATAGUARDIAN_TOKEN")
	if token == "" {
		return errors.New("set DATAGUARDIAN_TOKEN to an API token")
	}
	api, err := url.Parse(address)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(os.Stdout, "open http://%s\n", listener.Addr()); err != nil {
		return err
	}
	server := &http.Server{Handler: here(handler(api, token)), ReadHeaderTimeout: 10 * time.Second} // no WriteTimeout: it would cut the stream
	return server.Serve(listener)
}

// here refuses requests that another site's name has led to this machine.
func here(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.Host)
		if ip := net.ParseIP(host); err != nil || host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			http.Error(w, "open this page by its address", http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func handler(api *url.URL, token string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write(page) // a browser that has left needs no page
	})
	mux.Handle("GET /api/events", &httputil.ReverseProxy{
		FlushInterval: -1, // an event is no use later
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(api)
			r.Out.Header.Set("Authorization", "Bearer "+token)
			r.Out.Header.Del("Cookie")
		},
	})
	return mux
}
