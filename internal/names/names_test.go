// SPDX-License-Identifier: Apache-2.0

package names

import (
	"crypto/rand"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/oomtrace/oomtrace/internal/events"
)

// node is the saved tree of a node with all runtimes' files.
const node = "testdata/node"

var app = events.Workload{PodUID: appUID, ContainerID: appID, Runtime: "containerd", QoS: "burstable", Source: "path"}

func name(w *events.Workload) string {
	return strings.Join([]string{w.Source, w.Namespace, w.Pod, w.Container}, " ")
}

const (
	fromDisk = "disk shop checkout-7d9f app"
	fromCRI  = "cri shop checkout-7d9f app"
)

// What a runtime does not answer, files do; nothing waits meanwhile, and what is
// wrong is said once.
func TestDegrades(t *testing.T) {
	for _, test := range []struct {
		name  string
		serve func(t *testing.T, socket string)
		says  string
	}{
		{"missing", func(*testing.T, string) {}, "there is no socket"},
		{"nobody listens", func(t *testing.T, socket string) {
			l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket})
			if err != nil {
				t.Fatal(err)
			}

			l.SetUnlinkOnClose(false)
			l.Close()
		}, "nobody listens"},
		{"garbage", func(t *testing.T, socket string) {
			l, err := net.Listen("unix", socket)
			if err != nil {
				t.Fatal(err)
			}

			t.Cleanup(func() { l.Close() })

			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					bytes := make([]byte, 4096)
					rand.Read(bytes)
					c.Write(bytes)
					c.Close()
				}
			}()
		}, "does not answer"},
		{"another service", func(t *testing.T, socket string) {
			f := newFake()

			l, err := net.Listen("unix", socket)
			if err != nil {
				t.Fatal(err)
			}

			serveNothing(t, l)
			_ = f
		}, "does not speak CRI v1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			socket := filepath.Join(socketDir(t), "c.sock")
			test.serve(t, socket)
			r, said := open(t, Options{HostRoot: node, CRIEndpoint: "unix://" + socket})
			ref, _ := RefOf(&app)
			r.Seen(ref)
			eventually(t, "files answer", func() bool { return name(r.Fill(&app)) == fromDisk })
			eventually(t, "it is said", func() bool { return said.count(test.says) == 1 })
			time.Sleep(2 * firstBackoff) // it is tried again

			if n := said.count(test.says); n != 1 {
				t.Errorf("said %d times", n)
			}
		})
	}
}

// A runtime that hangs keeps nobody else waiting, and is believed once it answers.
func TestSlow(t *testing.T) {
	f := withPod(newFake())
	f.gate = make(chan struct{})
	socket := filepath.Join(socketDir(t), "c.sock")
	f.serve(t, socket)
	r, _ := open(t, Options{HostRoot: node, CRIEndpoint: socket})
	eventually(t, "it is asked", func() bool { return f.asked("Version") > 0 })

	ref, _ := RefOf(&app)
	for range 1000 { // were one of them to wait for the runtime, it would never end
		r.Seen(ref)
		r.Found(ref)
		r.Fill(&app)
		r.Check(Check{Ref: ref})
		r.Gone(Ref{ContainerID: otherID})
	}

	eventually(t, "files answer", func() bool { return name(r.Fill(&app)) == fromDisk })
	close(f.gate)
	eventually(t, "the runtime answers", func() bool { return name(r.Fill(&app)) == fromCRI })

	if w := r.Fill(&app); w.Labels["app"] != "checkout" || w.RestartCount == nil || *w.RestartCount != 3 || w.QoS != "burstable" {
		t.Errorf("%+v", w)
	}
}

// Close ends what hangs.
func TestCloseWhileSlow(t *testing.T) {
	f := withPod(newFake())
	f.gate = make(chan struct{})
	socket := filepath.Join(socketDir(t), "c.sock")
	f.serve(t, socket)
	r, _ := open(t, Options{CRIEndpoint: socket})
	eventually(t, "it is asked", func() bool { return f.asked("Version") > 0 })
	r.Close()
}

// Without events, and where events belong to one reader only, new containers are
// asked for one by one.
func TestPolling(t *testing.T) {
	for _, test := range []struct {
		version string
		reads   int
	}{{"1.6.20~ds1", 0}, {"v1.7.24", 0}, {"v2.1.9", 1}} { // the last has none, too
		f := withPod(newFake())
		f.version = test.version
		socket := filepath.Join(socketDir(t), "c.sock")
		f.serve(t, socket)
		r, said := open(t, Options{CRIEndpoint: socket})
		eventually(t, "it is listed", func() bool { return name(r.Fill(&app)) == fromCRI })
		f.add(otherID, sandboxID, "late", 0)
		late := events.Workload{ContainerID: otherID, PodUID: appUID}
		r.Seen(Ref{ContainerID: otherID})
		eventually(t, "it is looked up", func() bool { return name(r.Fill(&late)) == "cri shop checkout-7d9f late" })

		if w := r.Fill(&late); w.OOMScoreAdj == nil || *w.OOMScoreAdj != 985 || w.Labels["app"] != "checkout" {
			t.Errorf("%+v", w)
		}

		if n, m := f.asked("GetContainerEvents"), f.asked("Version"); n != test.reads || m != 1 {
			t.Errorf("%s: events were asked for %d times, in %d connections", test.version, n, m)
		}

		if len(said.text) > 0 {
			t.Errorf("%s: %q", test.version, said.text)
		}
	}
}

// Events name a container without any question.
func TestEvents(t *testing.T) {
	f := withPod(newFake())
	f.events = make(chan *cri.ContainerEventResponse)
	socket := filepath.Join(socketDir(t), "c.sock")
	f.serve(t, socket)
	r, _ := open(t, Options{CRIEndpoint: socket})
	eventually(t, "it is listed", func() bool { return name(r.Fill(&app)) == fromCRI })
	f.add(otherID, sandboxID, "late", 0)

	f.events <- &cri.ContainerEventResponse{
		ContainerId: otherID, ContainerEventType: cri.ContainerEventType_CONTAINER_CREATED_EVENT,
		PodSandboxStatus: f.sandboxes[sandboxID], ContainersStatuses: []*cri.ContainerStatus{f.containers[otherID]},
	}
	late := events.Workload{ContainerID: otherID}

	eventually(t, "the event tells", func() bool { return name(r.Fill(&late)) == "cri shop checkout-7d9f late" })

	if n := f.asked("ContainerStatus"); n != 0 {
		t.Errorf("%d questions", n)
	}
	// Of a sandbox's end, some runtimes do not say whose it was.
	f.events <- &cri.ContainerEventResponse{ContainerId: sandboxID, ContainerEventType: cri.ContainerEventType_CONTAINER_DELETED_EVENT}

	f.events <- &cri.ContainerEventResponse{ContainerId: otherID, ContainerEventType: cri.ContainerEventType_CONTAINER_DELETED_EVENT}

	eventually(t, "they are gone", func() bool { _, dead := r.cache.counts(); return dead == 2 })

	if got := name(r.Fill(&late)); got != "cri shop checkout-7d9f late" {
		t.Errorf("forgotten at once: %s", got)
	}
}

// A runtime that is restarted is found again, with what was made meanwhile.
func TestRestart(t *testing.T) {
	socket := filepath.Join(socketDir(t), "c.sock")
	f := withPod(newFake())
	f.events = make(chan *cri.ContainerEventResponse)
	stop := f.serve(t, socket)
	r, said := open(t, Options{HostRoot: node, CRIEndpoint: socket})
	eventually(t, "it is listed", func() bool { return name(r.Fill(&app)) == fromCRI })
	stop()
	eventually(t, "its end is noticed", func() bool { return len(r.connected()) == 0 })
	crio := events.Workload{ContainerID: crioID, PodUID: crioUID}
	r.Seen(Ref{ContainerID: crioID, PodUID: crioUID})
	eventually(t, "files answer", func() bool { return r.Fill(&crio).Source == SourceDisk })

	g := withPod(newFake())
	g.add(otherID, sandboxID, "meanwhile", 0)
	g.serve(t, socket)
	meanwhile := events.Workload{ContainerID: otherID}

	eventually(t, "it is found again", func() bool { return name(r.Fill(&meanwhile)) == "cri shop checkout-7d9f meanwhile" })

	if name(r.Fill(&app)) != fromCRI {
		t.Errorf("forgotten: %s", name(r.Fill(&app)))
	}

	if n := said.count("does not answer"); n > 1 {
		t.Errorf("said %d times", n)
	}
}

// Sockets below the host's root are found by themselves, also late.
func TestFindsSockets(t *testing.T) {
	root := socketDir(t)

	dir := filepath.Join(root, "run/containerd")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}

	withPod(newFake()).serve(t, filepath.Join(dir, "containerd.sock"))
	r, _ := open(t, Options{HostRoot: root})
	eventually(t, "it is found", func() bool { return name(r.Fill(&app)) == fromCRI })
}

// That there is no socket is said where there are pods.
func TestNoSockets(t *testing.T) {
	r, said := open(t, Options{HostRoot: node})
	r.Seen(Ref{ContainerID: dockerID})
	docker := events.Workload{ContainerID: dockerID}

	eventually(t, "files answer", func() bool { return name(r.Fill(&docker)) == "disk   web" })

	if n := said.count("no CRI socket"); n != 0 {
		t.Errorf("said without a pod: %q", said.text)
	}

	r.Seen(Ref{ContainerID: appID, PodUID: appUID})
	r.Seen(Ref{ContainerID: otherID, PodUID: appUID})
	eventually(t, "it is said", func() bool { return said.count("no CRI socket") == 1 })
}

// Root may open any socket: this runs once more as nobody.
func TestPermissionDenied(t *testing.T) {
	const variable = "OOMTRACE_TEST_SOCKET"
	if socket := os.Getenv(variable); socket != "" {
		r, said := open(t, Options{HostRoot: node, CRIEndpoint: socket})
		eventually(t, "it is said", func() bool { return said.count("permission denied") == 1 })
		ref, _ := RefOf(&app)
		r.Seen(ref)
		eventually(t, "files answer", func() bool { return name(r.Fill(&app)) == fromDisk })

		return
	}
	dir := socketDir(t)
	socket := filepath.Join(dir, "c.sock")
	withPod(newFake()).serve(t, socket)

	if err := os.Chmod(socket, 0); err != nil {
		t.Fatal(err)
	}

	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}

	if os.Geteuid() == 0 {
		cmd := exec.Command("/proc/self/exe", "-test.run=^TestPermissionDenied$")

		cmd.Env = append(os.Environ(), variable+"="+socket)

		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}

		return
	}
	_, said := open(t, Options{CRIEndpoint: socket})
	eventually(t, "it is said", func() bool { return said.count("permission denied") == 1 })
}

// What is too much is dropped at once, and counted.
func TestFullQueue(t *testing.T) {
	r := &Resolver{queue: make(chan Ref, 2), checks: make(chan Check, 1)}
	for range 5 {
		r.Seen(Ref{ContainerID: appID})
		r.Check(Check{})
	}

	if r.Dropped() != 7 {
		t.Errorf("dropped %d", r.Dropped())
	}
}

func TestOptions(t *testing.T) {
	for _, o := range []Options{
		{CRIEndpoint: "c.sock"}, {CRIEndpoint: "unix://"}, {CRIEndpoint: "tcp://127.0.0.1:1"},
		{Kubelet: KubeletOptions{Endpoint: "127.0.0.1:10250"}},
		{Kubelet: KubeletOptions{Endpoint: "https://127.0.0.1:10250", CAFile: "testdata/none"}},
		{Kubelet: KubeletOptions{Endpoint: "http://127.0.0.1:10255", TokenFile: "t"}},
	} {
		if r, err := New(o); err == nil {
			r.Close()
			t.Errorf("%+v is taken", o)
		}
	}
}

func TestSayKeepsCauses(t *testing.T) {
	r := &Resolver{ctx: t.Context()}
	r.said.texts = map[string]bool{}
	var said remarks
	r.opts.Warn = said.warn
	rt := &endpoint{of: r, path: "/s", label: "/s"}
	rt.say(&net.OpError{Op: "dial", Err: &os.SyscallError{Syscall: "connect", Err: syscall.EACCES}})
	rt.say(&fs.PathError{Err: fs.ErrNotExist})
	rt.say(nil)

	if said.count("permission denied") != 1 || said.count("no socket") != 1 || len(said.text) != 2 {
		t.Errorf("%q", said.text)
	}
}
