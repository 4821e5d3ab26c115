package tool

import (
	"context"
	"io"
	"os"
	"strings"
	"time"

	"github.com/dataguardian/dataguardian/internal/process"
)

const (
	versionTimeout = 10 * time.Second
	versionLimit   = 4 << 10
)

// VersionLine asks a program for its version: the first line that
// `program args...` writes, which is usually `program --version`.
func VersionLine(ctx context.Context, path string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, versionTimeout)
	defer cancel()
	p, err := process.Start(ctx, process.Spec{
		Path: path, Args: args, Env: process.Environment(os.TempDir()), Stdout: true, Grace: grace,
	})
	if err != nil {
		return "", err
	}
	out, err := io.ReadAll(io.LimitReader(p.Stdout, versionLimit))
	if err != nil {
		p.Kill(err)
	}
	if _, err := p.Wait(); err != nil {
		return "", err
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimSpace(line), nil
}

// IsExecutable reports whether path is a file that may be run.
func IsExecutable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0
}
