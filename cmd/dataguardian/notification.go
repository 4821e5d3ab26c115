package main

import (
	"github.com/spf13/cobra"

	pb "github.com/dataguardian/dataguardian/gen/dataguardian/v1"
)

func newNotification() *cobra.Command {
	c := &cobra.Command{Use: "notification", Short: "What happened"}
	addClientFlags(c)
	c.AddCommand(notificationList(), notificationRead(), notificationReadAll(), notificationDelete(), notificationWatch(), newChannel())
	return c
}

func notificationList() *cobra.Command {
	c := withPages(&cobra.Command{Use: "list", Short: "List notifications, newest first", Args: cobra.NoArgs,
		RunE: run(func(cmd *cobra.Command, c *client, _ []string) error {
			page, limit := pages(cmd)
			request := &pb.ListNotificationsRequest{Page: page, Limit: limit}
			if cmd.Flags().Lookup("unread").Value.String() == "true" {
				request.Read = new(false)
			}
			r, err := c.notifications.ListNotifications(cmd.Context(), request)
			if err != nil {
				return err
			}
			if err := show(cmd, r, func() *table {
				t := newTable("CREATED", "SEVERITY", "TYPE", "READ", "MESSAGE", "ID")
				for _, n := range r.GetData() {
					t.add(when(n.GetCreatedAt()), n.GetSeverity().String(), n.GetType().String(), yesNo(n.GetReadAt() != nil), n.GetMessage(), n.GetId())
				}
				return t
			}); err != nil {
				return err
			}
			return say(cmd, "%d unread", r.GetUnreadCount())
		})})
	c.Flags().Bool("unread", false, "only unread ones")
	return c
}

func notificationRead() *cobra.Command {
	return &cobra.Command{Use: "read ID", Short: "Mark a notification as read", Args: cobra.ExactArgs(1),
		RunE: run(func(cmd *cobra.Command, c *client, args []string) error {
			r, err := c.notifications.MarkNotificationRead(cmd.Context(), &pb.MarkNotificationReadRequest{Id: args[0]})
			return shown(cmd, r, err, func(r *pb.MarkNotificationReadResponse) *table {
				t := newTable()
				t.add("Read", when(r.GetReadAt()))
				return t
			})
		})}
}

func notificationReadAll() *cobra.Command {
	return &cobra.Command{Use: "read-all", Short: "Mark all notifications as read", Args: cobra.NoArgs,
		RunE: run(func(cmd *cobra.Command, c *client, _ []string) error {
			r, err := c.notifications.MarkAllNotificationsRead(cmd.Context(), &pb.MarkAllNotificationsReadRequest{})
			if err != nil {
				return err
			}
			if err := show(cmd, r, func() *table { return newTable() }); err != nil {
				return err
			}
			return say(cmd, "Marked %d as read.", r.GetUpdatedCount())
		})}
}

func notificationDelete() *cobra.Command {
	return &cobra.Command{Use: "delete ID", Short: "Remove a notification", Args: cobra.ExactArgs(1),
		RunE: run(func(cmd *cobra.Command, c *client, args []string) error {
			if _, err := c.notifications.DeleteNotification(cmd.Context(), &pb.DeleteNotificationRequest{Id: args[0]}); err != nil {
				return err
			}
			return say(cmd, "Deleted the notification.")
		})}
}
