// SPDX-License-Identifier: Apache-2.0

package names

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const (
	appID     = "3f2a91c07d4e5b6a8c9d0e1f2a3b4c5d6e7f8091a2b3c4d5e6f708192a3b4c5d"
	sandboxID = "b7c6d5e4f3a2918070615243342516078899aabbccddeeff0011223344556677"
	otherID   = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
	appUID    = "6ba0af16-1c3e-4d5f-8a9b-0c1d2e3f4a5b"
)

// fake is a container runtime that knows what it is told.
type fake struct {
	cri.UnimplementedRuntimeServiceServer
	version string
	// events, where it is not nil, is what GetContainerEvents hands on.
	events chan *cri.ContainerEventResponse
	// gate, where it is not nil, holds up every call until it is closed.
	gate chan struct{}

	mu         sync.Mutex
	containers map[string]*cri.ContainerStatus
	sandboxOf  map[string]string
	sandboxes  map[string]*cri.PodSandboxStatus
	calls      map[string]int
}

func newFake() *fake {
	return &fake{
		version: "v2.1.9", containers: map[string]*cri.ContainerStatus{}, sandboxOf: map[string]string{},
		sandboxes: map[string]*cri.PodSandboxStatus{}, calls: map[string]int{},
	}
}

// withPod has the pod shop/checkout-7d9f with one container.
func withPod(f *fake) *fake {
	f.sandboxes[sandboxID] = &cri.PodSandboxStatus{
		Id: sandboxID, Metadata: &cri.PodSandboxMetadata{Name: "checkout-7d9f", Namespace: "shop", Uid: appUID},
		Labels: map[string]string{labelPodUID: appUID, labelPod: "checkout-7d9f", "app": "checkout"},
	}
	f.add(appID, sandboxID, "app", 3)

	return f
}

func (f *fake) add(id, sandbox, name string, attempt uint32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	pod := f.sandboxes[sandbox].Metadata
	f.sandboxOf[id] = sandbox
	f.containers[id] = &cri.ContainerStatus{
		Id: id, Metadata: &cri.ContainerMetadata{Name: name, Attempt: attempt}, State: cri.ContainerState_CONTAINER_RUNNING,
		Image:     &cri.ImageSpec{Image: "shop/checkout:1.4"},
		Labels:    map[string]string{labelNamespace: pod.Namespace, labelPod: pod.Name, labelPodUID: pod.Uid, labelContainer: name},
		Resources: &cri.ContainerResources{Linux: &cri.LinuxContainerResources{OomScoreAdj: 985}},
	}
}

// exit ends a container.
func (f *fake) exit(id, reason string, code int32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.containers[id] = &cri.ContainerStatus{
		Id: id, Metadata: f.containers[id].Metadata, Labels: f.containers[id].Labels,
		State: cri.ContainerState_CONTAINER_EXITED, Reason: reason, ExitCode: code,
	}
}

func (f *fake) remove(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()

	delete(f.containers, id)
}

func (f *fake) asked(method string) int {
	f.mu.Lock()
	defer f.mu.Unlock()

	return f.calls[method]
}

// serve listens until the test ends, or stop is called.
func (f *fake) serve(t *testing.T, socket string) (stop func()) {
	t.Helper()

	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.UnaryInterceptor(f.hold))
	cri.RegisterRuntimeServiceServer(server, f)

	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener)
	}()
	stop = sync.OnceFunc(func() { server.Stop(); <-done })
	t.Cleanup(stop)

	return stop
}

func (f *fake) hold(ctx context.Context, request any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	f.mu.Lock()
	f.calls[filepath.Base(info.FullMethod)]++
	gate := f.gate
	f.mu.Unlock()

	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}

	return handle(ctx, request)
}

func (f *fake) Version(context.Context, *cri.VersionRequest) (*cri.VersionResponse, error) {
	return &cri.VersionResponse{RuntimeName: "containerd", RuntimeVersion: f.version, RuntimeApiVersion: "v1"}, nil
}

func (f *fake) ListContainers(context.Context, *cri.ListContainersRequest) (*cri.ListContainersResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()

	out := &cri.ListContainersResponse{}
	for id, c := range f.containers {
		out.Containers = append(out.Containers, &cri.Container{Id: id, PodSandboxId: f.sandboxOf[id], Metadata: c.Metadata, Image: c.Image, Labels: c.Labels, State: c.State})
	}

	return out, nil
}

func (f *fake) ListPodSandbox(_ context.Context, r *cri.ListPodSandboxRequest) (*cri.ListPodSandboxResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := &cri.ListPodSandboxResponse{}

	for id, s := range f.sandboxes {
		if uid, ok := r.GetFilter().GetLabelSelector()[labelPodUID]; !ok || s.Labels[labelPodUID] == uid {
			out.Items = append(out.Items, &cri.PodSandbox{Id: id, Metadata: s.Metadata, Labels: s.Labels})
		}
	}

	return out, nil
}

func (f *fake) ContainerStatus(_ context.Context, r *cri.ContainerStatusRequest) (*cri.ContainerStatusResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()

	if c := f.containers[r.ContainerId]; c != nil {
		return &cri.ContainerStatusResponse{Status: c}, nil
	}

	return nil, status.Error(codes.NotFound, "no such container")
}

func (f *fake) PodSandboxStatus(_ context.Context, r *cri.PodSandboxStatusRequest) (*cri.PodSandboxStatusResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()

	if s := f.sandboxes[r.PodSandboxId]; s != nil {
		return &cri.PodSandboxStatusResponse{Status: s}, nil
	}

	return nil, status.Error(codes.NotFound, "no such sandbox")
}

func (f *fake) GetContainerEvents(_ *cri.GetEventsRequest, s grpc.ServerStreamingServer[cri.ContainerEventResponse]) error {
	f.mu.Lock()
	f.calls["GetContainerEvents"]++
	f.mu.Unlock()

	if f.events == nil {
		return status.Error(codes.Unimplemented, "no events here")
	}

	for {
		select {
		case <-s.Context().Done():
			return nil
		case e := <-f.events:
			if err := s.Send(e); err != nil {
				return err
			}
		}
	}
}

// socketDir is a directory whose path is short enough for a socket.
func socketDir(t *testing.T) string {
	t.Helper()

	dir, err := os.MkdirTemp("/tmp", "names")
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { os.RemoveAll(dir) })

	return dir
}

// said collects remarks.
type remarks struct {
	mu   sync.Mutex
	text []string
}

func (r *remarks) warn(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.text = append(r.text, text)
}

func (r *remarks) count(part string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0

	for _, text := range r.text {
		if strings.Contains(text, part) {
			n++
		}
	}

	return n
}

// open makes a resolver whose end leaves nothing behind.
func open(t *testing.T, opts Options) (*Resolver, *remarks) {
	t.Helper()
	before := runtime.NumGoroutine()
	var said remarks
	opts.Warn = said.warn

	r, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() {
		r.Close()

		for range 200 { // gRPC's own end after Close has returned
			if runtime.NumGoroutine() <= before {
				return
			}

			time.Sleep(10 * time.Millisecond)
		}
		stacks := make([]byte, 1<<16)
		t.Errorf("%d goroutines before, %d after:\n%s", before, runtime.NumGoroutine(), stacks[:runtime.Stack(stacks, true)])
	})

	return r, &said
}

// eventually waits for what goroutines do.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()

	for range 1000 {
		if is() {
			return
		}

		time.Sleep(10 * time.Millisecond)
	}

	t.Fatalf("it did not come to be that %s", what)
}

// eventOf tells of a container's stop.
func eventOf(f *fake, id string) *cri.ContainerEventResponse {
	return &cri.ContainerEventResponse{
		ContainerId: id, ContainerEventType: cri.ContainerEventType_CONTAINER_STOPPED_EVENT,
		PodSandboxStatus: f.sandboxes[f.sandboxOf[id]], ContainersStatuses: []*cri.ContainerStatus{f.containers[id]},
	}
}
