package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/structpb"

	pb "github.com/dataguardian/dataguardian/gen/dataguardian/v1"
)

func newStorage() *cobra.Command {
	c := &cobra.Command{Use: "storage", Short: "Places where backups are stored"}
	addClientFlags(c)
	c.AddCommand(storageList(), storageGet(), storageCreate(), storageUpdate(), storageDelete(), storageTest(), storageImport(), storageFiles())
	return c
}

func storageList() *cobra.Command {
	return withPages(&cobra.Command{Use: "list", Short: "List storage locations", Args: cobra.NoArgs,
		RunE: run(func(cmd *cobra.Command, c *client, _ []string) error {
			page, limit := pages(cmd)
			r, err := c.storages.ListStorageLocations(cmd.Context(), &pb.ListStorageLocationsRequest{Page: page, Limit: limit})
			if err != nil {
				return err
			}
			return show(cmd, r, func() *table {
				t := newTable("NAME", "TYPE", "STATUS", "DEFAULT", "FREE", "ID")
				for _, l := range r.GetData() {
					t.add(l.GetName(), l.GetType().String(), l.GetStatus().String(), yesNo(l.GetIsDefault()), gib(l.AvailableSpaceGb), l.GetId())
				}
				return t
			})
		})})
}

func gib(n *float64) string {
	if n == nil {
		return none
	}
	return fmt.Sprintf("%.1f GiB", *n)
}

func storageGet() *cobra.Command {
	return &cobra.Command{Use: "get NAME", Short: "Show one storage location", Args: cobra.ExactArgs(1),
		RunE: run(func(cmd *cobra.Command, c *client, args []string) error {
			id, err := c.storageID(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			l, err := c.storages.GetStorageLocation(cmd.Context(), &pb.GetStorageLocationRequest{Id: id})
			return shown(cmd, l, err, storageTable)
		})}
}

func storageTable(l *pb.StorageLocation) *table {
	t := newTable()
	t.add("Name", l.GetName())
	t.add("Type", l.GetType().String())
	t.add("Status", l.GetStatus().String())
	t.add("Default", yesNo(l.GetIsDefault()))
	t.add("Free", gib(l.AvailableSpaceGb))
	addConfig(t, l.GetConfig())
	t.add("ID", l.GetId())
	return t
}

// storageConfig collects --path, --config-file and --set.
func storageConfig(cmd *cobra.Command) (*structpb.Struct, error) {
	config := map[string]any{}
	flags := cmd.Flags()
	if path := flags.Lookup("config-file").Value.String(); path != "" {
		raw, err := os.ReadFile(path) //nolint:gosec // the user names the file
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(raw, &config); err != nil {
			return nil, fmt.Errorf("%s: not a JSON object: %w", path, err)
		}
	}
	if f := flags.Lookup("path"); f.Changed {
		absolute, err := filepath.Abs(f.Value.String())
		if err != nil {
			return nil, err
		}
		config["path"] = absolute
	}
	settings, err := flags.GetStringArray("set")
	if err != nil {
		return nil, err
	}
	for _, setting := range settings {
		key, value, ok := strings.Cut(setting, "=")
		if !ok {
			return nil, errors.New("--set: takes key=value")
		}
		config[key] = literal(value)
	}
	return structpb.NewStruct(config)
}

// literal reads true, false, null and numbers as JSON, all else as text.
func literal(text string) any {
	var value any
	if err := json.Unmarshal([]byte(text), &value); err == nil {
		switch value.(type) {
		case nil, bool, float64:
			return value
		}
	}
	return text
}

func addStorageFlags(c *cobra.Command) {
	c.Flags().String("path", "", "directory of a local storage")
	c.Flags().String("config-file", "", "JSON file with the config; the place for secrets")
	c.Flags().StringArray("set", nil, "one setting of the config, key=value")
	c.Flags().Bool("default", false, "make it the default for new jobs")
}

func storageCreate() *cobra.Command {
	c := &cobra.Command{Use: "create", Short: "Add a storage location", Args: cobra.NoArgs,
		Example: "  dataguardian storage create --name disk --type local --path /srv/backups",
		RunE: run(func(cmd *cobra.Command, c *client, _ []string) error {
			config, err := storageConfig(cmd)
			if err != nil {
				return err
			}
			flags := cmd.Flags()
			kind, known := pb.StorageLocation_Type_value[flags.Lookup("type").Value.String()]
			if !known {
				return errors.New("--type: must be local, s3, minio or gcs")
			}
			l, err := c.storages.CreateStorageLocation(cmd.Context(), &pb.CreateStorageLocationRequest{
				Name: flags.Lookup("name").Value.String(), Type: pb.StorageLocation_Type(kind), Config: config,
				IsDefault: new(flags.Lookup("default").Value.String() == "true"),
			})
			return shown(cmd, l, err, storageTable)
		})}
	c.Flags().String("name", "", "unique name")
	c.Flags().String("type", "local", "local, s3, minio or gcs")
	addStorageFlags(c)
	return c
}

func storageUpdate() *cobra.Command {
	c := &cobra.Command{Use: "update NAME", Short: "Change the given settings of a storage location", Args: cobra.ExactArgs(1),
		RunE: run(func(cmd *cobra.Command, c *client, args []string) error {
			id, err := c.storageID(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			request := &pb.UpdateStorageLocationRequest{Id: id}
			config, err := storageConfig(cmd)
			if err != nil {
				return err
			}
			if len(config.GetFields()) > 0 {
				request.Config = config
			}
			if f := cmd.Flags().Lookup("name"); f.Changed {
				request.Name = new(f.Value.String())
			}
			if f := cmd.Flags().Lookup("default"); f.Changed {
				request.IsDefault = new(f.Value.String() == "true")
			}
			l, err := c.storages.UpdateStorageLocation(cmd.Context(), request)
			return shown(cmd, l, err, storageTable)
		})}
	c.Flags().String("name", "", "new name")
	addStorageFlags(c)
	return c
}

func storageDelete() *cobra.Command {
	return &cobra.Command{Use: "delete NAME", Short: "Remove a storage location that nothing needs", Args: cobra.ExactArgs(1),
		RunE: deletion((*client).storageID, "Deleted the storage location %s. What lies there was not touched.", func(ctx context.Context, c *client, id string) error {
			_, err := c.storages.DeleteStorageLocation(ctx, &pb.DeleteStorageLocationRequest{Id: id})
			return err
		})}
}

func storageTest() *cobra.Command {
	return &cobra.Command{Use: "test NAME", Short: "Write, read and delete one small object now", Args: cobra.ExactArgs(1),
		RunE: byName((*client).storageID, func(cmd *cobra.Command, c *client, id string) error {
			r, err := c.storages.TestStorageLocation(cmd.Context(), &pb.TestStorageLocationRequest{Id: id})
			if err != nil {
				return err
			}
			if err := show(cmd, r, func() *table {
				t := newTable()
				t.add("Status", r.GetStatus().String())
				t.add("Latency", fmt.Sprintf("%d ms", r.GetLatencyMs()))
				t.add("Free", gib(r.AvailableSpaceGb))
				for _, warning := range r.GetWarnings() {
					t.add("Warning", warning)
				}
				return t
			}); err != nil {
				return err
			}
			return tested(r.GetStatus(), r.GetError(), r.GetErrorCode())
		})}
}
