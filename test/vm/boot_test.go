// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oomtrace/oomtrace/test/internal/lab"
	"github.com/oomtrace/oomtrace/test/internal/qemu"
)

var (
	workDir     = flag.String("dir", "", "directory of what is built and kept; two runs at once need two (default .cache/lab)")
	keep        = flag.Bool("keep", false, "keep the consoles in the work directory")
	keptConsole = flag.String("console", "", "check this kept console of the one selected kernel, and boot nothing")
	bootLimit   = flag.Duration("boot-limit", 20*time.Minute, "how long one boot may take")
	kills       = flag.Int("recorder-kills", 0, "how often record-killed kills its recorder (default 4)")
)

// requireEmulators skips the test unless it was requested, and fails it if something is
// missing.
func requireEmulators(t *testing.T) {
	t.Helper()
	lab.Require(t, emulatorPrograms...)
}

var emulatorPrograms = []string{"qemu-system-x86_64", "qemu-system-aarch64", "gcc", "aarch64-linux-gnu-gcc", "cpio", "busybox", "mke2fs"}

// cacheFile names a file that the scripts made.
func cacheFile(elements ...string) string {
	return filepath.Join(append([]string{lab.Root, ".cache"}, elements...)...)
}

// workFile names a file of the work directory.
func workFile(elements ...string) (string, error) {
	dir := *workDir
	if dir == "" {
		dir = cacheFile("lab")
	}

	return filepath.Abs(filepath.Join(append([]string{dir}, elements...)...))
}

// programs builds the programs of a guest once, and returns their directory.
var programs = map[string]func() (string, error){
	"amd64": sync.OnceValues(func() (string, error) { return buildPrograms("amd64", "gcc", "/bin/busybox") }),
	"arm64": sync.OnceValues(func() (string, error) {
		return buildPrograms("arm64", "aarch64-linux-gnu-gcc", cacheFile("busybox-arm64"))
	}),
}

func buildPrograms(arch, compiler, busybox string) (dir string, err error) {
	if dir, err = workFile(arch); err != nil {
		return "", err
	}

	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}

	if err := lab.Run("cp", busybox, filepath.Join(dir, "busybox")); err != nil {
		return "", err
	}

	hog := filepath.Join(dir, "hog")
	if err := lab.Run(compiler, "-static", "-O2", "-Wall", "-Werror", "-pthread", "-o", hog, "hog/hog.c"); err != nil {
		return "", err
	}

	for name, pkg := range map[string]string{"guest": "./test/guest", "oomtrace": "./cmd/oomtrace"} {
		if err := lab.Build(arch, pkg, filepath.Join(dir, name)); err != nil {
			return "", err
		}
	}

	return dir, nil
}

// initScript sets up the guest, and starts it. A program of Go that panics ends with
// status 2, one that dies by a crash of the kernel does not.
//
// The kernel patches its page allocator when the first cgroup below the root is made, and
// when the last one is removed (kernel/cgroup/cpuset.c: cpuset_inc), which an emulator may
// not survive. So one is kept.
const initScript = `#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /tmp
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox mount -t tmpfs tmp /tmp
if /bin/busybox grep -q lab.v1 /proc/cmdline; then
	/bin/busybox mount -t tmpfs cgroup /sys/fs/cgroup
	/bin/busybox mkdir /sys/fs/cgroup/memory
	/bin/busybox mount -t cgroup -o memory memory /sys/fs/cgroup/memory
	/bin/busybox mkdir /sys/fs/cgroup/memory/kept
else
	/bin/busybox mount -t cgroup2 cgroup /sys/fs/cgroup
	echo "+memory +cpuset" > /sys/fs/cgroup/cgroup.subtree_control
	/bin/busybox mkdir /sys/fs/cgroup/kept
fi
/bin/guest
[ $? != 2 ] || echo ` + qemu.MarkDied + `
/bin/busybox poweroff -f
`

// file is the name of its files.
func (k Kernel) file() string {
	if k.Noise {
		return k.ID() + "-noise"
	}

	return k.ID()
}

// machine makes the machine of a kernel, with its initial file system.
func machine(k Kernel, commandLine string) (qemu.Machine, error) {
	m := qemu.Machine{
		Arch: k.Arch, Kernel: cacheFile("kernels", k.Dir, "vmlinuz"), CommandLine: commandLine, MemoryMiB: 1024, TwoNodes: true,
	}

	bin, err := programs[k.Arch]()
	if err != nil {
		return m, err
	}

	root, err := os.MkdirTemp("", "oomtrace-vm-")
	if err != nil {
		return m, err
	}
	defer os.RemoveAll(root)

	if err := os.WriteFile(filepath.Join(root, "init"), []byte(initScript), 0o755); err != nil {
		return m, err
	}

	for from, to := range map[string]string{bin: "bin", cacheFile("kernels", k.Dir, "modules"): "modules"} {
		if err := lab.Run("cp", "-r", from, filepath.Join(root, to)); err != nil {
			return m, err
		}
	}

	if m.Initrd, err = workFile(k.file() + ".cpio.gz"); err != nil {
		return m, err
	}

	return m, lab.Run("sh", "-c", fmt.Sprintf("cd %q && find . | cpio -o -H newc --quiet | gzip -1 > %q", root, m.Initrd))
}

// boot runs cases on a kernel with a tracer of each tier, until it gets a result.
func boot(ctx context.Context, t *testing.T, k Kernel, cases, tiers []string) (*Result, error) {
	result := new(Result)

	if *keptConsole != "" {
		console, err := os.ReadFile(*keptConsole)
		if err != nil {
			return nil, err
		}

		return result, qemu.Receive(console, result)
	}

	// The log must hold everything that a case makes the kernel log.
	commandLine := fmt.Sprintf("no_timer_check log_buf_len=16M lab.cases=%s lab.tiers=%s", strings.Join(cases, ","), strings.Join(tiers, ","))
	if k.CgroupV1 {
		commandLine += " lab.v1"
	}

	if k.LowZone {
		commandLine += " kernelcore=400M"
	}

	if k.Noise {
		commandLine += " lab.noise"
	}

	if *kills > 0 {
		commandLine += fmt.Sprintf(" lab.kills=%d", *kills)
	}

	m, err := machine(k, commandLine)
	if err != nil {
		return nil, err
	}

	console := ""

	if *keep {
		if console, err = workFile(k.file() + time.Now().Format("-150405") + ".console"); err != nil {
			return nil, err
		}

		lab.Logf(t, "the console is kept in %s", console)
	}

	return result, m.Result(ctx, *bootLimit+time.Duration(*kills)*20*time.Second, console, lab.Logger(t), result)
}
