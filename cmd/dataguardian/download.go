package main

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/genproto/googleapis/api/httpbody"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"

	pb "github.com/dataguardian/dataguardian/gen/dataguardian/v1"
)

func backupDownload() *cobra.Command {
	c := &cobra.Command{
		Use: "download EXECUTION", Short: "Download a backup and verify it on the way", Args: cobra.ExactArgs(1),
		Long:    "Download a backup into a new directory: its parts and its manifest. Every part is compared with the manifest; docs/recovery.md shows how to restore them without DataGuardian.",
		PreRunE: func(cmd *cobra.Command, _ []string) error { return outputIsDirectory(cmd) },
		RunE: run(func(cmd *cobra.Command, c *client, args []string) error {
			request := &pb.DownloadBackupRequest{ExecutionId: args[0]}
			if given := cmd.Flags().Lookup("storage").Value.String(); given != "" {
				id, err := c.storageID(cmd.Context(), given)
				if err != nil {
					return err
				}
				request.StorageLocationId = id
			}
			return downloadAny(cmd, c, request, cmd.Flags().Lookup("to").Value.String())
		}),
	}
	c.Flags().StringP("output", "o", "table", "directory as with --to; or json, for what is said at the end")
	c.Flags().String("to", ".", "directory that gets the backup's own directory; made when absent")
	c.Flags().String("storage", "", "take it from this storage first; others follow when its copy is not good")
	return c
}

// outputIsDirectory takes --output for --to: who downloads thinks of where to, and of
// a form only when it is one.
func outputIsDirectory(cmd *cobra.Command) error {
	output, to := cmd.Flags().Lookup("output"), cmd.Flags().Lookup("to")
	given := output.Value.String()
	switch {
	case given == "table" || given == "json":
		return nil
	case to.Changed:
		return fmt.Errorf("--output and --to both name a directory, %q and %q: give one of them", given, to.Value.String())
	}
	return errors.Join(to.Value.Set(given), output.Value.Set("table"))
}

// downloadTries is how many damaged copies a download meets before it gives up.
const downloadTries = 4

// downloadAny begins again after a copy that turned out damaged: the server has
// marked it and takes another one.
func downloadAny(cmd *cobra.Command, c *client, request *pb.DownloadBackupRequest, to string) error {
	for try := 1; ; try++ {
		err := download(cmd, c, request, to)
		if err == nil || try == downloadTries || !isDamage(err) {
			return err
		}
		if _, err := fmt.Fprintf(cmd.ErrOrStderr(), "%s; trying another copy\n", strings.TrimPrefix(explain(err), "error: ")); err != nil {
			return err
		}
		request.StorageLocationId = ""
	}
}

func isDamage(err error) bool {
	s, ok := statusOf(err)
	return ok && slices.ContainsFunc(s.Details(), func(detail any) bool {
		info, isInfo := detail.(*errdetails.ErrorInfo)
		return isInfo && info.GetReason() == "ARTIFACT_CORRUPT"
	})
}

// download unpacks the stream into a directory of its own. What is not whole is
// removed again.
func download(cmd *cobra.Command, c *client, request *pb.DownloadBackupRequest, to string) (err error) {
	ctx, cancel := context.WithCancel(cmd.Context())
	defer cancel()
	stream, err := c.backups.DownloadBackup(ctx, request)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(to, 0o700); err != nil {
		return fmt.Errorf("the directory to download into cannot be used: %w", err)
	}
	partial, err := os.MkdirTemp(to, ".dataguardian-download-")
	if err != nil {
		return fmt.Errorf("the directory to download into cannot be used: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(partial))
		}
	}()
	u := unpacking{dir: partial, to: to, sums: map[string]string{}}
	bar := newMeter(cmd, stored(ctx, c, request.GetExecutionId()))
	err = u.unpack(&messages{stream: stream, bar: bar})
	bar.end()
	if err != nil {
		return err
	}
	if err := u.prove(); err != nil {
		return err
	}
	target := filepath.Join(to, u.name)
	if err := os.Rename(partial, target); err != nil {
		return err
	}
	if cmd.Flags().Lookup("output").Value.String() == "json" {
		return json.NewEncoder(cmd.OutOrStdout()).Encode(map[string]any{"path": target, "parts": len(u.sums) - 1, "bytes": u.bytes})
	}
	return say(cmd, "Downloaded %s (%s) to %s, each proven.", count(len(u.sums)-1, "part"), humanBytes(u.bytes), target)
}

// stored is how large a backup is, for the progress; 0 when that is not known.
func stored(ctx context.Context, c *client, id string) int64 {
	e, err := c.executions.GetExecution(ctx, &pb.GetExecutionRequest{Id: id})
	if err != nil {
		return 0 // the download itself says what is wrong
	}
	return e.GetCompressedSizeBytes()
}

// messages reads the bytes of a stream.
type messages struct {
	stream grpc.ServerStreamingClient[httpbody.HttpBody]
	bar    *meter
	rest   []byte
}

// Read implements io.Reader.
func (m *messages) Read(p []byte) (int, error) {
	for len(m.rest) == 0 {
		body, err := m.stream.Recv()
		if err != nil {
			return 0, err
		}
		m.rest = body.GetData()
		m.bar.moved(len(m.rest))
	}
	n := copy(p, m.rest)
	m.rest = m.rest[n:]
	return n, nil
}

// unpacking writes the files of one backup.
type unpacking struct {
	dir   string
	to    string            // where the backup's directory belongs
	name  string            // of the backup's directory
	sums  map[string]string // by file name
	bytes int64
}

const manifestName = "manifest.json"

func (u *unpacking) unpack(r io.Reader) error {
	in := tar.NewReader(r)
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			_, err = io.Copy(io.Discard, r) // the padding, and whatever went wrong at the very end
			return err
		}
		if err != nil {
			return err
		}
		name := path.Base(h.Name)
		u.name = path.Base(path.Dir(h.Name))
		if name == "." || name == "/" || u.name == "." || u.name == "/" || u.name == ".." || h.Typeflag != tar.TypeReg {
			return fmt.Errorf("the server sent something that is no backup: %q", h.Name)
		}
		target := filepath.Join(u.to, u.name)
		if _, err := os.Lstat(target); err == nil {
			return fmt.Errorf("%s is there already, so nothing was downloaded: remove it, or give another directory with --to", target)
		}
		if err := u.file(name, in); err != nil {
			return err
		}
	}
}

func (u *unpacking) file(name string, r io.Reader) (err error) {
	f, err := os.OpenFile(filepath.Join(u.dir, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) //nolint:gosec // name is one segment of our own directory
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	hash := sha256.New()
	n, err := io.Copy(io.MultiWriter(f, hash), r)
	if err != nil {
		return err
	}
	u.bytes += n
	u.sums[name] = hex.EncodeToString(hash.Sum(nil))
	return f.Sync()
}

// prove compares the files with the manifest.
func (u *unpacking) prove() error {
	raw, err := os.ReadFile(filepath.Join(u.dir, manifestName))
	if err != nil {
		return fmt.Errorf("the download has no manifest and is not whole: %w", err)
	}
	var manifest struct {
		Members []struct {
			Parts []struct {
				Name   string `json:"name"`
				SHA256 string `json:"sha256"`
			} `json:"parts"`
		} `json:"members"`
	}
	if err := json.Unmarshal(raw, &manifest); err != nil {
		return fmt.Errorf("the manifest of the download cannot be read: %w", err)
	}
	expected := 0
	for _, member := range manifest.Members {
		for _, part := range member.Parts {
			expected++
			if u.sums[part.Name] != part.SHA256 {
				return fmt.Errorf("the part %s is missing or not what its manifest says; verify the backup and download another copy", part.Name)
			}
		}
	}
	if expected == 0 || len(u.sums) != expected+1 {
		return fmt.Errorf("the download holds %d files where its manifest names %d", len(u.sums)-1, expected)
	}
	return nil
}
