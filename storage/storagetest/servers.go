package storagetest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/dataguardian/dataguardian/internal/testkit"
)

const (
	serverStartLimit = 90 * time.Second
	serverStopLimit  = 30 * time.Second
	pollEvery        = 20 * time.Millisecond
)

// S3Server is a running S3 server (versitygw) that checks signatures.
type S3Server struct {
	Endpoint  string // with scheme
	Region    string
	AccessKey string
	SecretKey string

	process *serverProcess
}

// StartS3 starts an S3 server of the test's own; it ends with the test.
func StartS3(t testing.TB) *S3Server {
	t.Helper()
	s := &S3Server{Region: "us-east-1", AccessKey: "test-access", SecretKey: "test-secret-" + strings.ToLower(rand.Text())}
	address := fmt.Sprintf("127.0.0.1:%d", testkit.FreePort(t))
	s.Endpoint = "http://" + address
	s.process = startServer(t, "versitygw", address, []string{
		"ROOT_ACCESS_KEY=" + s.AccessKey, "ROOT_SECRET_KEY=" + s.SecretKey,
	}, "--port", address, "--region", s.Region, "--keep-alive", "--quiet", "posix", t.TempDir())
	return s
}

// Client returns a plain client of the server.
func (s *S3Server) Client() *s3.Client {
	return s3.New(s3.Options{
		BaseEndpoint: aws.String(s.Endpoint), Region: s.Region, UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(s.AccessKey, s.SecretKey, ""),
	})
}

// NewBucket makes an empty bucket and returns its name.
func (s *S3Server) NewBucket(t testing.TB) string {
	t.Helper()
	name := "bucket-" + strings.ToLower(rand.Text())
	if _, err := s.Client().CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &name}); err != nil {
		t.Fatalf("make bucket: %v", err)
	}
	return name
}

// OpenUploads returns the keys of the bucket's open multipart uploads.
func (s *S3Server) OpenUploads(t testing.TB, bucket string) []string {
	t.Helper()
	out, err := s.Client().ListMultipartUploads(context.WithoutCancel(t.Context()), &s3.ListMultipartUploadsInput{Bucket: &bucket})
	if err != nil {
		t.Fatalf("list uploads: %v", err)
	}
	var keys []string
	for _, u := range out.Uploads {
		keys = append(keys, aws.ToString(u.Key))
	}
	return keys
}

// Stop ends the server before the test does, as a crash would.
func (s *S3Server) Stop(t testing.TB) { s.process.stop(t) }

// GCSServer is a running Google Cloud Storage server (fake-gcs-server) that
// takes requests without credentials.
type GCSServer struct {
	Endpoint string // with scheme, without path

	process *serverProcess
}

// StartGCS starts a GCS server of the test's own; it ends with the test.
func StartGCS(t testing.TB) *GCSServer {
	t.Helper()
	port := testkit.FreePort(t)
	address := fmt.Sprintf("127.0.0.1:%d", port)
	s := &GCSServer{Endpoint: "http://" + address}
	s.process = startServer(t, "fake-gcs-server", address, nil,
		"-scheme", "http", "-host", "127.0.0.1", "-port", fmt.Sprint(port), "-backend", "memory",
		"-public-host", address, "-external-url", s.Endpoint, "-log-level", "error", "-data", t.TempDir())
	return s
}

// NewBucket makes an empty bucket and returns its name.
func (s *GCSServer) NewBucket(t testing.TB) string {
	t.Helper()
	name := "bucket-" + strings.ToLower(rand.Text())
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.Endpoint+"/storage/v1/b?project=test",
		strings.NewReader(`{"name":"`+name+`"}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatalf("make bucket: %v", err)
	}
	if err := resp.Body.Close(); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("make bucket: %s, %v", resp.Status, err)
	}
	return name
}

// Stop ends the server before the test does, as a crash would.
func (s *GCSServer) Stop(t testing.TB) { s.process.stop(t) }

// serverProcess is a server that dies with the test binary.
type serverProcess struct {
	cmd  *exec.Cmd
	done chan struct{}
}

// startServer runs a program built by the script, until address answers.
func startServer(t testing.TB, name, address string, env []string, args ...string) *serverProcess {
	t.Helper()
	log, err := os.Create(filepath.Join(t.TempDir(), name+".log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(serverProgram(t, name), args...)
	cmd.Env = append([]string{"PATH=/usr/bin:/bin", "HOME=" + filepath.Dir(log.Name())}, env...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	p := &serverProcess{cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go p.keep(started)
	err = errors.Join(<-started, log.Close())
	if err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	t.Cleanup(func() { p.stop(t) })
	if err := p.answers(address); err != nil {
		text, readErr := os.ReadFile(log.Name())
		t.Fatalf("start %s: %v\n%s%v", name, err, text, readErr)
	}
	return p
}

// keep holds the thread that started the process: the kernel takes its end for
// the parent's.
func (p *serverProcess) keep(started chan<- error) {
	runtime.LockOSThread() // never unlocked: the thread ends with this function
	err := p.cmd.Start()
	started <- err
	if err == nil {
		_ = p.cmd.Wait() // killed: always an error
		close(p.done)
	}
}

func (p *serverProcess) answers(address string) error {
	for limit := time.Now().Add(serverStartLimit); ; {
		conn, err := net.DialTimeout("tcp", address, time.Second)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-p.done:
			return errors.New("it ended")
		case <-time.After(pollEvery):
		}
		if time.Now().After(limit) {
			return err
		}
	}
}

func (p *serverProcess) stop(t testing.TB) {
	t.Helper()
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("stop %s: %v", p.cmd.Path, err)
	}
	select {
	case <-p.done:
	case <-time.After(serverStopLimit):
		t.Errorf("%s does not end", p.cmd.Path)
	}
}

// serverProgram finds a program in the checkout's .cache/bin.
func serverProgram(t testing.TB, name string) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err != nil {
			continue
		}
		program := filepath.Join(dir, ".cache", "bin", name)
		if _, err := os.Stat(program); err != nil {
			t.Fatalf("the test server %s is missing: run scripts/build-test-servers.sh", name)
		}
		return program
	}
	t.Fatal("the test does not run inside the checkout, where the test servers are")
	return ""
}
