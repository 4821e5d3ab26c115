// Package machine watches the load of this process and of the machine it runs on.
package machine

import (
	"context"
	"os"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// every is the time between two samples.
	every = 5 * time.Second
	// kept is how many samples are kept: ten minutes.
	kept = 120
)

// Machine is what does not change.
type Machine struct {
	Hostname    string
	Platform    string // operating system
	Release     string // of the operating system
	Arch        string
	Cores       int
	MemoryBytes int64 // 0 where the system does not say
	GoVersion   string
}

// Sample is the load at one time. What the system does not say is 0.
type Sample struct {
	Time              time.Time
	CPUPercent        float64 // of all cores, whole machine
	MemoryPercent     float64 // whole machine
	ProcessCPUPercent float64 // of one core
	ProcessRSSBytes   int64
	Goroutines        int
}

// Performance is everything that is known.
type Performance struct {
	Machine Machine
	Uptime  time.Duration // of this process
	Current Sample
	History []Sample // oldest first
}

// Sampler takes samples. Its methods may be called concurrently.
type Sampler struct {
	machine Machine
	started time.Time

	mu      sync.Mutex
	last    counters
	samples []Sample
}

// NewSampler returns a sampler with a first sample; started is when the process
// began.
func NewSampler(started time.Time) *Sampler {
	s := &Sampler{started: started, machine: Machine{
		Platform: runtime.GOOS, Arch: runtime.GOARCH, Cores: runtime.NumCPU(), GoVersion: runtime.Version(), Release: release(),
	}}
	if name, err := os.Hostname(); err == nil {
		s.machine.Hostname = name
	}
	s.machine.MemoryBytes, _ = memory()
	s.last = read()
	s.take()
	return s
}

// Run takes samples until ctx ends and returns its cause.
func (s *Sampler) Run(ctx context.Context) error {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
			s.take()
		}
	}
}

// Performance returns the newest sample and those before it.
func (s *Sampler) Performance() Performance {
	s.mu.Lock()
	defer s.mu.Unlock()
	newest := len(s.samples) - 1
	return Performance{
		Machine: s.machine, Uptime: time.Since(s.started), Current: s.samples[newest], History: slices.Clone(s.samples[:newest]),
	}
}

func (s *Sampler) take() {
	now := read()
	s.mu.Lock()
	defer s.mu.Unlock()
	sample := Sample{Time: now.at.UTC(), ProcessRSSBytes: residentBytes(), Goroutines: runtime.NumGoroutine()}
	if total := now.total - s.last.total; total > 0 {
		sample.CPUPercent = 100 * float64(now.busy-s.last.busy) / float64(total)
	}
	if passed := now.at.Sub(s.last.at); passed > 0 {
		sample.ProcessCPUPercent = 100 * float64(now.process-s.last.process) / float64(passed)
	}
	if total, available := memory(); total > 0 {
		sample.MemoryPercent = 100 * float64(total-available) / float64(total)
	}
	s.last = now
	s.samples = append(s.samples, sample)
	if len(s.samples) > kept {
		s.samples = slices.Delete(s.samples, 0, len(s.samples)-kept)
	}
}

// counters only grow.
type counters struct {
	at          time.Time
	busy, total int64 // ticks of all cores
	process     time.Duration
}

func read() counters {
	c := counters{at: time.Now()}
	c.busy, c.total = cpuTicks()
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) == nil {
		c.process = time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
	}
	return c
}

func release() string {
	var name unix.Utsname
	if unix.Uname(&name) != nil {
		return ""
	}
	return unix.ByteSliceToString(name.Release[:])
}
