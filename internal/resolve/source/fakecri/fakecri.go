// SPDX-License-Identifier: Apache-2.0

// Package fakecri is a container runtime for tests: it serves the CRI for the
// containers that a test gives it.
package fakecri

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/oomtrace/oomtrace/internal/runtimes"
)

// The pod shop/checkout-7d9f that WithPod has, and its container.
const (
	AppID     = "3f2a91c07d4e5b6a8c9d0e1f2a3b4c5d6e7f8091a2b3c4d5e6f708192a3b4c5d"
	SandboxID = "b7c6d5e4f3a2918070615243342516078899aabbccddeeff0011223344556677"
	AppUID    = "6ba0af16-1c3e-4d5f-8a9b-0c1d2e3f4a5b"
)

// Runtime is a container runtime. Its methods are safe for concurrent use.
type Runtime struct {
	cri.UnimplementedRuntimeServiceServer
	// ReportedVersion is the version that the runtime reports. Set it before Serve.
	ReportedVersion string
	// Events, unless nil, are sent to readers of GetContainerEvents. Set it before
	// Serve.
	Events chan *cri.ContainerEventResponse
	// Gate, unless nil, blocks every call until it is closed. Set it before Serve.
	Gate chan struct{}

	mu         sync.Mutex
	containers map[string]*cri.ContainerStatus
	sandboxOf  map[string]string
	sandboxes  map[string]*cri.PodSandboxStatus
	calls      map[string]int
}

// New returns a runtime without containers, which reports version v2.1.9 of
// containerd.
func New() *Runtime {
	return &Runtime{
		ReportedVersion: "v2.1.9", containers: map[string]*cri.ContainerStatus{}, sandboxOf: map[string]string{},
		sandboxes: map[string]*cri.PodSandboxStatus{}, calls: map[string]int{},
	}
}

// WithPod returns a runtime with the pod shop/checkout-7d9f, which has one container.
func WithPod() *Runtime {
	f := New()
	f.sandboxes[SandboxID] = &cri.PodSandboxStatus{
		Id: SandboxID, Metadata: &cri.PodSandboxMetadata{Name: "checkout-7d9f", Namespace: "shop", Uid: AppUID},
		Labels: map[string]string{runtimes.LabelPodUID: AppUID, runtimes.LabelPod: "checkout-7d9f", "app": "checkout"},
	}
	f.Add(AppID, SandboxID, "app", 3)

	return f
}

// Add starts a container in a sandbox.
func (f *Runtime) Add(id, sandbox, name string, attempt uint32) {
	f.mu.Lock()
	defer f.mu.Unlock()

	pod := f.sandboxes[sandbox].Metadata
	f.sandboxOf[id] = sandbox
	f.containers[id] = &cri.ContainerStatus{
		Id: id, Metadata: &cri.ContainerMetadata{Name: name, Attempt: attempt}, State: cri.ContainerState_CONTAINER_RUNNING,
		Image: &cri.ImageSpec{Image: "shop/checkout:1.4"},
		Labels: map[string]string{
			runtimes.LabelNamespace: pod.Namespace, runtimes.LabelPod: pod.Name, runtimes.LabelPodUID: pod.Uid,
			runtimes.LabelContainer: name,
		},
		Resources: &cri.ContainerResources{Linux: &cri.LinuxContainerResources{OomScoreAdj: 985}},
	}
}

// Exit ends a container.
func (f *Runtime) Exit(id, reason string, code int32) {
	f.mu.Lock()
	defer f.mu.Unlock()

	f.containers[id] = &cri.ContainerStatus{
		Id: id, Metadata: f.containers[id].Metadata, Labels: f.containers[id].Labels,
		State: cri.ContainerState_CONTAINER_EXITED, Reason: reason, ExitCode: code,
	}
}

// Remove removes a container.
func (f *Runtime) Remove(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()

	delete(f.containers, id)
}

// Calls returns how often a method of the CRI was called.
func (f *Runtime) Calls(method string) int {
	f.mu.Lock()
	defer f.mu.Unlock()

	return f.calls[method]
}

// Event returns the event of a container's change of state.
func (f *Runtime) Event(id string, kind cri.ContainerEventType) *cri.ContainerEventResponse {
	f.mu.Lock()
	defer f.mu.Unlock()

	return &cri.ContainerEventResponse{
		ContainerId: id, ContainerEventType: kind,
		PodSandboxStatus: f.sandboxes[f.sandboxOf[id]], ContainersStatuses: []*cri.ContainerStatus{f.containers[id]},
	}
}

// Serve listens on a socket until the test ends, or stop is called.
func (f *Runtime) Serve(t *testing.T, socket string) (stop func()) {
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

func (f *Runtime) hold(ctx context.Context, request any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	f.mu.Lock()
	f.calls[filepath.Base(info.FullMethod)]++
	gate := f.Gate
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

func (f *Runtime) Version(context.Context, *cri.VersionRequest) (*cri.VersionResponse, error) {
	return &cri.VersionResponse{RuntimeName: "containerd", RuntimeVersion: f.ReportedVersion, RuntimeApiVersion: "v1"}, nil
}

func (f *Runtime) ListContainers(context.Context, *cri.ListContainersRequest) (*cri.ListContainersResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()

	out := &cri.ListContainersResponse{}
	for id, c := range f.containers {
		out.Containers = append(out.Containers, &cri.Container{
			Id: id, PodSandboxId: f.sandboxOf[id], Metadata: c.Metadata, Image: c.Image, Labels: c.Labels, State: c.State,
		})
	}

	return out, nil
}

func (f *Runtime) ListPodSandbox(_ context.Context, r *cri.ListPodSandboxRequest) (*cri.ListPodSandboxResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := &cri.ListPodSandboxResponse{}

	for id, s := range f.sandboxes {
		if uid, ok := r.GetFilter().GetLabelSelector()[runtimes.LabelPodUID]; !ok || s.Labels[runtimes.LabelPodUID] == uid {
			out.Items = append(out.Items, &cri.PodSandbox{Id: id, Metadata: s.Metadata, Labels: s.Labels})
		}
	}

	return out, nil
}

func (f *Runtime) ContainerStatus(_ context.Context, r *cri.ContainerStatusRequest) (*cri.ContainerStatusResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()

	if c := f.containers[r.ContainerId]; c != nil {
		return &cri.ContainerStatusResponse{Status: c}, nil
	}

	return nil, status.Error(codes.NotFound, "no such container")
}

func (f *Runtime) PodSandboxStatus(_ context.Context, r *cri.PodSandboxStatusRequest) (*cri.PodSandboxStatusResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()

	if s := f.sandboxes[r.PodSandboxId]; s != nil {
		return &cri.PodSandboxStatusResponse{Status: s}, nil
	}

	return nil, status.Error(codes.NotFound, "no such sandbox")
}

func (f *Runtime) GetContainerEvents(_ *cri.GetEventsRequest, s grpc.ServerStreamingServer[cri.ContainerEventResponse]) error {
	f.mu.Lock()
	f.calls["GetContainerEvents"]++
	f.mu.Unlock()

	if f.Events == nil {
		return status.Error(codes.Unimplemented, "no events here")
	}

	for {
		select {
		case <-s.Context().Done():
			return nil
		case e := <-f.Events:
			if err := s.Send(e); err != nil {
				return err
			}
		}
	}
}

// SocketDir returns a directory whose path is short enough for a socket.
func SocketDir(t *testing.T) string {
	t.Helper()

	dir, err := os.MkdirTemp("/tmp", "cri")
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { os.RemoveAll(dir) })

	return dir
}
