// SPDX-License-Identifier: Apache-2.0

package names

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/oomtrace/oomtrace/internal/events"
)

// What testdata/node has.
const (
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

// serveNothing is gRPC without any service.
func serveNothing(t *testing.T, l net.Listener) {
	server := grpc.NewServer()

	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(l)
	}()

	t.Cleanup(func() { server.Stop(); <-done })
}

// criSource is a connection to a fake runtime.
func criSource(t *testing.T) source {
	socket := filepath.Join(socketDir(t), "c.sock")
	withPod(newFake()).serve(t, socket)

	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { conn.Close() })

	return &connection{client: cri.NewRuntimeServiceClient(conn), name: "containerd"}
}

// kubeletSource asks a server that wants a token, over TLS.
func kubeletSource(t *testing.T) *kubelet {
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

	k, err := newKubelet(KubeletOptions{Endpoint: server.URL + "/", TokenFile: token, Insecure: true})
	if err != nil {
		t.Fatal(err)
	}

	return k
}

func TestSources(t *testing.T) {
	sources := map[string]source{
		"cri": criSource(t), "disk": newDisk(node), "log_dir": newLogDir(node), "kubelet": kubeletSource(t),
	}
	for _, test := range []struct {
		source string
		ref    Ref
		want   events.Workload // zero: it does not know
	}{
		{"cri", Ref{ContainerID: appID}, events.Workload{
			Namespace: "shop", Pod: "checkout-7d9f", PodUID: appUID, Container: "app", Runtime: "containerd", Image: "shop/checkout:1.4",
			Labels: map[string]string{"app": "checkout"}, RestartCount: ptr(uint32(3)), OOMScoreAdj: ptr(985),
		}},
		{"cri", Ref{ContainerID: sandboxID}, events.Workload{
			Namespace: "shop", Pod: "checkout-7d9f", PodUID: appUID, Runtime: "containerd", Labels: map[string]string{"app": "checkout"},
		}},
		{"cri", Ref{PodUID: appUID}, events.Workload{
			Namespace: "shop", Pod: "checkout-7d9f", PodUID: appUID, Runtime: "containerd", Labels: map[string]string{"app": "checkout"},
		}},
		{"cri", Ref{ContainerID: otherID}, events.Workload{}},
		{"cri", Ref{PodUID: crioUID}, events.Workload{}},
		{"disk", Ref{ContainerID: appID, Runtime: "containerd"}, events.Workload{
			Namespace: "shop", Pod: "checkout-7d9f", PodUID: appUID, Container: "app", ContainerID: appID, Runtime: "containerd",
			Image: "shop/checkout:1.4", OOMScoreAdj: ptr(985),
		}},
		{"disk", Ref{ContainerID: sandboxID}, events.Workload{
			Namespace: "shop", Pod: "checkout-7d9f", PodUID: appUID, ContainerID: sandboxID, Runtime: "containerd", OOMScoreAdj: ptr(-998),
		}},
		{"disk", Ref{ContainerID: crioID, Runtime: "cri-o"}, events.Workload{
			Namespace: "jobs", Pod: "job-x2v", PodUID: crioUID, Container: "worker", ContainerID: crioID, Runtime: "cri-o",
			Image: "registry.example/jobs/worker:2", Labels: map[string]string{"app": "job"}, RestartCount: ptr(uint32(7)), OOMScoreAdj: ptr(1000),
		}},
		{"disk", Ref{ContainerID: dockerID, Runtime: "docker"}, events.Workload{Container: "web", ContainerID: dockerID, Runtime: "docker", Image: "nginx:1.25"}},
		{"disk", Ref{ContainerID: cridockID}, events.Workload{
			Namespace: "shop", Pod: "front-0", PodUID: "22222222-2222-4333-8444-555555555555", Container: "api", ContainerID: cridockID, Runtime: "docker", Image: "sha256:abc",
		}},
		{"disk", Ref{ContainerID: podmanID, Runtime: "podman"}, events.Workload{
			Container: "db", ContainerID: podmanID, Runtime: "podman", Image: "docker.io/library/postgres:16",
		}},
		{"disk", Ref{ContainerID: rmID, Runtime: "podman"}, events.Workload{
			Container: "once", ContainerID: rmID, Runtime: "podman", Image: "docker.io/library/busybox:1",
		}},
		{"disk", Ref{ContainerID: otherID}, events.Workload{}},
		{"disk", Ref{ContainerID: "../../../../../etc"}, events.Workload{}},
		{"disk", Ref{PodUID: appUID}, events.Workload{}},
		{"log_dir", Ref{PodUID: staticUID}, events.Workload{Namespace: "kube-system", Pod: "kube-apiserver-n1", PodUID: staticUID}},
		{"log_dir", Ref{PodUID: staticUID, ContainerID: staticID}, events.Workload{
			Namespace: "kube-system", Pod: "kube-apiserver-n1", PodUID: staticUID, Container: "kube-apiserver", ContainerID: staticID,
		}},
		{"log_dir", Ref{PodUID: appUID}, events.Workload{}},
		{"kubelet", Ref{ContainerID: appID}, events.Workload{
			Namespace: "shop", Pod: "checkout-7d9f", PodUID: appUID, Container: "app", ContainerID: appID, Runtime: "containerd", QoS: "burstable",
			Image: "shop/checkout:1.4", Labels: map[string]string{"app": "checkout"}, RestartCount: ptr(uint32(3)),
		}},
		{"kubelet", Ref{PodUID: staticUID}, events.Workload{Namespace: "kube-system", Pod: "kube-apiserver-n1", PodUID: staticUID, QoS: "guaranteed"}},
		{"kubelet", Ref{ContainerID: otherID}, events.Workload{}},
	} {
		got, err := sources[test.source].lookup(t.Context(), test.ref)
		if test.want.IsZero() {
			if !errors.Is(err, errUnknown) {
				t.Errorf("%s %+v: %+v, %v", test.source, test.ref, got, err)
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

// A kubelet that refuses is remarked on, and asked again no sooner than it should.
func TestKubelet(t *testing.T) {
	k := kubeletSource(t)
	r, said := open(t, Options{HostRoot: t.TempDir(), Kubelet: KubeletOptions{Endpoint: strings.TrimSuffix(k.url, "/pods"), TokenFile: k.tokenFile, Insecure: true}})
	ref, _ := RefOf(&app)
	r.Seen(ref)
	eventually(t, "it answers", func() bool { return name(r.Fill(&app)) == "kubelet shop checkout-7d9f app" })

	static := events.Workload{PodUID: staticUID}
	if got := r.Fill(&static); got.QoS != "guaranteed" {
		t.Errorf("%+v", got)
	}

	if said.count("kubelet") > 0 {
		t.Errorf("%q", said.text)
	}

	refused, said := open(t, Options{HostRoot: t.TempDir(), Kubelet: KubeletOptions{Endpoint: strings.TrimSuffix(k.url, "/pods"), Insecure: true}})
	refused.Seen(ref)
	eventually(t, "it is said", func() bool { return said.count("401") == 1 })
	unsigned, said := open(t, Options{HostRoot: t.TempDir(), Kubelet: KubeletOptions{Endpoint: strings.TrimSuffix(k.url, "/pods"), TokenFile: k.tokenFile}})
	unsigned.Seen(ref)
	eventually(t, "it is said", func() bool { return said.count("certificate") == 1 })
}

// Links of the node lead within its root, pipes are not waited for, and what is
// too large or broken is no answer.
func TestHostileFiles(t *testing.T) {
	root := t.TempDir()
	secret := filepath.Join(t.TempDir(), "config.json")

	config, err := os.ReadFile(filepath.Join(node, "run/containerd/io.containerd.runtime.v2.task/k8s.io", appID, "config.json"))
	if err != nil {
		t.Fatal(err)
	}

	if err := os.WriteFile(secret, config, 0o644); err != nil {
		t.Fatal(err)
	}

	tasks := filepath.Join(root, "run/containerd/io.containerd.runtime.v2.task/k8s.io")
	for id, make := range map[string]func(file string) error{
		"aa": func(file string) error { return os.Symlink(secret, file) },
		"ab": func(file string) error { return os.Symlink("../../../../../../../../../.."+secret, file) },
		"ac": func(file string) error { return mkfifo(file) },
		"ad": func(file string) error { return os.WriteFile(file, make4MiB(), 0o644) },
		"ae": func(file string) error { return os.WriteFile(file, config[:len(config)/2], 0o644) },
		"af": func(file string) error { return os.Mkdir(file, 0o755) },
	} {
		if err := os.MkdirAll(filepath.Join(tasks, id), 0o755); err != nil {
			t.Fatal(err)
		}

		if err := make(filepath.Join(tasks, id, "config.json")); err != nil {
			t.Fatal(err)
		}

		if w, err := newDisk(hostRoot(root)).lookup(context.Background(), Ref{ContainerID: id}); err == nil {
			t.Errorf("%s: %+v", id, w)
		}
	}
	// A link that stays within is followed there.
	if err := os.MkdirAll(filepath.Join(root, "elsewhere"), 0o755); err != nil {
		t.Fatal(err)
	}

	if err := os.WriteFile(filepath.Join(root, "elsewhere/config.json"), config, 0o644); err != nil {
		t.Fatal(err)
	}

	if err := os.Symlink("/elsewhere", filepath.Join(tasks, "ba")); err != nil {
		t.Fatal(err)
	}

	if w, err := newDisk(hostRoot(root)).lookup(context.Background(), Ref{ContainerID: "ba"}); err != nil || w.Pod != "checkout-7d9f" {
		t.Errorf("%+v, %v", w, err)
	}
}

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
		c := newCache(0)

		for _, id := range []string{"aa", "ab", "ac"} {
			w, err := newDisk(hostRoot(root)).lookup(context.Background(), Ref{ContainerID: id})
			if err == nil {
				c.put(Ref{ContainerID: id}, w)

				out := c.fill(&events.Workload{ContainerID: id})
				if n := size(out); n > 512+7*maxName+maxImage+maxLabelBytes+(maxLabels+1)*64+64 {
					t.Errorf("%d bytes", n)
				}
			}
		}
	})
}
