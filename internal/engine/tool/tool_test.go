package tool

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/dataguardian/dataguardian/internal/process"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	errProof  = errors.New("not whole")
	errSink   = errors.New("no space")
	errSource = errors.New("storage lost")
)

// ending is a proof that wants a text to end in a certain way and to hold
// nothing that is forbidden.
type ending struct {
	want string
	text strings.Builder
}

func (e *ending) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte("forbidden")) {
		return 0, errProof
	}
	return e.text.Write(b)
}

func (e *ending) Done() error {
	if !strings.HasSuffix(e.text.String(), e.want) {
		return errProof
	}
	return nil
}

func shell(script string) process.Spec {
	return process.Spec{Path: "/bin/sh", Args: []string{"-c", script}, Env: process.Environment("/tmp")}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

func TestAStreamIsWholeOnlyWhenToolProofAndSinkSaySo(t *testing.T) {
	for name, tc := range map[string]struct {
		script string
		member io.Writer
		want   error
		exit   int
	}{
		"all well":                    {"echo the end", io.Discard, nil, 0},
		"a proof that does not hold":  {"echo the middle", io.Discard, errProof, 0},
		"a proof broken midway":       {"echo forbidden; echo the end", io.Discard, errProof, 0},
		"a failure after the proof":   {"echo the end; exit 3", io.Discard, nil, 3},
		"a failure explains a break":  {"echo forbidden; exit 4", io.Discard, nil, 4},
		"a sink that fails":           {"echo the end", failing{errSink}, errSink, 0},
		"a sink and a tool that fail": {"echo the end; exit 3", failing{errSink}, errSink, 0},
		"silence":                     {"exec sleep 600", io.Discard, ErrStalled, 0},
		"silence after bytes":         {"echo the end; exec sleep 600", io.Discard, ErrStalled, 0},
	} {
		t.Run(name, func(t *testing.T) {
			stall := time.Minute
			if errors.Is(tc.want, ErrStalled) {
				stall = 300 * time.Millisecond
			}
			s := Stream{Spec: shell(tc.script), Stall: stall, Proof: &ending{want: "the end\n"}, Member: tc.member}
			_, err := s.Run(t.Context())
			var exit *process.ExitError
			switch {
			case tc.exit != 0:
				require.ErrorAs(t, err, &exit)
				require.Equal(t, tc.exit, exit.Result.ExitCode)
			case tc.want != nil:
				require.ErrorIs(t, err, tc.want)
			default:
				require.NoError(t, err)
			}
		})
	}
}

func TestASlowSinkIsNoSilentTool(t *testing.T) {
	slow := true
	s := Stream{Spec: shell("echo the; echo end"), Stall: 2 * time.Second, Proof: &ending{want: "the\nend\n"}, Member: writer(func(b []byte) (int, error) {
		if slow {
			slow = false
			<-time.After(2500 * time.Millisecond)
		}
		return len(b), nil
	})}
	_, err := s.Run(t.Context())
	require.NoError(t, err)
}

type writer func(b []byte) (int, error)

func (w writer) Write(b []byte) (int, error) { return w(b) }

func TestAStreamGivesTheCauseOfItsEnd(t *testing.T) {
	cause := errors.New("operator said so")
	ctx, cancel := context.WithCancelCause(t.Context())
	s := Stream{
		Spec: shell("echo x; exec sleep 600"), Proof: &ending{}, Member: io.Discard,
		OnRead: func(int) { cancel(cause) },
	}
	_, err := s.Run(ctx)
	require.ErrorIs(t, err, cause)
}

// stepwise gives one piece a read, then an error.
type stepwise struct {
	pieces []string
	err    error
}

func (s *stepwise) Read(b []byte) (int, error) {
	if len(s.pieces) == 0 {
		return 0, s.err
	}
	n := copy(b, s.pieces[0])
	s.pieces = s.pieces[1:]
	return n, nil
}

func TestAToolNeverGetsTheEndOfABrokenInput(t *testing.T) {
	for name, tc := range map[string]struct {
		source io.Reader
		want   error
		got    string
	}{
		"all well":                   {&stepwise{[]string{"one ", "two ", "the end"}, io.EOF}, nil, "one two the end"},
		"a source that fails late":   {&stepwise{[]string{"one ", "two ", "the end"}, errSource}, errSource, ""},
		"a proof that does not hold": {&stepwise{[]string{"one ", "two ", "the middle"}, io.EOF}, errProof, ""},
		"a proof broken midway":      {&stepwise{[]string{"one ", "forbidden", "the end"}, io.EOF}, errProof, ""},
		"nothing at all":             {&stepwise{nil, io.EOF}, errProof, ""},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "got")
			spec := shell(`cat > "$OUT.tmp" && mv "$OUT.tmp" "$OUT"`)
			spec.Env = append(spec.Env, "OUT="+file)
			_, err := Feed{Spec: spec, Source: tc.source, Proof: &ending{want: "the end"}}.Run(t.Context())
			if tc.want != nil {
				require.ErrorIs(t, err, tc.want)
				require.NoFileExists(t, file, "the tool took the input for whole")
				return
			}
			require.NoError(t, err)
			b, err := os.ReadFile(file)
			require.NoError(t, err)
			require.Equal(t, tc.got, string(b))
		})
	}
}

func TestAToolThatNeedsAPartOfItsInputWaitsForTheRest(t *testing.T) {
	for name, last := range map[string]error{"all well": io.EOF, "a source that fails late": errSource} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "got")
			spec := shell(`head -c 7 > "$OUT.tmp" && mv "$OUT.tmp" "$OUT"`) // "one two"
			spec.Env = append(spec.Env, "OUT="+file)
			proof := &ending{want: "the end"}
			proven := false
			f := Feed{
				Spec: spec, Source: &stepwise{[]string{"one ", "two three ", "the end"}, last}, Proof: proof,
				Needs: func() (int64, bool) { return 7, strings.Contains(proof.text.String(), "two") },
				Proven: func(<-chan struct{}) {
					proven = true
					require.NoFileExists(t, file, "the tool had its last byte")
				},
			}
			_, err := f.Run(t.Context())
			if errors.Is(last, errSource) {
				require.ErrorIs(t, err, errSource)
				require.False(t, proven)
				require.NoFileExists(t, file)
				return
			}
			require.NoError(t, err)
			require.True(t, proven)
			b, err := os.ReadFile(file)
			require.NoError(t, err)
			require.Equal(t, "one two", string(b), "bytes that follow reached the tool")
		})
	}
}

// What a tool has done is done, whenever the work was cancelled.
func TestAToolThatIsDoneIsDone(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	file := filepath.Join(t.TempDir(), "ready")
	spec := shell(`trap '' TERM; touch "$READY"; cat > /dev/null`)
	spec.Env = append(spec.Env, "READY="+file)
	f := Feed{
		Spec: spec, Source: strings.NewReader("the end"), Proof: &ending{want: "the end"},
		Proven: func(<-chan struct{}) {
			require.Eventually(t, func() bool { _, err := os.Stat(file); return err == nil }, time.Minute, time.Millisecond)
			cancel()
		},
	}
	_, err := f.Run(ctx)
	require.NoError(t, err)
}

func TestAToolThatStopsReadingIsJudgedByItsExit(t *testing.T) {
	big := strings.Repeat("x", 4<<20) + "the end"
	_, err := Feed{Spec: shell("exit 0"), Source: strings.NewReader(big), Proof: &ending{want: "the end"}}.Run(t.Context())
	require.NoError(t, err)
	_, err = Feed{Spec: shell("exit 5"), Source: strings.NewReader(big), Proof: &ending{want: "the end"}}.Run(t.Context())
	var exit *process.ExitError
	require.ErrorAs(t, err, &exit)
	missing, err := Feed{Spec: process.Spec{Path: filepath.Join(t.TempDir(), "missing")}, Source: strings.NewReader(big), Proof: &ending{want: "the end"}}.Run(t.Context())
	require.Error(t, err)
	require.Equal(t, -1, missing.ExitCode)
	_, err = Feed{Spec: shell("exit 0"), Source: strings.NewReader(big[:1<<20]), Proof: &ending{want: "the end"}}.Run(t.Context())
	require.ErrorIs(t, err, errProof)
	_, err = Feed{Spec: shell("exec sleep 600"), Source: strings.NewReader(big), Proof: &ending{want: "the end"}, Stall: 100 * time.Millisecond}.Run(t.Context())
	require.ErrorIs(t, err, ErrStalled)
}

func TestLastWordsAreShortAndHoldNoSecret(t *testing.T) {
	require.Equal(t, `pg_restore: error: could not execute query: ERROR:  type "a" already exists`, LastWords([]string{
		`pg_restore: error: could not execute query: ERROR:  type "a" already exists`, "Command was: CREATE TYPE a AS ENUM (", "'x',", "'y'", ");", "",
	}, "secret"))
	said := LastWords([]string{"one", "two", "", "three pass-word", "four", strings.Repeat("x", 2000)}, "pass-word")
	require.True(t, strings.HasPrefix(said, "three *** | four | xxx"), said)
	require.Less(t, len(said), 700)
	require.Equal(t, "say a", Redact("say a", "a"), "hiding a short secret would tell it")
}

func TestWhatAToolSaysIsPassedOnWithoutEmptyLinesAndSecrets(t *testing.T) {
	var said []string
	hear := Pass("pass-word", func(line string) { said = append(said, line) })
	for _, line := range []string{"one", "", " \t", "the pass-word", "  two"} {
		hear(line)
	}
	require.Equal(t, []string{"one", "the ***", "  two"}, said)
}

func TestAProgramIsAskedForItsVersion(t *testing.T) {
	file := filepath.Join(t.TempDir(), "p")
	require.NoError(t, os.WriteFile(file, []byte("#!/bin/sh\necho \"p $1 15.3\"; echo more\n"), 0o700))
	line, err := VersionLine(t.Context(), file, "--version")
	require.NoError(t, err)
	require.Equal(t, "p --version 15.3", line)
	require.True(t, IsExecutable(file))
	require.False(t, IsExecutable(filepath.Dir(file)))
	require.NoError(t, os.WriteFile(file, []byte("#!/bin/sh\nexit 1\n"), 0o700))
	_, err = VersionLine(t.Context(), file, "--version")
	require.Error(t, err)
}

func TestAPauseGrowsForASlowToolAndEndsForAFastOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := pause{capacity: 1 << 20}
		took := func(n int) time.Duration {
			began := time.Now()
			p.after(t.Context(), n)
			return time.Since(began)
		}
		require.Equal(t, shortestPause, took(4096))
		require.Equal(t, 2*shortestPause, took(4096))
		require.Equal(t, 2*shortestPause, took(200<<10), "enough was found")
		require.Zero(t, took(512<<10), "the tool is ahead")
		require.Equal(t, shortestPause, took(200<<10))
		for range 10 {
			took(1)
		}
		require.Equal(t, longestPause, took(1))
		unknown := pause{}
		unknown.after(t.Context(), 1)
		require.Zero(t, unknown.length)
	})
}

func TestAPauseEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p := pause{capacity: 1 << 20, length: time.Hour}
	p.after(ctx, 200<<10)
}
