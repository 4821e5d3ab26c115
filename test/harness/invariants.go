package harness

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/testkit"
	"github.com/dataguardian/dataguardian/storage"
)

// witness records every change of state of the plane's executions, by a trigger
// in its database.
const witness = `
	CREATE SCHEMA witness;
	CREATE TABLE witness.states (n bigserial PRIMARY KEY, id uuid, was text, became text, old_fence bigint, new_fence bigint,
		trigger text, changed boolean, imported boolean);
	CREATE FUNCTION witness.note() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		IF OLD.status <> NEW.status OR OLD.fence <> NEW.fence OR OLD.status IN ('completed', 'failed', 'cancelled') THEN
			INSERT INTO witness.states (id, was, became, old_fence, new_fence, trigger, changed, imported)
			VALUES (NEW.id, OLD.status, NEW.status, OLD.fence, NEW.fence, NEW.trigger,
				(OLD.status, OLD.size_bytes, OLD.stored_bytes, OLD.error_code, OLD.finished_at, OLD.metadata->'execution_logs')
					IS DISTINCT FROM (NEW.status, NEW.size_bytes, NEW.stored_bytes, NEW.error_code, NEW.finished_at,
						(SELECT coalesce(jsonb_agg(l ORDER BY n), '[]') FROM jsonb_array_elements(NEW.metadata->'execution_logs') WITH ORDINALITY AS x (l, n)
							WHERE n <= jsonb_array_length(OLD.metadata->'execution_logs'))),
				NEW.status = 'completed' AND OLD.status <> 'completed' AND starts_with(coalesce(NEW.metadata #>> '{execution_logs,-1,message}', ''), 'Imported: '));
		END IF;
		RETURN NEW;
	END $$;
	CREATE TRIGGER witness AFTER UPDATE ON backup_executions FOR EACH ROW EXECUTE FUNCTION witness.note();`

// Metadata opens a connection to the plane's database, closed when the test ends.
func (p *Plane) Metadata(t testing.TB) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), p.DSN)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) }) // an embedded server may be gone by then
	return conn
}

// CheckInvariants requires what must hold at any time on any control plane.
func (s *Server) CheckInvariants(t testing.TB) {
	t.Helper()
	c := checker{t: t, server: s, conn: s.Plane.Metadata(t)}
	c.available()
	c.objects()
	c.slots()
	c.leases()
	c.history()
	c.lastGood()
	c.gone()
	c.spools()
	c.failures()
	c.logs()
}

type checker struct {
	t      testing.TB
	server *Server
	conn   *pgx.Conn
}

// rows reads what a query returns, a row as one JSON object each.
func (c checker) rows(query string) []JSON {
	c.t.Helper()
	rows, err := c.conn.Query(context.Background(), "SELECT row_to_json(q)::text FROM ("+query+") q")
	require.NoError(c.t, err)
	texts, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(c.t, err)
	list := make([]JSON, 0, len(texts))
	for _, text := range texts {
		list = append(list, ParseJSON(c.t, text))
	}
	return list
}

func (c checker) none(query, message string) {
	c.t.Helper()
	found := c.rows(query)
	require.Empty(c.t, found, message)
}

// copies are the copies with the directory they are in.
const copies = `SELECT c.execution_id, c.path, c.status, c.fence, e.fence AS execution_fence, e.status AS execution_status, e.trigger,
	l.config->>'path' AS root, coalesce((e.metadata->'upload_retry'->>'possible')::boolean
		AND (e.metadata->'upload_retry'->>'spool_expires_at')::timestamptz > now(), false) AS retriable
	FROM backup_copies c JOIN backup_executions e ON e.id = c.execution_id JOIN storage_locations l ON l.id = c.storage_location_id
	WHERE l.type = 'local' AND l.deleted_at IS NULL`

// manifest is what a stored artifact says about itself.
type manifest struct {
	ExecutionID string `json:"execution_id"`
	DumpFormat  string `json:"dump_format"`
	Members     []struct {
		Name        string `json:"name"`
		Compression string `json:"compression"`
		Encryption  string `json:"encryption"`
		RawSize     int    `json:"raw_size"`
		RawSHA256   string `json:"raw_sha256"`
		Parts       []struct {
			Name   string `json:"name"`
			Size   int    `json:"size"`
			SHA256 string `json:"sha256"`
		} `json:"parts"`
	} `json:"members"`
}

// available: every backup that is shown as available has every object, with the
// right size and checksum, and opens to the end.
func (c checker) available() {
	c.t.Helper()
	for _, row := range c.rows(copies + " AND c.status = 'available'") {
		require.Equal(c.t, "completed", row.Text("execution_status"), "%s", row)
		// A retried upload claims anew and leaves the copies that are good already.
		require.LessOrEqual(c.t, row.Number("fence"), row.Number("execution_fence"), "a copy was committed under a fence that never was: %s", row)
		c.opens(row.Text("execution_id"), filepath.Join(row.Text("root"), row.Text("path")))
	}
	for _, source := range c.server.Get(c.t, "/api/backups/datasources").List("data") {
		for _, b := range c.server.Get(c.t, "/api/backups/datasources/"+source.Text("datasource_id")).List("backups") {
			require.NotEmpty(c.t, b.List("storage_locations"))
			for _, copied := range b.List("storage_locations") {
				require.Equal(c.t, "available", copied.Text("status"), "%s", b)
			}
		}
	}
}

func (c checker) opens(execution, dir string) {
	c.t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, "manifest.json"))
	require.NoError(c.t, err, "an available backup has no manifest")
	var m manifest
	require.NoError(c.t, json.Unmarshal(raw, &m))
	require.Equal(c.t, execution, m.ExecutionID)
	require.NotEmpty(c.t, m.Members)
	dumps := map[string][]byte{}
	for _, member := range m.Members {
		var stored bytes.Buffer
		for _, part := range member.Parts {
			content, err := os.ReadFile(filepath.Join(dir, part.Name))
			require.NoError(c.t, err, "a part of an available backup")
			require.Len(c.t, content, part.Size, "%s/%s", dir, part.Name)
			require.Equal(c.t, part.SHA256, sum(content), "%s/%s", dir, part.Name)
			stored.Write(content)
		}
		if member.Encryption != "" && member.Encryption != "none" {
			continue
		}
		require.Equal(c.t, "zstd", member.Compression)
		decoder, err := zstd.NewReader(&stored)
		require.NoError(c.t, err)
		dump, err := io.ReadAll(decoder)
		decoder.Close()
		require.NoError(c.t, err, "decompressing %s/%s", dir, member.Name)
		require.Len(c.t, dump, member.RawSize)
		require.Equal(c.t, member.RawSHA256, sum(dump))
		if strings.HasSuffix(member.Name, ".dump") {
			dumps[member.Name] = dump
		}
	}
	var archive []byte // of one member, or of several in the order of their names
	for _, name := range slices.Sorted(maps.Keys(dumps)) {
		archive = append(archive, dumps[name]...)
	}
	if len(dumps) > 0 {
		c.restores(archive)
	}
}

// restores lets the real tool read a dump to its end.
func (c checker) restores(dump []byte) {
	c.t.Helper()
	cmd := exec.Command(filepath.Join(testkit.Postgres(c.t).BinDir, "pg_restore"), "-f", "/dev/null")
	cmd.Stdin = bytes.NewReader(dump)
	out, err := cmd.CombinedOutput()
	require.NoError(c.t, err, "%s", out)
}

func sum(content []byte) string {
	digest := sha256.Sum256(content)
	return hex.EncodeToString(digest[:])
}

// objects: soon after the work has ended, no object is there that belongs to no
// available backup and to no upload that can be retried, and no temporary file. Only a
// whole backup that no copy owns stays: its attempt was interrupted before it was booked.
func (c checker) objects() {
	c.t.Helper()
	require.EventuallyWithT(c.t, func(collect *assert.CollectT) {
		assert.Empty(collect, c.unowned(), "objects that belong to no backup")
	}, patience, 100*time.Millisecond)
}

func (c checker) unowned() []string {
	owned, known := map[string]bool{}, map[string]bool{}
	for _, row := range c.rows(copies) {
		known[filepath.Join(row.Text("root"), row.Text("path"))] = true
		wanted := row.At("retriable").Value == true || row.Text("execution_status") == "running" || row.Text("execution_status") == "queued"
		if row.Text("status") == "available" || wanted {
			owned[filepath.Join(row.Text("root"), row.Text("path"))] = true
		}
	}
	var extra []string
	for _, row := range c.rows("SELECT DISTINCT config->>'path' AS root FROM storage_locations WHERE type = 'local' AND deleted_at IS NULL") {
		for _, file := range Files(c.t, row.Text("root")) {
			// Who is killed while it checks a storage cannot take back what it wrote for that.
			orphaned := strings.HasPrefix(filepath.Base(file), storage.ValidatePrefix) && c.server.Plane.hasLost()
			dir := filepath.Dir(file)
			_, noManifest := os.Stat(filepath.Join(dir, "manifest.json"))
			released := !known[dir] && noManifest == nil
			if !owned[dir] && !orphaned && !released {
				extra = append(extra, file)
			}
		}
	}
	return extra
}

// storageMark is the file that tells a local storage from an empty mount point.
const storageMark = ".dataguardian-storage"

// Files lists the files below a directory that may be absent, or no directory,
// but for the mark of a storage.
func Files(t testing.TB, root string) []string {
	t.Helper()
	var all []string
	require.NoError(t, filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // what is gone meanwhile, or cannot be read, holds nothing of ours
		}
		if path != root && e.Type().IsRegular() && e.Name() != storageMark {
			all = append(all, path)
		}
		return nil
	}))
	return all
}

// slots: a due time of a job makes one execution.
func (c checker) slots() {
	c.t.Helper()
	c.none(`SELECT job_id, scheduled_for, count(*) FROM backup_executions WHERE scheduled_for IS NOT NULL
		GROUP BY 1, 2 HAVING count(*) > 1`, "a slot ran twice")
	c.none(`SELECT job_id, count(*) FROM backup_executions WHERE status IN ('queued', 'running') AND operation = 'backup'
		GROUP BY 1 HAVING count(*) > 1`, "a job runs twice at once")
}

// leases: whatever runs has a live lease, or is about to be taken back; whatever
// is queued will be taken.
func (c checker) leases() {
	c.t.Helper()
	c.none("SELECT id FROM backup_executions WHERE status = 'running' AND (lease_expires_at IS NULL OR worker_id IS NULL OR lease_expires_at < now() - interval '10 seconds')",
		"an execution runs without a live lease")
	c.none("SELECT id FROM backup_executions WHERE status = 'queued' AND available_at > now() + interval '1 minute'", "a queued execution waits too long")
}

// history: fences only grow and terminal states stay, but for what an import
// completes; a log may get lines more.
func (c checker) history() {
	c.t.Helper()
	if c.server.Plane.embedded {
		return // its database has no witness
	}
	c.none("SELECT * FROM witness.states WHERE new_fence < old_fence", "a fence went back")
	c.none("SELECT * FROM witness.states WHERE became = 'running' AND was <> 'running' AND new_fence <= old_fence", "a claim without a new fence")
	c.none("SELECT * FROM witness.states WHERE was IN ('completed', 'failed', 'cancelled') AND changed AND trigger <> 'retry' AND NOT imported", "a terminal state changed")
}

// lastGood: every job that ever had a good backup still has one.
func (c checker) lastGood() {
	c.t.Helper()
	c.none(`SELECT e.job_id FROM backup_executions e JOIN backup_jobs j ON j.id = e.job_id AND j.deleted_at IS NULL
		WHERE e.status = 'completed' AND e.operation = 'backup'
		GROUP BY e.job_id HAVING NOT bool_or(EXISTS (SELECT FROM backup_copies c WHERE c.execution_id = e.id AND c.status = 'available'))`,
		"a job has lost its last good backup")
}

// gone: deleted means that the objects are gone.
func (c checker) gone() {
	c.t.Helper()
	for _, row := range c.rows(copies + " AND c.status = 'deleted'") {
		require.Empty(c.t, Files(c.t, filepath.Join(row.Text("root"), row.Text("path"))), "%s", row)
	}
}

// spools: a retriable upload has its spool on one machine, and the hashes match.
func (c checker) spools() {
	c.t.Helper()
	for _, row := range c.rows(`SELECT id FROM backup_executions WHERE status IN ('completed', 'failed', 'cancelled')
		AND coalesce((metadata->'upload_retry'->>'possible')::boolean AND (metadata->'upload_retry'->>'spool_expires_at')::timestamptz > now() + interval '1 minute', false)`) {
		states, err := filepath.Glob(filepath.Join(c.server.Plane.Dir, "*", "spool", row.Text("id"), "state.json"))
		require.NoError(c.t, err)
		require.Len(c.t, states, 1, "an upload that can be retried has no spool: %s", row)
		c.spool(filepath.Dir(states[0]))
	}
}

func (c checker) spool(dir string) {
	c.t.Helper()
	read := func(name string, into any) {
		raw, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(c.t, err)
		require.NoError(c.t, json.Unmarshal(raw, into), name)
	}
	var m manifest
	var state struct {
		Parts []struct{ Name, File string }
	}
	read("manifest.json", &m)
	read("state.json", &state)
	files := map[string]string{}
	for _, p := range state.Parts {
		files[p.Name] = p.File
	}
	for _, member := range m.Members {
		for _, part := range member.Parts {
			content, err := os.ReadFile(filepath.Join(dir, files[part.Name]))
			require.NoError(c.t, err)
			require.Equal(c.t, part.SHA256, sum(content), "%s/%s", dir, part.Name)
		}
	}
}

// failures: every failure has a code, a sentence for a person, and one
// notification each time it happened: a retried upload may fail again.
func (c checker) failures() {
	c.t.Helper()
	times := "1"
	if !c.server.Plane.embedded { // whose database has no witness
		times = "(SELECT count(*) FROM witness.states s WHERE s.id = e.id AND s.became = 'failed' AND s.was <> 'failed')"
	}
	for _, row := range c.rows(`SELECT e.id, e.error_code, e.error_message, ` + times + ` AS times,
			(SELECT count(*) FROM notifications n WHERE n.metadata->>'execution_id' = e.id::text AND n.type IN ('backup_failed', 'restore_failed', 'verify_failed')) AS notes
		FROM backup_executions e WHERE e.status = 'failed'`) {
		require.False(c.t, row.Null("error_code"), "%s", row)
		require.NotContains(c.t, []string{"", "INTERNAL_ERROR"}, row.Text("error_code"), "%s", row)
		require.Greater(c.t, len(strings.Fields(row.Text("error_message"))), 4, "%s", row)
		require.NotContains(c.t, row.Text("error_message"), "\n")
		require.Equal(c.t, row.Int("times"), row.Int("notes"), "%s", row)
	}
}

// logs: the sequence of a log has no gap.
func (c checker) logs() {
	c.t.Helper()
	for _, row := range c.rows("SELECT id, status, metadata->'execution_logs' AS lines FROM backup_executions") {
		Gapless(c.t, row.List("lines"), fmt.Sprintf("log of %s", row.Text("id")))
	}
}

// Gapless requires the numbers 1, 2, 3, ... and a time, level and message each. A
// line that says which numbers are missing stands for them.
func Gapless(t testing.TB, lines []JSON, what string) {
	t.Helper()
	levels := []string{"debug", "info", "warn", "error", "success"}
	next := int64(1)
	for _, line := range lines {
		if missing := missingLines.FindStringSubmatch(line.Text("message")); missing != nil && missing[1] == fmt.Sprint(next) && missing[2] == fmt.Sprint(line.Int("seq")) {
			next = line.Int("seq")
		}
		require.Equal(t, next, line.Int("seq"), "%s: %s", what, line)
		next++
		require.NotEmpty(t, line.Text("message"), what)
		require.True(t, slices.Contains(levels, line.Text("level")), "%s: %s", what, line)
		_, err := time.Parse(time.RFC3339Nano, line.Text("ts"))
		require.NoError(t, err, what)
	}
}

var missingLines = regexp.MustCompile(` (?:dropped|lost) here.* \((\d+) to (\d+)\)$`)
