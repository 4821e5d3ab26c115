package harness

import (
	"errors"
	"fmt"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"
)

func mount(dir string, size int) error {
	options := fmt.Sprintf("size=%d,mode=0700,uid=%d,gid=%d", size, os.Getuid(), os.Getgid())
	if os.Geteuid() == 0 {
		return unix.Mount("tmpfs", dir, "tmpfs", 0, options)
	}
	return sudo("mount", "-t", "tmpfs", "-o", options, "tmpfs", dir)
}

func resize(dir string, size int) error {
	options := fmt.Sprintf("size=%d", size)
	if os.Geteuid() == 0 {
		return unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT, options)
	}
	return sudo("mount", "-o", "remount,"+options, dir)
}

func unmount(dir string) error {
	if os.Geteuid() == 0 {
		return unix.Unmount(dir, unix.MNT_DETACH)
	}
	return sudo("umount", "--lazy", dir)
}

// pin makes a file impossible to remove: something is mounted on it.
func pin(path string) error {
	if os.Geteuid() == 0 {
		return unix.Mount(path, path, "", unix.MS_BIND, "")
	}
	return sudo("mount", "--bind", path, path)
}

func sudo(args ...string) error {
	out, err := exec.Command("sudo", append([]string{"-n"}, args...)...).CombinedOutput()
	if err != nil {
		return errors.Join(err, errors.New(string(out)))
	}
	return nil
}
