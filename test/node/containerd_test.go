// SPDX-License-Identifier: Apache-2.0

package node

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

// containerd is one with directories, a socket and cgroups of its own.
type containerd struct {
	ctx      context.Context // when it is done, every wait ends
	dir      string          // of all files
	binaries binaries
	layout   host.Layout
	driver   driver
	existed  map[string]bool // outsideDirs that were there before

	daemon *exec.Cmd
	conn   *grpc.ClientConn
	client cri.RuntimeServiceClient
}

// outsideDirs are made by containerd outside of its own directories.
var outsideDirs = []string{"/run/containerd", "/etc/cni", "/opt/containerd", "/opt/cni"}

func (c *containerd) socket() string { return filepath.Join(c.dir, "c.sock") }

// state is where a node has it, with dir as its root.
func (c *containerd) state() string { return filepath.Join(c.dir, "run/containerd") }

// startContainerd starts a containerd with the images of the test. The hog is the program
// of all containers.
func startContainerd(ctx context.Context, b binaries, driverName, hog string) (c *containerd, err error) {
	c = &containerd{ctx: ctx, binaries: b, existed: map[string]bool{}}
	if c.layout, err = host.Cgroups(); err != nil {
		return nil, err
	}

	if c.driver, err = newDriver(driverName, c.layout); err != nil {
		return nil, err
	}

	if c.dir, err = os.MkdirTemp("/tmp", "oomtrace-cri-"); err != nil {
		return nil, err
	}

	for _, dir := range outsideDirs {
		_, err := os.Stat(dir)
		c.existed[dir] = err == nil
	}

	images := filepath.Join(c.dir, "hog.tar")

	err = writeImages(images, hog)
	if err == nil {
		err = c.configure(driverName == "systemd")
	}

	if err == nil {
		err = c.start()
	}

	if err == nil {
		err = c.importImages(images)
	}

	if err != nil {
		return nil, errors.Join(err, c.close())
	}

	return c, nil
}

// importImages waits until the CRI knows the images: it is notified of what others
// import, and would pull them from a registry until then.
func (c *containerd) importImages(file string) error {
	if out, err := c.ctr("-n", "k8s.io", "images", "import", file); err != nil {
		return fmt.Errorf("import the images: %w: %s", err, out)
	}

	images := cri.NewImageServiceClient(c.conn)

	for _, name := range []string{pauseImage, hogImage} {
		var err error
		if !until(c.ctx, func() bool {
			ctx, cancel := context.WithTimeout(context.Background(), callLimit)
			defer cancel()

			var status *cri.ImageStatusResponse

			status, err = images.ImageStatus(ctx, &cri.ImageStatusRequest{Image: &cri.ImageSpec{Image: name}})
			if err == nil && status.Image == nil {
				err = errors.New("not found")
			}

			return err == nil
		}) {
			return fmt.Errorf("wait for the imported image %s: %w", name, err)
		}
	}

	return nil
}

func (c *containerd) ctr(args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), callLimit)
	defer cancel()

	return exec.CommandContext(ctx, c.binaries.ctr, append([]string{"-a", c.socket()}, args...)...).CombinedOutput()
}

// containerd 1.x has version 2 of the configuration, 2.x version 3.
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

func (c *containerd) configure(systemd bool) error {
	values := map[string]any{
		"Version": 3, "Runtime": "io.containerd.cri.v1.runtime", "Dir": c.dir, "State": c.state(),
		"Image": pauseImage, "Runc": c.binaries.runc, "Systemd": systemd,
	}
	if strings.HasPrefix(c.binaries.version, "1.") {
		values["Version"], values["Runtime"] = 2, "io.containerd.grpc.v1.cri"
	}

	var text bytes.Buffer
	if err := template.Must(template.New("").Parse(config)).Execute(&text, values); err != nil {
		return err
	}

	return os.WriteFile(filepath.Join(c.dir, "config.toml"), text.Bytes(), 0o644)
}

// start starts containerd and waits until it answers.
func (c *containerd) start() error {
	log, err := os.OpenFile(filepath.Join(c.dir, "containerd.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	c.daemon = exec.Command(c.binaries.containerd, "-c", filepath.Join(c.dir, "config.toml"))
	c.daemon.Env = append(os.Environ(), "PATH="+c.binaries.path)

	c.daemon.Stdout, c.daemon.Stderr = log, log
	if err := c.daemon.Start(); err != nil {
		return err
	}

	if c.conn, err = grpc.NewClient("unix://"+c.socket(), grpc.WithTransportCredentials(insecure.NewCredentials())); err != nil {
		return err
	}

	c.client = cri.NewRuntimeServiceClient(c.conn)
	if !until(c.ctx, func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), callLimit)
		defer cancel()
		_, err = c.client.Status(ctx, &cri.StatusRequest{})

		return err == nil
	}) {
		return fmt.Errorf("wait for containerd: %w: %s", err, lastLines(filepath.Join(c.dir, "containerd.log")))
	}

	return nil
}

// until waits until something is done, at most for -patience.
func until(ctx context.Context, done func() bool) bool {
	for end := time.Now().Add(*patience); !done(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) || ctx.Err() != nil {
			return false
		}
	}

	return true
}

// halt stops containerd; pods run on.
func (c *containerd) halt() error {
	if c.daemon == nil {
		return nil
	}

	c.conn.Close()
	_ = c.daemon.Process.Signal(syscall.SIGTERM)
	_ = c.daemon.Wait() // of no interest
	c.daemon = nil

	return nil
}

// removeAll removes all pods.
func (c *containerd) removeAll() error {
	ctx, cancel := context.WithTimeout(context.Background(), callLimit)
	defer cancel()

	list, err := c.client.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{})
	if err != nil {
		return err
	}
	var errs []error

	for _, s := range list.Items {
		p := &pod{of: c, name: s.Metadata.Name, parent: c.driver.pod(s.Metadata.Uid), sandbox: s.Id}
		errs = append(errs, p.remove())
	}

	return errors.Join(errs...)
}

// close takes everything down. Its error names everything that is left behind.
func (c *containerd) close() error {
	var errs []error
	if c.daemon != nil {
		errs = append(errs, c.removeAll(), c.halt())
	}

	errs = append(errs, c.driver.close(), c.left())
	for _, dir := range outsideDirs {
		if !c.existed[dir] {
			removeEmpty(dir)
		}
	}

	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("%w; the files are kept in %s", err, c.dir)
	}

	return os.RemoveAll(c.dir)
}

// removeEmpty removes directories without files: another containerd may have started
// meanwhile.
func removeEmpty(dir string) {
	list, _ := os.ReadDir(dir)
	for _, d := range list {
		if d.IsDir() {
			removeEmpty(filepath.Join(dir, d.Name()))
		}
	}
	_ = syscall.Rmdir(dir)
}

// left waits until no processes, mounts and cgroups of containers are left.
func (c *containerd) left() error {
	var left []string

	if until(context.Background(), func() bool { left = c.leftNow(); return len(left) == 0 }) {
		return nil
	}

	return fmt.Errorf("left behind: %s", strings.Join(left, ", "))
}

func (c *containerd) leftNow() []string {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return []string{err.Error()}
	}
	var left []string

	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, c.dir) {
			left = append(left, "mount "+strings.Fields(line)[4])
		}
	}

	processes, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range processes {
		if text, err := os.ReadFile(file); err == nil && strings.Contains(string(text), c.dir) {
			left = append(left, "process "+strings.ReplaceAll(string(text), "\x00", " "))
		}
	}

	return append(left, cgroupDirs(c.driver.root())...)
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
