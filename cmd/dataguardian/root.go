package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/dataguardian/dataguardian/internal/config"
)

func newRoot(version string) *cobra.Command {
	root := &cobra.Command{
		Use:           "dataguardian",
		Short:         "Database backups you can bet on",
		Long:          "DataGuardian backs up PostgreSQL, MySQL and MariaDB databases, keeps and proves the backups, and shows what it does.\n\nStart the control plane with \"dataguardian serve\". Every other command talks to a running one.",
		Version:       version,
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			return config.Complete(cmd.Flags(), os.Getenv, everyFlag(cmd.Root()))
		},
	}
	root.PersistentFlags().String("config", "", "YAML file; every flag has its key")
	root.PersistentFlags().String("data-dir", "./data", "directory of the control plane")
	root.AddGroup(&cobra.Group{ID: "server", Title: "Control plane:"}, &cobra.Group{ID: "client", Title: "Client:"})
	add := func(group string, commands ...*cobra.Command) {
		for _, c := range commands {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add("server", newServe(version), newWorker(version), newMigrate(), newKey())
	add("client", newDatasource(), newStorage(), newJob(), newExecution(), newLogs(), newBackup(), newNotification(), newHealth(), newOverview(), newToken(), newUser(), newAudit())
	strict(root)
	return root
}

// strict makes the commands below c refuse what they do not know, and say how they are
// used. By itself a group shows its help for an unknown command and succeeds: a script
// with a slip would go on.
func strict(c *cobra.Command) {
	for _, child := range c.Commands() {
		if child.HasSubCommands() && !child.Runnable() {
			child.DisableFlagsInUseLine = true
			child.Args = cobra.NoArgs
			child.RunE = func(*cobra.Command, []string) error { return child.Help() }
		}
		if args := child.Args; args != nil {
			child.Args = func(cmd *cobra.Command, given []string) error {
				if err := args(cmd, given); err != nil {
					return fmt.Errorf("%w; usage: %s", err, cmd.UseLine())
				}
				return nil
			}
		}
		strict(child)
	}
}

// everyFlag names the flags of all commands: one file may serve them all.
func everyFlag(root *cobra.Command) []string {
	var names []string
	var visit func(c *cobra.Command)
	visit = func(c *cobra.Command) {
		collect := func(f *pflag.Flag) { names = append(names, f.Name) }
		c.Flags().VisitAll(collect)
		c.PersistentFlags().VisitAll(collect)
		for _, child := range c.Commands() {
			visit(child)
		}
	}
	visit(root)
	return names
}

// executionFailed ends a command whose execution did not end well: everything was
// said already.
type executionFailed struct{ message string }

func (e executionFailed) Error() string { return e.message }

// exitCode tells a failed execution (2) from a failed command (1).
func exitCode(err error) int {
	if errors.As(err, new(executionFailed)) {
		return 2
	}
	return 1
}

// statusOf finds what a server said. Unlike status.FromError it returns the words of
// the server alone, however the error is wrapped.
func statusOf(err error) (*status.Status, bool) {
	var said interface{ GRPCStatus() *status.Status }
	if !errors.As(err, &said) {
		return nil, false
	}
	return said.GRPCStatus(), true
}

// explain writes an error for a person: the sentence, its code, every bad field.
func explain(err error) string {
	s, ok := statusOf(err)
	if !ok {
		return "error: " + err.Error()
	}
	if s.Code() == codes.Unavailable && len(s.Details()) == 0 {
		return "error: the server does not answer (" + s.Message() + "); is \"dataguardian serve\" running, and does --server or --data-dir point to it?"
	}
	text := "error: " + s.Message()
	for _, detail := range s.Details() {
		switch d := detail.(type) {
		case *errdetails.ErrorInfo:
			text += " (" + d.GetReason() + ")"
		case *structpb.Struct:
			if fields := badFields(d); strings.TrimSpace(fields) != s.Message() {
				text += fields
			}
		}
	}
	return text
}

func badFields(details *structpb.Struct) string {
	var b strings.Builder
	for _, field := range details.GetFields()["fields"].GetListValue().GetValues() {
		f := field.GetStructValue().GetFields()
		b.WriteString("\n  " + f["field"].GetStringValue() + ": " + f["message"].GetStringValue())
	}
	return b.String()
}
