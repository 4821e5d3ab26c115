package main

import (
	"fmt"

	"github.com/spf13/cobra"

	pb "github.com/dataguardian/dataguardian/gen/dataguardian/v1"
)

func storageImport() *cobra.Command {
	c := &cobra.Command{Use: "import NAME", Short: "Take whole backups that lie there and are not known into the records", Args: cobra.ExactArgs(1),
		Long: `Take whole backups that lie in a storage location and are not known into the records: after
the metadata was lost or set back, or from a storage of another DataGuardian.

A backup whose own datasource is not there is left out, unless --datasource names one of its kind
that it is to belong to. An imported backup belongs to no job, and no retention policy deletes it.
Its bytes are not read: prove them with "dataguardian backup verify".`,
		Example: "  dataguardian storage import disk --dry-run\n  dataguardian storage import disk --datasource shop",
		RunE: byName((*client).storageID, func(cmd *cobra.Command, c *client, id string) error {
			flags := cmd.Flags()
			request := &pb.ImportBackupsRequest{Id: id, Path: flags.Lookup("path").Value.String(), DryRun: flags.Lookup("dry-run").Value.String() == "true"}
			if name := flags.Lookup("datasource").Value.String(); name != "" {
				datasource, err := c.datasourceID(cmd.Context(), name)
				if err != nil {
					return err
				}
				request.DatasourceId = datasource
			}
			r, err := c.storages.ImportBackups(cmd.Context(), request)
			if err != nil {
				return err
			}
			if err := show(cmd, r, func() *table { return importTable(r, request.GetDryRun()) }); err != nil {
				return err
			}
			if err := say(cmd, "%s", imported(r, request.GetDryRun())); err != nil {
				return err
			}
			return leftOut(r)
		})}
	c.Flags().String("path", "", "one backup, or a folder above several (default: all)")
	c.Flags().String("datasource", "", "takes the backups whose own datasource is not there")
	c.Flags().Bool("dry-run", false, "only tell what would be imported")
	return c
}

// importTable is empty, without headings, when there is nothing new.
func importTable(r *pb.ImportBackupsResponse, dry bool) *table {
	if len(r.GetBackups()) == 0 {
		return newTable()
	}
	t := newTable("CREATED", "DATASOURCE", "DATABASE", "STORED", "ENCRYPTED", "IMPORTED", "PATH", "EXECUTION", "WHY NOT")
	yes := "yes"
	if dry {
		yes = "would be"
	}
	for _, b := range r.GetBackups() {
		if b.ExecutionId == nil {
			t.add(none, none, none, none, none, "no", b.GetPath(), none, b.GetError())
			continue
		}
		imported, why := yes, none
		if !b.GetImported() {
			imported, why = "no", b.GetError()
		}
		t.add(when(b.GetCreatedAt()), b.GetDatasourceName(), b.GetDatabase(), size(new(b.GetStoredBytes())), yesNo(b.GetEncrypted()), imported,
			b.GetPath(), b.GetExecutionId(), why)
	}
	return t
}

func imported(r *pb.ImportBackupsResponse, dry bool) string {
	all := r.GetImported() + r.GetLeftOut()
	if all == 0 {
		return "Every whole backup that lies there is known."
	}
	verb := "Imported"
	if dry {
		verb = "Would import"
	}
	text := fmt.Sprintf("%s %d of %d backups that were not known.", verb, r.GetImported(), all)
	if shown := len(r.GetBackups()); shown < int(all) {
		text += fmt.Sprintf(" %d are shown.", shown)
	}
	return text
}

func leftOut(r *pb.ImportBackupsResponse) error {
	if r.GetLeftOut() == 0 {
		return nil
	}
	return fmt.Errorf("%d of %d backups that were not known are left out", r.GetLeftOut(), r.GetLeftOut()+r.GetImported())
}
