package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "github.com/dataguardian/dataguardian/gen/dataguardian/v1"
)

const (
	barWidth = 24
	// reconnects bounds how often a broken stream is taken up again in a row.
	reconnects     = 10
	reconnectPause = time.Second
)

var levelColours = map[pb.LogLine_Level]string{
	pb.LogLine_debug: "\x1b[2m", pb.LogLine_warn: "\x1b[33m", pb.LogLine_error: "\x1b[31m", pb.LogLine_success: "\x1b[32m",
}

// follower writes the live log of one execution: coloured, below a progress bar on
// a terminal, plain in a pipe.
type follower struct {
	*screen
	name  string
	after int64
}

// follow shows an execution until it ends. It takes a broken stream up again
// where it was. A failed or cancelled execution fails the command.
func follow(cmd *cobra.Command, c *client, id, name string, after int64) error {
	f := &follower{screen: newScreen(cmd.OutOrStdout()), name: name, after: after}
	defer f.close()
	for broken := 0; ; broken++ {
		before := f.after
		end, err := f.stream(cmd, c, id)
		if err == nil {
			return f.ended(end)
		}
		if f.after > before {
			broken = 0
		}
		if cmd.Context().Err() != nil || status.Code(err) != codes.Unavailable || broken >= reconnects {
			return err
		}
		pause(cmd.Context(), reconnectPause)
	}
}

// pause waits, or for the end of ctx.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// cutOff is the error of a stream that ended without having said why.
func cutOff() error {
	return status.Error(codes.Unavailable, "the stream ended before its time")
}

// stream reads one stream to its end.
func (f *follower) stream(cmd *cobra.Command, c *client, id string) (*pb.StreamExecutionLogsResponse_End, error) {
	stream, err := c.executions.StreamExecutionLogs(cmd.Context(), &pb.StreamExecutionLogsRequest{Id: id, After: f.after})
	if err != nil {
		return nil, err
	}
	for {
		event, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil, cutOff()
		}
		if err != nil {
			return nil, err
		}
		switch e := event.GetEvent().(type) {
		case *pb.StreamExecutionLogsResponse_Line:
			f.after = e.Line.GetSeq()
			f.print(f.line("", e.Line))
		case *pb.StreamExecutionLogsResponse_Gap_:
			f.after = e.Gap.GetTo()
			f.print(lostLines(e.Gap))
		case *pb.StreamExecutionLogsResponse_Progress_:
			f.show(progressBar(e.Progress))
		case *pb.StreamExecutionLogsResponse_End_:
			return e.End, nil
		}
	}
}

// line is a line of a log as people read it, with who says it.
func (s *screen) line(who string, line *pb.LogLine) string {
	text := line.GetTs().AsTime().Local().Format(time.TimeOnly) + " " + who + line.GetMessage()
	return s.colour(levelColours[line.GetLevel()], text)
}

func lostLines(gap *pb.StreamExecutionLogsResponse_Gap) string {
	return fmt.Sprintf("(lines %d to %d are lost)", gap.GetFrom(), gap.GetTo())
}

// progressBar says phase, percent, amount, rate and what is left.
func progressBar(p *pb.StreamExecutionLogsResponse_Progress) string {
	filled := 0
	percent := "   ?"
	if p.Percent != nil {
		filled = min(max(int(p.GetPercent()*barWidth/100), 0), barWidth)
		percent = fmt.Sprintf("%3.0f%%", p.GetPercent())
	}
	bar := fmt.Sprintf("%s  [%s%s] %s  %s  %s/s", p.GetPhase(), strings.Repeat("#", filled), strings.Repeat(".", barWidth-filled),
		percent, humanBytes(p.GetBytesDone()), humanBytes(int64(p.GetRateBytesPerS())))
	if p.EtaSeconds != nil {
		bar += "  " + seconds(p.GetEtaSeconds()) + " left"
	}
	return bar
}

func (f *follower) ended(end *pb.StreamExecutionLogsResponse_End) error {
	f.close()
	if end.GetStatus() == pb.Execution_completed {
		return f.broken
	}
	message := fmt.Sprintf("%s: the execution was %s", f.name, end.GetStatus())
	if end.GetStatus() == pb.Execution_failed {
		message = fmt.Sprintf("%s: the execution failed: %s (%s)", f.name, end.GetErrorMessage(), end.GetErrorCode())
	}
	return executionFailed{message}
}
