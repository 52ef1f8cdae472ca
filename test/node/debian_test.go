// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"flag"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/oomtrace/oomtrace/test/internal/lab"
	"github.com/oomtrace/oomtrace/test/internal/qemu"
)

var (
	bootLimit = flag.Duration("boot-limit", 10*time.Minute, "how long one boot may take")
	workDir   = flag.String("dir", "", "directory of the second disk, and of what is kept (default .cache/machine/work/NAME)")
	keep      = flag.Bool("keep", false, "keep the consoles and the lines of oomtrace in the work directory")
)

// debian is a whole Debian, as scripts/machine.sh makes it, with a second disk for the
// programs of the test.
type debian struct {
	machine qemu.Machine
	dir     string // of the second disk, and of what is kept
}

// newDebian makes a machine. Programs are packages by file name; node.test is built, too,
// if tests is true.
func newDebian(t *testing.T, name string, programs map[string]string, tests bool) *debian {
	t.Helper()
	lab.Require(t, "qemu-system-x86_64", "mke2fs")

	cache, err := filepath.Abs(filepath.Join(lab.Root, ".cache/machine"))
	if err != nil {
		t.Fatal(err)
	}

	if _, err := os.Stat(filepath.Join(cache, "stamp")); err != nil {
		t.Fatalf("%v: run sudo scripts/machine.sh", err)
	}

	d := &debian{dir: *workDir}
	if d.dir == "" {
		d.dir = filepath.Join(cache, "work", name) // several machines may run at once
	}

	if err := os.MkdirAll(d.dir, 0o755); err != nil {
		t.Fatal(err)
	}

	content := t.TempDir()
	for file, pkg := range programs {
		if err := lab.Build(runtime.GOARCH, pkg, filepath.Join(content, file)); err != nil {
			t.Fatal(err)
		}
	}

	if tests {
		if err := lab.BuildTest("./test/node", filepath.Join(content, "node.test")); err != nil {
			t.Fatal(err)
		}
	}

	disk := filepath.Join(d.dir, "lab.ext4")
	os.Remove(disk)

	if err := lab.Run("mke2fs", "-q", "-t", "ext4", "-m", "0", "-d", content, disk, "160M"); err != nil {
		t.Fatal(err)
	}

	d.machine = qemu.Machine{
		Arch: "amd64", Kernel: filepath.Join(cache, "vmlinuz"), Initrd: filepath.Join(cache, "initrd"), MemoryMiB: 2048,
		Disks: []string{filepath.Join(cache, "root.ext4"), disk},
	}

	return d
}

// result boots the machine with words for the guest until it sends a result.
func (d *debian) result(ctx context.Context, t *testing.T, words string, into any) {
	t.Helper()

	m := d.machine
	// The kernel's check of the timer fails if the emulator gets no CPU time.
	m.CommandLine = "no_timer_check root=/dev/vda rw systemd.show_status=0 " + words

	if err := m.Result(ctx, *bootLimit, d.kept("console"), lab.Logger(t), into); err != nil {
		t.Fatal(err)
	}
}

// kept returns the name of a file to keep; "" without -keep.
func (d *debian) kept(name string) string {
	if !*keep {
		return ""
	}

	return filepath.Join(d.dir, name)
}

// keep writes a file, if files are kept.
func (d *debian) keep(t *testing.T, name, content string) {
	if file := d.kept(name); file != "" {
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			t.Error(err)
		}
	}
}
