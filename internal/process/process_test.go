package process

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

// parentRole makes the test binary start a child and wait to be killed.
const parentRole = "DG_TEST_PARENT_ROLE"

func TestMain(m *testing.M) {
	if os.Getenv(parentRole) != "" {
		runAsParent()
		return
	}
	goleak.VerifyTestMain(m)
}

func runAsParent() {
	p, err := Start(context.Background(), Spec{Path: "/bin/sleep", Args: []string{"600"}, Env: Environment("/tmp")})
	if err != nil {
		fmt.Println("0")
		return
	}
	fmt.Println(p.Pid())
	_, _ = p.Wait()
}

func shell(script string, args ...string) Spec {
	return Spec{Path: "/bin/sh", Args: append([]string{"-c", script, "sh"}, args...), Env: Environment("/tmp")}
}

func start(t *testing.T, ctx context.Context, s Spec) *Process {
	t.Helper()
	p, err := Start(ctx, s)
	require.NoError(t, err)
	return p
}

func alive(pid int) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	return !strings.HasPrefix(rest, "Z")
}

func requireGone(t *testing.T, pid int) {
	t.Helper()
	require.Eventually(t, func() bool { return !alive(pid) }, time.Minute, 5*time.Millisecond)
}

// firstLines reads n lines from r and leaves the rest.
func firstLines(t *testing.T, r io.Reader, n int) []string {
	t.Helper()
	var got []string
	sc := bufio.NewScanner(r)
	for len(got) < n && sc.Scan() {
		got = append(got, sc.Text())
	}
	require.Len(t, got, n)
	return got
}

func TestAChildSeesOnlyTheEnvironmentItWasGiven(t *testing.T) {
	t.Setenv("PGPASSWORD", "not for children")
	p := start(t, t.Context(), Spec{Path: "/usr/bin/env", Env: Environment("/tmp", "A=b"), Stdout: true})
	out, err := io.ReadAll(p.Stdout)
	require.NoError(t, err)
	_, err = p.Wait()
	require.NoError(t, err)
	require.ElementsMatch(t,
		[]string{"PATH=/usr/local/bin:/usr/bin:/bin", "LC_ALL=C", "TZ=UTC", "HOME=/tmp", "TMPDIR=/tmp", "A=b"},
		strings.Fields(string(out)))
}

func TestANilEnvironmentIsAnEmptyOne(t *testing.T) {
	p := start(t, t.Context(), Spec{Path: "/usr/bin/env", Stdout: true})
	out, err := io.ReadAll(p.Stdout)
	require.NoError(t, err)
	_, err = p.Wait()
	require.NoError(t, err)
	require.Empty(t, string(out))
}

func TestArgumentsArePassedLiterally(t *testing.T) {
	p := start(t, t.Context(), Spec{
		Path: "/usr/bin/printf", Args: []string{"%s|", "$(id)", "a b", "-x", "line\nbreak"},
		Env: Environment("/tmp"), Stdout: true,
	})
	out, err := io.ReadAll(p.Stdout)
	require.NoError(t, err)
	_, err = p.Wait()
	require.NoError(t, err)
	require.Equal(t, "$(id)|a b|-x|line\nbreak|", string(out))
}

func TestInputReachesTheChild(t *testing.T) {
	s := shell("cat")
	s.Stdin, s.Stdout = true, true
	p := start(t, t.Context(), s)
	_, err := io.WriteString(p.Stdin, "hello")
	require.NoError(t, err)
	require.NoError(t, p.Stdin.Close())
	out, err := io.ReadAll(p.Stdout)
	require.NoError(t, err)
	require.Equal(t, "hello", string(out))
	_, err = p.Wait()
	require.NoError(t, err)
}

func TestStandardErrorArrivesInBoundedLinesAndItsTailIsKept(t *testing.T) {
	var got []string
	s := shell(`echo one >&2; printf 'two\r\n' >&2; head -c 100000 /dev/zero | tr '\0' x >&2; printf '\nbad \377 byte\nlast' >&2`)
	s.OnStderr = func(l string) { got = append(got, l) }
	s.MaxLine, s.TailLines = 10, 2
	p := start(t, t.Context(), s)
	_, err := p.Wait()
	require.NoError(t, err)
	require.Equal(t, []string{"one", "two", "xxxxxxxxxx [...]", "bad ? byte", "last"}, got)
	require.Equal(t, []string{"bad ? byte", "last"}, p.Tail())
}

func TestAFailureCarriesItsStatusAndItsLastLines(t *testing.T) {
	p := start(t, t.Context(), shell("echo broken >&2; exit 7"))
	res, err := p.Wait()
	var exit *ExitError
	require.ErrorAs(t, err, &exit)
	require.Equal(t, 7, res.ExitCode)
	require.Equal(t, []string{"broken"}, exit.Tail)
	require.EqualError(t, err, "sh exited with status 7: broken")
}

func TestASignalIsNamed(t *testing.T) {
	p := start(t, t.Context(), shell("kill -SEGV $$"))
	res, err := p.Wait()
	require.ErrorContains(t, err, "segmentation fault")
	require.Equal(t, syscall.SIGSEGV, res.Signal)
	require.Equal(t, -1, res.ExitCode)
}

func TestResourceUsageIsReported(t *testing.T) {
	p := start(t, t.Context(), shell("i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done"))
	res, err := p.Wait()
	require.NoError(t, err)
	require.Positive(t, res.User+res.System)
	require.Positive(t, res.MaxRSS)
}

func TestAMissingProgramIsAnError(t *testing.T) {
	_, err := Start(t.Context(), Spec{Path: "/nonexistent/tool"})
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestAnEndedContextStartsNothing(t *testing.T) {
	cause := errors.New("too late")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	_, err := Start(ctx, shell("exit 0"))
	require.ErrorIs(t, err, cause)
}

func TestCancellingEndsAWholeGroupThatIgnoresPolitenessAndGivesTheCause(t *testing.T) {
	grace := defaultGrace
	t.Cleanup(func() { defaultGrace = grace })
	defaultGrace = 2 * time.Minute // not what this test asks for
	cause := errors.New("operator said so")
	ctx, cancel := context.WithCancelCause(t.Context())
	s := shell(`trap '' TERM; (trap '' TERM; while :; do sleep 1; done) & echo $!; echo ready; while :; do sleep 1; done`)
	s.Stdout, s.Grace = true, 100*time.Millisecond
	p := start(t, ctx, s)
	lines := firstLines(t, p.Stdout, 2)
	began := time.Now()
	cancel(cause)
	_, err := p.Wait()
	require.ErrorIs(t, err, cause)
	require.Less(t, time.Since(began), time.Minute)
	child, err := strconv.Atoi(lines[0])
	require.NoError(t, err)
	requireGone(t, child)
	requireGone(t, p.Pid())
}

func TestKillGivesItsFirstCause(t *testing.T) {
	first := errors.New("sink is full")
	p := start(t, t.Context(), shell("exec sleep 600"))
	p.Kill(first)
	p.Kill(errors.New("second"))
	_, err := p.Wait()
	require.ErrorIs(t, err, first)
}

func TestChildrenLeftBehindByAnEndedChildAreEnded(t *testing.T) {
	s := shell(`sleep 600 & echo $!`)
	s.Stdout = true
	p := start(t, t.Context(), s)
	pid, err := strconv.Atoi(firstLines(t, p.Stdout, 1)[0])
	require.NoError(t, err)
	_, err = p.Wait()
	require.NoError(t, err)
	requireGone(t, pid)
}

func TestAProcessThatLeftTheGroupDoesNotHoldUpWait(t *testing.T) {
	pidFile := filepath.Join(t.TempDir(), "pid")
	p := start(t, t.Context(), shell(`setsid sh -c 'echo $$ > "$0.tmp"; mv "$0.tmp" "$0"; exec sleep 600' "$1" & while [ ! -e "$1" ]; do :; done`, pidFile))
	began := time.Now()
	_, err := p.Wait()
	require.NoError(t, err)
	require.Less(t, time.Since(began), time.Minute)
	b, err := os.ReadFile(pidFile)
	require.NoError(t, err)
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	require.NoError(t, err)
	require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
}

func TestAChildOutlivesTheThreadsOfItsParent(t *testing.T) {
	p := start(t, t.Context(), shell("exec sleep 600"))
	for range 50 {
		ended := make(chan struct{})
		go func() { // a goroutine that ends locked takes its thread with it
			runtime.LockOSThread()
			close(ended)
		}()
		<-ended
	}
	require.True(t, alive(p.Pid()))
	p.Kill(nil)
	_, err := p.Wait()
	require.ErrorIs(t, err, errKilled)
}

func TestAChildDiesWithAParentThatWasKilled(t *testing.T) {
	self, err := os.Executable()
	require.NoError(t, err)
	parent := exec.Command(self)
	parent.Env = append(os.Environ(), parentRole+"=1")
	out, err := parent.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, parent.Start())
	child, err := strconv.Atoi(firstLines(t, out, 1)[0])
	require.NoError(t, err)
	require.NotZero(t, child)
	require.True(t, alive(child))
	require.NoError(t, parent.Process.Kill())
	_ = parent.Wait()
	requireGone(t, child)
}

func TestAReadDeadlineEndsAWaitForBytes(t *testing.T) {
	s := shell("exec sleep 600")
	s.Stdout = true
	p := start(t, t.Context(), s)
	require.NoError(t, p.Stdout.SetReadDeadline(time.Now().Add(20*time.Millisecond)))
	_, err := p.Stdout.Read(make([]byte, 1))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	p.Kill(err)
	_, err = p.Wait()
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
}
