package artifact

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"

	"github.com/dataguardian/dataguardian/internal/errs"
)

const (
	stateFile    = "state.json"
	stateVersion = 1
	maxState     = 64 << 20
)

// state is state.json: written once the dump is complete, it says which spool
// file is which part of the manifest beside it.
type state struct {
	Version        int         `json:"version"`
	Path           string      `json:"path"`
	ManifestSHA256 string      `json:"manifest_sha256"` // of the whole file
	Parts          []statePart `json:"parts"`
}

type statePart struct {
	Name string `json:"name"`
	File string `json:"file"`
}

// save makes the spool resumable: the manifest first, then the state.
func (s *spool) save(path string, manifest []byte, parts []*part) error {
	sum := sha256.Sum256(manifest)
	st := state{Version: stateVersion, Path: path, ManifestSHA256: hex.EncodeToString(sum[:])}
	for _, p := range parts {
		st.Parts = append(st.Parts, statePart{Name: p.name, File: p.file})
	}
	encoded, err := json.Marshal(st)
	if err != nil {
		return errs.Wrap(err, errs.Internal, errs.CodeInternal, "the spool's state could not be written")
	}
	if err := s.write(manifestFile, manifest); err != nil {
		return err
	}
	return s.write(stateFile, encoded)
}

// saved is a resumable spool's content.
type saved struct {
	path     string
	manifest Manifest
	document []byte // the manifest as it was, to the byte
	parts    []*part
}

// load reads what save wrote, or fails with SPOOL_LOST.
func (s *spool) load() (saved, error) {
	st, err := s.loadState()
	if errors.Is(err, fs.ErrNotExist) {
		return saved{}, spoolLost(err, "the dump of this backup was not complete")
	}
	if err != nil {
		return saved{}, spoolUnread(err, "the spool's state cannot be read")
	}
	all, err := s.loadParts(st)
	if err != nil {
		return saved{}, spoolUnread(err, "the spool's manifest cannot be read")
	}
	return all, nil
}

func (s *spool) loadState() (state, error) {
	raw, err := s.read(stateFile, maxState)
	if err != nil {
		return state{}, err
	}
	var st state
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&st); err != nil {
		return state{}, err
	}
	if st.Version != stateVersion {
		return state{}, tooNew(nil, "the state of its spool has version %d", st.Version)
	}
	return st, nil
}

func (s *spool) loadParts(st state) (saved, error) {
	document, err := s.read(manifestFile, MaxManifest)
	if err != nil {
		return saved{}, err
	}
	if sum := sha256.Sum256(document); hex.EncodeToString(sum[:]) != st.ManifestSHA256 {
		return saved{}, errors.New("the manifest is not the one of the state")
	}
	m, err := DecodeManifest(bytes.NewReader(document))
	if err != nil {
		return saved{}, err
	}
	files := map[string]string{}
	for _, p := range st.Parts {
		files[p.Name] = p.File
	}
	all := saved{path: st.Path, manifest: m, document: document}
	for _, member := range m.Members {
		for _, p := range member.Parts {
			all.parts = append(all.parts, &part{name: p.Name, file: files[p.Name], size: p.Size, sha256: p.SHA256})
		}
	}
	return all, nil
}
