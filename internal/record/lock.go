// SPDX-License-Identifier: Apache-2.0

package record

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const lockName = "lock"

// ErrLocked is the error of [Create] for a directory that another process records into.
var ErrLocked = errors.New("the directory already has a writer")

// lock locks the directory for this process, until the file is closed or the process has
// ended, and writes the pid into the lock file.
func lock(root *os.Root) (*os.File, error) {
	file, err := openRegular(root, lockName, os.O_RDWR|os.O_CREATE)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", root.Name(), err)
	}

	err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		defer file.Close()

		return nil, fmt.Errorf("record into %s: %w, %s: stop it, or choose another directory",
			root.Name(), ErrLocked, lockHolder(file))
	}

	if err == nil {
		err = file.Truncate(0)
	}

	if err == nil {
		_, err = fmt.Fprintln(file, os.Getpid())
		if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
			err = nil // the lock holds without a pid in it
		}
	}

	if err != nil {
		file.Close()
		return nil, fmt.Errorf("lock %s: %w", root.Name(), err)
	}

	return file, nil
}

// lockHolder returns the pid in a lock file, for an error text.
func lockHolder(file io.Reader) string {
	text, _ := io.ReadAll(io.LimitReader(file, 32))
	if pid, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil {
		return fmt.Sprintf("pid %d", pid)
	}

	return "pid unknown"
}

// openRegular opens a regular file of the directory. It neither follows a symlink nor
// opens a pipe or a device, which could block.
func openRegular(root *os.Root, name string, flag int) (*os.File, error) {
	notRegular := &os.PathError{Op: "open", Path: name, Err: errors.New("not a regular file")}

	before, err := root.Lstat(name)
	if err == nil && !before.Mode().IsRegular() {
		return nil, notRegular
	}

	if err != nil && flag&os.O_CREATE == 0 {
		return nil, err
	}

	file, err := root.OpenFile(name, flag|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, err
	}

	// The file may have been replaced between the two calls.
	after, err := root.Lstat(name)
	if err == nil {
		var opened os.FileInfo
		if opened, err = file.Stat(); err == nil && !os.SameFile(after, opened) {
			err = notRegular
		}
	}

	if err != nil {
		file.Close()
		return nil, err
	}

	return file, nil
}
