package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"google.golang.org/protobuf/encoding/protojson"

	pb "github.com/dataguardian/dataguardian/gen/dataguardian/v1"
)

func newJob() *cobra.Command {
	c := &cobra.Command{Use: "job", Short: "What is backed up where, when, and how long it stays"}
	addClientFlags(c)
	c.AddCommand(jobList(), jobGet(), jobCreate(), jobUpdate(), jobDelete(), jobRun(), jobRetention())
	return c
}

func jobList() *cobra.Command {
	return withPages(&cobra.Command{Use: "list", Short: "List jobs", Args: cobra.NoArgs,
		RunE: run(func(cmd *cobra.Command, c *client, _ []string) error {
			page, limit := pages(cmd)
			r, err := c.backups.ListBackupJobs(cmd.Context(), &pb.ListBackupJobsRequest{Page: page, Limit: limit})
			if err != nil {
				return err
			}
			return show(cmd, r, func() *table {
				t := newTable("NAME", "DATASOURCE", "STORAGE", "SCHEDULE", "ENABLED", "LAST", "NEXT", "ID")
				for _, j := range r.GetData() {
					last := none
					if j.GetLastExecution() != nil {
						last = j.GetLastExecution().GetStatus().String()
					}
					t.add(j.GetName(), j.GetDatasource().GetName(), j.GetStorageLocation().GetName(), schedule(j), yesNo(j.GetEnabled()), last, when(j.GetNextExecutionAt()), j.GetId())
				}
				return t
			})
		})})
}

func schedule(j *pb.BackupJob) string {
	if j.GetScheduleCron() == "" {
		return "on demand"
	}
	return j.GetScheduleCron() + " " + j.GetScheduleTimezone()
}

func jobGet() *cobra.Command {
	return &cobra.Command{Use: "get NAME", Short: "Show one job", Args: cobra.ExactArgs(1),
		RunE: run(func(cmd *cobra.Command, c *client, args []string) error {
			id, err := c.jobID(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			j, err := c.backups.GetBackupJob(cmd.Context(), &pb.GetBackupJobRequest{Id: id})
			return shown(cmd, j, err, jobTable)
		})}
}

func jobTable(j *pb.BackupJob) *table {
	t := newTable()
	t.add("Name", j.GetName())
	t.add("Datasource", j.GetDatasource().GetName())
	t.add("Storage", j.GetStorageLocation().GetName())
	t.add("Schedule", schedule(j))
	t.add("Enabled", yesNo(j.GetEnabled()))
	t.add("Keeps", policy(j.GetRetentionPolicy()))
	t.add("Compression", j.GetBackupOptions().GetCompression().String())
	t.add("Encrypted", yesNo(len(j.GetBackupOptions().GetEncryption().GetRecipients()) > 0))
	if last := j.GetLastExecution(); last != nil {
		t.add("Last run", last.GetStatus().String()+", started "+when(last.GetStartedAt())+", "+last.GetId())
	}
	t.add("Next run", when(j.GetNextExecutionAt()))
	t.add("ID", j.GetId())
	return t
}

func policy(p *pb.RetentionPolicy) string {
	var rules []string
	add := func(n *int32, what string) {
		if n != nil {
			rules = append(rules, fmt.Sprintf("%d %s", *n, what))
		}
	}
	add(p.MaxBackups, "newest")
	add(p.KeepDaily, "daily")
	add(p.KeepWeekly, "weekly")
	add(p.KeepMonthly, "monthly")
	text := strings.Join(rules, ", ")
	if !p.GetAutoDelete() {
		text += " (deletes nothing by itself)"
	}
	return text
}

func addJobFlags(flags *pflag.FlagSet) {
	flags.String("datasource", "", "name or id of the datasource")
	flags.String("storage", "", "name or id of the storage location (default: the default one)")
	flags.String("schedule", "", "cron expression of five fields, or @hourly, @daily, ... (default: on demand)")
	flags.String("timezone", "UTC", "IANA time zone of the schedule")
	flags.Bool("enabled", true, "run by the schedule")
	flags.Int32("max-backups", 0, "keep the newest N")
	flags.Int32("keep-daily", 0, "keep the newest of each of the last N days")
	flags.Int32("keep-weekly", 0, "keep the newest of each of the last N weeks")
	flags.Int32("keep-monthly", 0, "keep the newest of each of the last N months")
	flags.Bool("auto-delete", true, "delete what the policy does not keep")
	flags.String("compression", "", "zstd, gzip, lz4 or none")
	flags.StringSlice("recipient", nil, "encrypt to these age public keys")
	flags.String("options-file", "", "JSON file with backup_options")
}

// retentionPolicy returns the policy of the flags, nil when none was given.
func retentionPolicy(flags *pflag.FlagSet) (*pb.RetentionPolicy, error) {
	p := &pb.RetentionPolicy{}
	given := false
	for name, field := range map[string]**int32{"max-backups": &p.MaxBackups, "keep-daily": &p.KeepDaily, "keep-weekly": &p.KeepWeekly, "keep-monthly": &p.KeepMonthly} {
		if !flags.Changed(name) {
			continue
		}
		n, err := flags.GetInt32(name)
		if err != nil {
			return nil, err
		}
		*field, given = &n, true
	}
	autoDelete := flags.Lookup("auto-delete")
	p.AutoDelete = new(autoDelete.Value.String() == "true")
	if !given && !autoDelete.Changed {
		return nil, nil //nolint:nilnil // no flag, no policy
	}
	return p, nil
}

// backupOptions returns the options of the flags, nil when none was given.
func backupOptions(flags *pflag.FlagSet) (*pb.BackupOptions, error) {
	o := &pb.BackupOptions{}
	given := false
	if path := flags.Lookup("options-file").Value.String(); path != "" {
		raw, err := os.ReadFile(path) //nolint:gosec // the user names the file
		if err != nil {
			return nil, err
		}
		if !json.Valid(raw) {
			return nil, fmt.Errorf("%s: not JSON", path)
		}
		if err := protojson.Unmarshal(raw, o); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		given = true
	}
	if f := flags.Lookup("compression"); f.Changed {
		value, known := pb.BackupOptions_Compression_value[f.Value.String()]
		if !known {
			return nil, fmt.Errorf("--compression: must be zstd, gzip, lz4 or none")
		}
		o.Compression, given = pb.BackupOptions_Compression(value), true
	}
	recipients, err := flags.GetStringSlice("recipient")
	if err != nil {
		return nil, err
	}
	if len(recipients) > 0 {
		o.Encryption, given = &pb.BackupOptions_Encryption{Recipients: recipients}, true
	}
	if !given {
		return nil, nil //nolint:nilnil // no flag, no options
	}
	return o, nil
}

func jobCreate() *cobra.Command {
	c := &cobra.Command{Use: "create", Short: "Add a job", Args: cobra.NoArgs,
		Example: "  dataguardian job create --name \"shop nightly\" --datasource shop --storage disk --schedule \"0 3 * * *\" --max-backups 7",
		RunE: run(func(cmd *cobra.Command, c *client, _ []string) error {
			flags := cmd.Flags()
			text := func(name string) string { return flags.Lookup(name).Value.String() }
			retention, err := retentionPolicy(flags)
			if err != nil {
				return err
			}
			if retention == nil {
				return errors.New("what is to be kept? Say it with --max-backups, --keep-daily, --keep-weekly or --keep-monthly")
			}
			options, err := backupOptions(flags)
			if err != nil {
				return err
			}
			request := &pb.CreateBackupJobRequest{
				Name: text("name"), ScheduleCron: text("schedule"), ScheduleTimezone: text("timezone"),
				Enabled: new(text("enabled") == "true"), RetentionPolicy: retention, BackupOptions: options,
			}
			if request.DatasourceId, err = c.datasourceID(cmd.Context(), text("datasource")); err != nil {
				return err
			}
			if given := text("storage"); given != "" {
				if request.StorageLocationId, err = c.storageID(cmd.Context(), given); err != nil {
					return err
				}
			}
			j, err := c.backups.CreateBackupJob(cmd.Context(), request)
			return shown(cmd, j, err, jobTable)
		})}
	c.Flags().String("name", "", "unique name")
	addJobFlags(c.Flags())
	return c
}

func jobUpdate() *cobra.Command {
	c := &cobra.Command{Use: "update NAME", Short: "Change the given settings of a job", Args: cobra.ExactArgs(1),
		Long: "Change the given settings of a job. The retention policy and the options are replaced as a whole when one of their flags is given.",
		RunE: run(func(cmd *cobra.Command, c *client, args []string) error {
			id, err := c.jobID(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			request := &pb.UpdateBackupJobRequest{Id: id}
			flags := cmd.Flags()
			for name, field := range map[string]**string{"name": &request.Name, "schedule": &request.ScheduleCron, "timezone": &request.ScheduleTimezone} {
				if f := flags.Lookup(name); f.Changed {
					*field = new(f.Value.String())
				}
			}
			if f := flags.Lookup("enabled"); f.Changed {
				request.Enabled = new(f.Value.String() == "true")
			}
			if request.RetentionPolicy, err = retentionPolicy(flags); err != nil {
				return err
			}
			if request.BackupOptions, err = backupOptions(flags); err != nil {
				return err
			}
			if f := flags.Lookup("datasource"); f.Changed {
				source, err := c.datasourceID(cmd.Context(), f.Value.String())
				if err != nil {
					return err
				}
				request.DatasourceId = &source
			}
			if f := flags.Lookup("storage"); f.Changed {
				place, err := c.storageID(cmd.Context(), f.Value.String())
				if err != nil {
					return err
				}
				request.StorageLocationId = &place
			}
			j, err := c.backups.UpdateBackupJob(cmd.Context(), request)
			return shown(cmd, j, err, jobTable)
		})}
	c.Flags().String("name", "", "new name")
	addJobFlags(c.Flags())
	return c
}

func jobDelete() *cobra.Command {
	return &cobra.Command{Use: "delete NAME", Short: "Remove a job; its backups stay", Args: cobra.ExactArgs(1),
		RunE: deletion((*client).jobID, "Deleted the job %s. Its backups stay.", func(ctx context.Context, c *client, id string) error {
			_, err := c.backups.DeleteBackupJob(ctx, &pb.DeleteBackupJobRequest{Id: id})
			return err
		})}
}

func jobRun() *cobra.Command {
	c := &cobra.Command{Use: "run NAME", Short: "Run a backup now", Args: cobra.ExactArgs(1),
		RunE: run(func(cmd *cobra.Command, c *client, args []string) error {
			id, err := c.jobID(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			r, err := c.backups.RunBackupJob(cmd.Context(), &pb.RunBackupJobRequest{Id: id})
			if err != nil {
				return err
			}
			return queued(cmd, c, r, r.GetExecutionId(), args[0])
		})}
	c.Flags().BoolP("follow", "f", false, "show the live log until it ends; exit code 2 when it fails")
	return c
}

func jobRetention() *cobra.Command {
	return &cobra.Command{Use: "retention NAME", Short: "Show what the policy keeps and deletes now, and why", Args: cobra.ExactArgs(1),
		RunE: run(func(cmd *cobra.Command, c *client, args []string) error {
			id, err := c.jobID(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			r, err := c.backups.PreviewRetention(cmd.Context(), &pb.PreviewRetentionRequest{Id: id})
			if err != nil {
				return err
			}
			if err := show(cmd, r, func() *table {
				t := newTable("VERDICT", "CREATED", "STORED", "WHY", "EXECUTION")
				for _, v := range r.GetKeep() {
					t.add("keep", when(v.GetCreatedAt()), humanBytes(v.GetCompressedSizeBytes()), v.GetReason(), v.GetExecutionId())
				}
				for _, v := range r.GetDelete() {
					t.add("delete", when(v.GetCreatedAt()), humanBytes(v.GetCompressedSizeBytes()), v.GetReason(), v.GetExecutionId())
				}
				return t
			}); err != nil {
				return err
			}
			if r.Halted != nil {
				return say(cmd, "Nothing is deleted: %s.", r.GetHalted())
			}
			return nil
		})}
}
