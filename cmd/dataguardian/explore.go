package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
	"unicode"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"

	pb "github.com/dataguardian/dataguardian/gen/dataguardian/v1"
)

func datasourceSchema() *cobra.Command {
	c := &cobra.Command{Use: "schema NAME", Short: "Show the tables and columns of a datasource", Args: cobra.ExactArgs(1),
		RunE: run(func(cmd *cobra.Command, c *client, args []string) error {
			id, err := c.datasourceID(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			r, err := c.datasources.GetDatasourceSchema(cmd.Context(), &pb.GetDatasourceSchemaRequest{Id: id})
			if err != nil {
				return err
			}
			if cmd.Flags().Lookup("output").Value.String() == "json" {
				return showList(cmd, r)
			}
			return schemaTable(r.GetSchemas(), cmd.Flags().Lookup("table").Value.String()).write(cmd.OutOrStdout())
		})}
	c.Flags().String("table", "", "only the table of this name; \"schema.table\" is fine, too")
	return c
}

// showList writes the schemas as REST answers them: the bare list.
func showList(cmd *cobra.Command, r *pb.GetDatasourceSchemaResponse) error {
	raw, err := protojson.MarshalOptions{UseProtoNames: true, EmitUnpopulated: true}.Marshal(r)
	if err != nil {
		return err
	}
	var answer struct {
		Schemas json.RawMessage `json:"schemas"`
	}
	if err := json.Unmarshal(raw, &answer); err != nil {
		return err
	}
	var out bytes.Buffer
	if err := json.Indent(&out, answer.Schemas, "", "  "); err != nil {
		return err
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), out.String())
	return err
}

func schemaTable(schemas []*pb.Schema, only string) *table {
	t := newTable("SCHEMA", "TABLE", "COLUMN", "TYPE", "NULL", "KEY", "REFERENCES", "DEFAULT")
	for _, s := range schemas {
		for _, r := range s.GetTables() {
			if only != "" && only != r.GetName() && only != s.GetName()+"."+r.GetName() {
				continue
			}
			if len(r.GetColumns()) == 0 {
				t.add(printable(s.GetName()), printable(r.GetName()), none, none, none, none, none, none)
			}
			for _, c := range r.GetColumns() {
				t.add(printable(s.GetName()), printable(r.GetName()), printable(c.GetName()), printable(c.GetType()), yesNo(c.GetNullable()), keyOf(c),
					orNone(printable(c.GetForeignKey())), orNone(printable(c.GetDefaultValue())))
			}
		}
	}
	return t
}

func keyOf(c *pb.Column) string {
	switch {
	case c.GetPrimaryKey():
		return "primary"
	case c.GetUnique():
		return "unique"
	}
	return none
}

// maxStatement is the longest statement that the API takes.
const maxStatement = 100_000

func datasourceQuery() *cobra.Command {
	c := &cobra.Command{Use: "query NAME [SQL]", Short: "Run one statement that reads", Args: cobra.RangeArgs(1, 2),
		Long:    "Run one statement that reads, in a read-only transaction, with limits on rows, bytes and time. Without SQL it is read from --file.",
		Example: "  dataguardian datasource query shop \"SELECT count(*) FROM orders\"",
		RunE: run(func(cmd *cobra.Command, c *client, args []string) error {
			sql, err := statement(cmd, args[1:])
			if err != nil {
				return err
			}
			id, err := c.datasourceID(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			r, err := c.datasources.QueryDatasource(cmd.Context(), &pb.QueryDatasourceRequest{Id: id, Sql: sql})
			if err != nil {
				return err
			}
			if err := show(cmd, r, func() *table { return resultTable(r) }); err != nil {
				return err
			}
			note := ""
			if r.Message != nil {
				note = "; " + r.GetMessage()
			}
			return say(cmd, "(rows: %d, time: %d ms%s)", r.GetRowCount(), r.GetExecutionTime(), note)
		})}
	c.Flags().String("file", "", "file with the statement, \"-\" for standard input")
	return c
}

func statement(cmd *cobra.Command, args []string) (string, error) {
	file := cmd.Flags().Lookup("file").Value.String()
	switch {
	case (len(args) > 0) == (file != ""):
		return "", errors.New("give the statement either as an argument or with --file")
	case len(args) > 0:
		return args[0], nil
	}
	in := cmd.InOrStdin()
	if file != "-" {
		f, err := os.Open(file) //nolint:gosec // the user names the file
		if err != nil {
			return "", err
		}
		defer f.Close() //nolint:errcheck // opened for reading
		in = f
	}
	raw, err := io.ReadAll(io.LimitReader(in, maxStatement+1))
	if err == nil && len(raw) > maxStatement {
		err = fmt.Errorf("the statement is longer than %d bytes", maxStatement)
	}
	return string(raw), err
}

func resultTable(r *pb.QueryDatasourceResponse) *table {
	names := make([]string, 0, len(r.GetColumns()))
	for _, name := range r.GetColumns() {
		names = append(names, printable(name))
	}
	t := newTable(names...)
	for _, row := range r.GetRows() {
		cells := make([]string, 0, len(row.GetValues()))
		for _, v := range row.GetValues() {
			cells = append(cells, cell(v))
		}
		t.add(cells...)
	}
	return t
}

// cell shows a value on one line.
func cell(v *structpb.Value) string {
	switch kind := v.GetKind().(type) {
	case *structpb.Value_NullValue:
		return "NULL"
	case *structpb.Value_StringValue:
		return printable(kind.StringValue)
	case *structpb.Value_NumberValue:
		return number(kind.NumberValue)
	}
	raw, err := v.MarshalJSON()
	if err != nil {
		return fmt.Sprintf("(%v)", err)
	}
	return printable(string(raw))
}

// number writes all digits of what people still read as one.
func number(n float64) string {
	if math.Abs(n) < 1e21 && (n == 0 || math.Abs(n) > 1e-7) {
		return strconv.FormatFloat(n, 'f', -1, 64)
	}
	return strconv.FormatFloat(n, 'g', -1, 64)
}

// printable escapes what a terminal would obey, or show as something else.
func printable(text string) string {
	if !strings.ContainsFunc(text, unprintable) {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		if unprintable(r) {
			quoted := strconv.QuoteRuneToASCII(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

func unprintable(r rune) bool { return !unicode.IsGraphic(r) }
