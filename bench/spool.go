package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"time"

	pb "github.com/dataguardian/dataguardian/gen/dataguardian/v1"
	"github.com/dataguardian/dataguardian/internal/artifact"
	"github.com/dataguardian/dataguardian/storage/storagetest"
)

const megabyte = 1 << 20

// spools measures what a backup leaves on the worker's disk while it runs, and
// what a retried upload sends a second time.
func spools(ctx context.Context, b *bench) (t table, err error) {
	err = b.onStage(ctx, func(s *stage) error {
		t, err = b.spoolTable(ctx, s)
		return err
	})
	return t, err
}

func (b *bench) spoolTable(ctx context.Context, s *stage) (t table, _ error) {
	size, err := b.company(ctx)
	if err != nil {
		return t, err
	}
	control, err := b.shared(ctx)
	if err != nil {
		return t, err
	}
	w := spoolWork{control: control, partMB: int32(max(1, min(16, b.sizeMB/100)))}
	server := storagetest.StartS3(s)
	w.gate = openGate(s, server.Endpoint)
	if w.datasource, err = control.datasource(ctx, pb.Datasource_postgres, "company for spools", b.cluster.connection(source)); err != nil {
		return t, err
	}
	bucket := server.NewBucket(s) //nolint:contextcheck // the stage carries it
	if w.location, err = control.location(ctx, pb.StorageLocation_s3, "bucket", s3Config(server, w.gate.front.Endpoint, bucket)); err != nil {
		return t, err
	}
	t = table{
		title: fmt.Sprintf("Spool and retried upload of a database of %s, in parts of %d MiB", megabytes(size), w.partMB),
		notes: []string{"Aims: a bounded spool has at most 8 parts; a retried upload sends at most one part a second time."},
		head:  []string{"what", "bytes", "parts", "stored in all", "within the aim"},
	}
	for _, mode := range []pb.BackupOptions_Spool{pb.BackupOptions_full, pb.BackupOptions_bounded} {
		if err := w.peak(ctx, &t, mode); err != nil {
			return t, err
		}
	}
	return t, w.again(ctx, &t)
}

type spoolWork struct {
	control              *control
	gate                 *gate
	datasource, location string
	partMB               int32
}

func (w spoolWork) job(ctx context.Context, name string, mode pb.BackupOptions_Spool) (string, error) {
	return w.control.jobTo(ctx, name, w.datasource, w.location, &pb.BackupOptions{MaxFileSizeMb: &w.partMB, Spool: mode})
}

func (w spoolWork) parts(bytes int64) float64 { return float64(bytes) / float64(w.partMB) / megabyte }

// row says how many bytes and parts something took; limit is in parts, 0 for none.
func (w spoolWork) row(t *table, what string, bytes, stored int64, limit float64) {
	verdict := "no aim"
	switch {
	case limit > 0 && w.parts(bytes) <= limit:
		verdict = "yes"
	case limit > 0:
		verdict = "NO"
	}
	t.add(what, megabytes(bytes), fmt.Sprintf("%.1f", w.parts(bytes)), megabytes(stored), verdict)
}

// peak measures the spool while one backup is made.
func (w spoolWork) peak(ctx context.Context, t *table, mode pb.BackupOptions_Spool) error {
	job, err := w.job(ctx, mode.String(), mode)
	if err != nil {
		return err
	}
	watching, stop := context.WithCancel(ctx)
	found := make(chan int64)
	go func() { found <- spoolPeak(watching, filepath.Join(w.control.dir, "spool")) }()
	e, err := w.control.backUp(ctx, job)
	stop()
	most := <-found
	if err != nil {
		return err
	}
	limit := 0.0
	if mode == pb.BackupOptions_bounded {
		limit = 8
	}
	w.row(t, mode.String()+" spool, at its peak", most, e.GetCompressedSizeBytes(), limit)
	return w.control.remove(ctx, e.GetId())
}

// spoolPeak looks at a spool until ctx ends and returns the most it had.
func spoolPeak(ctx context.Context, dir string) (most int64) {
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for {
		sum := int64(0)
		if all, err := artifact.SpoolUsage(dir); err == nil { // what vanishes meanwhile is not there
			for _, s := range all {
				sum += s.Bytes
			}
		}
		most = max(most, sum)
		select {
		case <-ctx.Done():
			return most
		case <-ticker.C:
		}
	}
}

// again breaks an upload off in the middle and counts what its retry sends twice.
func (w spoolWork) again(ctx context.Context, t *table) error {
	job, err := w.job(ctx, "interrupted", pb.BackupOptions_full)
	if err != nil {
		return err
	}
	w.gate.forget()
	whole, err := w.control.backUp(ctx, job)
	if err != nil {
		return err
	}
	parts, _ := w.gate.forget()
	w.gate.closeAfter(parts / 2)
	half, err := w.control.runJob(ctx, job)
	if err != nil {
		return err
	}
	if half.GetStatus() == pb.Execution_completed {
		return errors.New("the interrupted backup completed")
	}
	_, first := w.gate.forget()
	if err := w.control.retryUpload(ctx, half.GetId()); err != nil {
		return err
	}
	_, second := w.gate.forget()
	e, err := w.control.ended(ctx, half.GetId())
	if err != nil {
		return err
	}
	w.row(t, "sent again after half was sent", first+second-e.GetCompressedSizeBytes(), e.GetCompressedSizeBytes(), 1)
	return errors.Join(w.control.remove(ctx, whole.GetId()), w.control.remove(ctx, half.GetId()))
}

// gate is a proxy before a storage that counts the parts it lets through, and can
// refuse those that are too many.
type gate struct {
	front *storagetest.Front

	mu    sync.Mutex
	parts int
	bytes int64
	limit int // of parts; negative means none
}

func openGate(s *stage, endpoint string) *gate {
	g := &gate{front: storagetest.StartFront(s, endpoint), limit: -1}
	g.front.Intercept(func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		part := r.Method == http.MethodPut && strings.Contains(r.URL.Path, "backup.dump")
		if !part || g.admit(r.ContentLength) {
			return false
		}
		// As a storage that is out of order for good; one that is away would be tried for minutes.
		w.WriteHeader(http.StatusForbidden)
		return true
	})
	return g
}

func (g *gate) admit(bytes int64) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.limit >= 0 && g.parts >= g.limit {
		return false
	}
	g.parts++
	g.bytes += bytes
	return true
}

func (g *gate) closeAfter(parts int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.limit = parts
}

// forget opens the gate, begins to count anew and returns what was counted.
func (g *gate) forget() (parts int, bytes int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	parts, bytes = g.parts, g.bytes
	g.parts, g.bytes, g.limit = 0, 0, -1
	return parts, bytes
}
