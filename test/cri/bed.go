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
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"text/template"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/oomtrace/oomtrace/internal/node"
)

// bed is a runtime of its own: directories, socket and cgroups that nobody else has.
type bed struct {
	dir      string // all files
	binaries string
	cgroup   string // parent of all pods' cgroups
	memory   string // mount of the hierarchy with the memory controller
	before   outside

	mu      sync.Mutex
	removed map[string]bool // names of pods that are being removed, or were

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

// newBed prepares a runtime and starts it.
func newBed(binaries string) (b *bed, err error) {
	layout, err := node.Cgroups()
	if err != nil {
		return nil, err
	}
	if layout.MemoryVersion != 1 {
		return nil, errors.New("the memory controller is on cgroup v2 here: this test is for v1")
	}
	dir, err := os.MkdirTemp("/tmp", "oomtrace-cri-")
	if err != nil {
		return nil, err
	}
	b = &bed{dir: dir, memory: layout.MemoryMount, cgroup: "/oomtrace-cri-" + strconv.Itoa(os.Getpid()), before: outside{}, removed: map[string]bool{}}
	for _, place := range besides {
		_, err := os.Stat(place)
		b.before[place] = err == nil
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.close())
		}
	}()
	if b.binaries, err = filepath.Abs(binaries); err != nil {
		return b, err
	}
	hog := filepath.Join(dir, "hog")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", hog, "./test/cri/hog")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return b, fmt.Errorf("build the hog: %w: %s", err, out)
	}
	if err := writeImage(filepath.Join(dir, "hog.tar"), hog); err != nil {
		return b, err
	}
	if err := b.configure(); err != nil {
		return b, err
	}
	if err := b.start(); err != nil {
		return b, err
	}
	if out, err := b.ctr("-n", "k8s.io", "images", "import", filepath.Join(dir, "hog.tar")); err != nil {
		return b, fmt.Errorf("import the image: %w: %s", err, out)
	}
	return b, nil
}

func (b *bed) ctr(args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), callPatience)
	defer cancel()
	return exec.CommandContext(ctx, filepath.Join(b.binaries, "ctr"), append([]string{"-a", b.socket()}, args...)...).CombinedOutput()
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
  BinaryName = "{{.Binaries}}/runc"
  Root = "{{.Dir}}/runc"
  SystemdCgroup = false
`

func (b *bed) configure() error {
	version, err := os.ReadFile(filepath.Join(b.binaries, "version"))
	if err != nil {
		return fmt.Errorf("%w: run scripts/containerd.sh", err)
	}
	values := map[string]any{
		"Version": 3, "Runtime": "io.containerd.cri.v1.runtime", "Dir": b.dir, "State": b.state(), "Image": imageName, "Binaries": b.binaries,
	}
	if strings.HasPrefix(string(version), "1.") {
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
	b.daemon = exec.Command(filepath.Join(b.binaries, "containerd"), "-c", filepath.Join(b.dir, "config.toml"))
	b.daemon.Env = append(os.Environ(), "PATH="+b.binaries+":"+os.Getenv("PATH"))
	b.daemon.Stdout, b.daemon.Stderr = log, log
	if err := b.daemon.Start(); err != nil {
		return err
	}
	if b.conn, err = grpc.NewClient("unix://"+b.socket(), grpc.WithTransportCredentials(insecure.NewCredentials())); err != nil {
		return err
	}
	b.client = cri.NewRuntimeServiceClient(b.conn)
	for range 600 {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		_, err = b.client.Status(ctx, &cri.StatusRequest{})
		cancel()
		if err == nil {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return fmt.Errorf("containerd does not answer: %w: %s", err, lastLines(filepath.Join(b.dir, "containerd.log")))
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

func (b *bed) removing(pod string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.removed[pod] = true
}

func (b *bed) isRemoved(pod string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.removed[pod]
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
		p := &pod{bed: b, name: s.Metadata.Name, sandbox: s.Id}
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
	hierarchies, _ := filepath.Glob("/sys/fs/cgroup/*" + b.cgroup)
	for _, h := range hierarchies {
		errs = append(errs, removeCgroups(h))
	}
	errs = append(errs, b.left())
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

// removeCgroups removes the parents that were made for the pods. A cgroup of a
// container would hold a process, and be in the way.
func removeCgroups(dir string) error {
	var all []string
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			all = append(all, path)
		}
		return nil
	})
	for _, path := range slices.Backward(all) {
		if len(filepath.Base(path)) == 64 {
			err = errors.Join(err, fmt.Errorf("the cgroup of a container is left: %s", path))
		}
		err = errors.Join(err, syscall.Rmdir(path))
	}
	return err
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
	for try := 0; ; try++ {
		left = nil
		mounts, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil {
			return err
		}
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
		if cgroups, _ := filepath.Glob("/sys/fs/cgroup/*" + b.cgroup); len(cgroups) > 0 {
			left = append(left, cgroups...)
		}
		if len(left) == 0 {
			return nil
		}
		if try == 50 {
			return fmt.Errorf("left behind: %s", strings.Join(left, ", "))
		}
		time.Sleep(100 * time.Millisecond)
	}
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
