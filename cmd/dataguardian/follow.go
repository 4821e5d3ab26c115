package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"
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

// follower writes the live log of one execution: coloured, with a progress bar
// below the lines on a terminal, plain in a pipe.
type follower struct {
	out    io.Writer
	name   string
	pretty bool
	width  int
	bar    string
	after  int64
	broken error // the first failure to write
}

func (f *follower) write(text string) {
	if _, err := io.WriteString(f.out, text); err != nil && f.broken == nil {
		f.broken = err
	}
}

// follow shows an execution until it ends. It takes a broken stream up again
// where it was. A failed or cancelled execution fails the command.
func follow(cmd *cobra.Command, c *client, id, name string, after int64) error {
	f := &follower{out: cmd.OutOrStdout(), name: name, after: after}
	if file, ok := f.out.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		f.pretty = true
		f.width, _, _ = term.GetSize(int(file.Fd())) // zero when unknown, which cuts nothing
	}
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
			f.clear()
			return err
		}
		select {
		case <-cmd.Context().Done():
		case <-time.After(reconnectPause):
		}
	}
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
			return nil, status.Error(codes.Unavailable, "the stream ended before the execution did")
		}
		if err != nil {
			return nil, err
		}
		switch e := event.GetEvent().(type) {
		case *pb.StreamExecutionLogsResponse_Line:
			f.after = e.Line.GetSeq()
			f.line(e.Line)
		case *pb.StreamExecutionLogsResponse_Gap_:
			f.after = e.Gap.GetTo()
			f.print(fmt.Sprintf("(lines %d to %d are lost)", e.Gap.GetFrom(), e.Gap.GetTo()))
		case *pb.StreamExecutionLogsResponse_Progress_:
			f.progress(e.Progress)
		case *pb.StreamExecutionLogsResponse_End_:
			return e.End, nil
		}
	}
}

func (f *follower) line(line *pb.LogLine) {
	text := line.GetTs().AsTime().Local().Format("15:04:05") + " " + line.GetMessage()
	if colour := levelColours[line.GetLevel()]; f.pretty && colour != "" {
		text = colour + text + "\x1b[0m"
	}
	f.print(text)
}

// print writes a line above the bar.
func (f *follower) print(text string) {
	f.clear()
	f.write(text + "\n")
	f.draw()
}

func (f *follower) progress(p *pb.StreamExecutionLogsResponse_Progress) {
	if !f.pretty {
		return
	}
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
	if f.width > 0 && len(bar) >= f.width {
		bar = bar[:f.width-1]
	}
	f.clear()
	f.bar = bar
	f.draw()
}

func (f *follower) draw() {
	if f.bar != "" {
		f.write(f.bar)
	}
}

func (f *follower) clear() {
	if f.bar != "" {
		f.write("\r\x1b[K")
	}
}

func (f *follower) ended(end *pb.StreamExecutionLogsResponse_End) error {
	f.clear()
	f.bar = ""
	if end.GetStatus() == pb.Execution_completed {
		return f.broken
	}
	message := fmt.Sprintf("%s: the execution was %s", f.name, end.GetStatus())
	if end.GetStatus() == pb.Execution_failed {
		message = fmt.Sprintf("%s: the execution failed: %s (%s)", f.name, end.GetErrorMessage(), end.GetErrorCode())
	}
	return executionFailed{message}
}
