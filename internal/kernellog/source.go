// SPDX-License-Identifier: Apache-2.0

package kernellog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"
)

// OpenKmsg returns a reader of the kernel's own buffer, from its start to its current end.
// It does not wait for more. Records that are overwritten meanwhile leave a gap in the
// numbering, which Read counts. It needs root or CAP_SYSLOG if kernel.dmesg_restrict is set.
func OpenKmsg() (io.ReadCloser, error) { return openKmsg("/dev/kmsg") }

func openKmsg(path string) (io.ReadCloser, error) {
	fd, err := openKmsgFD(path)
	if err != nil {
		return nil, fmt.Errorf("%w; else give the log as a file", err)
	}

	return &kmsg{path: path, fd: fd}, nil
}

// openKmsgFD opens the device without waiting for records.
func openKmsgFD(path string) (fd int, err error) {
	fd, err = unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		return -1, fmt.Errorf("open %s: %w: run as root or with CAP_SYSLOG", path, err)
	}

	if err != nil {
		return -1, fmt.Errorf("open %s: %w", path, err)
	}

	return fd, nil
}

// kmsg makes a stream of bytes of /dev/kmsg, where each read returns one record. It does not
// use os.File, which would wait for the next record.
type kmsg struct {
	path string
	fd   int
	// The longest record has 8 KiB (kernel/printk/internal.h: PRINTK_MESSAGE_MAX).
	record [16 << 10]byte
	left   []byte
}

func (k *kmsg) Read(p []byte) (int, error) {
	for len(k.left) == 0 {
		n, err := unix.Read(k.fd, k.record[:])
		switch {
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.EPIPE): // overwritten: the next is the oldest
			continue
		case errors.Is(err, unix.EAGAIN), err == nil && n == 0:
			return 0, io.EOF
		case err != nil:
			return 0, fmt.Errorf("read %s: %w", k.path, err)
		}
		k.left = k.record[:n]
	}
	n := copy(p, k.left)
	k.left = k.left[n:]

	return n, nil
}

func (k *kmsg) Close() error { return unix.Close(k.fd) }

// journalPrograms are the programs whose lines matter, in addition to the kernel's.
var journalPrograms = []string{
	"systemd", "systemd-oomd", "earlyoom", "oomd", "nohang", "kubelet", "k3s", "rke2", "microk8s.daemon-kubelite",
}

// OpenJournal runs journalctl and returns its output: the entries of the kernel and of
// killers in user space, of this boot or, with allBoots, of all boots in the journal. It is
// killed when ctx is done. A failure of journalctl is returned by Read, at the end.
func OpenJournal(ctx context.Context, allBoots bool) (io.ReadCloser, error) {
	var args []string
	if !allBoots {
		args = append(args, "--boot")
	}

	in, err := openJournal(ctx, args...)
	if err != nil {
		return nil, fmt.Errorf("%w: read /dev/kmsg instead, or give the log as a file", err)
	}

	return in, nil
}

// OpenJournalFile is OpenJournal for a file of a journal, or for a directory of such files.
func OpenJournalFile(ctx context.Context, path string) (io.ReadCloser, error) {
	option := "--file="
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		option = "--directory="
	}

	in, err := openJournal(ctx, option+path)
	if err != nil {
		return nil, fmt.Errorf("%s is a systemd journal: %w: where it is installed, run journalctl -o json %s%s, and pass its output",
			path, err, option, path)
	}

	return in, nil
}

func openJournal(ctx context.Context, which ...string) (io.ReadCloser, error) {
	path, err := exec.LookPath("journalctl")
	if err != nil {
		return nil, fmt.Errorf("find journalctl: %w", err)
	}

	args := append([]string{"-o", "json", "--no-pager", "--quiet"}, which...)

	args = append(args, "_TRANSPORT=kernel")
	for _, program := range journalPrograms {
		args = append(args, "+", "SYSLOG_IDENTIFIER="+program)
	}

	return openCommand(ctx, path, args...)
}

// command is the output of a running program.
type command struct {
	cmd    *exec.Cmd
	out    io.ReadCloser
	stderr head
	done   bool
}

func openCommand(ctx context.Context, path string, args ...string) (io.ReadCloser, error) {
	c := &command{cmd: exec.CommandContext(ctx, path, args...)}
	c.cmd.Stderr = &c.stderr

	var err error
	if c.out, err = c.cmd.StdoutPipe(); err != nil {
		return nil, fmt.Errorf("run %s: %w", path, err)
	}

	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("run %s: %w", path, err)
	}

	return c, nil
}

func (c *command) Read(p []byte) (int, error) {
	n, err := c.out.Read(p)
	if !errors.Is(err, io.EOF) || c.done {
		return n, err
	}

	c.done = true
	if failed := c.cmd.Wait(); failed != nil {
		return n, fmt.Errorf("run %s: %w: %s", c.cmd.Path, failed, bytes.TrimSpace(c.stderr.text))
	}

	return n, io.EOF
}

// Close kills the program if it is still running.
func (c *command) Close() error {
	if !c.done {
		c.done = true
		_ = c.cmd.Process.Kill()
		_ = c.cmd.Wait() // it was killed
	}

	return nil
}

// head keeps the first KiB of what is written to it.
type head struct{ text []byte }

func (t *head) Write(p []byte) (int, error) {
	t.text = append(t.text, p[:min(len(p), 1024-min(len(t.text), 1024))]...)
	return len(p), nil
}
