// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// fakeRuntime answers CRI requests, and keeps files and cgroups as containerd does, but
// runs no process: only the cost on the tracer's side is measured. A pod has one
// container.
type fakeRuntime struct {
	cri.UnimplementedRuntimeServiceServer
	version string
	root    string // the node's file system
	cgroups string // directory of all pods
	events  chan *cri.ContainerEventResponse

	mu         sync.Mutex
	containers map[string]*cri.Container
	sandboxes  map[string]*cri.PodSandbox
}

type fakePod struct{ name, uid, sandbox, container string }

// podOf returns the pod with a number.
func podOf(i int) fakePod {
	id := func(what string) string { return fmt.Sprintf("%x", sha256.Sum256(fmt.Appendf(nil, "%s %d", what, i))) }
	u := id("uid")

	return fakePod{
		name: fmt.Sprintf("checkout-%d", i), uid: u[:8] + "-" + u[8:12] + "-" + u[12:16] + "-" + u[16:20] + "-" + u[20:32],
		sandbox: id("sandbox"), container: id("container"),
	}
}

func startFakeRuntime(version, root, cgroups string) (s *fakeRuntime, stop func(), err error) {
	s = &fakeRuntime{
		version: version, root: root, cgroups: cgroups, events: make(chan *cri.ContainerEventResponse, 1<<16),
		containers: map[string]*cri.Container{}, sandboxes: map[string]*cri.PodSandbox{},
	}
	socket := socketIn(root)
	_ = os.Remove(socket)

	listener, err := net.Listen("unix", socket)
	if err != nil {
		return nil, nil, err
	}
	server := grpc.NewServer()

	cri.RegisterRuntimeServiceServer(server, s)
	go func() { _ = server.Serve(listener) }()

	return s, server.Stop, nil
}

func socketIn(root string) string { return filepath.Join(root, "c.sock") }

func (s *fakeRuntime) bundle(p fakePod) string {
	return filepath.Join(s.root, "run/containerd/io.containerd.runtime.v2.task/k8s.io", p.container)
}

func (s *fakeRuntime) podCgroup(p fakePod) string { return filepath.Join(s.cgroups, "pod"+p.uid) }

// create makes a pod in the order of the kubelet and containerd: the bundle exists before
// the container's cgroup.
func (s *fakeRuntime) create(p fakePod) error {
	if err := os.Mkdir(s.podCgroup(p), 0o755); err != nil {
		return err
	}

	s.add(p)

	spec, err := specOf(p)
	if err != nil {
		return err
	}

	if err := os.MkdirAll(s.bundle(p), 0o755); err != nil {
		return err
	}

	if err := os.WriteFile(filepath.Join(s.bundle(p), "config.json"), spec, 0o644); err != nil {
		return err
	}

	s.publish(p, cri.ContainerEventType_CONTAINER_CREATED_EVENT)

	return os.Mkdir(filepath.Join(s.podCgroup(p), p.container), 0o755)
}

// image is what all containers run.
const image = "registry.example/shop/checkout:1.4"

// add adds a pod to the answers to CRI requests.
func (s *fakeRuntime) add(p fakePod) {
	podLabels := map[string]string{
		"app": "checkout", "pod-template-hash": "7d9f8c6b5", "app.kubernetes.io/part-of": "shop", "tier": "front",
	}
	containerLabels := map[string]string{"io.kubernetes.container.name": "app"}

	for _, labels := range []map[string]string{podLabels, containerLabels} {
		labels["io.kubernetes.pod.name"] = p.name
		labels["io.kubernetes.pod.namespace"] = "shop"
		labels["io.kubernetes.pod.uid"] = p.uid
	}

	s.mu.Lock()
	defer s.mu.Unlock()

	s.sandboxes[p.sandbox] = &cri.PodSandbox{
		Id:       p.sandbox,
		Metadata: &cri.PodSandboxMetadata{Name: p.name, Namespace: "shop", Uid: p.uid},
		Labels:   podLabels,
	}
	s.containers[p.container] = &cri.Container{
		Id:           p.container,
		PodSandboxId: p.sandbox,
		Metadata:     &cri.ContainerMetadata{Name: "app"},
		Image:        &cri.ImageSpec{Image: image},
		State:        cri.ContainerState_CONTAINER_RUNNING,
		Labels:       containerLabels,
	}
}

// specOf returns a config.json of realistic size.
func specOf(p fakePod) ([]byte, error) {
	return json.Marshal(map[string]any{
		"ociVersion": "1.1.0",
		"process":    map[string]any{"args": []string{"/app"}, "oomScoreAdj": 985, "env": make([]string, 200)},
		"annotations": map[string]string{
			"io.kubernetes.cri.container-name":    "app",
			"io.kubernetes.cri.container-type":    "container",
			"io.kubernetes.cri.sandbox-name":      p.name,
			"io.kubernetes.cri.sandbox-namespace": "shop",
			"io.kubernetes.cri.sandbox-uid":       p.uid,
			"io.kubernetes.cri.image-name":        image,
		},
		"mounts": make([]map[string]string, 60),
	})
}

// remove removes a pod.
func (s *fakeRuntime) remove(p fakePod) error {
	for _, dir := range []string{filepath.Join(s.podCgroup(p), p.container), s.podCgroup(p)} {
		if err := os.Remove(dir); err != nil {
			return err
		}
	}

	s.publish(p, cri.ContainerEventType_CONTAINER_DELETED_EVENT)

	s.mu.Lock()
	delete(s.sandboxes, p.sandbox)
	delete(s.containers, p.container)
	s.mu.Unlock()

	return os.RemoveAll(s.bundle(p))
}

// publish sends an event about a pod, unless nobody receives and the buffer is full.
func (s *fakeRuntime) publish(p fakePod, what cri.ContainerEventType) {
	s.mu.Lock()
	defer s.mu.Unlock()

	e := &cri.ContainerEventResponse{ContainerId: p.container, ContainerEventType: what}
	if c, sandbox := s.containers[p.container], s.sandboxes[p.sandbox]; c != nil && sandbox != nil {
		e.PodSandboxStatus = &cri.PodSandboxStatus{Id: sandbox.Id, Metadata: sandbox.Metadata, Labels: sandbox.Labels}
		e.ContainersStatuses = []*cri.ContainerStatus{statusOf(c)}
	}

	select {
	case s.events <- e:
	default:
	}
}

func (s *fakeRuntime) Version(context.Context, *cri.VersionRequest) (*cri.VersionResponse, error) {
	return &cri.VersionResponse{RuntimeName: "containerd", RuntimeVersion: s.version}, nil
}

func (s *fakeRuntime) ListContainers(context.Context, *cri.ListContainersRequest) (*cri.ListContainersResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()

	out := &cri.ListContainersResponse{}
	for _, c := range s.containers {
		out.Containers = append(out.Containers, c)
	}

	return out, nil
}

func (s *fakeRuntime) ListPodSandbox(_ context.Context, r *cri.ListPodSandboxRequest) (*cri.ListPodSandboxResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := &cri.ListPodSandboxResponse{}

	uid := r.GetFilter().GetLabelSelector()["io.kubernetes.pod.uid"]
	for _, p := range s.sandboxes {
		if uid == "" || p.Metadata.Uid == uid {
			out.Items = append(out.Items, p)
		}
	}

	return out, nil
}

func (s *fakeRuntime) ContainerStatus(_ context.Context, r *cri.ContainerStatusRequest) (*cri.ContainerStatusResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()

	c := s.containers[r.ContainerId]
	if c == nil {
		return nil, status.Error(codes.NotFound, "no such container")
	}

	return &cri.ContainerStatusResponse{Status: statusOf(c)}, nil
}

func statusOf(c *cri.Container) *cri.ContainerStatus {
	return &cri.ContainerStatus{Id: c.Id, Metadata: c.Metadata, Labels: c.Labels, Image: c.Image, State: c.State}
}

func (s *fakeRuntime) PodSandboxStatus(context.Context, *cri.PodSandboxStatusRequest) (*cri.PodSandboxStatusResponse, error) {
	return nil, status.Error(codes.NotFound, "no such sandbox")
}

func (s *fakeRuntime) GetContainerEvents(_ *cri.GetEventsRequest, stream grpc.ServerStreamingServer[cri.ContainerEventResponse]) error {
	for {
		select {
		case <-stream.Context().Done():
			return nil
		case e := <-s.events:
			if err := stream.Send(e); err != nil {
				return err
			}
		}
	}
}
