package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"

	"github.com/spf13/cobra"

	pb "github.com/dataguardian/dataguardian/gen/dataguardian/v1"
)

func storageFiles() *cobra.Command {
	c := &cobra.Command{Use: "files", Short: "Files of a storage location"}
	c.AddCommand(filesList(), filesRemove(), filesCopy(), filesGet())
	return c
}

func filesList() *cobra.Command {
	return &cobra.Command{Use: "ls STORAGE [FOLDER]", Short: "List what lies directly in a folder", Args: cobra.RangeArgs(1, 2),
		Example: "  dataguardian storage files ls disk shop",
		RunE: run(func(cmd *cobra.Command, c *client, args []string) error {
			id, err := c.storageID(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			request := &pb.ListStorageFilesRequest{Id: id}
			if len(args) > 1 {
				request.Path = args[1]
			}
			r, err := c.storages.ListStorageFiles(cmd.Context(), request)
			if err != nil {
				return err
			}
			if err := show(cmd, r, func() *table { return filesTable(r.GetEntries()) }); err != nil || !r.GetTruncated() {
				return err
			}
			return say(cmd, "There are more; only the first %d are shown.", len(r.GetEntries()))
		})}
}

func filesTable(entries []*pb.StorageFile) *table {
	t := newTable("NAME", "SIZE", "MODIFIED")
	for _, e := range entries {
		name := printable(e.GetName())
		if e.GetKind() == pb.StorageFile_folder {
			name += "/"
		}
		t.add(name, size(e.SizeBytes), when(e.GetModifiedAt()))
	}
	return t
}

func filesRemove() *cobra.Command {
	c := &cobra.Command{Use: "rm STORAGE PATH", Short: "Delete a file, or a folder with all it holds", Args: cobra.ExactArgs(2),
		Long: "Delete a file, or a folder with all it holds. What belongs to a backup is refused: backups are deleted with \"execution delete\". With --force it goes all the same, and the backup is lost in this storage.",
		RunE: run(func(cmd *cobra.Command, c *client, args []string) error {
			id, err := c.storageID(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			force := cmd.Flags().Lookup("force").Value.String() == "true"
			if _, err := c.storages.DeleteStorageFile(cmd.Context(), &pb.DeleteStorageFileRequest{Id: id, Path: args[1], Force: force}); err != nil {
				return err
			}
			return say(cmd, "Deleted %s.", printable(args[1]))
		})}
	c.Flags().Bool("force", false, "delete it although a backup needs it")
	return c
}

func filesCopy() *cobra.Command {
	return &cobra.Command{Use: "cp STORAGE SOURCE DESTINATION", Short: "Copy a file within a storage location", Args: cobra.ExactArgs(3),
		RunE: run(func(cmd *cobra.Command, c *client, args []string) error {
			id, err := c.storageID(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			made, err := c.storages.CopyStorageFile(cmd.Context(), &pb.CopyStorageFileRequest{Id: id, SourcePath: args[1], DestinationPath: args[2]})
			return shown(cmd, made, err, func(f *pb.StorageFile) *table { return filesTable([]*pb.StorageFile{f}) })
		})}
}

func filesGet() *cobra.Command {
	c := &cobra.Command{Use: "get STORAGE PATH", Short: "Download a file", Args: cobra.ExactArgs(2),
		Long: "Download a file into the current directory. A file that is there already is not replaced, and what is not whole is removed again.",
		RunE: run(func(cmd *cobra.Command, c *client, args []string) error {
			id, err := c.storageID(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			ctx, cancel := context.WithCancel(cmd.Context())
			defer cancel()
			stream, err := c.storages.DownloadStorageFile(ctx, &pb.DownloadStorageFileRequest{Id: id, Path: args[1]})
			if err != nil {
				return err
			}
			to := cmd.Flags().Lookup("to").Value.String()
			if to == "-" {
				_, err := io.Copy(cmd.OutOrStdout(), &messages{stream: stream})
				return err
			}
			if to == "" {
				to = path.Base(args[1])
			}
			n, err := save(&messages{stream: stream}, to)
			if err != nil {
				return err
			}
			return say(cmd, "Downloaded %s to %s.", humanBytes(n), printable(to))
		})}
	c.Flags().String("to", "", "file to write (default: its own name, here), \"-\" for standard output")
	return c
}

// save writes r to a new file, whole or not at all.
func save(r io.Reader, to string) (n int64, err error) {
	if _, err := os.Lstat(to); err == nil {
		return 0, fmt.Errorf("%s exists already; name another file with --to", to)
	}
	partial, err := os.CreateTemp(filepath.Dir(to), ".dataguardian-download-")
	if err != nil {
		return 0, err
	}
	n, err = io.Copy(partial, r)
	if err = errors.Join(err, partial.Close()); err == nil {
		err = os.Link(partial.Name(), to) // unlike a rename, it replaces nothing
	}
	return n, errors.Join(err, os.Remove(partial.Name()))
}
