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

// shamRuntime answers CRI, and keeps files and cgroups as containerd does, without
// any process: what is measured is the tracer's side. A pod has one container.
type shamRuntime struct {
	cri.UnimplementedRuntimeServiceServer
	version string
	root    string // the node's file system
	cgroups string // directory of all pods
	events  chan *cri.ContainerEventResponse

	mu         sync.Mutex
	containers map[string]*cri.Container
	sandboxes  map[string]*cri.PodSandbox
}

// shamPod is one pod by its number.
type shamPod struct{ name, uid, sandbox, container string }

func podOf(i int) shamPod {
	id := func(what string) string { return fmt.Sprintf("%x", sha256.Sum256(fmt.Appendf(nil, "%s %d", what, i))) }
	u := id("uid")

	return shamPod{
		name: fmt.Sprintf("checkout-%d", i), uid: u[:8] + "-" + u[8:12] + "-" + u[12:16] + "-" + u[16:20] + "-" + u[20:32],
		sandbox: id("sandbox"), container: id("container"),
	}
}

func startSham(version, root, cgroups string) (s *shamRuntime, stop func(), err error) {
	s = &shamRuntime{
		version: version, root: root, cgroups: cgroups, events: make(chan *cri.ContainerEventResponse, 1<<16),
		containers: map[string]*cri.Container{}, sandboxes: map[string]*cri.PodSandbox{},
	}
	socket := filepath.Join(root, "c.sock")
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

func (s *shamRuntime) bundle(p shamPod) string {
	return filepath.Join(s.root, "run/containerd/io.containerd.runtime.v2.task/k8s.io", p.container)
}

func (s *shamRuntime) podCgroup(p shamPod) string { return filepath.Join(s.cgroups, "pod"+p.uid) }

// create makes a pod in the order of the kubelet and containerd.
func (s *shamRuntime) create(p shamPod) error {
	if err := os.Mkdir(s.podCgroup(p), 0o755); err != nil {
		return err
	}
	labels := map[string]string{"io.kubernetes.pod.name": p.name, "io.kubernetes.pod.namespace": "shop", "io.kubernetes.pod.uid": p.uid}

	own := map[string]string{"app": "checkout", "pod-template-hash": "7d9f8c6b5", "app.kubernetes.io/part-of": "shop", "tier": "front"}
	for k, v := range labels {
		own[k] = v
	}
	sandbox := &cri.PodSandbox{Id: p.sandbox, Metadata: &cri.PodSandboxMetadata{Name: p.name, Namespace: "shop", Uid: p.uid}, Labels: own}

	container := &cri.Container{
		Id: p.container, PodSandboxId: p.sandbox, Metadata: &cri.ContainerMetadata{Name: "app"}, Image: &cri.ImageSpec{Image: "registry.example/shop/checkout:1.4"},
		State: cri.ContainerState_CONTAINER_RUNNING, Labels: map[string]string{"io.kubernetes.container.name": "app"},
	}
	for k, v := range labels {
		container.Labels[k] = v
	}

	s.mu.Lock()
	s.sandboxes[p.sandbox], s.containers[p.container] = sandbox, container
	s.mu.Unlock()

	spec, err := json.Marshal(map[string]any{
		"ociVersion": "1.1.0", "process": map[string]any{"args": []string{"/app"}, "oomScoreAdj": 985, "env": make([]string, 200)},
		"annotations": map[string]string{
			"io.kubernetes.cri.container-name": "app", "io.kubernetes.cri.container-type": "container", "io.kubernetes.cri.sandbox-name": p.name,
			"io.kubernetes.cri.sandbox-namespace": "shop", "io.kubernetes.cri.sandbox-uid": p.uid, "io.kubernetes.cri.image-name": "registry.example/shop/checkout:1.4",
		},
		"mounts": make([]map[string]string, 60),
	})
	if err != nil {
		return err
	}

	if err := os.MkdirAll(s.bundle(p), 0o755); err != nil {
		return err
	}

	if err := os.WriteFile(filepath.Join(s.bundle(p), "config.json"), spec, 0o644); err != nil {
		return err
	}

	s.tell(p, cri.ContainerEventType_CONTAINER_CREATED_EVENT)

	return os.Mkdir(filepath.Join(s.podCgroup(p), p.container), 0o755)
}

// remove ends a pod.
func (s *shamRuntime) remove(p shamPod) error {
	for _, dir := range []string{filepath.Join(s.podCgroup(p), p.container), s.podCgroup(p)} {
		if err := os.Remove(dir); err != nil {
			return err
		}
	}

	s.tell(p, cri.ContainerEventType_CONTAINER_DELETED_EVENT)
	s.mu.Lock()
	delete(s.sandboxes, p.sandbox)
	delete(s.containers, p.container)
	s.mu.Unlock()

	return os.RemoveAll(s.bundle(p))
}

func (s *shamRuntime) tell(p shamPod, what cri.ContainerEventType) {
	s.mu.Lock()
	defer s.mu.Unlock()

	e := &cri.ContainerEventResponse{ContainerId: p.container, ContainerEventType: what}
	if c, sandbox := s.containers[p.container], s.sandboxes[p.sandbox]; c != nil && sandbox != nil {
		e.PodSandboxStatus = &cri.PodSandboxStatus{Id: sandbox.Id, Metadata: sandbox.Metadata, Labels: sandbox.Labels}
		e.ContainersStatuses = []*cri.ContainerStatus{{Id: c.Id, Metadata: c.Metadata, Labels: c.Labels, Image: c.Image, State: c.State}}
	}

	select {
	case s.events <- e:
	default: // nobody listens
	}
}

func (s *shamRuntime) Version(context.Context, *cri.VersionRequest) (*cri.VersionResponse, error) {
	return &cri.VersionResponse{RuntimeName: "containerd", RuntimeVersion: s.version}, nil
}

func (s *shamRuntime) ListContainers(context.Context, *cri.ListContainersRequest) (*cri.ListContainersResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()

	out := &cri.ListContainersResponse{}
	for _, c := range s.containers {
		out.Containers = append(out.Containers, c)
	}

	return out, nil
}

func (s *shamRuntime) ListPodSandbox(_ context.Context, r *cri.ListPodSandboxRequest) (*cri.ListPodSandboxResponse, error) {
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

func (s *shamRuntime) ContainerStatus(_ context.Context, r *cri.ContainerStatusRequest) (*cri.ContainerStatusResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()

	c := s.containers[r.ContainerId]
	if c == nil {
		return nil, status.Error(codes.NotFound, "no such container")
	}

	return &cri.ContainerStatusResponse{Status: &cri.ContainerStatus{Id: c.Id, Metadata: c.Metadata, Labels: c.Labels, Image: c.Image, State: c.State}}, nil
}

func (s *shamRuntime) PodSandboxStatus(context.Context, *cri.PodSandboxStatusRequest) (*cri.PodSandboxStatusResponse, error) {
	return nil, status.Error(codes.NotFound, "no such sandbox")
}

func (s *shamRuntime) GetContainerEvents(_ *cri.GetEventsRequest, stream grpc.ServerStreamingServer[cri.ContainerEventResponse]) error {
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
