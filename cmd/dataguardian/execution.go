package main

import (
	"fmt"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/structpb"

	pb "github.com/dataguardian/dataguardian/gen/dataguardian/v1"
)

func newExecution() *cobra.Command {
	c := &cobra.Command{Use: "execution", Short: "What ran, runs and will run"}
	addClientFlags(c)
	c.AddCommand(executionList(), executionGet(), logsCommand(), executionCancel(), executionRetryUpload(), executionDelete())
	return c
}

func executionList() *cobra.Command {
	c := withPages(&cobra.Command{Use: "list", Short: "List executions, newest first", Args: cobra.NoArgs,
		RunE: run(func(cmd *cobra.Command, c *client, _ []string) error {
			page, limit := pages(cmd)
			request := &pb.ListExecutionsRequest{Page: page, Limit: limit}
			if given := cmd.Flags().Lookup("status").Value.String(); given != "" {
				value, known := pb.Execution_Status_value[given]
				if !known {
					return fmt.Errorf("--status: must be queued, running, completed, failed or cancelled")
				}
				request.Status = pb.Execution_Status(value)
			}
			if given := cmd.Flags().Lookup("job").Value.String(); given != "" {
				id, err := c.jobID(cmd.Context(), given)
				if err != nil {
					return err
				}
				request.JobId = id
			}
			r, err := c.executions.ListExecutions(cmd.Context(), request)
			if err != nil {
				return err
			}
			return show(cmd, r, func() *table {
				t := newTable("CREATED", "JOB", "OPERATION", "STATUS", "TOOK", "DUMP", "STORED", "ID")
				for _, e := range r.GetData() {
					t.add(when(e.GetCreatedAt()), orNone(e.GetJob().GetName()), e.GetOperation().String(), e.GetStatus().String(),
						duration(e.DurationSeconds), size(e.SizeBytes), size(e.CompressedSizeBytes), e.GetId())
				}
				return t
			})
		})})
	c.Flags().String("job", "", "only of this job, by name or id")
	c.Flags().String("status", "", "only with this status")
	return c
}

func executionGet() *cobra.Command {
	return &cobra.Command{Use: "get ID", Short: "Show one execution", Args: cobra.ExactArgs(1),
		RunE: run(func(cmd *cobra.Command, c *client, args []string) error {
			e, err := c.executions.GetExecution(cmd.Context(), &pb.GetExecutionRequest{Id: args[0]})
			return shown(cmd, e, err, executionTable)
		})}
}

func executionTable(e *pb.Execution) *table {
	t := newTable()
	t.add("Job", orNone(e.GetJob().GetName()))
	t.add("Datasource", e.GetDatasource().GetName())
	t.add("Operation", e.GetOperation().String()+", "+e.GetTrigger().String())
	t.add("Status", e.GetStatus().String())
	if e.ErrorCode != nil {
		t.add("Why", e.GetErrorMessage()+" ("+e.GetErrorCode()+")")
	}
	if phase := e.GetMetadata().GetFields()["phase"].GetStringValue(); phase != "" && e.GetStatus() == pb.Execution_running {
		t.add("Phase", phase)
	}
	t.add("Created", when(e.GetCreatedAt()))
	t.add("Started", when(e.GetStartedAt()))
	t.add("Finished", when(e.GetFinishedAt()))
	t.add("Took", duration(e.DurationSeconds))
	t.add("Dump", size(e.SizeBytes))
	t.add("Stored", size(e.CompressedSizeBytes)+" in "+count(e.GetFilesCount(), "part"))
	t.add("Path", orNone(e.GetBackupPath()))
	addCopies(t, e.GetMetadata().GetFields()["storage_results"].GetListValue())
	addChecked(t, e.GetMetadata().GetFields()["checked"].GetStructValue().GetFields())
	t.add("Attempt", fmt.Sprint(e.GetAttempt()))
	t.add("ID", e.GetId())
	return t
}

// addCopies adds what came of the backup on each storage.
func addCopies(t *table, results *structpb.ListValue) {
	for _, r := range results.GetValues() {
		f := r.GetStructValue().GetFields()
		state := f["status"].GetStringValue()
		if why := f["error"].GetStringValue(); why != "" {
			state += ": " + why
		}
		t.add("On "+f["storage_name"].GetStringValue(), state)
	}
}

func executionCancel() *cobra.Command {
	return &cobra.Command{Use: "cancel ID", Short: "Stop a queued or running execution", Args: cobra.ExactArgs(1),
		RunE: run(func(cmd *cobra.Command, c *client, args []string) error {
			r, err := c.executions.CancelExecution(cmd.Context(), &pb.CancelExecutionRequest{Id: args[0]})
			if err != nil {
				return err
			}
			return show(cmd, r, func() *table {
				t := newTable()
				t.add(r.GetMessage())
				return t
			})
		})}
}

func executionRetryUpload() *cobra.Command {
	c := &cobra.Command{Use: "retry-upload ID", Short: "Send what a failed upload left out, without dumping again", Args: cobra.ExactArgs(1),
		RunE: run(func(cmd *cobra.Command, c *client, args []string) error {
			before, err := c.executions.GetExecutionLogs(cmd.Context(), &pb.GetExecutionLogsRequest{Id: args[0]})
			if err != nil {
				return err
			}
			r, err := c.executions.RetryUpload(cmd.Context(), &pb.RetryUploadRequest{Id: args[0]})
			if err != nil {
				return err
			}
			if cmd.Flags().Lookup("follow").Value.String() == "true" {
				return follow(cmd, c, r.GetExecutionId(), "upload", lastSeq(before.GetLogs()))
			}
			return show(cmd, r, func() *table {
				t := newTable()
				t.add("Execution", r.GetExecutionId())
				t.add("Status", r.GetStatus().String())
				return t
			})
		})}
	c.Flags().BoolP("follow", "f", false, "show the live log until it ends; exit code 2 when it fails")
	return c
}

func lastSeq(lines []*pb.LogLine) int64 {
	if len(lines) == 0 {
		return 0
	}
	return lines[len(lines)-1].GetSeq()
}

func executionDelete() *cobra.Command {
	c := &cobra.Command{Use: "delete ID", Short: "Remove an execution that has ended, and its backup", Args: cobra.ExactArgs(1),
		RunE: run(func(cmd *cobra.Command, c *client, args []string) error {
			force := cmd.Flags().Lookup("force").Value.String() == "true"
			if _, err := c.executions.DeleteExecution(cmd.Context(), &pb.DeleteExecutionRequest{Id: args[0], Force: force}); err != nil {
				return err
			}
			return say(cmd, "Deleted the execution %s and what it had stored.", args[0])
		})}
	c.Flags().Bool("force", false, "delete even the last good backup of a job")
	return c
}
