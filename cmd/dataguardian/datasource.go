package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"
	"google.golang.org/protobuf/types/known/structpb"

	pb "github.com/dataguardian/dataguardian/gen/dataguardian/v1"
)

func newDatasource() *cobra.Command {
	c := &cobra.Command{Use: "datasource", Short: "Databases that are backed up"}
	addClientFlags(c)
	c.AddCommand(datasourceList(), datasourceGet(), datasourceCreate(), datasourceUpdate(), datasourceDelete(), datasourceTest(), datasourceSchema(), datasourceQuery())
	return c
}

func datasourceList() *cobra.Command {
	return withPages(&cobra.Command{Use: "list", Short: "List datasources", Args: cobra.NoArgs,
		RunE: run(func(cmd *cobra.Command, c *client, _ []string) error {
			page, limit := pages(cmd)
			r, err := c.datasources.ListDatasources(cmd.Context(), &pb.ListDatasourcesRequest{Page: page, Limit: limit})
			if err != nil {
				return err
			}
			return show(cmd, r, func() *table {
				t := newTable("NAME", "TYPE", "STATUS", "ENABLED", "TAGS", "LAST CHECK", "ID")
				for _, d := range r.GetData() {
					t.add(d.GetName(), d.GetType().String(), d.GetStatus().String(), yesNo(d.GetEnabled()), orNone(strings.Join(d.GetTags(), ",")), when(d.GetLastHealthCheckAt()), d.GetId())
				}
				return t
			})
		})})
}

func datasourceGet() *cobra.Command {
	return &cobra.Command{Use: "get NAME", Short: "Show one datasource", Args: cobra.ExactArgs(1),
		RunE: run(func(cmd *cobra.Command, c *client, args []string) error {
			id, err := c.datasourceID(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			d, err := c.datasources.GetDatasource(cmd.Context(), &pb.GetDatasourceRequest{Id: id})
			return shown(cmd, d, err, datasourceTable)
		})}
}

func datasourceTable(d *pb.Datasource) *table {
	config := d.GetConnectionConfig().GetFields()
	t := newTable()
	t.add("Name", d.GetName())
	t.add("Type", d.GetType().String())
	t.add("Host", fmt.Sprintf("%s, port %.0f", config["host"].GetStringValue(), config["port"].GetNumberValue()))
	t.add("Database", config["database"].GetStringValue())
	t.add("User", config["username"].GetStringValue())
	t.add("TLS", config["ssl_mode"].GetStringValue())
	t.add("Status", d.GetStatus().String())
	t.add("Enabled", yesNo(d.GetEnabled()))
	t.add("Protected", yesNo(d.GetProtected()))
	t.add("Tags", orNone(strings.Join(d.GetTags(), ",")))
	t.add("Last check", when(d.GetLastHealthCheckAt()))
	t.add("ID", d.GetId())
	return t
}

func addConnectionFlags(flags *pflag.FlagSet) {
	flags.String("host", "", "host name, address, or absolute socket directory")
	flags.Int("port", 0, "port (default: the server type's)")
	flags.String("database", "", "database")
	flags.String("username", "", "user")
	flags.String("password-file", "", "file with the password, \"-\" for standard input (default: ask on the terminal)")
	flags.String("ssl-mode", "", "disable, require, verify-ca or verify-full")
	flags.String("ssl-root-cert", "", "PEM file with the certificate authority")
	flags.StringSlice("tag", nil, "labels")
	flags.Bool("protected", false, "ask for a confirmation before a restore over it")
	flags.Bool("enabled", true, "check and back it up")
}

// connectionConfig collects the flags that were given.
func connectionConfig(cmd *cobra.Command, askPassword bool) (*structpb.Struct, error) {
	config := map[string]any{}
	for flag, key := range map[string]string{"host": "host", "database": "database", "username": "username", "ssl-mode": "ssl_mode"} {
		if f := cmd.Flags().Lookup(flag); f.Changed {
			config[key] = f.Value.String()
		}
	}
	if port, err := cmd.Flags().GetInt("port"); err == nil && cmd.Flags().Changed("port") {
		config["port"] = port
	}
	if path := cmd.Flags().Lookup("ssl-root-cert").Value.String(); path != "" {
		pem, err := os.ReadFile(path) //nolint:gosec // the user names the file
		if err != nil {
			return nil, err
		}
		config["ssl_root_cert"] = string(pem)
	}
	password, given, err := readPassword(cmd, askPassword)
	if err != nil {
		return nil, err
	}
	if given {
		config["password"] = password
	}
	return structpb.NewStruct(config)
}

// readPassword takes the password from a file, standard input or the terminal:
// never from an argument, which every user of the machine could see.
func readPassword(cmd *cobra.Command, ask bool) (string, bool, error) {
	var raw []byte
	var err error
	switch path := cmd.Flags().Lookup("password-file").Value.String(); {
	case path == "-":
		raw, err = io.ReadAll(io.LimitReader(cmd.InOrStdin(), 1<<16))
	case path != "":
		raw, err = os.ReadFile(path) //nolint:gosec // the user names the file
	case !ask:
		return "", false, nil
	default:
		if !term.IsTerminal(int(os.Stdin.Fd())) {
			return "", false, fmt.Errorf("the password is missing: use --password-file (\"-\" reads standard input)")
		}
		_, _ = fmt.Fprint(cmd.ErrOrStderr(), "Password: ")
		raw, err = term.ReadPassword(int(os.Stdin.Fd()))
		_, _ = fmt.Fprintln(cmd.ErrOrStderr())
	}
	return strings.TrimRight(string(raw), "\r\n"), true, err
}

func datasourceCreate() *cobra.Command {
	c := &cobra.Command{Use: "create", Short: "Add a datasource", Args: cobra.NoArgs,
		Example: "  dataguardian datasource create --name shop --host db.example.com --database shop --username backup --password-file shop.pw",
		RunE: run(func(cmd *cobra.Command, c *client, _ []string) error {
			config, err := connectionConfig(cmd, true)
			if err != nil {
				return err
			}
			flags := cmd.Flags()
			kind, known := pb.Datasource_Type_value[flags.Lookup("type").Value.String()]
			if !known {
				return fmt.Errorf("--type: must be postgres, mysql or mariadb")
			}
			tags, err := flags.GetStringSlice("tag")
			if err != nil {
				return err
			}
			enabled := flags.Lookup("enabled").Value.String() == "true"
			d, err := c.datasources.CreateDatasource(cmd.Context(), &pb.CreateDatasourceRequest{
				Name: flags.Lookup("name").Value.String(), Type: pb.Datasource_Type(kind), ConnectionConfig: config,
				Tags: tags, Enabled: &enabled, Protected: flags.Lookup("protected").Value.String() == "true",
			})
			return shown(cmd, d, err, datasourceTable)
		})}
	c.Flags().String("name", "", "unique name")
	c.Flags().String("type", "postgres", "postgres, mysql or mariadb")
	addConnectionFlags(c.Flags())
	return c
}

func datasourceUpdate() *cobra.Command {
	c := &cobra.Command{Use: "update NAME", Short: "Change the given settings of a datasource", Args: cobra.ExactArgs(1),
		RunE: run(func(cmd *cobra.Command, c *client, args []string) error {
			id, err := c.datasourceID(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			request := &pb.UpdateDatasourceRequest{Id: id}
			config, err := connectionConfig(cmd, false)
			if err != nil {
				return err
			}
			if len(config.GetFields()) > 0 {
				request.ConnectionConfig = config
			}
			flags := cmd.Flags()
			if f := flags.Lookup("name"); f.Changed {
				request.Name = new(f.Value.String())
			}
			if f := flags.Lookup("enabled"); f.Changed {
				request.Enabled = new(f.Value.String() == "true")
			}
			if f := flags.Lookup("protected"); f.Changed {
				request.Protected = new(f.Value.String() == "true")
			}
			if flags.Changed("tag") {
				if request.Tags, err = listOf(flags, "tag"); err != nil {
					return err
				}
			}
			d, err := c.datasources.UpdateDatasource(cmd.Context(), request)
			return shown(cmd, d, err, datasourceTable)
		})}
	c.Flags().String("name", "", "new name")
	addConnectionFlags(c.Flags())
	return c
}

func listOf(flags *pflag.FlagSet, name string) (*structpb.ListValue, error) {
	values, err := flags.GetStringSlice(name)
	if err != nil {
		return nil, err
	}
	list := make([]any, 0, len(values))
	for _, v := range values {
		list = append(list, v)
	}
	return structpb.NewList(list)
}

func datasourceDelete() *cobra.Command {
	return &cobra.Command{Use: "delete NAME", Short: "Remove a datasource that nothing needs", Args: cobra.ExactArgs(1),
		RunE: deletion((*client).datasourceID, "Deleted the datasource %s.", func(ctx context.Context, c *client, id string) error {
			_, err := c.datasources.DeleteDatasource(ctx, &pb.DeleteDatasourceRequest{Id: id})
			return err
		})}
}

func datasourceTest() *cobra.Command {
	return &cobra.Command{Use: "test NAME", Short: "Connect to a datasource now", Args: cobra.ExactArgs(1),
		RunE: byName((*client).datasourceID, func(cmd *cobra.Command, c *client, id string) error {
			r, err := c.datasources.TestDatasource(cmd.Context(), &pb.TestDatasourceRequest{Id: id})
			if err != nil {
				return err
			}
			if err := show(cmd, r, func() *table {
				t := newTable()
				t.add("Status", r.GetStatus().String())
				t.add("Latency", fmt.Sprintf("%d ms", r.GetLatencyMs()))
				t.add("Server version", orNone(r.GetServerVersion()))
				return t
			}); err != nil {
				return err
			}
			return tested(r.GetStatus(), r.GetError(), r.GetErrorCode())
		})}
}

// tested makes a failed test fail the command.
func tested(result pb.TestResult_Status, message, code string) error {
	if result == pb.TestResult_ok {
		return nil
	}
	return fmt.Errorf("%s (%s)", message, code)
}
