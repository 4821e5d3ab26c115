package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	fewGoroutines = 40 // may belong to connections that are kept for a while
	// collections after which nothing is left of what is not held: pools keep what they
	// have through one, the first may have begun too early, and of several one is quiet.
	collections = 5
	settleLimit = 5 * time.Minute
)

// gauges are what a server says of itself.
type gauges struct {
	goroutines  int
	heap        int64 // bytes in use
	collections int   // of garbage so far
}

func (c *control) gauges(ctx context.Context) (g gauges, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.http+"/metrics", nil)
	if err != nil {
		return g, err
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return g, err
	}
	raw, err := io.ReadAll(res.Body)
	if err := errors.Join(err, res.Body.Close()); err != nil {
		return g, err
	}
	for line := range strings.Lines(string(raw)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		number, err := strconv.ParseFloat(value, 64)
		if err != nil {
			continue // a comment
		}
		switch name {
		case "go_goroutines":
			g.goroutines = int(number)
		case "go_memstats_heap_alloc_bytes":
			g.heap = int64(number)
		case "go_gc_duration_seconds_count":
			g.collections = int(number)
		}
	}
	if g.goroutines == 0 || g.heap == 0 {
		return g, errors.New("the server does not say how many goroutines and how much memory it has")
	}
	return g, nil
}

// settled waits until the server has no more goroutines than that and has collected its
// garbage, and returns what it holds then. An idle program collects only every two minutes,
// so it is asked without a pause: answers make garbage, of which up to about 2 MiB are
// in what is returned.
func (c *control) settled(ctx context.Context, goroutines int) (least gauges, err error) {
	ctx, cancel := context.WithTimeout(ctx, settleLimit)
	defer cancel()
	now, err := c.gauges(ctx)
	for ; err == nil && now.goroutines > goroutines; now, err = c.gauges(ctx) {
		if err := c.pause(ctx); err != nil {
			return now, fmt.Errorf("%d goroutines are left, instead of %d: %w", now.goroutines, goroutines, err)
		}
	}
	least = now
	for end := now.collections + collections; err == nil && now.collections < end; now, err = c.gauges(ctx) {
		least.heap = min(least.heap, now.heap)
	}
	least.goroutines, least.heap = now.goroutines, min(least.heap, now.heap)
	return least, err
}
