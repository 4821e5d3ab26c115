package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/dataguardian/dataguardian/internal/logs"
)

// table is what people read.
type table struct {
	columns []string
	rows    [][]string
}

func newTable(columns ...string) *table { return &table{columns: columns} }

// add adds a row. What others have named cannot break the table, or command the terminal.
func (t *table) add(cells ...string) {
	row := make([]string, 0, len(cells))
	for _, cell := range cells {
		row = append(row, logs.Escape(cell))
	}
	t.rows = append(t.rows, row)
}

func (t *table) write(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if len(t.columns) > 0 {
		if _, err := fmt.Fprintln(tw, strings.Join(t.columns, "\t")); err != nil {
			return err
		}
	}
	for _, row := range t.rows {
		if _, err := fmt.Fprintln(tw, strings.Join(row, "\t")); err != nil {
			return err
		}
	}
	return tw.Flush()
}

// show writes an answer: as JSON in the REST shape, or as the table that people
// gets to make of it.
func show(cmd *cobra.Command, m proto.Message, people func() *table) error {
	out := cmd.OutOrStdout()
	if cmd.Flags().Lookup("output").Value.String() != "json" {
		return people().write(out)
	}
	raw, err := protojson.MarshalOptions{UseProtoNames: true, EmitUnpopulated: true, Multiline: true}.Marshal(m)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(out, string(raw))
	return err
}

// say writes one line for people, nothing for programs.
func say(cmd *cobra.Command, format string, args ...any) error {
	if cmd.Flags().Lookup("output").Value.String() == "json" {
		return nil
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(), format+"\n", args...)
	return err
}

const none = "-"

func when(t *timestamppb.Timestamp) string {
	if t == nil {
		return none
	}
	return t.AsTime().UTC().Format("2006-01-02 15:04:05Z")
}

func seconds(s float64) string {
	return time.Duration(s * float64(time.Second)).Round(100 * time.Millisecond).String()
}

func duration(s *float64) string {
	if s == nil {
		return none
	}
	return seconds(*s)
}

func size(bytes *int64) string {
	if bytes == nil {
		return none
	}
	return humanBytes(*bytes)
}

// count writes a number of things: "1 part", "2 parts".
func count[N int | int32](n N, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func humanBytes(n int64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	value, exponent := float64(n)/unit, 0
	for value >= unit && exponent < 4 {
		value /= unit
		exponent++
	}
	return fmt.Sprintf("%.1f %ciB", value, "KMGTP"[exponent])
}

func orNone(s string) string {
	if s == "" {
		return none
	}
	return s
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
