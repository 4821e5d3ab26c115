package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/structpb"

	pb "github.com/dataguardian/dataguardian/gen/dataguardian/v1"
)

func newChannel() *cobra.Command {
	c := &cobra.Command{Use: "channel", Short: "Where notifications are sent to"}
	c.AddCommand(channelTypes(), channelList(), channelGet(), channelCreate(), channelUpdate(), channelDelete(), channelTest(), channelDeliveries())
	return c
}

func (c *client) channelID(ctx context.Context, given string) (string, error) {
	return resolve("notification channel", given, func(page int32) ([]*pb.NotificationChannel, *pb.Pagination, error) {
		r, err := c.notifications.ListNotificationChannels(ctx, &pb.ListNotificationChannelsRequest{Page: &page, Limit: new(pageSize)})
		return r.GetData(), r.GetPagination(), err
	})
}

func channelTypes() *cobra.Command {
	return &cobra.Command{Use: "types [TYPE]", Short: "List what a channel can be, or the settings of one type", Args: cobra.MaximumNArgs(1),
		RunE: run(func(cmd *cobra.Command, c *client, args []string) error {
			r, err := c.notifications.ListNotificationChannelTypes(cmd.Context(), &pb.ListNotificationChannelTypesRequest{})
			if err != nil {
				return err
			}
			if len(args) == 0 {
				return show(cmd, r, func() *table {
					t := newTable("TYPE", "RECEIVER", "FAMILY", "REQUIRED SETTINGS")
					for _, kind := range r.GetData() {
						t.add(kind.GetName(), kind.GetTitle(), kind.GetFamily(), strings.Join(requiredSettings(kind), ", "))
					}
					return t
				})
			}
			for _, kind := range r.GetData() {
				if kind.GetName() == args[0] {
					return show(cmd, kind, func() *table { return settingsTable(kind) })
				}
			}
			return fmt.Errorf("no channel has the type %q; \"dataguardian notification channel types\" lists all", args[0])
		})}
}

func requiredSettings(kind *pb.NotificationChannelType) []string {
	var names []string
	for _, f := range kind.GetFields() {
		if f.GetRequired() {
			names = append(names, f.GetName())
		}
	}
	return names
}

func settingsTable(kind *pb.NotificationChannelType) *table {
	t := newTable("SETTING", "REQUIRED", "SECRET", "DEFAULT", "MEANING")
	for _, f := range kind.GetFields() {
		meaning := f.GetHelp()
		if len(f.GetChoices()) > 0 {
			meaning += " (" + strings.Join(f.GetChoices(), ", ") + ")"
		}
		t.add(f.GetName(), yesNo(f.GetRequired()), yesNo(f.GetSecret()), orNone(f.GetDefault()), meaning)
	}
	return t
}

func channelList() *cobra.Command {
	return withPages(&cobra.Command{Use: "list", Short: "List channels and how they do", Args: cobra.NoArgs,
		RunE: run(func(cmd *cobra.Command, c *client, _ []string) error {
			page, limit := pages(cmd)
			r, err := c.notifications.ListNotificationChannels(cmd.Context(), &pb.ListNotificationChannelsRequest{Page: page, Limit: limit})
			if err != nil {
				return err
			}
			return show(cmd, r, func() *table {
				t := newTable("NAME", "TYPE", "ENABLED", "FROM", "TYPES", "WAITING", "LAST", "ID")
				for _, ch := range r.GetData() {
					t.add(ch.GetName(), ch.GetType(), yesNo(ch.GetEnabled()), ch.GetMinSeverity().String(), typesOf(ch), fmt.Sprint(ch.GetPendingCount()), lastOf(ch), ch.GetId())
				}
				return t
			})
		})})
}

func typesOf(ch *pb.NotificationChannel) string {
	if len(ch.GetTypes()) == 0 {
		return "all"
	}
	var names []string
	for _, t := range ch.GetTypes() {
		names = append(names, t.String())
	}
	return strings.Join(names, ",")
}

func lastOf(ch *pb.NotificationChannel) string {
	last := ch.GetLastDelivery()
	if last == nil {
		return none
	}
	return last.GetStatus().String()
}

func channelGet() *cobra.Command {
	return &cobra.Command{Use: "get NAME", Short: "Show one channel", Args: cobra.ExactArgs(1),
		RunE: run(func(cmd *cobra.Command, c *client, args []string) error {
			id, err := c.channelID(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			ch, err := c.notifications.GetNotificationChannel(cmd.Context(), &pb.GetNotificationChannelRequest{Id: id})
			return shown(cmd, ch, err, channelTable)
		})}
}

func channelTable(ch *pb.NotificationChannel) *table {
	t := newTable()
	t.add("Name", ch.GetName())
	t.add("Type", ch.GetType())
	t.add("Enabled", yesNo(ch.GetEnabled()))
	t.add("From severity", ch.GetMinSeverity().String())
	t.add("Types", typesOf(ch))
	if ch.GetMaxPerHour() > 0 {
		t.add("Most per hour", fmt.Sprint(ch.GetMaxPerHour()))
	}
	addConfig(t, ch.GetConfig())
	t.add("Waiting", fmt.Sprint(ch.GetPendingCount()))
	if last := ch.GetLastDelivery(); last != nil {
		t.add("Last delivery", last.GetStatus().String()+", "+last.GetTitle())
		if last.LastError != nil {
			t.add("Last error", last.GetLastError())
		}
		t.add("Next try", when(last.GetNextAttemptAt()))
	}
	t.add("ID", ch.GetId())
	return t
}

// addConfig shows settings, secret ones only as set.
func addConfig(t *table, config *structpb.Struct) {
	for _, key := range sortedKeys(config.GetFields()) {
		value := config.GetFields()[key]
		text := fmt.Sprint(value.AsInterface())
		if value.GetStructValue().GetFields()["set"].GetBoolValue() {
			text = "(set)"
		}
		t.add("Config "+key, text)
	}
}

func addChannelFlags(c *cobra.Command) {
	c.Flags().String("config-file", "", "JSON file with the config; the place for secrets")
	c.Flags().StringArray("set", nil, "one setting of the config, key=value")
	c.Flags().StringSlice("only", nil, "only these types of notifications, such as backup_failed; all without it")
	c.Flags().String("min-severity", "", "only from this severity on: info, warning or critical")
	c.Flags().Bool("enabled", true, "whether it sends")
	c.Flags().Int32("max-per-hour", 0, "messages in an hour, beyond which what waits is put together; 0: no limit")
}

// channelConfig collects --config-file and --set; nil when neither is there. All
// settings but numbers are text, also those that look like something else.
func channelConfig(cmd *cobra.Command) (*structpb.Struct, error) {
	config := map[string]any{}
	if path := cmd.Flags().Lookup("config-file").Value.String(); path != "" {
		raw, err := os.ReadFile(path) //nolint:gosec // the user names the file
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(raw, &config); err != nil {
			return nil, fmt.Errorf("%s: not a JSON object: %w", path, err)
		}
	}
	settings, err := cmd.Flags().GetStringArray("set")
	if err != nil {
		return nil, err
	}
	for _, setting := range settings {
		key, value, ok := strings.Cut(setting, "=")
		if !ok {
			return nil, errors.New("--set: takes key=value")
		}
		config[key] = value
		if key == "port" || value == "null" {
			config[key] = literal(value)
		}
	}
	if len(config) == 0 {
		return nil, nil
	}
	return structpb.NewStruct(config)
}

// channelFilter reads --only and --min-severity.
func channelFilter(cmd *cobra.Command) ([]pb.Notification_Type, pb.Notification_Severity, error) {
	names, err := cmd.Flags().GetStringSlice("only")
	if err != nil {
		return nil, 0, err
	}
	var types []pb.Notification_Type
	for _, name := range names {
		value, known := pb.Notification_Type_value[name]
		if !known || value == 0 {
			return nil, 0, fmt.Errorf("--only: %q is no type of notification", name)
		}
		types = append(types, pb.Notification_Type(value))
	}
	severity, err := severityFlag(cmd)
	return types, severity, err
}

func severityFlag(cmd *cobra.Command) (pb.Notification_Severity, error) {
	text := cmd.Flags().Lookup("min-severity").Value.String()
	value, known := pb.Notification_Severity_value[text]
	if text != "" && (!known || value == 0) {
		return 0, errors.New("--min-severity: must be info, warning or critical")
	}
	return pb.Notification_Severity(value), nil
}

func channelCreate() *cobra.Command {
	c := &cobra.Command{Use: "create", Short: "Add a channel", Args: cobra.NoArgs,
		Example: "  dataguardian notification channel create --name ops --type webhook --set url=https://ops.example.com/hook --config-file secret.json",
		RunE: run(func(cmd *cobra.Command, c *client, _ []string) error {
			config, err := channelConfig(cmd)
			if err != nil {
				return err
			}
			if config == nil {
				config = &structpb.Struct{}
			}
			types, severity, err := channelFilter(cmd)
			if err != nil {
				return err
			}
			flags := cmd.Flags()
			most, err := flags.GetInt32("max-per-hour")
			if err != nil {
				return err
			}
			ch, err := c.notifications.CreateNotificationChannel(cmd.Context(), &pb.CreateNotificationChannelRequest{
				Name: flags.Lookup("name").Value.String(), Type: flags.Lookup("type").Value.String(), Config: config, Types: types,
				MinSeverity: severity, Enabled: new(flags.Lookup("enabled").Value.String() == "true"), MaxPerHour: most,
			})
			return shown(cmd, ch, err, channelTable)
		})}
	c.Flags().String("name", "", "unique name")
	c.Flags().String("type", "webhook", "what it is; \"notification channel types\" lists all")
	addChannelFlags(c)
	return c
}

func channelUpdate() *cobra.Command {
	c := &cobra.Command{Use: "update NAME", Short: "Change the given settings of a channel", Args: cobra.ExactArgs(1),
		RunE: run(func(cmd *cobra.Command, c *client, args []string) error {
			id, err := c.channelID(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			config, err := channelConfig(cmd)
			if err != nil {
				return err
			}
			types, severity, err := channelFilter(cmd)
			if err != nil {
				return err
			}
			request := &pb.UpdateNotificationChannelRequest{Id: id, Config: config, MinSeverity: severity}
			flags := cmd.Flags()
			if flags.Lookup("only").Changed {
				request.Types = &structpb.ListValue{}
				for _, t := range types {
					request.Types.Values = append(request.Types.Values, structpb.NewStringValue(t.String()))
				}
			}
			if f := flags.Lookup("name"); f.Changed {
				request.Name = new(f.Value.String())
			}
			if f := flags.Lookup("enabled"); f.Changed {
				request.Enabled = new(f.Value.String() == "true")
			}
			if flags.Changed("max-per-hour") {
				most, err := flags.GetInt32("max-per-hour")
				if err != nil {
					return err
				}
				request.MaxPerHour = &most
			}
			ch, err := c.notifications.UpdateNotificationChannel(cmd.Context(), request)
			return shown(cmd, ch, err, channelTable)
		})}
	c.Flags().String("name", "", "new name")
	addChannelFlags(c)
	return c
}

func channelDelete() *cobra.Command {
	return &cobra.Command{Use: "delete NAME", Short: "Remove a channel and what waits for it", Args: cobra.ExactArgs(1),
		RunE: deletion((*client).channelID, "Deleted the channel %s.", func(ctx context.Context, c *client, id string) error {
			_, err := c.notifications.DeleteNotificationChannel(ctx, &pb.DeleteNotificationChannelRequest{Id: id})
			return err
		})}
}

func channelTest() *cobra.Command {
	return &cobra.Command{Use: "test NAME", Short: "Send one message through a channel now", Args: cobra.ExactArgs(1),
		RunE: byName((*client).channelID, func(cmd *cobra.Command, c *client, id string) error {
			r, err := c.notifications.TestNotificationChannel(cmd.Context(), &pb.TestNotificationChannelRequest{Id: id})
			if err != nil {
				return err
			}
			if err := show(cmd, r, func() *table {
				t := newTable()
				t.add("Status", r.GetStatus().String())
				return t
			}); err != nil {
				return err
			}
			return tested(r.GetStatus(), r.GetError(), r.GetErrorCode())
		})}
}

func channelDeliveries() *cobra.Command {
	c := withPages(&cobra.Command{Use: "deliveries NAME", Short: "List what was sent through a channel, newest first", Args: cobra.ExactArgs(1),
		RunE: run(func(cmd *cobra.Command, c *client, args []string) error {
			id, err := c.channelID(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			text := cmd.Flags().Lookup("status").Value.String()
			status, known := pb.NotificationDelivery_Status_value[text]
			if text != "" && (!known || status == 0) {
				return errors.New("--status: must be pending, delivered or failed")
			}
			page, limit := pages(cmd)
			r, err := c.notifications.ListNotificationDeliveries(cmd.Context(), &pb.ListNotificationDeliveriesRequest{
				Id: id, Page: page, Limit: limit, Status: pb.NotificationDelivery_Status(status),
			})
			return shown(cmd, r, err, deliveriesTable)
		})})
	c.Flags().String("status", "", "only pending, delivered or failed ones")
	return c
}

func deliveriesTable(r *pb.ListNotificationDeliveriesResponse) *table {
	t := newTable("CREATED", "STATUS", "TRIES", "NEXT", "TYPE", "TITLE", "ERROR")
	for _, d := range r.GetData() {
		t.add(when(d.GetCreatedAt()), d.GetStatus().String(), fmt.Sprint(d.GetAttempts()), when(d.GetNextAttemptAt()), d.GetType().String(), d.GetTitle(), orNone(d.GetLastError()))
	}
	return t
}
