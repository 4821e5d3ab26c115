package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// past is what the metadata of a control plane that has run for long is about.
type past struct {
	jobs []string // ids, with their datasource and storage location
	refs map[string]ref
	ids  []string // of executions, a sample of all
}

type ref struct{ datasource, location string }

// sampled is how many executions are asked for one by one.
const sampled = 1000

// fillHistory writes executions, with lines, parts and copies like those that
// real backups leave, straight into the metadata.
func (c *cluster) fillHistory(ctx context.Context, database string, n int, p *past) error {
	return c.in(ctx, database, func(conn *pgx.Conn) error {
		if err := p.findJobs(ctx, conn); err != nil {
			return err
		}
		h := newHistory(p, n)
		for _, step := range []struct {
			sql string
			row func(b []byte, i int) []byte
		}{
			{`COPY backup_executions (id, job_id, datasource_id, storage_location_id, operation, status, trigger, scheduled_for, started_at, finished_at,
				size_bytes, stored_bytes, backup_path, parts_count, error_code, error_message, attempt, max_attempts, fence, worker_id, request, metadata, created_at) FROM STDIN`, h.execution},
			{"COPY backup_copies (execution_id, storage_location_id, path, fence, status) FROM STDIN", h.copy},
			{"COPY backup_chunks (execution_id, chunk_number, file_path, size_bytes, checksum) FROM STDIN", h.chunks},
		} {
			if err := copyIn(ctx, conn, step.sql, func(w io.Writer) error { return eachRow(w, n, step.row) }); err != nil {
				return fmt.Errorf("%.30s: %w", step.sql, err)
			}
		}
		// What autovacuum does in time.
		return execute(ctx, conn, "VACUUM ANALYZE", "CHECKPOINT")
	})
}

func (p *past) findJobs(ctx context.Context, conn *pgx.Conn) error {
	rows, err := conn.Query(ctx, "SELECT id::text, datasource_id::text, storage_location_id::text FROM backup_jobs ORDER BY name")
	if err != nil {
		return err
	}
	defer rows.Close()
	p.refs = map[string]ref{}
	for rows.Next() {
		var id string
		var r ref
		if err := rows.Scan(&id, &r.datasource, &r.location); err != nil {
			return err
		}
		p.jobs, p.refs[id] = append(p.jobs, id), r
	}
	if len(p.jobs) == 0 {
		return errors.Join(rows.Err(), errors.New("there is no job"))
	}
	return rows.Err()
}

func eachRow(w io.Writer, n int, row func(b []byte, i int) []byte) error {
	out := bufio.NewWriterSize(w, 256<<10)
	var b []byte
	for i := range n {
		b = row(b[:0], i)
		if _, err := out.Write(b); err != nil {
			return err
		}
	}
	return out.Flush()
}

// history makes the rows. Those of one execution are made again in each table
// from its number.
type history struct {
	past  *past
	ids   []string
	text  *prose
	start time.Time
}

func newHistory(p *past, n int) *history {
	h := &history{past: p, text: newProse(99), start: time.Now().UTC().Add(-time.Duration(n+1) * time.Minute)}
	for i := range n {
		h.ids = append(h.ids, string(h.text.uuid(nil)))
		if i%max(n/sampled, 1) == 0 {
			p.ids = append(p.ids, h.ids[i])
		}
	}
	return h
}

func (h *history) job(i int) (string, ref) {
	id := h.past.jobs[i%len(h.past.jobs)]
	return id, h.past.refs[id]
}

// failed is so for one in twenty.
func failed(i int) bool { return i%20 == 7 }

func (h *history) at(i int) time.Time { return h.start.Add(time.Duration(i) * time.Minute) }
func (h *history) path(i int) string {
	return fmt.Sprintf("shop/%s_%s", h.at(i).Format("2006-01-02_150405"), h.ids[i][:8])
}
func (h *history) parts(i int) int     { return 1 + i%4 }
func (h *history) size(i int) int64    { return 900_000_000 + int64(i)*137%100_000_000 }
func timeField(t time.Time) string     { return t.Format("2006-01-02 15:04:05.000000-07") }
func (h *history) stored(i int) string { return fmt.Sprint(h.size(i) / 4) }

func (h *history) execution(b []byte, i int) []byte {
	job, r := h.job(i)
	at := h.at(i)
	end := at.Add(time.Duration(20+i%200) * time.Second)
	b = fmt.Appendf(b, "%s\t%s\t%s\t%s\tbackup\t", h.ids[i], job, r.datasource, r.location)
	if failed(i) {
		b = fmt.Appendf(b, "failed\tschedule\t%s\t%s\t%s\t", timeField(at), timeField(at.Add(time.Second)), timeField(end))
		b = append(b, `\N`+"\t"+`\N`+"\t"+`\N`+"\t"+`\N`+"\tDATASOURCE_UNREACHABLE\tdb.example.internal:5432 refuses connections; check that the server runs and listens there\t"...)
	} else {
		b = fmt.Appendf(b, "completed\tschedule\t%s\t%s\t%s\t", timeField(at), timeField(at.Add(time.Second)), timeField(end))
		b = fmt.Appendf(b, "%d\t%s\t%s\t%d\t"+`\N`+"\t"+`\N`+"\t", h.size(i), h.stored(i), h.path(i), h.parts(i))
	}
	b = append(b, "1\t2\t1\tworker-1/4711/ABCDEF\t"+`{"options": {"compression": "zstd", "part_size_mb": 128, "spool": "full", "strategy": "fallback", "missed_run": "run_once"}}`+"\t"...)
	b = h.metadata(b, i)
	return fmt.Appendf(b, "\t%s\n", timeField(at))
}

// metadata has the record and some dozen lines, about 4 KB.
func (h *history) metadata(b []byte, i int) []byte {
	b = append(b, `{"server_version": "15.8", "tools": {"pg_dump": "15.8"}, "format": "pg_dump custom", "compression": "zstd", "tables": 42, "worker_host": "worker-1", "execution_logs": [`...)
	at := h.at(i)
	for n := range 25 + i%10 {
		if n > 0 {
			b = append(b, ", "...)
		}
		b = fmt.Appendf(b, `{"seq": %d, "ts": "%s", "level": "info", "message": "`, n+1, at.Add(time.Duration(n)*2*time.Second).Format(time.RFC3339Nano))
		b = fmt.Appendf(b, `dumped %d MB of about 900 MB (%d %%), %d of 42 tables, %d MB/s; table public.%s: %d rows"}`, n*30, n*3, n, 20+i%60, h.text.word(), i*31%100_000)
	}
	return append(b, "]}"...)
}

func (h *history) copy(b []byte, i int) []byte {
	if failed(i) {
		return b
	}
	_, r := h.job(i)
	return fmt.Appendf(b, "%s\t%s\t%s\t1\tavailable\n", h.ids[i], r.location, h.path(i))
}

func (h *history) chunks(b []byte, i int) []byte {
	if failed(i) {
		return b
	}
	checksum := strings.ReplaceAll(h.ids[i]+h.ids[i], "-", "")
	for part := range h.parts(i) {
		b = fmt.Appendf(b, "%s\t%d\t%s/backup.dump.zst.%04d\t%d\t%s\n", h.ids[i], part+1, h.path(i), part+1, 64<<20, checksum)
	}
	return b
}
