package test

import (
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/testkit"
	"github.com/dataguardian/dataguardian/test/harness"
)

// talkative is a pg_dump that prints its password in every way it can, and what
// could deceive a terminal or a page, and then makes a good dump.
const talkative = `
say() { printf '%s\n' "$1" >&2; }
bytes() { printf '%s' "$PGPASSWORD" | od -An -v -tx1 | tr -d '\n'; }
say "raw $PGPASSWORD end"
printf 'split '>&2
printf '%s' "$PGPASSWORD" | dd bs=7 status=none >&2
say ' end'
for before in '' a ab; do say "base64 $(printf '%s%s%s' "$before" "$PGPASSWORD" "$before" | base64 -w 0) end"; done
say "url $(bytes | tr ' ' '%') end"
say "hex $(bytes | tr -d ' ') end"
say "failed to connect to postgres://user:$(bytes | tr ' ' '%')@host/db end"
printf 'terminal \033[31mred\033[0m \a\b\r overwritten end\n' >&2
say 'page <script>alert(1)</script> end'
exec "$REAL" "$@"`

// The rest of what must hold no secret is searched when the test ends.
func TestASecretIsSeenNowhereHoweverAToolPrintsIt(t *testing.T) {
	t.Parallel()
	tools := harness.NewTools(t)
	tools.Put(t, tools.Version(t), talkative)
	require.NoError(t, os.Symlink(filepath.Join(testkit.Postgres(t).BinDir, "pg_restore"), filepath.Join(tools.Dir, "pg_restore")))
	s := harness.NewPlane(t).Serve(t, "server", "--postgres-bin-dir", tools.Dir)
	source := s.Plane.NewSource(t, 10)
	source.PG.Exec(t, "postgres", "ALTER ROLE "+source.User+" CREATEDB") // a restore makes one
	conn := source.Connect(t)
	// What a database says while it is filled may be printed by the tool that fills it.
	for _, sql := range []string{
		"CREATE FUNCTION public.shout(bigint) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RAISE WARNING '%', '" + literal(s.Plane.Secret) + "'; RETURN true; END $$",
		"CREATE TABLE public.loud (id bigint CHECK (public.shout(id)))",
		"INSERT INTO public.loud VALUES (1)",
	} {
		_, err := conn.Exec(t.Context(), sql)
		require.NoError(t, err)
	}
	job, _ := s.NewJob(t, source)
	events := s.Stream(t, "/api/events?include_logs=true&job_id="+job)
	e := s.Backup(t, job)
	id := e.Text("id")
	logs := messages(e.List("metadata.execution_logs"))
	require.Equal(t, logs, eventLines(eventsUntilEnd(t, events, id), id))
	text := strings.Join(logs, "\n")
	for _, how := range []string{"raw", "split", "url", "hex"} {
		require.Regexp(t, `(?m)`+how+` \*\*\* end$`, text)
	}
	require.Regexp(t, `(?m)postgres://user:\*\*\*@host/db end$`, text)
	require.GreaterOrEqual(t, strings.Count(text, "base64 "), 3)
	require.Contains(t, text, `terminal \x1b[31mred\x1b[0m \x07\x08\r overwritten end`)
	require.Contains(t, text, "page <script>alert(1)</script> end", "it is text, and who shows it on a page escapes it")

	restored := s.Post(t, "/api/backups/"+id+"/restore", config{"verification_mode": true}, http.StatusAccepted).Text("execution_id")
	r := s.Await(t, restored)
	require.Equal(t, "completed", r.Text("status"), "%s", r)
	text += "\n" + strings.Join(messages(r.List("metadata.execution_logs")), "\n")

	secret := s.Plane.Secret
	text += s.Stdout.String() + s.Stderr.String() + s.Do(t, http.MethodGet, "/api/notifications", nil).Text
	for shift := range 3 { // what three bytes in a row become does not depend on their neighbours
		core := secret[shift : shift+(len(secret)-shift)/3*3]
		require.NotContains(t, text, base64.StdEncoding.EncodeToString([]byte(core))[:8])
	}
	for _, form := range []string{secret, url.QueryEscape(secret), hex.EncodeToString([]byte(secret))} {
		require.NotContains(t, text, form)
	}
	require.NotContains(t, s.Stdout.String(), "\x1b")
}

// literal is the inside of a text of SQL, in the format of RAISE.
func literal(s string) string { return strings.ReplaceAll(s, "'", "''") }
