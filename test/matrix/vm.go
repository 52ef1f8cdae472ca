// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/oomtrace/oomtrace/test/lab"
)

// kernel is one to boot. Its files are those of scripts/kernels.sh.
type kernel struct {
	name string // as shown
	dir  string // in .cache/kernels
	arch string
	v1   bool // with the memory controller on cgroup v1
	// without are the tiers that it does not offer.
	without []string
}

// kernels are those of the matrix. On arm64 6.1, fentry programs load and do not
// attach. From 6.12 on Debian builds no cgroup v1 memory controller.
var kernels = []kernel{
	{name: "5.10", dir: "amd64-5.10", arch: "amd64"},
	{name: "6.1", dir: "amd64-6.1", arch: "amd64"},
	{name: "6.12", dir: "amd64-6.12", arch: "amd64"},
	{name: "6.18", dir: "amd64-6.18", arch: "amd64"},
	{name: "7.3", dir: "amd64-7.3", arch: "amd64"},
	{name: "6.1", dir: "arm64-6.1", arch: "arm64", without: []string{"fentry"}},
	{name: "6.12", dir: "arm64-6.12", arch: "arm64"},
	{name: "5.10-v1", dir: "amd64-5.10", arch: "amd64", v1: true},
	{name: "6.1-v1", dir: "amd64-6.1", arch: "amd64", v1: true},
}

func (k kernel) id() string { return k.arch + "-" + k.name }

const cache = ".cache"

// initScript makes the guest a machine, and hands over.
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
else
	/bin/busybox mount -t cgroup2 cgroup /sys/fs/cgroup
	echo "+memory +cpuset" > /sys/fs/cgroup/cgroup.subtree_control
fi
/bin/guest
/bin/busybox poweroff -f
`

// pack makes the initial file system of a kernel.
func pack(k kernel, o options) (string, error) {
	root, err := os.MkdirTemp("", "oomtrace-lab-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(root)

	bin := filepath.Join(root, "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return "", err
	}

	busybox := "/bin/busybox"
	if k.arch == "arm64" {
		busybox = filepath.Join(cache, "busybox-arm64")
	}

	built := filepath.Join(o.work, k.arch)
	for from, to := range map[string]string{
		busybox: "busybox", filepath.Join(built, "guest"): "guest",
		filepath.Join(built, "hog"): "hog", filepath.Join(built, "oomtrace"): "oomtrace",
	} {
		if err := command("cp", from, filepath.Join(bin, to)); err != nil {
			return "", err
		}
	}

	if err := command("cp", "-r", filepath.Join(cache, "kernels", k.dir, "modules"), filepath.Join(root, "modules")); err != nil {
		return "", err
	}

	if err := os.WriteFile(filepath.Join(root, "init"), []byte(initScript), 0o755); err != nil {
		return "", err
	}

	image, err := filepath.Abs(filepath.Join(o.work, k.id()+".cpio.gz"))
	if err != nil {
		return "", err
	}

	return image, command("sh", "-c", fmt.Sprintf("cd %q && find . | cpio -o -H newc --quiet | gzip -1 > %q", root, image))
}

// build makes the guest's programs for an architecture.
func build(arch string, o options) error {
	out := filepath.Join(o.work, arch)
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}

	compiler := "gcc"
	if arch == "arm64" {
		compiler = "aarch64-linux-gnu-gcc"
	}

	if err := command(compiler, "-static", "-O2", "-Wall", "-Werror", "-pthread", "-o", filepath.Join(out, "hog"), "test/lab/hog/hog.c"); err != nil {
		return err
	}

	for name, pkg := range map[string]string{"guest": "./test/lab/guest", "oomtrace": "./cmd/oomtrace"} {
		cmd := exec.Command("go", "build", "-o", filepath.Join(out, name), pkg)

		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH="+arch)
		if text, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("building %s for %s: %w\n%s", pkg, arch, err, text)
		}
	}

	return nil
}

func command(name string, args ...string) error {
	if text, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, text)
	}

	return nil
}

// bootTries is how often a boot may fail: an emulated machine crashes now and
// then when a kernel patches its own text while the other CPU runs.
const bootTries = 4

// boot runs a kernel with its cases until it gives a result.
func boot(ctx context.Context, k kernel, o options) (*lab.Result, error) {
	if o.console != "" {
		return kept(o.console)
	}

	image, err := pack(k, o)
	if err != nil {
		return nil, err
	}
	var errs []error

	for range bootTries {
		output, err := runVM(ctx, k, image, o)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		var result lab.Result

		parseErr := lab.Receive(output, &result)
		if parseErr == nil {
			return &result, nil
		}
		errs = append(errs, fmt.Errorf("%w (%v); the console's end: %s", parseErr, err, tail(output)))
		fmt.Fprintf(os.Stderr, "%s: booting again: %v\n", k.id(), errs[len(errs)-1])
	}

	return nil, fmt.Errorf("%d boots without a result: %w", bootTries, errors.Join(errs...))
}

// kept reads the result of an earlier boot.
func kept(console string) (*lab.Result, error) {
	output, err := os.ReadFile(console)
	if err != nil {
		return nil, err
	}

	var result lab.Result
	if err := lab.Receive(output, &result); err != nil {
		return nil, fmt.Errorf("%s: %w", console, err)
	}

	return &result, nil
}

func runVM(ctx context.Context, k kernel, image string, o options) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, o.patience)
	defer cancel()
	// The log must hold all that a case makes the kernel write.
	line := "quiet panic=-1 no_timer_check psi=1 log_buf_len=16M"
	if k.v1 {
		line += " lab.v1"
	}

	if len(o.cases) > 0 {
		line += " lab.cases=" + strings.Join(o.cases, ",")
	}

	if len(o.tiers) > 0 {
		line += " lab.tiers=" + strings.Join(o.tiers, ",")
	}

	if o.kills > 0 {
		line += fmt.Sprintf(" lab.kills=%d", o.kills)
	}
	qemu, args := emulator(k, image, line)
	cmd := exec.CommandContext(ctx, qemu, args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()

	if o.keep {
		name := filepath.Join(o.work, k.id()+time.Now().Format("-150405")+".console")
		_ = os.WriteFile(name, out.Bytes(), 0o644)
		fmt.Fprintln(os.Stderr, "kept", name)
	}

	return out.Bytes(), err
}

// emulator is the call of a machine whose console is its standard output.
func emulator(k kernel, image, line string) (qemu string, args []string) {
	args = []string{
		"-accel", "tcg,thread=multi", "-m", "1024", "-smp", "2", "-nographic", "-no-reboot",
		"-object", "memory-backend-ram,id=m0,size=512M", "-object", "memory-backend-ram,id=m1,size=512M",
		"-numa", "node,nodeid=0,cpus=0,memdev=m0", "-numa", "node,nodeid=1,cpus=1,memdev=m1",
		"-kernel", filepath.Join(cache, "kernels", k.dir, "vmlinuz"), "-initrd", image,
	}
	if k.arch == "arm64" {
		return "qemu-system-aarch64", append(args, "-machine", "virt", "-cpu", "max,pauth-impdef=on", "-append", "console=ttyAMA0 "+line)
	}

	return "qemu-system-x86_64", append(args, "-cpu", "max", "-append", "console=ttyS0 "+line)
}

// tail is the end of a console, from where the kernel says that it dies if it does.
func tail(console []byte) string {
	from := max(0, len(console)-300)
	if died := bytes.Index(console, []byte("BUG: ")); died >= 0 {
		from = died
	}

	return fmt.Sprintf("%q", console[from:min(len(console), from+3000)])
}
