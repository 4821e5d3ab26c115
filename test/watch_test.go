package test

import (
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/test/harness"
)

// eventsUntilEnd reads events until the execution has ended, without heartbeats.
func eventsUntilEnd(t *testing.T, stream *harness.Stream, id string) []harness.JSON {
	t.Helper()
	var events []harness.JSON
	for {
		line, ok := stream.Line()
		require.True(t, ok, "the stream has ended after %v", events)
		e := harness.ParseJSON(t, line)
		require.NotEmpty(t, e.Text("id"))
		if e.Has("heartbeat") {
			continue
		}
		events = append(events, e)
		if e.Text("execution_id") == id && e.Text("status") == "completed" && !e.Has("line") && !e.Has("gap") {
			return events
		}
	}
}

func eventLines(events []harness.JSON, execution string) (messages []string) {
	for _, e := range events {
		if e.Has("line") && e.Text("execution_id") == execution {
			messages = append(messages, e.Text("line.message"))
		}
	}
	return messages
}

func eventsGoOnAfterAnyId(t *testing.T, s *harness.Server) {
	source := s.Plane.NewSource(t, 10)
	job, _ := s.NewJob(t, source)
	other, _ := s.NewJob(t, source)
	path := "/api/events?include_logs=true&job_id=" + job
	stream := s.Stream(t, path)
	s.Backup(t, other) // nobody hears of this one
	release := source.Lock(t)
	id := s.Run(t, job)
	source.AwaitDump(t)
	late := s.Stream(t, path) // shows what runs, from its first line
	release()

	want := messages(s.Await(t, id).List("metadata.execution_logs"))
	events := eventsUntilEnd(t, stream, id)
	require.Equal(t, want, eventLines(events, id), "every line, once and in order, before the end")
	require.Equal(t, want, eventLines(eventsUntilEnd(t, late, id), id))
	var states []string
	for _, e := range events {
		require.Equal(t, job, e.Text("job_id"))
		require.Equal(t, "backup", e.Text("operation"))
		if !e.Has("line") && !e.Has("progress") && !e.Has("gap") {
			states = append(states, e.Text("status"))
		}
	}
	require.Subset(t, []string{"queued", "running", "completed"}, states)
	require.Equal(t, []string{"running", "completed"}, states[max(len(states)-2, 0):])

	for i, e := range events[:len(events)-1] {
		rest := eventsUntilEnd(t, s.Stream(t, path+"&after="+e.Text("id")), id)
		require.Equal(t, eventLines(events[i+1:], id), eventLines(rest, id), "after event %d", i)
	}
	after := s.Stream(t, path, "Accept", "text/event-stream", "Last-Event-ID", events[len(events)-1].Text("id"))
	again := s.Backup(t, job).Text("id")
	for {
		line, ok := after.Line()
		require.True(t, ok)
		if data, found := strings.CutPrefix(line, "data: "); found {
			e := harness.ParseJSON(t, data)
			if e.Has("heartbeat") {
				continue
			}
			require.NotEqual(t, id, e.Text("execution_id"), "what was told is not told again")
			if e.Text("execution_id") == again {
				break
			}
		}
	}
}

// aScopeShowsNothingElse watches and reads with a token that reaches one of two
// datasources, while the other tests fill the same control plane.
func aScopeShowsNothingElse(t *testing.T, s *harness.Server) {
	source := s.Plane.NewSource(t, 10)
	mine, _ := s.NewJob(t, source)
	theirs, _ := s.NewJob(t, source)
	datasource := s.Get(t, "/api/backup-jobs/"+mine).Text("datasource_id")
	s.Do(t, http.MethodPut, "/api/datasources/"+datasource, config{"tags": []string{"scoped", "other"}}).Expect(t, http.StatusOK)
	scoped := s.With(s.Post(t, "/api/auth/tokens", config{"name": "scoped", "role": "operator", "scope": []string{"scoped"}}, http.StatusCreated).Text("token"))

	events := []*harness.Stream{scoped.Stream(t, "/api/events?include_logs=true"), scoped.Stream(t, "/api/events", "Accept", "text/event-stream")}
	notes := scoped.Stream(t, "/api/notifications/stream")
	begun, ok := notes.Line()
	require.True(t, ok)
	require.Equal(t, "0", harness.ParseJSON(t, begun).Text("id"), "how many others there are is not told")
	s.Backup(t, theirs)
	id := s.Backup(t, mine).Text("id")

	told := eventsUntilEnd(t, events[0], id)
	require.NotEmpty(t, eventLines(told, id))
	for _, e := range told {
		require.Equal(t, mine, e.Text("job_id"), "%s", e)
	}
	require.Equal(t, []string{"event: heartbeat"}, untilState(t, events[1], id)[:1])
	note, ok := notes.Line()
	require.True(t, ok)
	require.Equal(t, mine, harness.ParseJSON(t, note).Text("notification.entity_id"), note)
	again, ok := scoped.Stream(t, "/api/notifications/stream?after=0").Line()
	require.True(t, ok)
	require.Equal(t, "0", harness.ParseJSON(t, again).Text("id"))

	page := scoped.Get(t, "/api/dashboard/overview")
	for key, want := range map[string]int64{
		"datasources_total": 1, "jobs_total": 1, "jobs_enabled": 1, "storages_total": 1, "storages_healthy": 1, "executions_24h_total": 1, "success_rate_24h": 100,
	} {
		require.Equal(t, want, page.Int("stats."+key), "%s of %s", key, page)
	}
	require.Len(t, page.List("recent_executions"), 1)
	require.Equal(t, id, page.Text("recent_executions.0.id"))
	require.Len(t, page.List("datasource_health"), 1)
	require.Equal(t, datasource, page.Text("datasource_health.0.id"))
	var total int64
	for _, day := range page.List("executions_by_day") {
		total += day.Int("total")
	}
	require.Equal(t, int64(1), total)
	health := scoped.Do(t, http.MethodGet, "/api/health", nil) // the tests beside may make it degraded
	require.Equal(t, int64(1), harness.ParseJSON(t, health.Text).Int("stats.datasources_total"))
	require.Equal(t, int64(1), harness.ParseJSON(t, health.Text).Int("stats.jobs_total"))
	require.LessOrEqual(t, harness.ParseJSON(t, health.Text).Int("stats.executions_today"), int64(1))
	scoped.Do(t, http.MethodGet, "/api/storage-locations", nil).Refused(t, http.StatusForbidden, "FORBIDDEN")
}

// tagsComeAndGo changes the tags of a datasource while it is backed up, before the eyes of
// two tokens: one that the tags lead to, and one that they leave.
func tagsComeAndGo(t *testing.T, s *harness.Server) {
	source, other := s.Plane.NewSource(t, 10), s.Plane.NewSource(t, 10)
	moving, _ := s.NewJob(t, source)
	coming, _ := s.NewJob(t, other)
	tag := func(job, tag string) {
		datasource := s.Get(t, "/api/backup-jobs/"+job).Text("datasource_id")
		s.Do(t, http.MethodPut, "/api/datasources/"+datasource, config{"tags": []string{tag}}).Expect(t, http.StatusOK)
	}
	watching := func(scope string) *harness.Stream {
		token := s.Post(t, "/api/auth/tokens", config{"name": "sees " + scope, "role": "viewer", "scope": []string{scope}}, http.StatusCreated).Text("token")
		stream := s.With(token).Stream(t, "/api/events?include_logs=true")
		first, ok := stream.Line()
		require.True(t, ok)
		require.True(t, harness.ParseJSON(t, first).Has("heartbeat"), "the stream is on: %s", first)
		return stream
	}
	before, after := watching("before"), watching("after")
	release := source.Lock(t)
	id := s.Run(t, moving)
	source.AwaitDump(t)

	tag(moving, "before")
	first := nextEvent(t, before)
	require.Equal(t, id, first.Text("execution_id"), "what comes into the scope is told")
	lines := []string{}
	for e := first; ; e = nextEvent(t, before) {
		if e.Has("line") {
			lines = append(lines, e.Text("line.seq"))
			break
		}
	}
	require.Equal(t, []string{"1"}, lines, "from its first line")
	tag(moving, "after")
	require.Equal(t, id, nextEvent(t, after).Text("execution_id"), "the tags were read again")

	// What comes into the scope later tells that the first stream knows the tags, too.
	releaseOther := other.Lock(t)
	last := s.Run(t, coming)
	tag(coming, "before")
	for nextEvent(t, before).Text("execution_id") != last {
	}
	release()
	s.Await(t, id)
	require.NotEmpty(t, eventLines(eventsUntilEnd(t, after, id), id))
	releaseOther()
	for _, e := range eventsUntilEnd(t, before, last) {
		require.Equal(t, last, e.Text("execution_id"), "what has left the scope is told no more: %s", e)
	}
}

// nextEvent is the next that is no heartbeat.
func nextEvent(t *testing.T, stream *harness.Stream) harness.JSON {
	t.Helper()
	for {
		line, ok := stream.Line()
		require.True(t, ok, "the stream has ended")
		if e := harness.ParseJSON(t, line); !e.Has("heartbeat") {
			return e
		}
	}
}

// untilState reads Server-Sent Events until one that an execution has completed, and
// returns the lines with their names. Each is about that execution, and a heartbeat
// about nothing.
func untilState(t *testing.T, stream *harness.Stream, id string) (names []string) {
	t.Helper()
	for {
		line, ok := stream.Line()
		require.True(t, ok, "the stream has ended after %v", names)
		if strings.HasPrefix(line, "event: ") {
			names = append(names, line)
		}
		data, found := strings.CutPrefix(line, "data: ")
		if !found {
			continue
		}
		e := harness.ParseJSON(t, data)
		if e.Has("heartbeat") {
			require.ElementsMatch(t, []string{"heartbeat", "id"}, e.Keys())
			continue
		}
		require.Equal(t, id, e.Text("execution_id"))
		if e.Text("status") == "completed" && names[len(names)-1] == "event: state" {
			return names
		}
	}
}

var escapes = regexp.MustCompile("\x1b\\[[?0-9]*[A-Za-z]")

func executionsAreFollowed(t *testing.T, s *harness.Server) {
	source := s.Plane.NewSource(t, 10)
	job, _ := s.NewJob(t, source)
	name := s.Get(t, "/api/backup-jobs/"+job).Text("name")
	all := s.Follow(t, "follows", "logs", "-f", "--job", name)
	run := s.Terminal(t, "job", "run", name, "--follow")
	require.Zero(t, run.Code, run.Stderr)
	require.Regexp(t, `\x1b\[32m\d\d:\d\d:\d\d Completed in`, run.Stdout, "coloured by level")
	require.Regexp(t, `[a-z]+  \[[#.]{24}\] `, run.Stdout, "a bar")
	shown := strings.Split(strings.TrimRight(escapes.ReplaceAllString(run.Stdout, ""), "\r\n"), "\r\n")
	require.Contains(t, shown[len(shown)-1], "Completed in", "the bar goes, the lines stay")

	id := s.Get(t, "/api/executions?job_id="+job).Text("data.0.id")
	logs := messages(s.Get(t, "/api/executions/"+id+"/logs").List("logs"))
	all.Await(t, all.Stdout, name+" backup: completed")
	followed := all.Stdout.String()
	require.NotContains(t, followed, "\x1b", "a pipe gets no colours")
	for _, message := range logs {
		require.Equal(t, 1, strings.Count(followed, " "+name+" backup: "+message+"\n"), "%q in\n%s", message, followed)
	}
	all.Signal(t, syscall.SIGINT)
	require.Zero(t, all.Wait(t), all.Stderr)

	broken := s.AddJob(t, s.AddDatasource(t, source.Config()), s.AddStorage(t, s.StorageDir(t)), harness.Config{"backup_options": harness.Config{"include_tables": []string{"public.absent"}}})
	failed := s.Terminal(t, "job", "run", s.Get(t, "/api/backup-jobs/"+broken).Text("name"), "--follow")
	require.Equal(t, 2, failed.Code)
	require.Contains(t, failed.Stderr, "public.absent")
}

// examplesWatch lets each example watch one backup.
func examplesWatch(t *testing.T, s *harness.Server) {
	source := s.Plane.NewSource(t, 10)
	job, _ := s.NewJob(t, source)
	dir := t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-o", dir, "../examples/client", "../examples/browser")
	out, err := build.CombinedOutput()
	require.NoError(t, err, string(out))

	client := example(t, s, filepath.Join(dir, "client"), s.GRPC)
	curl := example(t, s, "../examples/events.sh", "http://"+s.HTTP)
	browser := example(t, s, filepath.Join(dir, "browser"), "http://"+s.HTTP, "127.0.0.1:0")
	curl.Await(t, `"heartbeat"`)
	page := loadPage(t, strings.TrimPrefix(browser.Await(t, "open http://"), "open "))
	page.connect()

	id := s.Backup(t, job).Text("id")
	logs := messages(s.Get(t, "/api/executions/"+id+"/logs").List("logs"))
	last := logs[len(logs)-1]
	name := s.Get(t, "/api/executions/"+id).Text("datasource.name")
	client.Await(t, "backup of "+name+": "+last)
	client.Await(t, "backup of "+name+": completed")
	curl.Await(t, last, id)
	page.hearUntil(id, "completed")
	shows := func(id string) {
		require.Regexp(t, "^backup of "+regexp.QuoteMeta(name)+": completed", page.text(id))
		require.Equal(t, logs, linesOn(page, name))
	}
	shows(id)

	page.lose()
	again := s.Backup(t, job).Text("id")
	logs = append(logs, messages(s.Get(t, "/api/executions/"+again+"/logs").List("logs"))...)
	page.connect()
	page.hearUntil(again, "completed")
	shows(again)
	page.call("receive", "gap", `{"datasource_name":"lossy","gap":{"from":"3","to":"5"}}`)
	require.Equal(t, []string{"lines 3 to 5 are lost"}, linesOn(page, "lossy"))
}

// linesOn lists the lines of a datasource that a page shows.
func linesOn(p *page, datasource string) (lines []string) {
	for _, row := range p.rows("lines") {
		if line, ok := strings.CutPrefix(row, datasource+": "); ok {
			lines = append(lines, line)
		}
	}
	return lines
}

// program is a running example.
type program struct{ *harness.Output }

// Await returns the first line that holds all the words.
func (p program) Await(t *testing.T, words ...string) string {
	t.Helper()
	var found string
	require.Eventually(t, func() bool {
		for _, line := range p.Lines() {
			if containsAll(line, words...) {
				found = line
				return true
			}
		}
		return false
	}, time.Minute, 20*time.Millisecond, "%v is not in\n%s", words, p)
	return found
}

// example runs a program with the token until the test ends.
func example(t *testing.T, s *harness.Server, name string, args ...string) program {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "DATAGUARDIAN_TOKEN="+s.Token)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) } // the shell's children too
	out := harness.NewOutput()
	cmd.Stdout, cmd.Stderr = out, out
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait() // it was stopped
	})
	return program{out}
}
