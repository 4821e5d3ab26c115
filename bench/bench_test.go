package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestMain lets the test program be the profiled server, as the benchmark is.
func TestMain(m *testing.M) {
	if os.Getenv(profileEnv) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

func TestAQuickRunMeasuresEveryRow(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.Chmod(filepath.Dir(dir), 0o755))
	require.NoError(t, os.Chmod(dir, 0o755))
	o, err := parseOptions([]string{"-quick", "-dir", dir}, os.Stderr)
	require.NoError(t, err)
	var out, log bytes.Buffer
	tables, err := run(t.Context(), o, &out, &log)
	require.NoError(t, err, log.String())

	want := map[string][]string{
		"backup":  {"dump only", "pg_dump -Fc", "pg_dump, zstd -1 -T2", "pg_dump -Fd -j2 -Z1", "dataguardian", "dataguardian, parallel_jobs 2"},
		"mariadb": {"dump only", "mariadb-dump, zstd -1 -T2", "dataguardian"},
		"restore": {
			"pg_restore -j2 of -Fd", "dataguardian, PostgreSQL", "zstd -dc, mariadb", "dataguardian, MariaDB",
			"reading and SHA-256", "dataguardian, verify", "tee, sha256sum, zstd -dc, sha256sum", "dataguardian, verify",
		},
		"uploads": {
			"dump only", "pg_dump, zstd -1 -T2", "to disk", "to S3", "to GCS",
			"dump only, 400 Mbit/s", "pg_dump, zstd -1 -T2, 400 Mbit/s", "to disk, 400 Mbit/s", "to S3, 400 Mbit/s", "to GCS, 400 Mbit/s",
		},
		"spool":  {"full spool, at its peak", "bounded spool, at its peak", "sent again after half was sent"},
		"memory": nil,
		"tails":  {"gRPC", "SSE", "gRPC", "SSE"},
		"requests": {
			"GetExecution", "GetExecution", "ListExecutions, page 1", "ListExecutions, page 1", "ListExecutions, page 25", "ListExecutions, page 25",
			"ListExecutions, of a job", "ListExecutions, of a job", "ListExecutions, failed ones", "ListExecutions, failed ones",
		},
		"overview": {"GetOverview"},
		"access": {
			"GetExecution", "of it: to know the caller and its role", "and its scope",
			"GetExecution while nobody attacks", "while one address tries to log in", "while as many addresses as tries do",
		},
		"fleet": {
			"20 due at once, all queued after", "an idle tick of the scheduler, p50",
			"from run to its answer, p50", "from run to its answer, p99", "from run to claimed, p50", "from run to claimed, p99",
		},
	}
	require.Len(t, tables, len(want))
	for i, name := range sectionNames() {
		var rows []string
		for _, row := range tables[i].rows {
			require.Len(t, row, len(tables[i].head))
			require.NotContains(t, row, "")
			if !strings.HasPrefix(row[0], "mydumper") { // which takes part where it is installed
				rows = append(rows, row[0])
			}
		}
		if names := want[name]; names != nil {
			require.Equal(t, names, rows)
		} else {
			require.Len(t, rows, 5)
		}
		require.Contains(t, out.String(), tables[i].String())
	}
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left, "the data is removed")
}

func TestAProfiledRunLeavesAProfile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.Chmod(filepath.Dir(dir), 0o755))
	require.NoError(t, os.Chmod(dir, 0o755))
	profile := filepath.Join(t.TempDir(), "cpu.pprof")
	o, err := parseOptions([]string{"-quick", "-only", "backup", "-no-tools", "-dir", dir, "-profile", profile}, os.Stderr)
	require.NoError(t, err)
	var out, log bytes.Buffer
	_, err = run(t.Context(), o, &out, &log)
	require.NoError(t, err, log.String())
	info, err := os.Stat(profile)
	require.NoError(t, err)
	require.NotZero(t, info.Size())
}

func TestOptionsThatMakeNoSenseAreRefused(t *testing.T) {
	for _, args := range [][]string{
		{"-size", "0"}, {"-rounds", "0"}, {"-only", "nothing"}, {"more"}, {"-server", "noname"},
		{"-server", "a=b", "-profile", "c"}, {"-executions", "3"}, {"-jobs", "5", "-due", "6"}, {"-history", "0"},
	} {
		_, err := parseOptions(args, &bytes.Buffer{})
		require.Error(t, err, args)
	}
}

func TestATableIsAlignedMarkdown(t *testing.T) {
	made := table{title: "Speed", notes: []string{"A note."}, head: []string{"who", "µs"}}
	made.add("contender", "12.5")
	require.Equal(t, "## Speed\n\nA note.\n\n"+
		"| who       |   µs |\n| --------- | ---: |\n| contender | 12.5 |\n", made.String())
}

func TestAFamilyHasDescendantsAndTheirPeaks(t *testing.T) {
	me := os.Getpid()
	require.Contains(t, family([]int{os.Getppid()}), me)
	peak, ok := peakMemory(me)
	require.True(t, ok)
	require.Positive(t, peak)
	require.Equal(t, int64(3), median([]int64{9, 3, 1}))
}

func TestMemoryIsNotThatOfAChildBeforeItIsAProgram(t *testing.T) {
	w := newWatch(1)
	w.count(map[int]int64{1: 100, 2: 100}) // 2 was forked and is about to become a program
	w.count(map[int]int64{1: 110, 2: 10})
	w.count(map[int]int64{1: 120, 3: 120}) // 3 is gone before it is seen again
	w.count(map[int]int64{1: 120})
	require.Equal(t, int64(130), w.peak())
	require.Equal(t, int64(120), w.memoryOf(1))
}

func TestALinkCarriesItsRate(t *testing.T) {
	l, now := &link{}, time.Now()
	require.Equal(t, time.Second-linkBurst, l.due(now, linkRate))
	require.Equal(t, 2*time.Second-linkBurst, l.due(now, linkRate), "behind what it carries already")
	now = now.Add(2 * time.Second)
	require.Equal(t, time.Second-linkBurst, l.due(now, linkRate), "a timer that was late is made up for")
	now = now.Add(time.Hour)
	require.Equal(t, time.Second-linkBurst, l.due(now, linkRate), "what was not carried is lost")
}
