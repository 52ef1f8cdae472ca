// SPDX-License-Identifier: Apache-2.0

package names

import (
	"crypto/rand"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/resolve"
	"github.com/oomtrace/oomtrace/internal/resolve/source"
	"github.com/oomtrace/oomtrace/internal/resolve/source/fakecri"
	"github.com/oomtrace/oomtrace/internal/testenv"
)

// node is the file tree of a node with the files of all runtimes.
const node = "../source/testdata/node"

// Containers and pods; crioID and dockerID are those of node.
const (
	appID    = fakecri.AppID
	appUID   = fakecri.AppUID
	otherID  = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
	crioID   = "c0c0000000000000000000000000000000000000000000000000000000000001"
	crioUID  = "11111111-2222-4333-8444-555555555555"
	dockerID = "d0c0000000000000000000000000000000000000000000000000000000000001"
)

func ptr[T any](v T) *T { return &v }

var app = events.Workload{PodUID: appUID, ContainerID: appID, Runtime: "containerd", QoS: "burstable", Source: "path"}

func name(w *events.Workload) string {
	return strings.Join([]string{w.Source, w.Namespace, w.Pod, w.Container}, " ")
}

const (
	fromDisk = "disk shop checkout-7d9f app"
	fromCRI  = "cri shop checkout-7d9f app"
)

// warnings collects warnings.
type warnings struct {
	mu   sync.Mutex
	text []string
}

func (w *warnings) warn(text string) {
	w.mu.Lock()
	defer w.mu.Unlock()

	w.text = append(w.text, text)
}

func (w *warnings) count(part string) int {
	w.mu.Lock()
	defer w.mu.Unlock()

	n := 0

	for _, text := range w.text {
		if strings.Contains(text, part) {
			n++
		}
	}

	return n
}

// open starts a resolver, and checks at the end of the test that no goroutine is left.
func open(t *testing.T, opts Options) (*Resolver, *warnings) {
	t.Helper()

	before := runtime.NumGoroutine()
	var warned warnings
	opts.Warn = warned.warn

	r, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() {
		r.Close()

		for range 200 { // gRPC's own goroutines end after Close has returned
			if runtime.NumGoroutine() <= before {
				return
			}

			time.Sleep(10 * time.Millisecond)
		}
		stacks := make([]byte, 1<<16)
		t.Errorf("got %d goroutines after Close, want %d:\n%s", runtime.NumGoroutine(), before, stacks[:runtime.Stack(stacks, true)])
	})

	return r, &warned
}

// eventually waits until a condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()

	for range 1000 {
		if holds() {
			return
		}

		time.Sleep(10 * time.Millisecond)
	}

	t.Fatalf("got a timeout, want that %s", what)
}

// serveNothing serves gRPC without any service.
func serveNothing(t *testing.T, l net.Listener) {
	server := grpc.NewServer()

	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(l)
	}()

	t.Cleanup(func() { server.Stop(); <-done })
}

// firstBackoff is how soon a socket is tried again.
const firstBackoff = 250 * time.Millisecond

// TestFilesAnswerWithoutARuntime: where the runtime does not answer, files do, nothing
// waits, and the reason is warned of once.
func TestFilesAnswerWithoutARuntime(t *testing.T) {
	for _, test := range []struct {
		name  string
		serve func(t *testing.T, socket string)
		warns string
	}{
		{"missing", func(*testing.T, string) {}, "no socket at"},
		{"nothing listens", func(t *testing.T, socket string) {
			l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket})
			if err != nil {
				t.Fatal(err)
			}

			l.SetUnlinkOnClose(false)
			l.Close()
		}, "nothing listens"},
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
			l, err := net.Listen("unix", socket)
			if err != nil {
				t.Fatal(err)
			}

			serveNothing(t, l)
		}, "does not support CRI v1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			socket := filepath.Join(fakecri.SocketDir(t), "c.sock")
			test.serve(t, socket)
			r, warned := open(t, Options{HostRoot: node, CRIEndpoint: "unix://" + socket})
			ref, _ := resolve.RefOf(&app)
			r.Seen(ref)
			eventually(t, "files answer", func() bool { return name(r.Fill(&app)) == fromDisk })
			eventually(t, "a warning comes", func() bool { return warned.count(test.warns) == 1 })

			if testing.Short() {
				return
			}

			time.Sleep(2 * firstBackoff) // until it is tried again

			if n := warned.count(test.warns); n != 1 {
				t.Errorf("got %d warnings, want at most one", n)
			}
		})
	}
}

// TestNothingWaitsForASlowRuntime: its answer counts as soon as it comes.
func TestNothingWaitsForASlowRuntime(t *testing.T) {
	f := fakecri.WithPod()
	f.Gate = make(chan struct{})
	socket := filepath.Join(fakecri.SocketDir(t), "c.sock")
	f.Serve(t, socket)
	r, _ := open(t, Options{HostRoot: node, CRIEndpoint: socket})
	eventually(t, "it is asked", func() bool { return f.Calls("Version") > 0 })

	ref, _ := resolve.RefOf(&app)
	for range 1000 { // none of them returns if it waits for the runtime
		r.Seen(ref)
		r.Found(ref)
		r.Fill(&app)
		r.Gone(resolve.Ref{ContainerID: otherID})
	}

	eventually(t, "files answer", func() bool { return name(r.Fill(&app)) == fromDisk })
	close(f.Gate)
	eventually(t, "the runtime answers", func() bool { return name(r.Fill(&app)) == fromCRI })

	if w := r.Fill(&app); w.Labels["app"] != "checkout" || w.RestartCount == nil || *w.RestartCount != 3 || w.QoS != "burstable" {
		t.Errorf("got %+v, want label, 3 restarts and burstable", w)
	}
}

// TestCloseEndsASlowCall: a runtime that hangs does not delay Close.
func TestCloseEndsASlowCall(t *testing.T) {
	f := fakecri.WithPod()
	f.Gate = make(chan struct{})
	socket := filepath.Join(fakecri.SocketDir(t), "c.sock")
	f.Serve(t, socket)
	r, _ := open(t, Options{CRIEndpoint: socket})
	eventually(t, "it is asked", func() bool { return f.Calls("Version") > 0 })
	r.Close()
}

// TestContainersAreAskedForWithoutEvents: where there are no events, and where each
// goes to one reader only, new containers are asked for one by one.
func TestContainersAreAskedForWithoutEvents(t *testing.T) {
	for _, test := range []struct {
		version string
		reads   int
	}{{"1.6.20~ds1", 0}, {"v1.7.24", 0}, {"v2.1.9", 1}} { // the last does not implement them
		f := fakecri.WithPod()
		f.ReportedVersion = test.version
		socket := filepath.Join(fakecri.SocketDir(t), "c.sock")
		f.Serve(t, socket)
		r, warned := open(t, Options{CRIEndpoint: socket})
		eventually(t, "it is listed", func() bool { return name(r.Fill(&app)) == fromCRI })
		f.Add(otherID, fakecri.SandboxID, "late", 0)
		late := events.Workload{ContainerID: otherID, PodUID: appUID}
		r.Seen(resolve.Ref{ContainerID: otherID})
		eventually(t, "it is looked up", func() bool { return name(r.Fill(&late)) == "cri shop checkout-7d9f late" })

		if w := r.Fill(&late); w.OOMScoreAdj == nil || *w.OOMScoreAdj != 985 || w.Labels["app"] != "checkout" {
			t.Errorf("got %+v, want score 985 and the pod's label", w)
		}

		if n, m := f.Calls("GetContainerEvents"), f.Calls("Version"); n != test.reads || m != 1 {
			t.Errorf("%s: got %d readings of events in %d connections, want %d in 1", test.version, n, m, test.reads)
		}

		if len(warned.text) > 0 {
			t.Errorf("%s: got warnings %q, want none", test.version, warned.text)
		}
	}
}

// TestEventsNameContainers: without any call for the container.
func TestEventsNameContainers(t *testing.T) {
	f := fakecri.WithPod()
	f.Events = make(chan *cri.ContainerEventResponse)
	socket := filepath.Join(fakecri.SocketDir(t), "c.sock")
	f.Serve(t, socket)
	r, _ := open(t, Options{CRIEndpoint: socket})
	eventually(t, "it is listed", func() bool { return name(r.Fill(&app)) == fromCRI })
	f.Add(otherID, fakecri.SandboxID, "late", 0)

	f.Events <- f.Event(otherID, cri.ContainerEventType_CONTAINER_CREATED_EVENT)

	late := events.Workload{ContainerID: otherID}

	eventually(t, "the event names it", func() bool { return name(r.Fill(&late)) == "cri shop checkout-7d9f late" })

	if n := f.Calls("ContainerStatus"); n != 0 {
		t.Errorf("got %d calls of ContainerStatus, want none", n)
	}
	// Events of a sandbox's end name no pod in some runtimes.
	f.Events <- &cri.ContainerEventResponse{ContainerId: fakecri.SandboxID,
		ContainerEventType: cri.ContainerEventType_CONTAINER_DELETED_EVENT}

	f.Events <- &cri.ContainerEventResponse{ContainerId: otherID, ContainerEventType: cri.ContainerEventType_CONTAINER_DELETED_EVENT}

	eventually(t, "they are gone", func() bool { _, dead := r.cache.counts(); return dead == 2 })

	if got := name(r.Fill(&late)); got != "cri shop checkout-7d9f late" {
		t.Errorf("got %q of a removed container, want its name", got)
	}
}

// TestARestartedRuntimeIsFoundAgain: with the containers that were made meanwhile.
func TestARestartedRuntimeIsFoundAgain(t *testing.T) {
	testenv.Slow(t, "waits for a retry")

	socket := filepath.Join(fakecri.SocketDir(t), "c.sock")
	f := fakecri.WithPod()
	f.Events = make(chan *cri.ContainerEventResponse)
	stop := f.Serve(t, socket)
	r, warned := open(t, Options{HostRoot: node, CRIEndpoint: socket})
	eventually(t, "it is listed", func() bool { return name(r.Fill(&app)) == fromCRI })
	stop()
	eventually(t, "its end is noticed", func() bool { return len(r.connected()) == 0 })
	crio := events.Workload{ContainerID: crioID, PodUID: crioUID}
	r.Seen(resolve.Ref{ContainerID: crioID, PodUID: crioUID})
	eventually(t, "files answer", func() bool { return r.Fill(&crio).Source == source.NameDisk })

	g := fakecri.WithPod()
	g.Add(otherID, fakecri.SandboxID, "meanwhile", 0)
	g.Serve(t, socket)
	meanwhile := events.Workload{ContainerID: otherID}

	eventually(t, "it is found again", func() bool { return name(r.Fill(&meanwhile)) == "cri shop checkout-7d9f meanwhile" })

	if name(r.Fill(&app)) != fromCRI {
		t.Errorf("got %q, want %q", name(r.Fill(&app)), fromCRI)
	}

	if n := warned.count("does not answer"); n > 1 {
		t.Errorf("got %d warnings, want at most one", n)
	}
}

// TestSocketsBelowTheHostRootAreFound: without an endpoint.
func TestSocketsBelowTheHostRootAreFound(t *testing.T) {
	root := fakecri.SocketDir(t)

	dir := filepath.Join(root, "run/containerd")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}

	fakecri.WithPod().Serve(t, filepath.Join(dir, "containerd.sock"))
	r, _ := open(t, Options{HostRoot: root})
	eventually(t, "it is found", func() bool { return name(r.Fill(&app)) == fromCRI })
}

// TestMissingSocketsAreWarnedOfWithPods: a node without pods needs no runtime.
func TestMissingSocketsAreWarnedOfWithPods(t *testing.T) {
	r, warned := open(t, Options{HostRoot: node})
	r.Seen(resolve.Ref{ContainerID: dockerID})
	docker := events.Workload{ContainerID: dockerID}

	eventually(t, "files answer", func() bool { return name(r.Fill(&docker)) == "disk   web" })

	if n := warned.count("no CRI socket"); n != 0 {
		t.Errorf("got %q without a pod, want no warning", warned.text)
	}

	r.Seen(resolve.Ref{ContainerID: appID, PodUID: appUID})
	r.Seen(resolve.Ref{ContainerID: otherID, PodUID: appUID})
	eventually(t, "a warning comes", func() bool { return warned.count("no CRI socket") == 1 })
}

// TestPermissionDeniedIsWarnedOf: root may open any socket, so the test runs itself as
// another user.
func TestPermissionDeniedIsWarnedOf(t *testing.T) {
	const variable = "OOMTRACE_TEST_SOCKET"
	if socket := os.Getenv(variable); socket != "" {
		r, warned := open(t, Options{HostRoot: node, CRIEndpoint: socket})
		eventually(t, "a warning comes", func() bool { return warned.count("permission denied") == 1 })
		ref, _ := resolve.RefOf(&app)
		r.Seen(ref)
		eventually(t, "files answer", func() bool { return name(r.Fill(&app)) == fromDisk })

		return
	}
	dir := fakecri.SocketDir(t)
	socket := filepath.Join(dir, "c.sock")
	fakecri.WithPod().Serve(t, socket)

	if err := os.Chmod(socket, 0); err != nil {
		t.Fatal(err)
	}

	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}

	if os.Geteuid() == 0 {
		cmd := exec.Command("/proc/self/exe", "-test.run=^TestPermissionDeniedIsWarnedOf$")

		cmd.Env = append(os.Environ(), variable+"="+socket)

		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}

		return
	}
	_, warned := open(t, Options{CRIEndpoint: socket})
	eventually(t, "a warning comes", func() bool { return warned.count("permission denied") == 1 })
}

// TestAFullQueueDropsAndCounts: no method waits for room.
func TestAFullQueueDropsAndCounts(t *testing.T) {
	r := &Resolver{queue: make(chan resolve.Ref, 2)}
	for range 5 {
		r.Seen(resolve.Ref{ContainerID: appID})
	}

	if r.Dropped() != 3 {
		t.Errorf("got %d dropped, want 3", r.Dropped())
	}
}

func TestWrongOptionsAreRefused(t *testing.T) {
	for _, o := range []Options{
		{CRIEndpoint: "c.sock"}, {CRIEndpoint: "unix://"}, {CRIEndpoint: "tcp://127.0.0.1:1"},
		{Kubelet: source.KubeletOptions{Endpoint: "127.0.0.1:10250"}},
		{Kubelet: source.KubeletOptions{Endpoint: "https://127.0.0.1:10250", CAFile: "testdata/none"}},
		{Kubelet: source.KubeletOptions{Endpoint: "http://127.0.0.1:10255", TokenFile: "t"}},
	} {
		if r, err := New(o); err == nil {
			r.Close()
			t.Errorf("%+v: got no error, want one", o)
		}
	}
}

// TestTheKubeletAnswers: with a token; without one, and with an unknown authority, it
// is warned of.
func TestTheKubeletAnswers(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer secret" {
			http.Error(w, "no", http.StatusUnauthorized)
			return
		}

		w.Write([]byte(`{"items":[{"metadata":{"name":"checkout-7d9f","namespace":"shop","uid":"` + appUID + `"},"status":{"qosClass":"Burstable",
			"containerStatuses":[{"name":"app","containerID":"containerd://` + appID + `"}]}}]}`))
	}))
	t.Cleanup(server.Close)

	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}

	ref, _ := resolve.RefOf(&app)
	ask := func(o source.KubeletOptions) (*Resolver, *warnings) {
		o.Endpoint = server.URL
		r, warned := open(t, Options{HostRoot: t.TempDir(), Kubelet: o})
		r.Seen(ref)

		return r, warned
	}

	r, warned := ask(source.KubeletOptions{TokenFile: token, Insecure: true})

	eventually(t, "it answers", func() bool { return name(r.Fill(&app)) == "kubelet shop checkout-7d9f app" })

	if warned.count("kubelet") > 0 {
		t.Errorf("got warnings %q, want none", warned.text)
	}

	_, warned = ask(source.KubeletOptions{Insecure: true})

	eventually(t, "the refusal is warned of", func() bool { return warned.count("401") == 1 })

	_, warned = ask(source.KubeletOptions{TokenFile: token})

	eventually(t, "the certificate is warned of", func() bool { return warned.count("certificate") == 1 })
}

// TestExitIsRememberedAfterRemoval: an event reported the exit before the runtime
// removed the container.
func TestExitIsRememberedAfterRemoval(t *testing.T) {
	f := fakecri.WithPod()
	f.Events = make(chan *cri.ContainerEventResponse)
	socket := filepath.Join(fakecri.SocketDir(t), "c.sock")
	f.Serve(t, socket)

	r, _ := open(t, Options{HostRoot: node, CRIEndpoint: socket})
	if x, err := r.Exit(t.Context(), resolve.Ref{ContainerID: appID}); !errors.Is(err, source.ErrNoAnswer) || x.State != "" {
		t.Errorf("got %+v, %v before a connection, want %v", x, err, source.ErrNoAnswer)
	}

	eventually(t, "it is listed", func() bool { return name(r.Fill(&app)) == fromCRI })

	if x, err := r.Exit(t.Context(), resolve.Ref{ContainerID: appID}); err != nil || x.State != source.StateRunning {
		t.Errorf("got %+v, %v, want %s", x, err, source.StateRunning)
	}

	f.Exit(appID, "Error", 137)

	f.Events <- f.Event(appID, cri.ContainerEventType_CONTAINER_STOPPED_EVENT)

	eventually(t, "the event is read", func() bool { return r.cache.exitOf(appID).State != "" })
	f.Remove(appID)

	x, err := r.Exit(t.Context(), resolve.Ref{ContainerID: appID})
	if !errors.Is(err, source.ErrUnknown) || x.Reason != "Error" || x.Code == nil || *x.Code != 137 {
		t.Errorf("got %+v, %v, want Error/137 and %v", x, err, source.ErrUnknown)
	}

	if x, err := r.Exit(t.Context(), resolve.Ref{ContainerID: dockerID}); err != nil || x.Source != source.NameDisk {
		t.Errorf("got %+v, %v of a container of Docker, want it from %s", x, err, source.NameDisk)
	}
}
