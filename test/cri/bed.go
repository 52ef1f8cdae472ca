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
	"strconv"
	"strings"
	"syscall"
	"text/template"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/oomtrace/oomtrace/internal/host"
)

// bed is a runtime of its own: directories, socket and cgroups that nobody else has.
type bed struct {
	ctx     context.Context // done: end, and clean up
	dir     string          // all files
	runtime runtime
	layout  host.Layout
	driver  driver
	before  outside

	daemon *exec.Cmd
	conn   *grpc.ClientConn
	client cri.RuntimeServiceClient
}

// outside are places that containerd makes beside its own directories.
var besides = []string{"/run/containerd", "/etc/cni", "/opt/containerd", "/opt/cni"}

type outside map[string]bool

func (b *bed) socket() string { return filepath.Join(b.dir, "c.sock") }

// state is where a node has it, below b.dir as its root.
func (b *bed) state() string { return filepath.Join(b.dir, "run/containerd") }

// newBed prepares a runtime and starts it. The hog is the program of all containers.
func newBed(ctx context.Context, r runtime, driverName, hog string) (b *bed, err error) {
	b = &bed{ctx: ctx, runtime: r, before: outside{}}
	if b.layout, err = host.Cgroups(); err != nil {
		return nil, err
	}

	if b.driver, err = newDriver(driverName, b.layout); err != nil {
		return nil, err
	}

	if b.dir, err = os.MkdirTemp("/tmp", "oomtrace-cri-"); err != nil {
		return nil, err
	}

	for _, place := range besides {
		_, err := os.Stat(place)
		b.before[place] = err == nil
	}

	defer func() {
		if err != nil {
			err = errors.Join(err, b.close())
		}
	}()

	if err := writeImages(filepath.Join(b.dir, "hog.tar"), hog); err != nil {
		return b, err
	}

	if err := b.configure(driverName == "systemd"); err != nil {
		return b, err
	}

	if err := b.start(); err != nil {
		return b, err
	}

	if out, err := b.ctr("-n", "k8s.io", "images", "import", filepath.Join(b.dir, "hog.tar")); err != nil {
		return b, fmt.Errorf("import the images: %w: %s", err, out)
	}

	return b, b.haveImages()
}

// haveImages waits until the CRI knows the images: it hears of what others import
// by an event, and would look for them in a registry until then.
func (b *bed) haveImages() error {
	images := cri.NewImageServiceClient(b.conn)

	for _, name := range []string{pauseImage, hogImage} {
		var err error
		if !until(b.ctx, func() bool {
			ctx, cancel := context.WithTimeout(context.Background(), callPatience)
			defer cancel()

			var status *cri.ImageStatusResponse
			if status, err = images.ImageStatus(ctx, &cri.ImageStatusRequest{Image: &cri.ImageSpec{Image: name}}); err == nil && status.Image == nil {
				err = errors.New("not found")
			}

			return err == nil
		}) {
			return fmt.Errorf("waiting until the CRI knows the imported image %s: %w", name, err)
		}
	}

	return nil
}

// buildHog builds the program of the containers.
func buildHog(file string) error {
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", file, "./test/cri/hog")

	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the hog: %w: %s", err, out)
	}

	return nil
}

func (b *bed) ctr(args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), callPatience)
	defer cancel()

	return exec.CommandContext(ctx, b.runtime.ctr, append([]string{"-a", b.socket()}, args...)...).CombinedOutput()
}

// Version 2 is of containerd 1.x, 3 of 2.x.
const config = `version = {{.Version}}
root = "{{.Dir}}/root"
state = "{{.State}}"
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.nri.v1.nri"]
[grpc]
  address = "{{.Dir}}/c.sock"
[ttrpc]
  address = "{{.Dir}}/c.sock.ttrpc"
{{if eq .Version 2}}
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{{.Image}}"
  restrict_oom_score_adj = true
  disable_apparmor = true
[plugins."io.containerd.grpc.v1.cri".cni]
  conf_dir = "{{.Dir}}/cni"
  bin_dir = "{{.Dir}}/cni"
[plugins."io.containerd.grpc.v1.cri".containerd]
  snapshotter = "overlayfs"
{{else}}
[plugins."io.containerd.cri.v1.images"]
  snapshotter = "overlayfs"
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "{{.Image}}"
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
  disable_apparmor = true
[plugins."io.containerd.cri.v1.runtime".cni]
  conf_dir = "{{.Dir}}/cni"
  bin_dirs = ["{{.Dir}}/cni"]
{{end}}
[plugins."{{.Runtime}}".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."{{.Runtime}}".containerd.runtimes.runc.options]
  BinaryName = "{{.Runc}}"
  Root = "{{.Dir}}/runc"
  SystemdCgroup = {{.Systemd}}
`

func (b *bed) configure(systemd bool) error {
	values := map[string]any{
		"Version": 3, "Runtime": "io.containerd.cri.v1.runtime", "Dir": b.dir, "State": b.state(), "Image": pauseImage, "Runc": b.runtime.runc,
		"Systemd": systemd,
	}
	if strings.HasPrefix(b.runtime.version, "1.") {
		values["Version"], values["Runtime"] = 2, "io.containerd.grpc.v1.cri"
	}

	var text bytes.Buffer
	if err := template.Must(template.New("").Parse(config)).Execute(&text, values); err != nil {
		return err
	}

	return os.WriteFile(filepath.Join(b.dir, "config.toml"), text.Bytes(), 0o644)
}

// start starts containerd and waits until it answers.
func (b *bed) start() error {
	log, err := os.OpenFile(filepath.Join(b.dir, "containerd.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	b.daemon = exec.Command(b.runtime.containerd, "-c", filepath.Join(b.dir, "config.toml"))
	b.daemon.Env = append(os.Environ(), "PATH="+b.runtime.path)

	b.daemon.Stdout, b.daemon.Stderr = log, log
	if err := b.daemon.Start(); err != nil {
		return err
	}

	if b.conn, err = grpc.NewClient("unix://"+b.socket(), grpc.WithTransportCredentials(insecure.NewCredentials())); err != nil {
		return err
	}

	b.client = cri.NewRuntimeServiceClient(b.conn)
	if !until(b.ctx, func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), callPatience)
		defer cancel()
		_, err = b.client.Status(ctx, &cri.StatusRequest{})

		return err == nil
	}) {
		return fmt.Errorf("containerd does not answer: %w: %s", err, lastLines(filepath.Join(b.dir, "containerd.log")))
	}

	return nil
}

// until asks again and again, for as long as the test is patient.
func until(ctx context.Context, done func() bool) bool {
	for end := time.Now().Add(patience); !done(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) || ctx.Err() != nil {
			return false
		}
	}

	return true
}

// halt stops containerd; pods run on.
func (b *bed) halt() error {
	if b.daemon == nil {
		return nil
	}

	b.conn.Close()
	_ = b.daemon.Process.Signal(syscall.SIGTERM)
	_ = b.daemon.Wait() // its status says nothing
	b.daemon = nil

	return nil
}

// removeAll removes all pods.
func (b *bed) removeAll() error {
	ctx, cancel := context.WithTimeout(context.Background(), callPatience)
	defer cancel()

	list, err := b.client.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{})
	if err != nil {
		return err
	}
	var errs []error

	for _, s := range list.Items {
		p := &pod{bed: b, name: s.Metadata.Name, parent: b.driver.pod(s.Metadata.Uid), sandbox: s.Id}
		errs = append(errs, p.remove())
	}

	return errors.Join(errs...)
}

// close takes everything down, and tells what is left behind even so.
func (b *bed) close() error {
	var errs []error
	if b.daemon != nil {
		errs = append(errs, b.removeAll(), b.halt())
	}

	errs = append(errs, b.driver.close(), b.left())
	for _, place := range besides {
		if !b.before[place] {
			removeEmpty(place)
		}
	}

	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("%w; the files are kept in %s", err, b.dir)
	}

	return os.RemoveAll(b.dir)
}

// removeEmpty removes directories that have nothing in them: another containerd may
// have begun meanwhile.
func removeEmpty(dir string) {
	list, _ := os.ReadDir(dir)
	for _, d := range list {
		if d.IsDir() {
			removeEmpty(filepath.Join(dir, d.Name()))
		}
	}
	_ = syscall.Rmdir(dir)
}

// left tells of processes, mounts and cgroups of containers that are still there.
func (b *bed) left() error {
	var left []string

	if until(context.Background(), func() bool { left = b.leftNow(); return len(left) == 0 }) {
		return nil
	}

	return fmt.Errorf("left behind: %s", strings.Join(left, ", "))
}

func (b *bed) leftNow() []string {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return []string{err.Error()}
	}
	var left []string

	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, b.dir) {
			left = append(left, "mount "+strings.Fields(line)[4])
		}
	}

	processes, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range processes {
		if text, err := os.ReadFile(file); err == nil && strings.Contains(string(text), b.dir) {
			left = append(left, "process "+strings.ReplaceAll(string(text), "\x00", " "))
		}
	}

	return append(left, cgroupDirs(b.driver.root())...)
}

func lastLines(file string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}

	return string(text[max(0, len(text)-2000):])
}

func numbers(text string) []int {
	var all []int

	for field := range strings.FieldsSeq(text) {
		if n, err := strconv.Atoi(field); err == nil {
			all = append(all, n)
		}
	}

	return all
}
