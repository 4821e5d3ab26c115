package artifact_test

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/dataguardian/dataguardian/internal/artifact"
	"github.com/dataguardian/dataguardian/storage"
	"github.com/dataguardian/dataguardian/storage/local"
	"github.com/dataguardian/dataguardian/storage/storagetest"
	"github.com/stretchr/testify/require"
)

func newDirectory(b *testing.B) storage.Driver {
	d, err := local.New(local.Config{Path: b.TempDir()})
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, d.Close()) })
	return d
}

// rows looks like COPY text: it compresses about as well as a database does.
func rows() []byte {
	var b strings.Builder
	noise := storagetest.Bytes(3, 1<<16)
	for i := 0; b.Len() < 4<<20; i++ {
		fmt.Fprintf(&b, "%d\tcustomer-%d\t%x\t2026-03-%02d 05:06:07\tshipped\n", i, i*7919%100_000, noise[i%60_000:i%60_000+6], i%28+1)
	}
	return []byte(b.String())
}

// BenchmarkPeakMemory writes and reads back 256 MiB and 1 GiB: the peak of the
// heap is the same.
func BenchmarkPeakMemory(b *testing.B) {
	data := rows()
	for _, size := range []int{256 << 20, 1 << 30} {
		for _, members := range []int{1, 8} {
			b.Run(fmt.Sprintf("%dMiB/%d members", size>>20, members), func(b *testing.B) {
				b.SetBytes(int64(size))
				for b.Loop() {
					b.ReportMetric(peak(func() { writeBench(b, data, size, members) }), "peak-heap-MB")
				}
				b.ReportMetric(resident(b), "rss-MB")
			})
		}
	}
}

func writeBench(b *testing.B, data []byte, size, members int) {
	store := newDirectory(b)
	c := config(b.TempDir(), store)
	c.PartSize, c.Spool = 16<<20, artifact.SpoolBounded
	w := newWriter(b, c)
	done := make(chan error, members)
	for i := range members {
		go func() { done <- writeRows(w, fmt.Sprintf("m%d", i), data, size/members) }()
	}
	for range members {
		require.NoError(b, <-done)
	}
	_, err := w.Commit(b.Context(), completion())
	require.NoError(b, err)
	_, err = artifact.Verify(b.Context(), store, c.Path, nil, nil)
	require.NoError(b, err)
}

func writeRows(w *artifact.Writer, name string, data []byte, size int) error {
	m, err := w.Create(context.Background(), name)
	if err != nil {
		return err
	}
	for left := size; left > 0; {
		n := min(left, 64<<10)
		at := left % (len(data) - n)
		if _, err := m.Write(data[at : at+n]); err != nil {
			return err
		}
		left -= n
	}
	return m.Close()
}

// peak returns the largest heap in MB while work runs.
func peak(work func()) float64 {
	runtime.GC()
	var most atomic.Uint64
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				most.Store(max(most.Load(), m.HeapInuse))
			}
		}
	}()
	work()
	close(stop)
	<-stopped
	return float64(most.Load()) / 1e6
}

// resident returns the peak resident set of this process in MB.
func resident(b *testing.B) float64 {
	status, err := os.ReadFile("/proc/self/status")
	require.NoError(b, err)
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, err := strconv.Atoi(strings.Fields(rest)[0])
			require.NoError(b, err)
			return float64(kb) / 1e3
		}
	}
	b.Fatal("the system does not tell the peak of memory")
	return 0
}

// BenchmarkWrite measures every form on a local storage.
func BenchmarkWrite(b *testing.B) {
	data := rows()
	id := identity(b)
	for _, compression := range []artifact.Compression{artifact.Zstd, artifact.Gzip, artifact.LZ4, artifact.NoCompression} {
		for _, recipients := range [][]string{nil, {id.Recipient().String()}} {
			b.Run(fmt.Sprintf("%s/encrypted=%t", compression, recipients != nil), func(b *testing.B) {
				b.SetBytes(256 << 20)
				for b.Loop() {
					c := config(b.TempDir(), newDirectory(b))
					c.Compression, c.Recipients, c.PartSize = compression, recipients, 32<<20
					w := newWriter(b, c)
					require.NoError(b, writeRows(w, "m", data, 256<<20))
					_, err := w.Commit(b.Context(), completion())
					require.NoError(b, err)
				}
			})
		}
	}
}

// BenchmarkVerify reads back what is in memory: as it is stored, and with what is
// inside.
func BenchmarkVerify(b *testing.B) {
	data := rows()
	id := identity(b)
	for _, recipients := range [][]string{nil, {id.Recipient().String()}} {
		store := newMemory()
		c := config(b.TempDir(), store)
		c.Recipients, c.PartSize = recipients, 32<<20
		w := newWriter(b, c)
		require.NoError(b, writeRows(w, "m", data, 512<<20))
		r, err := w.Commit(b.Context(), completion())
		require.NoError(b, err)
		var stored int64
		for _, p := range r.Parts {
			stored += p.Size
		}
		for name, verify := range map[string]func() error{
			"stored": func() error {
				_, err := artifact.VerifyStored(b.Context(), store, c.Path, nil)
				return err
			},
			"whole": func() error {
				_, err := artifact.Verify(b.Context(), store, c.Path, []age.Identity{id}, nil)
				return err
			},
		} {
			b.Run(fmt.Sprintf("%s/encrypted=%t", name, recipients != nil), func(b *testing.B) {
				b.SetBytes(stored)
				for b.Loop() {
					require.NoError(b, verify())
				}
			})
		}
	}
}
