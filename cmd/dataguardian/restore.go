package main

import (
	"github.com/spf13/cobra"
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
	flags.String("storage", "", "take it from this storage first; others follow when its copy is not good")
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
	flags.Int32("parallel", 0, "connections that restore at once, where the engine can (default: those of the job)")
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
	parallel, err := flags.GetInt32("parallel")
	if err != nil {
		return nil, err
	}
	if flags.Changed("parallel") {
		request.ParallelJobs = &parallel
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
