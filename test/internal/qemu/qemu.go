// SPDX-License-Identifier: Apache-2.0

// Package qemu boots the machines of the tests in an emulator, and carries results
// over their consoles. The host and the guests share it.
package qemu

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"time"
)

// Machine describes a machine with two CPUs, whose console is its standard output.
type Machine struct {
	Arch           string // amd64 or arm64
	Kernel, Initrd string // files
	CommandLine    string // of the kernel; the console is added
	MemoryMiB      int
	TwoNodes       bool     // half of the memory and one CPU on each of two NUMA nodes
	Disks          []string // virtio: files, of which nothing is changed, or nbd:unix:SOCKET
}

// Command returns the command that boots the machine. It ends when ctx is done.
func (m Machine) Command(ctx context.Context) *exec.Cmd {
	name, cpu, console := "qemu-system-x86_64", "max", "ttyS0"
	args := []string{
		"-accel", "tcg,thread=multi", "-smp", "2", "-m", fmt.Sprint(m.MemoryMiB), "-nographic", "-no-reboot",
		"-kernel", m.Kernel, "-initrd", m.Initrd,
	}

	if m.Arch == "arm64" {
		name, cpu, console = "qemu-system-aarch64", "max,pauth-impdef=on", "ttyAMA0"

		args = append(args, "-machine", "virt")
	}

	args = append(args, "-cpu", cpu, "-append", "console="+console+" quiet panic=-1 psi=1 "+m.CommandLine)

	if m.TwoNodes {
		for node := range 2 {
			args = append(args, "-object", fmt.Sprintf("memory-backend-ram,id=m%d,size=%dM", node, m.MemoryMiB/2),
				"-numa", fmt.Sprintf("node,nodeid=%d,cpus=%[1]d,memdev=m%[1]d", node))
		}
	}

	for _, disk := range m.Disks {
		drive := "if=virtio,format=raw,file=" + disk
		if !strings.HasPrefix(disk, "nbd:") {
			drive += ",snapshot=on"
		}

		args = append(args, "-drive", drive)
	}

	return exec.CommandContext(ctx, name, args...)
}

// Boots bounds how often a machine is booted for one result: an emulated machine
// crashes now and then while a kernel patches its own text and the other CPU runs it.
const Boots = 4

// startLimit is how long a machine may take until the guest's program starts, which takes a
// minute or two on a busy host. The emulator hangs in the firmware once in a while.
var startLimit = 6 * time.Minute

// Result boots the machine until it sends a result, which is decoded into into. One
// boot takes at most limit. The console of each boot is appended to the file keep as it
// comes, unless keep is empty. Failed boots are passed to log. An error that the guest
// sends is returned at once: only the emulator's crashes are worth another boot.
func (m Machine) Result(ctx context.Context, limit time.Duration, keep string, log func(format string, args ...any), into any) error {
	var errs []error

	for range Boots {
		console, runErr := m.run(ctx, limit, keep)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}

		err := Receive(console, into)
		if err == nil {
			return nil
		}

		if _, ok := errors.AsType[GuestError](err); ok {
			return err
		}

		errs = append(errs, fmt.Errorf("%w (%v); end of the console: %s", err, runErr, Tail(console)))
		log("boot %d gave no result: %v", len(errs), errs[len(errs)-1])
	}

	return fmt.Errorf("%d boots gave no result: %w", Boots, errors.Join(errs...))
}

func (m Machine) run(ctx context.Context, limit time.Duration, keep string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()

	out := startWatch{hung: time.AfterFunc(startLimit, cancel)}
	defer out.hung.Stop()

	var console io.Writer = &out

	if keep != "" {
		file, err := os.OpenFile(keep, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			return nil, err
		}
		defer file.Close()

		console = io.MultiWriter(&out, file)
	}

	cmd := m.Command(ctx)
	cmd.Stdout, cmd.Stderr = console, console
	err := cmd.Run()

	return out.console.Bytes(), err
}

// startWatch keeps a console, and stops a timer when the guest's program starts.
type startWatch struct {
	console bytes.Buffer
	hung    *time.Timer
	started bool
}

func (w *startWatch) Write(p []byte) (int, error) {
	n, err := w.console.Write(p)
	if !w.started && bytes.Contains(w.console.Bytes(), []byte(MarkStart)) {
		w.started = true
		w.hung.Stop()
	}

	return n, err
}

// Tail returns the end of a console, quoted; if the kernel crashed or a program of Go
// panicked, from there on.
func Tail(console []byte) string {
	from := max(0, len(console)-300)
	if at := crash.FindIndex(console); at != nil {
		from = at[0]
	}

	return fmt.Sprintf("%q", console[from:min(len(console), from+3000)])
}

var crash = regexp.MustCompile(`BUG: |(?m:^)(panic|fatal error): `)

// BootOption returns the value of a word on the kernel's command line, and whether the
// word is there. It is for guests.
func BootOption(name string) (value string, ok bool) {
	text, _ := os.ReadFile("/proc/cmdline")
	for word := range strings.FieldsSeq(string(text)) {
		if key, value, _ := strings.Cut(word, "="); key == name {
			return value, true
		}
	}

	return "", false
}

// BootList returns the comma-separated values of a word on the kernel's command line.
func BootList(name string) []string {
	value, _ := BootOption(name)

	return strings.FieldsFunc(value, func(c rune) bool { return c == ',' })
}
