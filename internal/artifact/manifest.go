package artifact

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strings"
	"time"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
)

const (
	manifestFile    = "manifest.json"
	manifestVersion = 1
	// MaxManifest is the largest document that is read, in bytes.
	MaxManifest = 64 << 20
)

// Manifest is manifest.json: all that is needed to prove an artifact, to
// restore it with cat, age, zstd and the database's own client, and to know
// again what it is when every other record is lost.
//
// A member is the concatenation of its parts in order, encrypted then
// compressed as it says: cat parts | age -d | zstd -d gives its raw bytes.
type Manifest struct {
	Version        int         `json:"version"` // of this format: 1
	ExecutionID    string      `json:"execution_id"`
	JobID          string      `json:"job_id"`
	JobName        string      `json:"job_name"`
	DatasourceID   string      `json:"datasource_id"`
	DatasourceName string      `json:"datasource_name"`
	Database       string      `json:"database"`
	Engine         engine.Type `json:"engine"`
	// EngineFlavor is what the server really is, e.g. mariadb behind engine mysql.
	EngineFlavor     engine.Type       `json:"engine_flavor"`
	ServerVersion    string            `json:"server_version"`
	ServerVersionNum int               `json:"server_version_num"` // comparable, e.g. 150018, 101119
	Tools            map[string]string `json:"tools"`              // name -> version
	DumpFormat       string            `json:"dump_format"`        // e.g. pg_dump-custom, mariadb-sql
	CreatedAt        time.Time         `json:"created_at"`
	StartedAt        time.Time         `json:"started_at"`
	FinishedAt       time.Time         `json:"finished_at"`  // of the dump
	Completeness     string            `json:"completeness"` // how the dump was proven complete
	Recipients       []string          `json:"recipients"`   // public keys; one of their secret keys opens it
	Members          []ManifestMember  `json:"members"`
	Tables           []ManifestTable   `json:"tables"`
	// SchemaDigest is the fingerprint of what the dump defines; empty in manifests
	// that were written before there was one.
	SchemaDigest engine.SchemaDigest `json:"schema_digest"`
	Warnings     []string            `json:"warnings"`
	Totals       ManifestTotals      `json:"totals"`
	// Digest is the SHA-256 of the document with this value written as 64 zeros.
	Digest string `json:"manifest_sha256"`
}

// ManifestMember is one stream of the dump. Sizes are bytes.
type ManifestMember struct {
	Name        string         `json:"name"`
	Compression Compression    `json:"compression"`
	Encryption  Encryption     `json:"encryption"`
	RawSize     int64          `json:"raw_size"`
	RawSHA256   string         `json:"raw_sha256"`
	StoredSize  int64          `json:"stored_size"`
	Parts       []ManifestPart `json:"parts"`
}

// ManifestPart is one object beside the manifest.
type ManifestPart struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// ManifestTable is one table of the dump. Rows is null when not counted. Root is
// the partitioned table at the top that a partition belongs to.
type ManifestTable struct {
	Schema string            `json:"schema"`
	Name   string            `json:"name"`
	Rows   *int64            `json:"rows"`
	Root   *engine.TableName `json:"root,omitempty"`
}

// ManifestTotals are sums over all members.
type ManifestTotals struct {
	Members    int   `json:"members"`
	Parts      int   `json:"parts"`
	Tables     int   `json:"tables"`
	RawSize    int64 `json:"raw_size"`
	StoredSize int64 `json:"stored_size"`
}

// Encrypted reports whether an identity is needed to read it.
func (m Manifest) Encrypted() bool {
	for _, member := range m.Members {
		if member.Encryption != NoEncryption {
			return true
		}
	}
	return false
}

// AllParts lists the parts with their keys below path, in order.
func (m Manifest) AllParts(path string) []Part {
	var all []Part
	for _, member := range m.Members {
		for _, p := range member.Parts {
			all = append(all, Part{Number: len(all) + 1, Member: member.Name, Key: path + "/" + p.Name, Size: p.Size, SHA256: p.SHA256})
		}
	}
	return all
}

// partBase is the name of a member's parts before they are numbered.
func (d ManifestMember) partBase() string {
	return d.Name + d.Compression.suffix() + d.Encryption.suffix()
}

// describe makes the manifest of members that are all complete.
func (w *Writer) describe(c Completion) Manifest {
	w.mu.Lock()
	defer w.mu.Unlock()
	h, server := w.cfg.Header, c.Dump.Server
	m := Manifest{
		Version:     manifestVersion,
		ExecutionID: h.ExecutionID, JobID: h.JobID, JobName: h.JobName,
		DatasourceID: h.DatasourceID, DatasourceName: h.DatasourceName, Database: h.Database,
		Engine: h.Engine, EngineFlavor: server.Flavor, ServerVersion: server.Version, ServerVersionNum: server.VersionNum,
		Tools: c.Dump.Tools, DumpFormat: c.Dump.Format,
		CreatedAt: h.CreatedAt.UTC(), StartedAt: h.StartedAt.UTC(), FinishedAt: c.FinishedAt.UTC(),
		Completeness: c.Proof, Recipients: trimmed(w.cfg.Recipients), Warnings: c.Dump.Warning,
		Tables: describeTables(c.Dump.Tables), SchemaDigest: c.Dump.SchemaDigest,
	}
	for _, member := range w.members {
		m.Members = append(m.Members, member.describe())
	}
	m.Totals = m.sum()
	return m
}

func trimmed(texts []string) []string {
	all := make([]string, 0, len(texts))
	for _, t := range texts {
		all = append(all, strings.TrimSpace(t))
	}
	return all
}

func describeTables(tables []engine.Table) []ManifestTable {
	all := make([]ManifestTable, 0, len(tables))
	for _, t := range tables {
		d := ManifestTable{Schema: t.Schema, Name: t.Name, Root: t.Root}
		if t.Rows >= 0 {
			d.Rows = &t.Rows
		}
		all = append(all, d)
	}
	return all
}

// DumpedTables are the tables as the engine that dumped them told.
func (m Manifest) DumpedTables() []engine.Table {
	all := make([]engine.Table, 0, len(m.Tables))
	for _, t := range m.Tables {
		d := engine.Table{Schema: t.Schema, Name: t.Name, Rows: -1, Root: t.Root}
		if t.Rows != nil {
			d.Rows = *t.Rows
		}
		all = append(all, d)
	}
	return all
}

// sum adds up members whose own numbers are known to be sane.
func (m Manifest) sum() ManifestTotals {
	t := ManifestTotals{Members: len(m.Members), Tables: len(m.Tables)}
	for _, member := range m.Members {
		t.Parts += len(member.Parts)
		t.RawSize += member.RawSize
		t.StoredSize += member.StoredSize
	}
	return t
}

var noDigest = strings.Repeat("0", hex.EncodedLen(sha256.Size))

// encode returns the document. Lists are never null.
func (m Manifest) encode() ([]byte, error) {
	if m.Tools == nil {
		m.Tools = map[string]string{}
	}
	if m.Warnings == nil {
		m.Warnings = []string{}
	}
	m.Digest = noDigest
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(m); err != nil {
		return nil, errs.Wrap(err, errs.Internal, errs.CodeInternal, "the manifest could not be written")
	}
	document := b.Bytes()
	if len(document) > MaxManifest {
		return nil, errs.New(errs.Exhausted, errs.CodeDumpFailed, "the manifest would be larger than %d bytes: raise the job's max_file_size_mb or back up fewer tables", MaxManifest)
	}
	sum := sha256.Sum256(document)
	hex.Encode(digestField(document), sum[:])
	return document, nil
}

const digestKey = `"manifest_sha256": "`

// digestField returns the digits of the digest inside document, or nil. It is
// the last field of the document.
func digestField(document []byte) []byte {
	at := bytes.LastIndex(document, []byte(digestKey))
	if at < 0 || len(document)-at-len(digestKey) < len(noDigest) {
		return nil
	}
	at += len(digestKey)
	return document[at : at+len(noDigest)]
}
