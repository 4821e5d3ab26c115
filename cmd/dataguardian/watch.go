package main

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"

	pb "github.com/dataguardian/dataguardian/gen/dataguardian/v1"
)

func notificationWatch() *cobra.Command {
	c := &cobra.Command{Use: "watch", Short: "Show notifications as they are made, until interrupted", Args: cobra.NoArgs,
		RunE: run(func(cmd *cobra.Command, c *client, _ []string) error {
			severity, err := severityFlag(cmd)
			if err != nil {
				return err
			}
			request := &pb.WatchNotificationsRequest{MinSeverity: severity}
			if cmd.Flags().Lookup("all").Value.String() == "true" {
				request.After = new(int64(0))
			}
			return watchNotifications(cmd, c, request)
		})}
	c.Flags().Bool("all", false, "begin with those that are there")
	c.Flags().String("min-severity", "", "only from this severity on: info, warning or critical")
	return c
}

// watchNotifications takes a broken stream up again where it was.
func watchNotifications(cmd *cobra.Command, c *client, request *pb.WatchNotificationsRequest) error {
	for broken := 0; ; broken++ {
		heard, err := notificationStream(cmd, c, request)
		if heard {
			broken = 0
		}
		if cmd.Context().Err() != nil || status.Code(err) != codes.Unavailable || broken >= reconnects {
			return err
		}
		select {
		case <-cmd.Context().Done():
		case <-time.After(reconnectPause):
		}
	}
}

// notificationStream reads one stream to its end and notes in request how far it
// came. It reports whether anything was heard.
func notificationStream(cmd *cobra.Command, c *client, request *pb.WatchNotificationsRequest) (heard bool, err error) {
	stream, err := c.notifications.WatchNotifications(cmd.Context(), request)
	if err != nil {
		return false, err
	}
	for {
		event, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return heard, status.Error(codes.Unavailable, "the stream ended")
		}
		if err != nil {
			return heard, err
		}
		heard = true
		if seq, err := strconv.ParseInt(event.GetId(), 10, 64); err == nil {
			request.After = &seq
		}
		if n := event.GetNotification(); n != nil {
			if err := printNotification(cmd, n); err != nil {
				return heard, err
			}
		}
	}
}

// printNotification writes one line: JSON for programs.
func printNotification(cmd *cobra.Command, n *pb.Notification) error {
	line := fmt.Sprintf("%s  %-8s  %s: %s", when(n.GetCreatedAt()), n.GetSeverity(), n.GetTitle(), n.GetMessage())
	if cmd.Flags().Lookup("output").Value.String() == "json" {
		raw, err := protojson.MarshalOptions{UseProtoNames: true, EmitUnpopulated: true}.Marshal(n)
		if err != nil {
			return err
		}
		line = string(raw)
	}
	_, err := fmt.Fprintln(cmd.OutOrStdout(), line)
	return err
}
