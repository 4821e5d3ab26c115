package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// clockTick is the unit of CPU times in /proc: USER_HZ is 100 on every
// architecture that Go runs on.
const clockTick = 10 * time.Millisecond

// How often memory is read, and how often new processes are looked for.
const (
	sampleEvery = 25 * time.Millisecond
	lookEvery   = 4 // samples
)

// watch follows some processes and their descendants.
type watch struct {
	roots    []int
	peaks    map[int]int64    // bytes, by process
	looks    map[int]int      // how often a process was seen
	together map[string][]int // processes that lived at the same time
	cpu      time.Duration    // of all, when the watch began
	stop     context.CancelFunc
	done     chan struct{}
}

// watchProcesses begins to watch. Peaks of the roots count from here on.
func watchProcesses(ctx context.Context, roots ...int) *watch {
	w := newWatch(roots...)
	for _, pid := range roots {
		forgetPeak(pid)
	}
	w.cpu = cpuOf(family(roots))
	ctx, w.stop = context.WithCancel(ctx)
	go w.sample(ctx)
	return w
}

func (w *watch) sample(ctx context.Context) {
	defer close(w.done)
	ticker := time.NewTicker(sampleEvery)
	defer ticker.Stop()
	var pids []int
	for n := 0; ; n++ {
		if n%lookEvery == 0 {
			pids = family(w.roots)
		}
		w.note(pids)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func newWatch(roots ...int) *watch {
	return &watch{roots: roots, peaks: map[int]int64{}, looks: map[int]int{}, together: map[string][]int{}, done: make(chan struct{})}
}

func (w *watch) note(pids []int) {
	seen := map[int]int64{}
	for _, pid := range pids {
		if peak, ok := peakMemory(pid); ok {
			seen[pid] = peak
		}
	}
	w.count(seen)
}

// count keeps the newest peak of each process: before a child has become its own
// program, it shows the memory of its parent.
func (w *watch) count(seen map[int]int64) {
	for pid, peak := range seen {
		w.peaks[pid] = peak
		w.looks[pid]++
	}
	pids := slices.Sorted(maps.Keys(seen))
	w.together[fmt.Sprint(pids)] = pids
}

// peak is the largest sum of the peaks of processes that lived at the same time. A
// descendant that was seen only once may not have become its own program yet.
func (w *watch) peak() (most int64) {
	for _, pids := range w.together {
		var sum int64
		for _, pid := range pids {
			if w.looks[pid] > 1 || slices.Contains(w.roots, pid) {
				sum += w.peaks[pid]
			}
		}
		most = max(most, sum)
	}
	return most
}

// end stops the watch. CPU is that of the living and of the dead that their
// parents have waited for.
func (w *watch) end() (cpu time.Duration, memory int64) {
	w.stop()
	<-w.done
	pids := family(w.roots)
	w.note(pids)
	return cpuOf(pids) - w.cpu, w.peak()
}

// memoryOf returns the peak of one process of an ended watch.
func (w *watch) memoryOf(pid int) int64 { return w.peaks[pid] }

// family returns processes with all that descend from them. A process that ends
// meanwhile may be left out.
func family(roots []int) []int {
	children := map[int][]int{}
	entries, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return roots
	}
	for _, entry := range entries {
		pid, err := strconv.Atoi(filepath.Base(entry))
		if err != nil {
			continue
		}
		if s, ok := readStat(pid); ok {
			children[s.parent] = append(children[s.parent], pid)
		}
	}
	all := slices.Clone(roots)
	for i := 0; i < len(all); i++ {
		all = append(all, children[all[i]]...)
	}
	return all
}

type stat struct {
	parent int
	cpu    time.Duration
}

// readStat reads /proc/PID/stat, see proc(5). The name in it may hold anything.
func readStat(pid int) (stat, bool) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return stat{}, false
	}
	fields := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:]))
	if len(fields) < 15 {
		return stat{}, false
	}
	parent, err := strconv.Atoi(fields[1])
	ticks := 0
	for _, field := range fields[11:15] { // utime, stime, cutime, cstime
		n, bad := strconv.Atoi(field)
		err = errors.Join(err, bad)
		ticks += n
	}
	return stat{parent: parent, cpu: time.Duration(ticks) * clockTick}, err == nil
}

func cpuOf(pids []int) (sum time.Duration) {
	for _, pid := range pids {
		if s, ok := readStat(pid); ok {
			sum += s.cpu
		}
	}
	return sum
}

// peakMemory returns VmHWM, the most resident memory a process has had.
func peakMemory(pid int) (int64, bool) { return memoryOf(pid, "VmHWM:") }

// residentMemory returns VmRSS, what a process has now.
func residentMemory(pid int) (int64, bool) { return memoryOf(pid, "VmRSS:") }

// memoryOf reads one of the sizes that the kernel keeps of a process.
func memoryOf(pid int, field string) (int64, bool) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, false
	}
	_, after, found := strings.Cut(string(raw), field)
	if !found { // a zombie has no memory
		return 0, false
	}
	line, _, _ := strings.Cut(after, "\n")
	kilobytes, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(line), "kB")), 10, 64)
	return kilobytes << 10, err == nil
}

// forgetPeak makes VmHWM start from what is resident now. Where the kernel does
// not do that, the peak is that of the process' whole life: never too low.
func forgetPeak(pid int) {
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0) // see above
}

// keep starts a process and holds the thread that forked for as long as it lives. The
// kernel sends the death signal when that thread ends, and the threads that hold the
// servers of a stage end with them: one of those may have been ours before.
func keep(cmd *exec.Cmd) (gone <-chan struct{}, _ error) {
	started, ended := make(chan error, 1), make(chan struct{})
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // the log says why
			close(ended)
		}
	}()
	return ended, <-started
}
