// Command bench measures DataGuardian beside the tools people use without it, on
// one generated database and one machine, and prints tables with ratios.
//
// A contender is something that does a job which others do too; a section is a
// set of contenders and a table. Every round runs all contenders, in turns, and
// the table shows medians: what else the machine does meanwhile hits all alike.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := command(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// command runs the benchmark, or the server of a profiled one.
func command(ctx context.Context, args []string, out, log io.Writer) error {
	if profile := os.Getenv(profileEnv); profile != "" {
		return serveProfiled(ctx, profile, args)
	}
	o, err := parseOptions(args, log)
	if err != nil {
		return err
	}
	_, err = run(ctx, o, out, log)
	return err
}

// options say what is measured, and how much of it.
type options struct {
	sizeMB     int           // of the database that is backed up
	executions int           // rows that the requests meet
	tails      int           // live logs that are open at one time
	waves      int           // of them, one after the other on one server
	history    int           // rows that the overview meets
	jobs       int           // of a fleet
	due        int           // of them at once
	runs       int           // of them by hand, one after the other
	rounds     int           // odd is better: a median is then one of them
	window     time.Duration // how long requests of one kind are made, per round
	only       []string      // sections; empty means all
	servers    servers       // programs that back up; empty means one built from this tree
	noTools    bool          // only our servers back up
	profile    string        // where the CPU profile of a server goes; empty means none
	quick      bool          // nothing is made equal for all: the numbers mean nothing
	dir        string        // for all data, beside the temporary directory; removed at the end
}

func parseOptions(args []string, log io.Writer) (options, error) {
	var o options
	var only string
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(log)
	f.IntVar(&o.sizeMB, "size", 1000, "size of the database in MB, tables and indexes")
	f.IntVar(&o.executions, "executions", 100_000, "executions in the table that requests meet")
	f.IntVar(&o.tails, "tails", 10_000, "live logs that are open at one time; each needs a socket on both sides")
	f.IntVar(&o.waves, "waves", 3, "how often the live logs are opened and left, one after the other on one server")
	f.IntVar(&o.history, "history", 1_000_000, "executions in the table that the overview meets")
	f.IntVar(&o.jobs, "jobs", 100_000, "jobs of the fleet")
	f.IntVar(&o.due, "due", 1000, "jobs of the fleet that come due at once")
	f.IntVar(&o.runs, "runs", 500, "jobs of the fleet that are run by hand, one after the other")
	f.IntVar(&o.rounds, "rounds", 3, "rounds; the tables show medians")
	f.DurationVar(&o.window, "window", time.Second, "how long requests of one kind are made in a round")
	f.StringVar(&only, "only", "", "sections to run, separated by commas: "+strings.Join(sectionNames(), ", ")+" (default: all)")
	f.Var(&o.servers, "server", "NAME=PATH of a server program that backs up; give it again to compare programs (default: one built from this source)")
	f.BoolVar(&o.noTools, "no-tools", false, "back up with our servers only, to compare them with each other")
	f.StringVar(&o.profile, "profile", "", "write the CPU profile of our server to this file, and its heap at the end to FILE.heap; it then runs inside this program")
	f.StringVar(&o.dir, "dir", os.TempDir(), "where the databases and backups go; about ten times -size is needed, as the memory section goes up to four times -size")
	f.BoolVar(&o.quick, "quick", false, "a small run that shows that everything works; its numbers mean nothing")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if o.quick {
		o.sizeMB, o.executions, o.tails, o.waves, o.rounds, o.window = 2, 1000, 50, 2, 1, 20*time.Millisecond
		o.history, o.jobs, o.due, o.runs = 2000, 100, 20, 20
	}
	if only != "" {
		o.only = strings.Split(only, ",")
	}
	return o, o.check(f.Args())
}

func (o options) check(rest []string) error {
	switch {
	case len(rest) > 0:
		return fmt.Errorf("%q is no flag; see -help", rest[0])
	case o.sizeMB < 1 || o.executions < 1000 || o.rounds < 1 || o.tails < 1 || o.waves < 1 || o.window <= 0:
		return errors.New("-size, -rounds, -tails, -waves and -window must be positive, -executions at least 1000")
	case o.history < 1 || o.runs < 1 || o.due < 1 || o.jobs < o.due:
		return errors.New("-history, -runs and -due must be positive, and -jobs not less than -due")
	case o.profile != "" && len(o.servers) > 0:
		return errors.New("-profile runs the server of this source: leave -server out")
	}
	for _, name := range o.only {
		if !slices.Contains(sectionNames(), name) {
			return fmt.Errorf("-only: %q is none of %s", name, strings.Join(sectionNames(), ", "))
		}
	}
	return nil
}

func (o options) wants(section string) bool {
	return len(o.only) == 0 || slices.Contains(o.only, section)
}

// servers is a flag that may be given several times.
type servers []serverProgram

// serverProgram is a build of ours.
type serverProgram struct{ name, path string }

// String implements flag.Value.
func (s *servers) String() string {
	var all []string
	for _, p := range *s {
		all = append(all, p.name+"="+p.path)
	}
	return strings.Join(all, ",")
}

// Set implements flag.Value.
func (s *servers) Set(value string) error {
	name, path, ok := strings.Cut(value, "=")
	if !ok || name == "" || path == "" {
		return fmt.Errorf("%q is not NAME=PATH", value)
	}
	*s = append(*s, serverProgram{name, path})
	return nil
}
