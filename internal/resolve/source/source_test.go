// SPDX-License-Identifier: Apache-2.0

package source

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/resolve"
	"github.com/oomtrace/oomtrace/internal/resolve/source/fakecri"
	"github.com/oomtrace/oomtrace/internal/runtimes"
)

// node is the file tree of a node with the files of all runtimes.
const node = "testdata/node"

// Containers and pods, the last ones of testdata/node.
const (
	appID     = fakecri.AppID
	sandboxID = fakecri.SandboxID
	appUID    = fakecri.AppUID
	otherID   = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

	crioID    = "c0c0000000000000000000000000000000000000000000000000000000000001"
	crioUID   = "11111111-2222-4333-8444-555555555555"
	dockerID  = "d0c0000000000000000000000000000000000000000000000000000000000001"
	cridockID = "d0c0000000000000000000000000000000000000000000000000000000000002"
	podmanID  = "e0c0000000000000000000000000000000000000000000000000000000000001"
	rmID      = "e0c0000000000000000000000000000000000000000000000000000000000002" // podman run --rm
	staticID  = "f0c0000000000000000000000000000000000000000000000000000000000001"
	staticUID = "33333333333343338444555555555555"
)

func ptr[T any](v T) *T { return &v }

// store records what feeds put into it.
type store struct {
	mu      sync.Mutex
	put     map[resolve.Ref]events.Workload
	exits   map[string]Exit
	gone    []resolve.Ref
	present map[string][]resolve.Ref
}

func newStore() *store {
	return &store{put: map[resolve.Ref]events.Workload{}, exits: map[string]Exit{}, present: map[string][]resolve.Ref{}}
}

func (s *store) Put(ref resolve.Ref, w events.Workload) {
	s.mu.Lock()
	defer s.mu.Unlock()

	s.put[ref] = w
}

func (s *store) Listed(feed string, present []resolve.Ref) {
	s.mu.Lock()
	defer s.mu.Unlock()

	s.present[feed] = present
}

func (s *store) Gone(ref resolve.Ref) {
	s.mu.Lock()
	defer s.mu.Unlock()

	s.gone = append(s.gone, ref)
}

func (s *store) Exited(id string, x Exit) {
	s.mu.Lock()
	defer s.mu.Unlock()

	s.exits[id] = x
}

func (s *store) SourceOf(ref resolve.Ref) string {
	s.mu.Lock()
	defer s.mu.Unlock()

	return s.put[ref].Source
}

func noWarning(t *testing.T) func(key, text string) {
	return func(_, text string) { t.Errorf("got warning %q, want none", text) }
}

// lookup adapts functions to Source.
type lookup func(context.Context, resolve.Ref) (events.Workload, error)

func (l lookup) Lookup(ctx context.Context, ref resolve.Ref) (events.Workload, error) {
	return l(ctx, ref)
}

// criSource is a connection to a fake runtime.
func criSource(t *testing.T) Source {
	socket := filepath.Join(fakecri.SocketDir(t), "c.sock")
	fakecri.WithPod().Serve(t, socket)

	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { conn.Close() })

	c := &connection{client: cri.NewRuntimeServiceClient(conn), runtime: "containerd", named: func(string) bool { return false }}

	return lookup(c.lookup)
}

// kubeletSource looks up in the list of a kubelet's feed.
func kubeletSource(t *testing.T) Source {
	k := kubelet(t, newStore())

	return lookup(func(ctx context.Context, ref resolve.Ref) (events.Workload, error) {
		all, err := k.pods(ctx)
		if err != nil {
			return events.Workload{}, err
		}

		for _, f := range all {
			if ref.ContainerID == f.ref.ContainerID && (ref.ContainerID != "" || ref.PodUID == f.ref.PodUID) {
				return f.w, nil
			}
		}

		return events.Workload{}, ErrUnknown
	})
}

// kubelet returns the feed of a server that requires a token, over TLS.
func kubelet(t *testing.T, store Store) *Kubelet {
	list := `{"kind":"PodList","items":[
		{"metadata":{"name":"checkout-7d9f","namespace":"shop","uid":"` + appUID + `","labels":{"app":"checkout"}},
		 "status":{"qosClass":"Burstable","containerStatuses":[
		  {"name":"app","image":"shop/checkout:1.4","containerID":"containerd://` + appID + `","restartCount":3},
		  {"name":"waiting","image":"x","containerID":"","restartCount":0}]}},
		{"metadata":{"name":"kube-apiserver-n1","namespace":"kube-system","uid":"99999999-0000-4000-8000-000000000000",
		  "annotations":{"kubernetes.io/config.hash":"` + staticUID + `","kubernetes.io/config.source":"file"}},
		 "status":{"qosClass":"Guaranteed"}}]}`
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path != "/pods":
			http.NotFound(w, r)
		case r.Header.Get("Authorization") != "Bearer secret":
			http.Error(w, "no", http.StatusUnauthorized)
		default:
			w.Write([]byte(list))
		}
	}))
	t.Cleanup(server.Close)

	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}

	k, err := NewKubelet(KubeletOptions{Endpoint: server.URL + "/", TokenFile: token, Insecure: true}, store, noWarning(t))
	if err != nil {
		t.Fatal(err)
	}

	return k
}

func TestSourcesNameWhatTheyHave(t *testing.T) {
	sources := map[string]Source{
		"cri": criSource(t), "disk": NewDisk(node, runtimes.Known()), "log_dir": NewLogDir(node), "kubelet": kubeletSource(t),
	}
	for _, test := range []struct {
		source string
		ref    resolve.Ref
		want   events.Workload // zero: ErrUnknown
	}{
		{"cri", resolve.Ref{ContainerID: appID}, events.Workload{
			Namespace: "shop", Pod: "checkout-7d9f", PodUID: appUID, Container: "app", Runtime: "containerd", Image: "shop/checkout:1.4",
			Labels: map[string]string{"app": "checkout"}, RestartCount: ptr(uint32(3)), OOMScoreAdj: ptr(985),
		}},
		{"cri", resolve.Ref{ContainerID: sandboxID}, events.Workload{
			Namespace: "shop", Pod: "checkout-7d9f", PodUID: appUID, Runtime: "containerd", Labels: map[string]string{"app": "checkout"},
		}},
		{"cri", resolve.Ref{PodUID: appUID}, events.Workload{
			Namespace: "shop", Pod: "checkout-7d9f", PodUID: appUID, Runtime: "containerd", Labels: map[string]string{"app": "checkout"},
		}},
		{"cri", resolve.Ref{ContainerID: otherID}, events.Workload{}},
		{"cri", resolve.Ref{PodUID: crioUID}, events.Workload{}},
		{"disk", resolve.Ref{ContainerID: appID, Runtime: "containerd"}, events.Workload{
			Namespace: "shop", Pod: "checkout-7d9f", PodUID: appUID, Container: "app", ContainerID: appID, Runtime: "containerd",
			Image: "shop/checkout:1.4", OOMScoreAdj: ptr(985),
		}},
		{"disk", resolve.Ref{ContainerID: sandboxID}, events.Workload{
			Namespace: "shop", Pod: "checkout-7d9f", PodUID: appUID, ContainerID: sandboxID, Runtime: "containerd", OOMScoreAdj: ptr(-998),
		}},
		{"disk", resolve.Ref{ContainerID: crioID, Runtime: "cri-o"}, events.Workload{
			Namespace: "jobs", Pod: "job-x2v", PodUID: crioUID, Container: "worker", ContainerID: crioID, Runtime: "cri-o",
			Image: "registry.example/jobs/worker:2", Labels: map[string]string{"app": "job"}, RestartCount: ptr(uint32(7)), OOMScoreAdj: ptr(1000),
		}},
		{"disk", resolve.Ref{ContainerID: dockerID, Runtime: "docker"}, events.Workload{
			Container: "web", ContainerID: dockerID, Runtime: "docker", Image: "nginx:1.25", Labels: map[string]string{"maintainer": "x"},
		}},
		{"disk", resolve.Ref{ContainerID: cridockID}, events.Workload{
			Namespace: "shop", Pod: "front-0", PodUID: "22222222-2222-4333-8444-555555555555", Container: "api", ContainerID: cridockID, Runtime: "docker", Image: "sha256:abc",
		}},
		{"disk", resolve.Ref{ContainerID: podmanID, Runtime: "podman"}, events.Workload{
			Container: "db", ContainerID: podmanID, Runtime: "podman", Image: "docker.io/library/postgres:16",
		}},
		{"disk", resolve.Ref{ContainerID: rmID, Runtime: "podman"}, events.Workload{
			Container: "once", ContainerID: rmID, Runtime: "podman", Image: "docker.io/library/busybox:1",
		}},
		{"disk", resolve.Ref{ContainerID: otherID}, events.Workload{}},
		{"disk", resolve.Ref{ContainerID: "../../../../../etc"}, events.Workload{}},
		{"disk", resolve.Ref{PodUID: appUID}, events.Workload{}},
		{"log_dir", resolve.Ref{PodUID: staticUID}, events.Workload{Namespace: "kube-system", Pod: "kube-apiserver-n1", PodUID: staticUID}},
		{"log_dir", resolve.Ref{PodUID: staticUID, ContainerID: staticID}, events.Workload{
			Namespace: "kube-system", Pod: "kube-apiserver-n1", PodUID: staticUID, Container: "kube-apiserver", ContainerID: staticID,
		}},
		{"log_dir", resolve.Ref{PodUID: appUID}, events.Workload{}},
		{"kubelet", resolve.Ref{ContainerID: appID}, events.Workload{
			Namespace: "shop", Pod: "checkout-7d9f", PodUID: appUID, Container: "app", ContainerID: appID, Runtime: "containerd", QoS: "burstable",
			Image: "shop/checkout:1.4", Labels: map[string]string{"app": "checkout"}, RestartCount: ptr(uint32(3)),
		}},
		{"kubelet", resolve.Ref{PodUID: staticUID}, events.Workload{Namespace: "kube-system", Pod: "kube-apiserver-n1", PodUID: staticUID, QoS: "guaranteed"}},
		{"kubelet", resolve.Ref{ContainerID: otherID}, events.Workload{}},
	} {
		got, err := sources[test.source].Lookup(t.Context(), test.ref)
		if test.want.IsZero() {
			if !errors.Is(err, ErrUnknown) {
				t.Errorf("%s %+v: got %+v, %v, want %v", test.source, test.ref, got, err, ErrUnknown)
			}

			continue
		}
		test.want.Source = test.source

		if len(got.Labels) == 0 {
			got.Labels = nil
		}

		if err != nil || !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s %+v:\n got %s, %v\nwant %s", test.source, test.ref, text(got), err, text(test.want))
		}
	}
}

func text(w events.Workload) string {
	b, _ := json.Marshal(w)
	return string(b)
}

// TestTheKubeletIsAskedOnce: one request answers for all ids that wait.
func TestTheKubeletIsAskedOnce(t *testing.T) {
	st := newStore()
	k := kubelet(t, st)
	ctx, cancel := context.WithCancel(t.Context())

	var work sync.WaitGroup
	work.Go(func() { k.Run(ctx) })

	for range 3 {
		k.Ask(resolve.Ref{ContainerID: appID, PodUID: appUID}, 0)
	}

	for st.SourceOf(resolve.Ref{PodUID: staticUID}) == "" {
		time.Sleep(time.Millisecond)
	}

	cancel()
	work.Wait()

	if got := st.put[resolve.Ref{ContainerID: appID, PodUID: appUID}]; got.Container != "app" {
		t.Errorf("got %+v, want container app", got)
	}
}

// TestEventsReachTheStore: an event names the container and its pod, and reports the
// exit; the end of a container removes it.
func TestEventsReachTheStore(t *testing.T) {
	st := newStore()
	feed := NewCRI("/c.sock", "/c.sock", st, noWarning(t))
	runtime := fakecri.WithPod()

	runtime.Exit(appID, "Error", 137)
	feed.event(&connection{runtime: "containerd"}, runtime.Event(appID, cri.ContainerEventType_CONTAINER_STOPPED_EVENT))
	feed.event(&connection{runtime: "containerd"}, runtime.Event(appID, cri.ContainerEventType_CONTAINER_DELETED_EVENT))

	w, sandbox := st.put[resolve.Ref{ContainerID: appID}], st.put[resolve.Ref{ContainerID: sandboxID}]
	if w.Pod != "checkout-7d9f" || w.Labels["app"] != "checkout" || sandbox.Pod == "" {
		t.Errorf("got %+v, want container and sandbox of checkout-7d9f", st.put)
	}

	if x := st.exits[appID]; x.State != StateExited || x.Reason != "Error" || x.Code == nil || *x.Code != 137 {
		t.Errorf("got exit %+v, want Error/137", x)
	}

	if want := []resolve.Ref{{ContainerID: appID}}; !slices.Equal(st.gone, want) {
		t.Errorf("got %+v gone, want %+v", st.gone, want)
	}
}

// TestAskLeavesOutWhatComesByItself: a pod alone is asked for late, and a runtime that
// is not connected not at all.
func TestAskLeavesOutWhatComesByItself(t *testing.T) {
	feed := NewCRI("/c.sock", "/c.sock", newStore(), noWarning(t))
	container, pod := resolve.Ref{ContainerID: appID}, resolve.Ref{PodUID: appUID}

	queued := func(ref resolve.Ref, attempt int) bool {
		before := len(feed.wanted)
		return feed.Ask(ref, attempt) && len(feed.wanted) > before
	}

	if queued(container, 0) {
		t.Error("got a question to a runtime that is not connected, want none")
	}

	feed.now.Store(&connection{})

	for _, test := range []struct {
		ref     resolve.Ref
		attempt int
		want    bool
	}{{container, 0, true}, {container, askAttempts, false}, {pod, 0, false}, {pod, 1, false}, {pod, 2, true}} {
		if got := queued(test.ref, test.attempt); got != test.want {
			t.Errorf("%+v, attempt %d: got queued %v, want %v", test.ref, test.attempt, got, test.want)
		}
	}
}

func TestDockerKeepsTheExit(t *testing.T) {
	d := NewDisk(node, runtimes.Known())
	if x, ok := d.Exit(dockerID); !ok || x.State != StateExited || x.Reason != ReasonOOMKilled || *x.Code != 137 || x.Source != NameDisk {
		t.Errorf("got %+v, %v, want OOMKilled/137", x, ok)
	}

	for _, id := range []string{appID, "", "../../etc"} {
		if x, ok := d.Exit(id); ok {
			t.Errorf("%q: got %+v, want none", id, x)
		}
	}
}

// TestWarningsKeepTheCause: errors that are wrapped are recognized.
func TestWarningsKeepTheCause(t *testing.T) {
	var got []string
	feed := NewCRI("/s", "/s", newStore(), func(_, text string) { got = append(got, text) })

	feed.warnOf(&net.OpError{Op: "dial", Err: &os.SyscallError{Syscall: "connect", Err: syscall.EACCES}})
	feed.warnOf(&fs.PathError{Err: fs.ErrNotExist})
	feed.warnOf(nil)

	if len(got) != 2 || !strings.Contains(got[0], "permission denied") || !strings.Contains(got[1], "no socket") {
		t.Errorf("got %q, want permission denied and no socket", got)
	}
}

func TestClipCutsAtRunes(t *testing.T) {
	for _, test := range []struct{ s, want string }{
		{"12345678", "12345678"}, {"123456789", "12345…"}, {"1234é6789", "1234…"}, {"\xff\xff\xff\xff\xff\xff\xff\xff\xff", "\xff\xff\xff\xff\xff…"}, {"", ""},
	} {
		if got := Clip(test.s, 8); got != test.want {
			t.Errorf("%q: got %q, want %q", test.s, got, test.want)
		}
	}
}

// TestHostileFilesAreNoAnswer: links lead no further than the root, FIFOs are not
// waited for, and files that are too large or broken are ignored.
func TestHostileFilesAreNoAnswer(t *testing.T) {
	root := t.TempDir()
	secret := filepath.Join(t.TempDir(), "config.json")

	config, err := os.ReadFile(filepath.Join(node, "run/containerd/io.containerd.runtime.v2.task/k8s.io", appID, "config.json"))
	if err != nil {
		t.Fatal(err)
	}

	if err := os.WriteFile(secret, config, 0o644); err != nil {
		t.Fatal(err)
	}

	tooLarge := []byte(`{"annotations":{"io.kubernetes.cri.sandbox-name":"` + strings.Repeat("x", maxConfig) + `"}}`)

	tasks := filepath.Join(root, "run/containerd/io.containerd.runtime.v2.task/k8s.io")
	for id, make := range map[string]func(file string) error{
		"aa": func(file string) error { return os.Symlink(secret, file) },
		"ab": func(file string) error { return os.Symlink("../../../../../../../../../.."+secret, file) },
		"ac": func(file string) error { return syscall.Mkfifo(file, 0o644) },
		"ad": func(file string) error { return os.WriteFile(file, tooLarge, 0o644) },
		"ae": func(file string) error { return os.WriteFile(file, config[:len(config)/2], 0o644) },
		"af": func(file string) error { return os.Mkdir(file, 0o755) },
	} {
		if err := os.MkdirAll(filepath.Join(tasks, id), 0o755); err != nil {
			t.Fatal(err)
		}

		if err := make(filepath.Join(tasks, id, "config.json")); err != nil {
			t.Fatal(err)
		}

		if w, err := NewDisk(Root(root), runtimes.Known()).Lookup(context.Background(), resolve.Ref{ContainerID: id}); err == nil {
			t.Errorf("%s: got %+v, want an error", id, w)
		}
	}
	// A link that stays within the root is followed.
	if err := os.MkdirAll(filepath.Join(root, "elsewhere"), 0o755); err != nil {
		t.Fatal(err)
	}

	if err := os.WriteFile(filepath.Join(root, "elsewhere/config.json"), config, 0o644); err != nil {
		t.Fatal(err)
	}

	if err := os.Symlink("/elsewhere", filepath.Join(tasks, "ba")); err != nil {
		t.Fatal(err)
	}

	w, err := NewDisk(Root(root), runtimes.Known()).Lookup(context.Background(), resolve.Ref{ContainerID: "ba"})
	if err != nil || w.Pod != "checkout-7d9f" {
		t.Errorf("got %+v, %v, want checkout-7d9f", w, err)
	}
}

// FuzzSpec: files of a container are written by many; none makes a look-up fail.
func FuzzSpec(f *testing.F) {
	for _, file := range []string{"run/containerd/io.containerd.runtime.v2.task/k8s.io/" + appID + "/config.json", "run/containers/storage/overlay-containers/" + crioID + "/userdata/config.json"} {
		text, err := os.ReadFile(filepath.Join(node, file))
		if err != nil {
			f.Fatal(err)
		}

		f.Add(text)
	}

	f.Fuzz(func(t *testing.T, text []byte) {
		root := t.TempDir()
		for _, file := range []string{
			"run/containerd/io.containerd.runtime.v2.task/k8s.io/aa/config.json", "run/containers/storage/overlay-containers/ab/userdata/config.json",
			"var/lib/docker/containers/ac/config.v2.json", "var/lib/containers/storage/overlay-containers/containers.json",
		} {
			file = filepath.Join(root, file)
			if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
				t.Fatal(err)
			}

			if err := os.WriteFile(file, text, 0o644); err != nil {
				t.Fatal(err)
			}
		}

		for _, id := range []string{"aa", "ab", "ac"} {
			w, err := NewDisk(Root(root), runtimes.Known()).Lookup(context.Background(), resolve.Ref{ContainerID: id})
			if err == nil && (w.ContainerID != id || w.Source != NameDisk) {
				t.Errorf("got %+v, want container %s from %s", w, id, NameDisk)
			}

			NewDisk(Root(root), runtimes.Known()).Exit(id)
		}
	})
}
