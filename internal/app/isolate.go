package app

import (
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"

	"google.golang.org/grpc/grpclog"
)

// isolate keeps what surrounds a process out of it. The variables of libpq
// (PGHOST, PGSERVICEFILE, PGOPTIONS and the like) would fill in whatever a
// connection leaves out, for the metadata and for the databases that are backed up
// alike: --database-url and the datasources say everything. And gRPC writes to the
// log of the process instead of beside it.
func isolate(c Config) error {
	logger, err := c.logger()
	if err != nil {
		return err
	}
	var ignored []string
	for _, pair := range os.Environ() {
		name, _, _ := strings.Cut(pair, "=")
		if !strings.HasPrefix(name, "PG") {
			continue
		}
		if err := os.Unsetenv(name); err != nil {
			return err
		}
		ignored = append(ignored, name)
	}
	if len(ignored) > 0 {
		slices.Sort(ignored)
		logger.Warn("variables of PostgreSQL's clients are ignored: --database-url and the datasources say where to connect", "variables", strings.Join(ignored, " "))
	}
	grpclog.SetLoggerV2(grpcLog{logger.With("component", "grpc")})
	return nil
}

// grpcLog carries gRPC's own messages. Most tell of connections that come and go:
// they are news for who looks for trouble there.
type grpcLog struct{ logger *slog.Logger }

func (g grpcLog) Info(args ...any)                 { g.logger.Debug(fmt.Sprint(args...)) }
func (g grpcLog) Infoln(args ...any)               { g.logger.Debug(line(args)) }
func (g grpcLog) Infof(format string, args ...any) { g.logger.Debug(fmt.Sprintf(format, args...)) }

func (g grpcLog) Warning(args ...any)                 { g.logger.Info(fmt.Sprint(args...)) }
func (g grpcLog) Warningln(args ...any)               { g.logger.Info(line(args)) }
func (g grpcLog) Warningf(format string, args ...any) { g.logger.Info(fmt.Sprintf(format, args...)) }

func (g grpcLog) Error(args ...any)                 { g.logger.Warn(fmt.Sprint(args...)) }
func (g grpcLog) Errorln(args ...any)               { g.logger.Warn(line(args)) }
func (g grpcLog) Errorf(format string, args ...any) { g.logger.Warn(fmt.Sprintf(format, args...)) }

// Fatal and its like must end the process: that is what gRPC asks of a logger.
func (g grpcLog) Fatal(args ...any) {
	g.logger.Error(fmt.Sprint(args...))
	os.Exit(1)
}

func (g grpcLog) Fatalln(args ...any) { g.Fatal(line(args)) }

func (g grpcLog) Fatalf(format string, args ...any) { g.Fatal(fmt.Sprintf(format, args...)) }

// V says that details are not asked for.
func (grpcLog) V(level int) bool { return level <= 0 }

func line(args []any) string { return strings.TrimSuffix(fmt.Sprintln(args...), "\n") }
