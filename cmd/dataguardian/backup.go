package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	pb "github.com/dataguardian/dataguardian/gen/dataguardian/v1"
)

func newBackup() *cobra.Command {
	c := &cobra.Command{Use: "backup", Short: "Backups that can be restored"}
	addClientFlags(c)
	c.AddCommand(backupDatasources(), backupList(), backupRestore(), backupVerify(), backupDownload())
	return c
}

func backupDatasources() *cobra.Command {
	return &cobra.Command{Use: "datasources", Short: "List datasources with their backups counted", Args: cobra.NoArgs,
		RunE: run(func(cmd *cobra.Command, c *client, _ []string) error {
			r, err := c.backups.ListBackupDatasources(cmd.Context(), &pb.ListBackupDatasourcesRequest{})
			if err != nil {
				return err
			}
			return show(cmd, r, func() *table {
				t := newTable("DATASOURCE", "TYPE", "STATUS", "BACKUPS", "NEWEST", "ID")
				for _, d := range r.GetData() {
					t.add(d.GetDatasourceName(), d.GetDatasourceType().String(), d.GetDatasourceStatus().String(), fmt.Sprint(d.GetBackupsCount()), when(d.GetLastBackupAt()), d.GetDatasourceId())
				}
				return t
			})
		})}
}

func backupList() *cobra.Command {
	return &cobra.Command{Use: "list DATASOURCE", Short: "List the backups of a datasource and ask each storage for them", Args: cobra.ExactArgs(1),
		RunE: run(func(cmd *cobra.Command, c *client, args []string) error {
			id, err := c.datasourceID(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			r, err := c.backups.ListBackups(cmd.Context(), &pb.ListBackupsRequest{DatasourceId: id})
			if err != nil {
				return err
			}
			return show(cmd, r, func() *table {
				t := newTable("CREATED", "JOB", "DUMP", "STORED", "ENCRYPTED", "VERIFIED", "COPIES", "PATH", "EXECUTION")
				for _, b := range r.GetBackups() {
					var copies []string
					for _, copied := range b.GetStorageLocations() {
						copies = append(copies, copied.GetStorageName()+": "+copied.GetStatus().String())
					}
					t.add(when(b.GetCreatedAt()), orNone(b.GetJob().GetName()), humanBytes(b.GetSizeBytes()), humanBytes(b.GetCompressedSizeBytes()),
						yesNo(b.GetEncrypted()), when(b.GetVerifiedAt()), strings.Join(copies, ", "), b.GetBackupPath(), b.GetExecutionId())
				}
				return t
			})
		})}
}
