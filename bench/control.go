package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/structpb"

	pb "github.com/dataguardian/dataguardian/gen/dataguardian/v1"
	"github.com/dataguardian/dataguardian/internal/secret"
)

const (
	startLimit = time.Minute
	stopLimit  = time.Minute
	pollEvery  = 20 * time.Millisecond
)

// control is a running server of ours with its clients. Its metadata is a
// database of the benchmark's cluster.
type control struct {
	dir   string
	cmd   *exec.Cmd
	gone  <-chan struct{} // closed once the process is gone
	http  string          // base URL of REST
	token string
	conn  *grpc.ClientConn
}

// startControl makes a control plane of its own called name, and waits until it
// is ready. settings are added to its environment.
func (b *bench) startControl(ctx context.Context, program, name, roles string, settings ...string) (_ *control, err error) {
	c := &control{dir: b.path(name)}
	if err := os.Mkdir(c.dir, 0o700); err != nil {
		return nil, err
	}
	if err := b.metadata(ctx, program, name); err != nil {
		return nil, err
	}
	key := filepath.Join(c.dir, "keyset.json")
	if _, err := secret.Create(key); err != nil {
		return nil, err
	}
	env := append(b.environment(name), "DATAGUARDIAN_KEY_FILE="+key)
	env = append(env, settings...)
	if err := c.launch(program, env, roles); err != nil {
		return nil, err
	}
	if err := c.connect(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("the server did not get ready: %w\n%s", err, c.lastWords()), c.stop())
	}
	return c, nil
}

// environment of a server program with its metadata in a database.
func (b *bench) environment(database string) []string {
	env := append(os.Environ(), "DATAGUARDIAN_DATABASE_URL="+b.cluster.DSN(database))
	if b.profile != "" {
		env = append(env, profileEnv+"="+b.profile)
	}
	return env
}

// metadata makes an empty database with the schema of a server program. The
// program makes its schema once; what the servers get are copies.
func (b *bench) metadata(ctx context.Context, program, name string) error {
	template, made := b.schemas[program]
	if !made {
		template = numbered("schema", len(b.schemas))
		if err := b.migrate(ctx, program, template); err != nil {
			return err
		}
		b.schemas[program] = template
	}
	return b.cluster.copyDatabase(ctx, template, name)
}

func (b *bench) migrate(ctx context.Context, program, database string) error {
	if err := b.cluster.CreateDatabase(ctx, database); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, program, "migrate", "--data-dir="+b.path(database)) //nolint:gosec // the program that is measured
	cmd.Env = b.environment(database)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("migrate: %w\n%s", err, out)
	}
	return nil
}

func (c *control) logFile() string { return filepath.Join(c.dir, "server.log") }

func (c *control) launch(program string, env []string, roles string) error {
	log, err := os.Create(c.logFile())
	if err != nil {
		return err
	}
	c.cmd = exec.Command(program, "serve", "--data-dir="+c.dir, "--http-addr=127.0.0.1:0", "--grpc-addr=127.0.0.1:0", "--roles="+roles, "--log-format=json") //nolint:gosec // the program that is measured
	c.cmd.Env, c.cmd.Stdout, c.cmd.Stderr = env, log, log
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	c.gone, err = keep(c.cmd)
	return errors.Join(err, log.Close()) // the server has the log open for itself
}

func (c *control) pid() int { return c.cmd.Process.Pid }

func (c *control) lastWords() string {
	raw, err := os.ReadFile(c.logFile())
	if err != nil {
		return err.Error()
	}
	return string(raw[max(0, len(raw)-4000):])
}

// connect waits for the files that lead to a server.
func (c *control) connect(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	var at struct{ HTTP, GRPC string }
	for {
		raw, err := os.ReadFile(filepath.Join(c.dir, "endpoints.json"))
		if err == nil && json.Unmarshal(raw, &at) == nil && at.GRPC != "" {
			break
		}
		if err := c.pause(ctx); err != nil {
			return err
		}
	}
	token, err := os.ReadFile(filepath.Join(c.dir, "admin-token"))
	if err != nil {
		return err
	}
	c.http, c.token = "http://"+at.HTTP, strings.TrimSpace(string(token))
	c.conn, err = grpc.NewClient(at.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()))
	return err
}

var errEnded = errors.New("the server has ended")

// pause lets the server work.
func (c *control) pause(ctx context.Context) error {
	timer := time.NewTimer(pollEvery)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-c.gone:
		return errEnded
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// authorized returns a context whose calls carry the administrator's token.
func (c *control) authorized(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+c.token)
}

// stop ends the server in order.
func (c *control) stop() error {
	var failure error
	if c.conn != nil {
		failure = c.conn.Close()
	}
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return errors.Join(failure, err)
	}
	select {
	case <-c.gone:
		return failure
	case <-time.After(stopLimit):
		return errors.Join(failure, fmt.Errorf("the server does not stop; it was killed\n%s", c.lastWords()), c.cmd.Process.Kill())
	}
}

// job makes a backup of a database of PostgreSQL to the local disk, and returns
// the job's id. suffix keeps names apart.
func (c *control) job(ctx context.Context, source *cluster, database, suffix string) (string, error) {
	datasource, err := c.datasource(ctx, pb.Datasource_postgres, "company "+suffix, source.connection(database))
	if err != nil {
		return "", err
	}
	disk, err := c.location(ctx, pb.StorageLocation_local, "disk "+suffix, map[string]any{"path": c.backups()})
	if err != nil {
		return "", err
	}
	return c.jobTo(ctx, "nightly "+suffix, datasource, disk, nil)
}

// jobLike makes another job for the datasource and the storage of a job.
func (c *control) jobLike(ctx context.Context, id, name string, options *pb.BackupOptions) (string, error) {
	j, err := pb.NewBackupServiceClient(c.conn).GetBackupJob(c.authorized(ctx), &pb.GetBackupJobRequest{Id: id})
	if err != nil {
		return "", err
	}
	return c.jobTo(ctx, "nightly "+name, j.GetDatasourceId(), j.GetStorageLocationId(), options)
}

// connection is how a server of ours reaches a database of the cluster.
func (c *cluster) connection(database string) map[string]any {
	return map[string]any{"host": c.SocketDir(), "port": c.Port(), "database": database, "username": c.User(), "password": c.Password()}
}

func (c *control) datasource(ctx context.Context, kind pb.Datasource_Type, name string, connection map[string]any) (string, error) {
	settings, err := structpb.NewStruct(connection)
	if err != nil {
		return "", err
	}
	d, err := pb.NewDatasourceServiceClient(c.conn).CreateDatasource(c.authorized(ctx), &pb.CreateDatasourceRequest{Name: name, Type: kind, ConnectionConfig: settings})
	return d.GetId(), err
}

func (c *control) location(ctx context.Context, kind pb.StorageLocation_Type, name string, config map[string]any) (string, error) {
	settings, err := structpb.NewStruct(config)
	if err != nil {
		return "", err
	}
	l, err := pb.NewStorageLocationServiceClient(c.conn).CreateStorageLocation(c.authorized(ctx), &pb.CreateStorageLocationRequest{Name: name, Type: kind, Config: settings})
	return l.GetId(), err
}

// jobTo makes a job that keeps what it makes; options may be nil.
func (c *control) jobTo(ctx context.Context, name, datasource, location string, options *pb.BackupOptions) (string, error) {
	kept := int32(1000)
	j, err := pb.NewBackupServiceClient(c.conn).CreateBackupJob(c.authorized(ctx), &pb.CreateBackupJobRequest{
		Name: name, DatasourceId: datasource, StorageLocationId: location, RetentionPolicy: &pb.RetentionPolicy{MaxBackups: &kept}, BackupOptions: options,
	})
	return j.GetId(), err
}

// backups is where the backups lie.
func (c *control) backups() string { return filepath.Join(c.dir, "backups") }

// backUp runs a job and returns when its execution has completed.
func (c *control) backUp(ctx context.Context, job string) (*pb.Execution, error) {
	e, err := c.runJob(ctx, job)
	return e, completed(e, err)
}

// runJob runs a job and returns its execution when that has ended.
func (c *control) runJob(ctx context.Context, job string) (*pb.Execution, error) {
	run, err := pb.NewBackupServiceClient(c.conn).RunBackupJob(c.authorized(ctx), &pb.RunBackupJobRequest{Id: job})
	if err != nil {
		return nil, err
	}
	return c.ended(ctx, run.GetExecutionId())
}

// retryUpload goes on with an upload that failed, and returns when it has completed.
func (c *control) retryUpload(ctx context.Context, id string) error {
	if _, err := pb.NewExecutionServiceClient(c.conn).RetryUpload(c.authorized(ctx), &pb.RetryUploadRequest{Id: id}); err != nil {
		return err
	}
	e, err := c.ended(ctx, id)
	return completed(e, err)
}

func (c *control) ended(ctx context.Context, id string) (*pb.Execution, error) {
	executions := pb.NewExecutionServiceClient(c.conn)
	if err := waitForEnd(c.authorized(ctx), executions, id); err != nil {
		return nil, err
	}
	return executions.GetExecution(c.authorized(ctx), &pb.GetExecutionRequest{Id: id})
}

func completed(e *pb.Execution, err error) error {
	if err == nil && e.GetStatus() != pb.Execution_completed {
		return fmt.Errorf("the %s is %s: %s", e.GetOperation(), e.GetStatus(), e.GetErrorMessage())
	}
	return err
}

// waitForEnd follows the log, which costs the server less than being asked.
func waitForEnd(ctx context.Context, executions pb.ExecutionServiceClient, id string) error {
	stream, err := executions.StreamExecutionLogs(ctx, &pb.StreamExecutionLogsRequest{Id: id})
	for err == nil {
		_, err = stream.Recv()
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// remove deletes a backup.
func (c *control) remove(ctx context.Context, id string) error {
	_, err := pb.NewExecutionServiceClient(c.conn).DeleteExecution(c.authorized(ctx), &pb.DeleteExecutionRequest{Id: id, Force: true})
	return err
}

// numbered makes a name that PostgreSQL takes for a database.
func numbered(name string, n int) string { return name + "_" + strconv.Itoa(n) }
