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

	"github.com/spf13/cobra"
	"google.golang.org/genproto/googleapis/api/httpbody"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	pb "github.com/dataguardian/dataguardian/gen/dataguardian/v1"
)

func backupRestore() *cobra.Command {
	c := &cobra.Command{
		Use: "restore EXECUTION", Short: "Restore a backup", Args: cobra.ExactArgs(1),
		Long: "Restore a backup, named by the execution that made it (see \"backup list\"). Every part is proven before the target is touched. The target's content is replaced unless --keep-existing is given.",
		RunE: run(func(cmd *cobra.Command, c *client, args []string) error {
			request, err := restoreRequest(cmd, c, args[0])
			if err != nil {
				return err
			}
			r, err := c.backups.RestoreBackup(cmd.Context(), request)
			if err != nil {
				return err
			}
			return queued(cmd, c, r, r.GetExecutionId(), r.GetDatasourceName())
		}),
	}
	flags := c.Flags()
	flags.BoolP("follow", "f", false, "show the live log until it ends; exit code 2 when it fails")
	flags.String("storage", "", "take it from this storage (default: the first that has it)")
	flags.String("target", "", "datasource to restore into (default: where it came from)")
	flags.String("database", "", "database of the target; created when absent")
	flags.Bool("keep-existing", false, "restore into what is there instead of replacing it")
	flags.Bool("verification", false, "restore into a scratch database, compare it with the dump, and drop it")
	flags.Bool("keep-database", false, "with --verification: keep the scratch database")
	flags.StringSlice("table", nil, "only these tables")
	flags.String("confirm", "", "name of the target database, asked for by protected datasources")
	flags.String("identity", "", "name of the identity file on the worker that opens an encrypted backup")
	flags.Bool("with-owners", false, "keep the owners of the dump")
	flags.Bool("with-privileges", false, "keep the grants of the dump")
	return c
}

func restoreRequest(cmd *cobra.Command, c *client, id string) (*pb.RestoreBackupRequest, error) {
	flags := cmd.Flags()
	text := func(name string) string { return flags.Lookup(name).Value.String() }
	tables, err := flags.GetStringSlice("table")
	if err != nil {
		return nil, err
	}
	request := &pb.RestoreBackupRequest{
		ExecutionId: id, TargetDatabase: text("database"), DropExisting: new(text("keep-existing") != "true"),
		VerificationMode: text("verification") == "true", KeepVerificationDatabase: text("keep-database") == "true",
		IncludeTables: tables, Confirm: text("confirm"), Identity: text("identity"),
		WithOwners: text("with-owners") == "true", WithPrivileges: text("with-privileges") == "true",
	}
	if given := text("target"); given != "" {
		if request.TargetDatasourceId, err = c.datasourceID(cmd.Context(), given); err != nil {
			return nil, err
		}
	}
	if given := text("storage"); given != "" {
		if request.StorageLocationId, err = c.storageID(cmd.Context(), given); err != nil {
			return nil, err
		}
	}
	return request, nil
}

// messageWithStatus is the answer of a call that queues an execution.
type messageWithStatus interface {
	proto.Message
	GetStatus() pb.Execution_Status
}

// queued follows a new execution, or says how to.
func queued(cmd *cobra.Command, c *client, answer messageWithStatus, id, name string) error {
	if cmd.Flags().Lookup("follow").Value.String() == "true" {
		return follow(cmd, c, id, name, 0)
	}
	return show(cmd, answer, func() *table {
		t := newTable()
		t.add("Execution", id)
		t.add("Status", answer.GetStatus().String())
		t.add("Watch it", "dataguardian execution logs -f "+id)
		return t
	})
}

func backupVerify() *cobra.Command {
	c := &cobra.Command{
		Use: "verify EXECUTION", Short: "Re-read a backup from its storages and prove every byte", Args: cobra.ExactArgs(1),
		RunE: run(func(cmd *cobra.Command, c *client, args []string) error {
			request := &pb.VerifyBackupRequest{ExecutionId: args[0], Identity: cmd.Flags().Lookup("identity").Value.String()}
			if given := cmd.Flags().Lookup("storage").Value.String(); given != "" {
				id, err := c.storageID(cmd.Context(), given)
				if err != nil {
					return err
				}
				request.StorageLocationId = id
			}
			r, err := c.backups.VerifyBackup(cmd.Context(), request)
			if err != nil {
				return err
			}
			return queued(cmd, c, r, r.GetExecutionId(), "verification")
		}),
	}
	c.Flags().BoolP("follow", "f", false, "show the live log until it ends; exit code 2 when it fails")
	c.Flags().String("storage", "", "only the copy on this storage")
	c.Flags().String("identity", "", "name of the identity file on the worker that opens an encrypted backup")
	return c
}

func backupDownload() *cobra.Command {
	c := &cobra.Command{
		Use: "download EXECUTION", Short: "Download a backup and verify it on the way", Args: cobra.ExactArgs(1),
		Long: "Download a backup into a new directory: its parts and its manifest. Every part is compared with the manifest; docs/recovery.md shows how to restore them without DataGuardian.",
		RunE: run(func(cmd *cobra.Command, c *client, args []string) error {
			request := &pb.DownloadBackupRequest{ExecutionId: args[0]}
			if given := cmd.Flags().Lookup("storage").Value.String(); given != "" {
				id, err := c.storageID(cmd.Context(), given)
				if err != nil {
					return err
				}
				request.StorageLocationId = id
			}
			return download(cmd, c, request, cmd.Flags().Lookup("to").Value.String())
		}),
	}
	c.Flags().String("to", ".", "directory that gets the backup's own directory")
	c.Flags().String("storage", "", "take it from this storage (default: the first that has it)")
	return c
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
	partial, err := os.MkdirTemp(to, ".dataguardian-download-")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(partial))
		}
	}()
	u := unpacking{dir: partial, sums: map[string]string{}}
	if err := u.unpack(&messages{stream: stream}); err != nil {
		return err
	}
	if err := u.prove(); err != nil {
		return err
	}
	target := filepath.Join(to, u.name)
	if err := os.Rename(partial, target); err != nil {
		return err
	}
	return say(cmd, "Downloaded %d parts (%s) to %s, each proven.", len(u.sums)-1, humanBytes(u.bytes), target)
}

// messages reads the bytes of a stream.
type messages struct {
	stream grpc.ServerStreamingClient[httpbody.HttpBody]
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
	}
	n := copy(p, m.rest)
	m.rest = m.rest[n:]
	return n, nil
}

// unpacking writes the files of one backup.
type unpacking struct {
	dir   string
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
