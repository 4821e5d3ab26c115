package main

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	pb "github.com/dataguardian/dataguardian/gen/dataguardian/v1"
	"github.com/dataguardian/dataguardian/internal/testkit"
)

// restored is the database that every contender makes and that goes again.
const restored = "restored"

// duel is one of ours beside what people would type.
type duel struct {
	rival, ours contender
	bytes       int64  // that the speed is told in
	disk        string // where a verified backup is
}

// restores compares our restores and verifications with what people would type.
func restores(ctx context.Context, b *bench) (t table, _ error) {
	t = table{
		title: "Restore into a new database, and verification, from the local disk",
		notes: []string{
			fmt.Sprintf("Medians of %d. CPU and memory are those of the tools or of our server with its child processes, never of the databases. We prove every stored byte before the target is touched; the tools do not.", b.rounds),
			"MB/s: of the database's files or, of MariaDB, of its dump; of stored bytes for a verification, which also decompresses and reads the dump to its end.",
		},
		head: []string{"contender", "wall", "CPU", "peak memory", "MB/s", "wall / the tool", "speed, of the tool's"},
	}
	control, err := b.shared(ctx)
	if err != nil {
		return t, err
	}
	restore, verify, err := b.postgresDuels(ctx, control)
	if err != nil {
		return t, err
	}
	typed := verify
	if typed.rival, err = proving("tee, sha256sum, zstd -dc, sha256sum", b.cluster.client(source), verify.disk); err != nil {
		return t, err
	}
	maria, err := b.mariaDuel(ctx, control)
	if err != nil {
		return t, err
	}
	for _, d := range []duel{restore, maria, verify, typed} {
		standings, err := b.compete(ctx, []contender{d.rival, d.ours})
		if err != nil {
			return t, err
		}
		tool := standings[0].median().wall
		for _, s := range standings {
			m := s.median()
			t.add(s.name, seconds(m.wall), seconds(m.cpu), megabytes(m.memory), fmt.Sprintf("%.0f", float64(d.bytes)/1e6/m.wall.Seconds()),
				ratio(m.wall, tool), fmt.Sprintf("%.0f %%", 100*tool.Seconds()/m.wall.Seconds()))
		}
	}
	return t, nil
}

// postgresDuels are a restore and a verification of the same backup.
func (b *bench) postgresDuels(ctx context.Context, control *control) (restore, verify duel, err error) {
	size, err := b.company(ctx)
	if err != nil {
		return restore, verify, err
	}
	tool, err := b.cluster.program("pg_restore")
	if err != nil {
		return restore, verify, err
	}
	directory, err := b.dumpDirectory(ctx)
	if err != nil {
		return restore, verify, err
	}
	backup, disk, err := control.restorable(ctx, pb.Datasource_postgres, b.cluster.connection(source))
	if err != nil {
		return restore, verify, err
	}
	create := func(ctx context.Context) error { return b.cluster.CreateDatabase(ctx, restored) }
	drop := func(ctx context.Context) error { return b.cluster.dropDatabase(ctx, restored) }
	restore = duel{
		rival: loading("pg_restore -j2 of -Fd", b.cluster.client(restored), create, drop, []string{tool, "-j2", "--no-owner", "--exit-on-error", "-d", restored, directory}),
		ours:  control.restoring("dataguardian, PostgreSQL", backup, drop),
		bytes: size,
	}
	verify = duel{rival: hashing("reading and SHA-256", disk), ours: control.verifying("dataguardian, verify", backup), bytes: backup.GetCompressedSizeBytes(), disk: disk}
	return restore, verify, nil
}

// dumpDirectory makes the dump that pg_restore can read with several connections.
func (b *bench) dumpDirectory(ctx context.Context) (string, error) {
	dump, err := b.cluster.program("pg_dump")
	if err != nil {
		return "", err
	}
	directory := b.path("directory")
	_, err = runPipeline(ctx, b.cluster.client(source), "", [][]string{{dump, "-Fd", "-j2", "-f", directory}})
	return directory, err
}

// mariaDuel is a restore of MariaDB.
func (b *bench) mariaDuel(ctx context.Context, control *control) (d duel, _ error) {
	m, _, err := b.mariaCompany(ctx)
	if err != nil {
		return d, err
	}
	tools, err := findMariaTools(m, b.path("restore.cnf"))
	if err != nil {
		return d, err
	}
	file := b.path("restore.sql.zst")
	if _, err := runPipeline(ctx, tools.env, file, [][]string{tools.dumping(), tools.compressing()}); err != nil {
		return d, err
	}
	client, err := exec.LookPath("mariadb")
	if err != nil {
		return d, fmt.Errorf("%w; scripts/install-packages.sh bench installs it", err)
	}
	backup, _, err := control.restorable(ctx, pb.Datasource_mariadb, mariaConnection(m))
	if err != nil {
		return d, err
	}
	create := func(ctx context.Context) error { return tell(ctx, m, "CREATE DATABASE "+restored) }
	drop := func(ctx context.Context) error { return tell(ctx, m, "DROP DATABASE "+restored) }
	return duel{
		rival: loading("zstd -dc, mariadb", tools.env, create, drop, []string{tools.zstd, "-q", "-dc", file}, []string{client, "--defaults-file=" + tools.options, restored}),
		ours:  control.restoring("dataguardian, MariaDB", backup, drop),
		bytes: backup.GetSizeBytes(),
	}, nil
}

// tell makes a server of MariaDB execute a statement.
func tell(ctx context.Context, m *testkit.Maria, statement string) error {
	db, err := sql.Open("mysql", m.DSN(""))
	if err != nil {
		return err
	}
	_, err = db.ExecContext(ctx, statement)
	return errors.Join(err, db.Close())
}

// loading makes a database and fills it with tools.
func loading(name string, env []string, create, drop func(context.Context) error, commands ...[]string) contender {
	return contender{name: name, clean: drop, run: func(ctx context.Context) (measurement, error) {
		began := time.Now()
		if err := create(ctx); err != nil {
			return measurement{}, err
		}
		m, err := runPipeline(ctx, env, "", commands)
		m.wall = time.Since(began)
		return m, err
	}}
}

// hashing reads all files below a directory, which is the least that a proof can
// do.
func hashing(name, directory string) contender {
	return contender{name: name, run: func(context.Context) (m measurement, err error) {
		buffer := make([]byte, 256<<10)
		before, began := ownCPU(), time.Now()
		err = filepath.WalkDir(directory, func(path string, e fs.DirEntry, err error) error {
			if err != nil || !e.Type().IsRegular() {
				return err
			}
			return hash(path, buffer)
		})
		m.wall, m.cpu, m.memory = time.Since(began), ownCPU()-before, int64(len(buffer))
		return m, err
	}}
}

// proving is what people would type to prove the parts below a directory, and what is
// inside of them.
func proving(name string, env []string, directory string) (contender, error) {
	shell, err := exec.LookPath("bash")
	if err != nil {
		return contender{}, err
	}
	command := []string{shell, "-o", "pipefail", "-c", `cat "$@" | tee >(sha256sum > /dev/null) | zstd -q -dc | sha256sum`, name}
	err = filepath.WalkDir(directory, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() && strings.Contains(e.Name(), ".zst") {
			command = append(command, path) // in the order of their names, which is theirs
		}
		return err
	})
	return contender{name: name, run: func(ctx context.Context) (measurement, error) {
		return runPipeline(ctx, env, "", [][]string{command})
	}}, err
}

func hash(path string, buffer []byte) error {
	f, err := os.Open(path) //nolint:gosec // below our own directory
	if err != nil {
		return err
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{sha256.New()}, struct{ io.Reader }{f}, buffer)
	return errors.Join(err, f.Close())
}

// ownCPU is what this program has used so far.
func ownCPU() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// restorable backs a database up into a directory of its own.
func (c *control) restorable(ctx context.Context, kind pb.Datasource_Type, connection map[string]any) (backup *pb.Execution, directory string, _ error) {
	name := "restore of " + kind.String()
	directory = c.backups() + "-to-restore-" + kind.String()
	datasource, err := c.datasource(ctx, kind, name, connection)
	if err != nil {
		return nil, "", err
	}
	location, err := c.location(ctx, pb.StorageLocation_local, name, map[string]any{"path": directory})
	if err != nil {
		return nil, "", err
	}
	job, err := c.jobTo(ctx, name, datasource, location, nil)
	if err != nil {
		return nil, "", err
	}
	backup, err = c.backUp(ctx, job)
	return backup, directory, err
}

// restoring is the whole way through our server, into a database that is absent.
func (c *control) restoring(name string, backup *pb.Execution, drop func(context.Context) error) contender {
	return contender{name: name, clean: drop, run: func(ctx context.Context) (measurement, error) {
		return c.measured(ctx, func(ctx context.Context, backups pb.BackupServiceClient) (string, error) {
			r, err := backups.RestoreBackup(ctx, &pb.RestoreBackupRequest{ExecutionId: backup.GetId(), TargetDatabase: restored, ParallelJobs: new(int32(2))})
			return r.GetExecutionId(), err
		})
	}}
}

func (c *control) verifying(name string, backup *pb.Execution) contender {
	return contender{name: name, run: func(ctx context.Context) (measurement, error) {
		return c.measured(ctx, func(ctx context.Context, backups pb.BackupServiceClient) (string, error) {
			r, err := backups.VerifyBackup(ctx, &pb.VerifyBackupRequest{ExecutionId: backup.GetId()})
			return r.GetExecutionId(), err
		})
	}}
}

// measured starts an execution and waits until it is known to have completed.
func (c *control) measured(ctx context.Context, start func(context.Context, pb.BackupServiceClient) (string, error)) (m measurement, err error) {
	w := watchProcesses(ctx, c.pid())
	began := time.Now()
	var e *pb.Execution
	id, err := start(c.authorized(ctx), pb.NewBackupServiceClient(c.conn))
	if err == nil {
		e, err = c.ended(ctx, id)
	}
	m.wall = time.Since(began)
	m.cpu, m.memory = w.end()
	return m, completed(e, err)
}
