package main

import (
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/dataguardian/dataguardian/gen/dataguardian/v1"
)

func newAudit() *cobra.Command {
	c := &cobra.Command{Use: "audit", Short: "Who did what"}
	addClientFlags(c)
	c.AddCommand(auditList())
	return c
}

func auditList() *cobra.Command {
	c := withPages(&cobra.Command{Use: "list", Short: "List the audit log, newest first", Args: cobra.NoArgs,
		RunE: run(func(cmd *cobra.Command, c *client, _ []string) error {
			text := func(name string) string { return cmd.Flags().Lookup(name).Value.String() }
			page, limit := pages(cmd)
			request := &pb.ListAuditLogsRequest{
				Page: page, Limit: limit, Actor: text("actor"), Action: text("action"), EntityType: text("entity-type"), EntityId: text("entity"), Outcome: text("outcome"),
			}
			since, err := cmd.Flags().GetDuration("since")
			if err != nil {
				return err
			}
			if since > 0 {
				request.From = timestamppb.New(time.Now().Add(-since))
			}
			r, err := c.audit.ListAuditLogs(cmd.Context(), request)
			return shown(cmd, r, err, auditTable)
		})})
	c.Flags().String("actor", "", "only by this user or token")
	c.Flags().String("action", "", "only this, such as backup.restore")
	c.Flags().String("entity-type", "", "only about this kind of thing, such as backup_job")
	c.Flags().String("entity", "", "only about the thing with this id")
	c.Flags().String("outcome", "", "only with this outcome: ok, started, or the code of an error")
	c.Flags().Duration("since", 0, "only as long ago (default: all)")
	return c
}

func auditTable(r *pb.ListAuditLogsResponse) *table {
	t := newTable("TIME", "WHO", "WHAT", "ABOUT", "FROM", "OUTCOME", "CALLS")
	for _, e := range r.GetData() {
		t.add(when(e.GetCreatedAt()), orNone(e.GetActor()), e.GetAction(), orNone(e.GetEntityId()), orNone(e.GetAddress()), e.GetOutcome(), strconv.Itoa(int(e.GetCount())))
	}
	return t
}

// keyRotate is a client's command: the server that runs does the work.
func keyRotate() *cobra.Command {
	c := &cobra.Command{Use: "rotate", Short: "Encrypt the stored credentials of a running control plane with a new key", Args: cobra.NoArgs,
		Long: "Encrypt the stored credentials with a new key and write it to the key file of the server, beside the old one. Backups go on meanwhile. When processes run on several machines, call it with --prepare first and copy the key file to all of them.",
		RunE: run(func(cmd *cobra.Command, c *client, _ []string) error {
			set := func(name string) bool { return cmd.Flags().Lookup(name).Value.String() == "true" }
			r, err := c.auth.RotateKey(cmd.Context(), &pb.RotateKeyRequest{PrepareOnly: set("prepare"), DropOld: set("drop-old")})
			return shown(cmd, r, err, func(r *pb.RotateKeyResponse) *table {
				t := newTable()
				t.add("Key", r.GetKeyId())
				t.add("Key file", fmt.Sprintf("%s (%s)", r.GetKeyFile(), count(r.GetKeys(), "key")))
				t.add("Encrypted anew", strconv.Itoa(int(r.GetResealed())))
				t.add("", r.GetMessage())
				return t
			})
		})}
	addClientFlags(c)
	c.Flags().Bool("prepare", false, "only add the new key to the key file; the next rotation uses it")
	c.Flags().Bool("drop-old", false, "remove keys that are needed no more from the file, which is copied before")
	return c
}
