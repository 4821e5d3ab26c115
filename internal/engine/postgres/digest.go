package postgres

import (
	"context"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/engine/postgres/archive"
	"github.com/dataguardian/dataguardian/internal/engine/tool"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/process"
)

// What a digest covers is part of its method.
const (
	wholeSchemas = "schemas"   // a dump of the whole database defines them
	withValues   = "sequences" // of all sequences, the values are there
)

// isSchema reports whether entries of that kind are in a digest. The others are
// data, settings of the dump's session, or what a restore leaves out.
func isSchema(e *archive.Entry) bool {
	switch e.Desc {
	case "DATABASE", "DATABASE PROPERTIES", "ENCODING", "STDSTRINGS", "SEARCHPATH",
		"TABLE DATA", "MATERIALIZED VIEW DATA", "SEQUENCE SET", "STATISTICS DATA",
		"BLOB", "BLOBS", "BLOB METADATA", "ACL", "DEFAULT ACL", "SCHEMA", "SUBSCRIPTION":
		return false
	case "EXTENSION":
		return e.Tag != "plpgsql" // every new database has it
	case "COMMENT":
		return !strings.HasPrefix(e.Tag, "DATABASE ") && !strings.HasPrefix(e.Tag, "LARGE OBJECT") &&
			e.Tag != "EXTENSION plpgsql" && e.Tag != "SCHEMA public"
	}
	return true
}

// value is where a sequence stands.
type value struct {
	last   string
	called bool
}

type relationName struct{ schema, name string }

// digest makes the fingerprint of an archive. values are those of sequences; nil
// takes them from the archive.
func digest(entries []*archive.Entry, method string, values map[relationName]value) engine.SchemaDigest {
	var definitions []string
	for _, e := range entries {
		schema := e.Desc == "SCHEMA" && e.Tag != "public" && strings.Contains(method, wholeSchemas)
		if isSchema(e) || schema {
			definitions = append(definitions, strings.Join([]string{e.Desc, e.Namespace, e.Tag, string(e.Sum[:])}, "\x00"))
		}
		if e.Desc == "SEQUENCE" && strings.Contains(method, withValues) {
			v := values[relationName{e.Namespace, e.Tag}]
			definitions = append(definitions, strings.Join([]string{"SEQUENCE SET", e.Namespace, e.Tag, v.last, fmt.Sprint(v.called)}, "\x00"))
		}
	}
	return engine.NewSchemaDigest(method, definitions)
}

// digestOf is the fingerprint of a dump.
func (d *dump) digestOf(entries []*archive.Entry) engine.SchemaDigest {
	method := fmt.Sprintf("pg_dump%d/server%d", d.tool.major, majorOf(d.result.Server.VersionNum))
	if len(d.selection.include) == 0 {
		method += "/" + wholeSchemas
	}
	values, complete := sequenceValues(entries)
	if complete {
		method += "/" + withValues
	}
	return digest(entries, method, values)
}

var setValue = regexp.MustCompile(`, (-?\d+), (true|false)\);\s*$`)

// sequenceValues reads where the sequences of an archive will stand; not complete
// when one of them has no value, since its data was left out.
func sequenceValues(entries []*archive.Entry) (values map[relationName]value, complete bool) {
	values = map[relationName]value{}
	for _, e := range entries {
		if m := setValue.FindStringSubmatch(e.Definition); e.Desc == "SEQUENCE SET" && m != nil {
			values[relationName{e.Namespace, e.Tag}] = value{last: m[1], called: m[2] == "true"}
		}
	}
	return values, !slices.ContainsFunc(entries, func(e *archive.Entry) bool {
		_, known := values[relationName{e.Namespace, e.Tag}]
		return e.Desc == "SEQUENCE" && !known
	})
}

// DigestSchema implements engine.Inspector.
func (e *Engine) DigestSchema(ctx context.Context, c engine.Conn, like engine.SchemaDigest, tempDir string) (engine.SchemaDigest, error) {
	conn, err := e.connect(ctx, c)
	if err != nil {
		return "", err
	}
	defer closeConn(ctx, conn)
	server, err := serverInfo(ctx, conn, c)
	if err != nil {
		return "", err
	}
	p, err := e.tools.chooseDump(ctx, majorOf(server.VersionNum))
	if err != nil {
		return "", err
	}
	method := fmt.Sprintf("pg_dump%d/server%d", p.major, majorOf(server.VersionNum))
	for _, part := range []string{wholeSchemas, withValues} {
		if strings.HasSuffix(like.Method(), "/"+part) || strings.Contains(like.Method(), "/"+part+"/") {
			method += "/" + part
		}
	}
	entries, err := e.definitions(ctx, c, p, tempDir)
	if err != nil {
		return "", err
	}
	values, err := currentValues(ctx, conn, c, entries)
	if err != nil {
		return "", err
	}
	return digest(entries, method, values), nil
}

// definitions is the table of contents of a dump without data.
func (e *Engine) definitions(ctx context.Context, c engine.Conn, p program, tempDir string) (entries []*archive.Entry, err error) {
	dir, remove, err := workDir(tempDir)
	if err != nil {
		return nil, err
	}
	defer func() { err = also(err, remove()) }()
	d := dump{engine: e, conn: c, tool: p}
	env, err := e.environment(c, dir)
	if err != nil {
		return nil, err
	}
	proof := archive.NewVerifier(archive.Events{})
	_, err = tool.Stream{
		Spec: process.Spec{
			Path: p.path, Args: append(d.arguments(), "--schema-only"), Env: process.Environment(dir, env...), Dir: dir,
		},
		Proof: proof, Member: io.Discard,
	}.Run(ctx)
	if err != nil {
		return nil, d.failure(ctx, err)
	}
	return proof.Contents(), nil
}

// currentValues asks where the sequences among entries stand.
func currentValues(ctx context.Context, conn *pgx.Conn, c engine.Conn, entries []*archive.Entry) (map[relationName]value, error) {
	// names are spelled as in the archive, which is in the database's own encoding
	if _, err := conn.Exec(ctx, "SELECT set_config('client_encoding', pg_catalog.getdatabaseencoding(), false)"); err != nil {
		return nil, queryError(ctx, err, c, "reading sequences")
	}
	var batch pgx.Batch
	values := map[relationName]value{}
	for _, e := range entries {
		if e.Desc != "SEQUENCE" {
			continue
		}
		name := relationName{e.Namespace, e.Tag}
		batch.Queue("SELECT last_value::text, is_called FROM " + pgx.Identifier{e.Namespace, e.Tag}.Sanitize()).QueryRow(func(row pgx.Row) error {
			var v value
			err := row.Scan(&v.last, &v.called)
			values[name] = v
			return err
		})
	}
	if err := conn.SendBatch(ctx, &batch).Close(); err != nil {
		if errs.As(err) != nil {
			return nil, err
		}
		return nil, queryError(ctx, err, c, "reading sequences")
	}
	return values, nil
}
