package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"

	pb "github.com/dataguardian/dataguardian/gen/dataguardian/v1"
)

var statusColours = map[pb.Execution_Status]string{
	pb.Execution_completed: "\x1b[32m", pb.Execution_failed: "\x1b[31m", pb.Execution_cancelled: "\x1b[33m",
}

// newLogs is the short way to logs.
func newLogs() *cobra.Command {
	c := logsCommand()
	addClientFlags(c)
	return c
}

// logsCommand shows the log of one execution, or follows one or all.
func logsCommand() *cobra.Command {
	c := &cobra.Command{Use: "logs [ID]", Short: "Show the log of an execution, or follow one or all", Args: cobra.MaximumNArgs(1),
		RunE: run(func(cmd *cobra.Command, c *client, args []string) error {
			following := cmd.Flags().Lookup("follow").Value.String() == "true"
			switch {
			case len(args) == 0 && !following:
				return errors.New("name an execution, or follow all of them with -f; \"dataguardian execution list\" shows which there are")
			case len(args) == 0:
				return watchAll(cmd, c)
			case following:
				return followOne(cmd, c, args[0])
			}
			return showLog(cmd, c, args[0])
		})}
	c.Flags().BoolP("follow", "f", false, "follow until the execution ends (exit code 2 when it fails); without ID, all of them until stopped")
	c.Flags().String("job", "", "with -f and without ID: only of this job, by name or id")
	c.Flags().String("datasource", "", "with -f and without ID: only of this datasource, by name or id")
	return c
}

func followOne(cmd *cobra.Command, c *client, id string) error {
	e, err := c.executions.GetExecution(cmd.Context(), &pb.GetExecutionRequest{Id: id})
	if err != nil {
		return err
	}
	return follow(cmd, c, e.GetId(), e.GetJob().GetName(), 0)
}

func showLog(cmd *cobra.Command, c *client, id string) error {
	r, err := c.executions.GetExecutionLogs(cmd.Context(), &pb.GetExecutionLogsRequest{Id: id})
	if err != nil {
		return err
	}
	return show(cmd, r, func() *table {
		t := newTable()
		for _, line := range r.GetLogs() {
			t.add(line.GetTs().AsTime().UTC().Format("15:04:05.000"), strings.ToUpper(line.GetLevel().String()), line.GetMessage())
		}
		return t
	})
}

// watchAll shows the lines and states of all executions until the command is
// stopped. Once it was connected, it connects again by itself and goes on where it
// was.
func watchAll(cmd *cobra.Command, c *client) error {
	request := &pb.WatchExecutionsRequest{IncludeLogs: true}
	var err error
	if given := cmd.Flags().Lookup("job").Value.String(); given != "" {
		if request.JobId, err = c.jobID(cmd.Context(), given); err != nil {
			return err
		}
	}
	if given := cmd.Flags().Lookup("datasource").Value.String(); given != "" {
		if request.DatasourceId, err = c.datasourceID(cmd.Context(), given); err != nil {
			return err
		}
	}
	s := newScreen(cmd.OutOrStdout())
	asJSON := cmd.Flags().Lookup("output").Value.String() == "json"
	for told := false; ; {
		err := watch(cmd, c, request, func(e *pb.WatchExecutionsResponse) error {
			told = false
			if asJSON {
				return s.event(e)
			}
			s.tell(e)
			return s.broken
		})
		switch {
		case cmd.Context().Err() != nil:
			return nil //nolint:nilerr // stopped by its user, as it is meant to end
		case request.GetAfter() == "" || status.Code(err) != codes.Unavailable:
			return err
		case !told:
			told = true
			if _, err := fmt.Fprintln(cmd.ErrOrStderr(), "(the connection is lost; connecting again)"); err != nil {
				return err
			}
		}
		pause(cmd.Context(), reconnectPause)
	}
}

// watch reads one stream and notes in the request how far it has come.
func watch(cmd *cobra.Command, c *client, request *pb.WatchExecutionsRequest, take func(*pb.WatchExecutionsResponse) error) error {
	stream, err := c.executions.WatchExecutions(cmd.Context(), request)
	if err != nil {
		return err
	}
	for {
		event, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return cutOff()
		}
		if err != nil {
			return err
		}
		if err := take(event); err != nil {
			return err
		}
		request.After = event.GetId()
	}
}

// event writes an event for programs, one line each.
func (s *screen) event(e *pb.WatchExecutionsResponse) error {
	raw, err := protojson.MarshalOptions{UseProtoNames: true, EmitUnpopulated: true}.Marshal(e)
	if err != nil {
		return err
	}
	s.write(string(raw) + "\n")
	return s.broken
}

// tell writes an event for people; progress is in the lines anyway.
func (s *screen) tell(e *pb.WatchExecutionsResponse) {
	who := e.GetJobName()
	if who == "" {
		who = e.GetDatasourceName()
	}
	who += " " + e.GetOperation().String() + ": "
	switch event := e.GetEvent().(type) {
	case *pb.WatchExecutionsResponse_Line:
		s.print(s.line(who, event.Line))
	case *pb.WatchExecutionsResponse_Gap:
		s.print(who + lostLines(event.Gap))
	case nil:
		text := e.GetTs().AsTime().Local().Format(time.TimeOnly) + " " + who + e.GetStatus().String()
		if e.ErrorMessage != nil {
			text += ": " + e.GetErrorMessage() + " (" + e.GetErrorCode() + ")"
		}
		s.print(s.colour(statusColours[e.GetStatus()], text))
	}
}
