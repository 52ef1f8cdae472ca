// SPDX-License-Identifier: Apache-2.0

package source

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"sync/atomic"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/resolve"
	"github.com/oomtrace/oomtrace/internal/runtimes"
)

// CRI is the feed of a runtime's CRI socket. It connects by itself, again and again.
type CRI struct {
	store  Store
	socket string // the path in this process's mount namespace
	label  string // the path on the node, for messages
	warn   func(key, text string)
	wanted chan resolve.Ref
	now    atomic.Pointer[connection] // nil: not connected
}

// NewCRI returns the feed of a socket. The label is the socket's path on the node, for
// messages; warn is called for each reason why the runtime does not answer.
func NewCRI(socket, label string, store Store, warn func(key, text string)) *CRI {
	return &CRI{store: store, socket: socket, label: label, warn: warn, wanted: make(chan resolve.Ref, queued)}
}

// ParseEndpoint returns the path of a unix socket that is given as unix:///path or as
// a path; empty for an empty endpoint.
func ParseEndpoint(endpoint string) (path string, err error) {
	path = strings.TrimPrefix(endpoint, "unix://")
	if path != "" && path[0] != '/' || endpoint != "" && path == "" {
		return "", fmt.Errorf("CRI endpoint %q: it must look like unix:///run/containerd/containerd.sock", endpoint)
	}

	return path, nil
}

// Name implements Feed.
func (*CRI) Name() string { return NameCRI }

// Connected reports whether the runtime can be asked.
func (r *CRI) Connected() bool { return r.now.Load() != nil }

// askAttempts is after how many attempts the runtime is not asked again.
const askAttempts = 4

// Ask implements Feed. A runtime that is not connected needs no question: its first
// list will have the answer.
//
// The kubelet makes a pod's cgroup before the runtime learns of the pod, and the
// answer about the pod's first container names the pod as well: a pod alone is asked
// for only if no container came.
func (r *CRI) Ask(ref resolve.Ref, attempt int) bool {
	if !r.Connected() || attempt >= askAttempts || ref.ContainerID == "" && attempt <= 1 {
		return true
	}

	select {
	case r.wanted <- ref:
		return true
	default:
		return false
	}
}

// Exit asks for the state of a container. It returns ErrUnknown if the runtime has no
// such container, and ErrNoAnswer if it is not connected.
func (r *CRI) Exit(ctx context.Context, containerID string) (Exit, error) {
	c := r.now.Load()
	if c == nil {
		return Exit{}, ErrNoAnswer
	}

	answer, err := call(ctx, c.client.ContainerStatus, &cri.ContainerStatusRequest{ContainerId: containerID})
	switch {
	case status.Code(err) == codes.NotFound || err == nil && answer.Status == nil:
		return Exit{}, ErrUnknown
	case err != nil:
		return Exit{}, fmt.Errorf("query the runtime at %s: %w", r.label, err)
	}

	return exitOf(answer.Status), nil
}

// maxReason bounds the reason of an exit in bytes.
const maxReason = 256

func exitOf(s *cri.ContainerStatus) Exit {
	x := Exit{State: StateUnknown, Source: NameCRI}

	switch s.State {
	case cri.ContainerState_CONTAINER_CREATED, cri.ContainerState_CONTAINER_RUNNING:
		x.State = StateRunning
	case cri.ContainerState_CONTAINER_EXITED:
		code := int(s.ExitCode)
		x.State, x.Reason, x.Code = StateExited, Clip(s.Reason, maxReason), &code
	}

	return x
}

// list puts all that the runtime has into the store.
func (r *CRI) list(ctx context.Context, c *connection) error {
	sandboxes, err := call(ctx, c.client.ListPodSandbox, &cri.ListPodSandboxRequest{})
	if err != nil {
		return err
	}

	containers, err := call(ctx, c.client.ListContainers, &cri.ListContainersRequest{})
	if err != nil {
		return err
	}

	present := make([]resolve.Ref, 0, len(sandboxes.Items)+len(containers.Containers))
	pods := make(map[string]events.Workload, len(sandboxes.Items))

	for _, s := range sandboxes.Items {
		w := c.sandbox(s.Metadata, s.Labels)
		pods[s.Id] = w
		r.store.Put(resolve.Ref{ContainerID: s.Id}, w)
		present = append(present, resolve.Ref{ContainerID: s.Id, PodUID: w.PodUID})

		if s.State != cri.PodSandboxState_SANDBOX_READY {
			r.store.Gone(resolve.Ref{ContainerID: s.Id})
		}
	}

	for _, k := range containers.Containers {
		w := c.container(k.Metadata, k.Labels, k.Image, k.ImageRef)
		if pod, ok := pods[k.PodSandboxId]; ok {
			w.Labels = pod.Labels
		}

		r.store.Put(resolve.Ref{ContainerID: k.Id}, w)
		present = append(present, resolve.Ref{ContainerID: k.Id})

		if k.State == cri.ContainerState_CONTAINER_EXITED {
			r.store.Gone(resolve.Ref{ContainerID: k.Id})
		}
	}

	r.store.Listed(r.label, present)

	return nil
}

// stream reads the runtime's events until the stream ends.
func (r *CRI) stream(ctx context.Context, c *connection) {
	stream, err := c.client.GetContainerEvents(ctx, &cri.GetEventsRequest{})
	for err == nil {
		var e *cri.ContainerEventResponse
		if e, err = stream.Recv(); err == nil {
			r.event(c, e)
		}
	}
}

func (r *CRI) event(c *connection, e *cri.ContainerEventResponse) {
	var pod events.Workload
	if s := e.PodSandboxStatus; s != nil && s.Metadata.GetName() != "" {
		pod = c.sandbox(s.Metadata, s.Labels)
		r.store.Put(resolve.Ref{ContainerID: s.Id}, pod)
	}

	for _, s := range e.ContainersStatuses {
		w := c.status(s)
		w.Labels = pod.Labels
		r.store.Put(resolve.Ref{ContainerID: s.Id}, w)

		if x := exitOf(s); x.State == StateExited {
			r.store.Exited(s.Id, x)
		}
	}

	if e.ContainerEventType == cri.ContainerEventType_CONTAINER_DELETED_EVENT {
		r.store.Gone(resolve.Ref{ContainerID: e.ContainerId})
	}
}

// answer looks up the ids that Ask queued, unless their names have come meanwhile.
func (r *CRI) answer(ctx context.Context, c *connection) {
	for {
		select {
		case <-ctx.Done():
			return
		case ref := <-r.wanted:
			if r.store.SourceOf(ref) == NameCRI {
				continue
			}

			if w, err := c.lookup(ctx, ref); err == nil {
				r.store.Put(ref, w)
			}
		}
	}
}

// connection is a connected CRI socket.
type connection struct {
	client  cri.RuntimeServiceClient
	runtime string // the runtime's name
	// named reports whether the names of a pod are in the store already.
	named func(podUID string) bool
}

// lookup asks for a container, a sandbox or a pod; ErrUnknown if there is none.
func (c *connection) lookup(ctx context.Context, ref resolve.Ref) (events.Workload, error) {
	if ref.ContainerID == "" {
		return c.pod(ctx, ref.PodUID)
	}

	answer, err := call(ctx, c.client.ContainerStatus, &cri.ContainerStatusRequest{ContainerId: ref.ContainerID})
	if status.Code(err) == codes.NotFound || err == nil && answer.Status == nil {
		return c.sandboxByID(ctx, ref.ContainerID)
	}

	if err != nil {
		return events.Workload{}, err
	}

	w := c.status(answer.Status)
	// For a question about a pod the runtime goes through all of them. Its sandbox,
	// which has a cgroup as well, was mostly asked for before.
	if c.named(w.PodUID) {
		return w, nil
	}

	if pod, err := c.pod(ctx, w.PodUID); err == nil {
		w.Labels = pod.Labels
	}

	return w, nil
}

func (c *connection) sandboxByID(ctx context.Context, id string) (events.Workload, error) {
	answer, err := call(ctx, c.client.PodSandboxStatus, &cri.PodSandboxStatusRequest{PodSandboxId: id})
	switch {
	case status.Code(err) == codes.NotFound || err == nil && answer.Status == nil:
		return events.Workload{}, ErrUnknown
	case err != nil:
		return events.Workload{}, err
	}

	return c.sandbox(answer.Status.Metadata, answer.Status.Labels), nil
}

// pod asks for a pod by its UID, which the runtime has as a label.
func (c *connection) pod(ctx context.Context, uid string) (events.Workload, error) {
	if uid == "" {
		return events.Workload{}, ErrUnknown
	}

	answer, err := call(ctx, c.client.ListPodSandbox, &cri.ListPodSandboxRequest{
		Filter: &cri.PodSandboxFilter{LabelSelector: map[string]string{runtimes.LabelPodUID: uid}},
	})
	if err != nil {
		return events.Workload{}, err
	}

	for _, s := range answer.Items {
		if s.Metadata.GetUid() == uid {
			return c.sandbox(s.Metadata, s.Labels), nil
		}
	}

	return events.Workload{}, ErrUnknown
}

// sandbox returns the workload of a pod.
func (c *connection) sandbox(m *cri.PodSandboxMetadata, labels map[string]string) events.Workload {
	return events.Workload{
		Namespace: m.GetNamespace(), Pod: m.GetName(), PodUID: m.GetUid(), Labels: userLabels(labels), Runtime: c.runtime, Source: NameCRI,
	}
}

// container returns the workload of a container; labels of the kubelet name its pod.
func (c *connection) container(m *cri.ContainerMetadata, labels map[string]string, image *cri.ImageSpec, ref string) events.Workload {
	attempt := m.GetAttempt()

	return events.Workload{
		Namespace: labels[runtimes.LabelNamespace], Pod: labels[runtimes.LabelPod], PodUID: labels[runtimes.LabelPodUID],
		Container: m.GetName(), RestartCount: &attempt, Runtime: c.runtime, Source: NameCRI,
		// As the pod's specification has it; newer runtimes have the image's id in Image.
		Image: cmp.Or(image.GetUserSpecifiedImage(), image.GetImage(), ref),
	}
}

func (c *connection) status(s *cri.ContainerStatus) events.Workload {
	w := c.container(s.Metadata, s.Labels, s.Image, s.ImageRef)
	if adj := int(s.GetResources().GetLinux().GetOomScoreAdj()); adj != 0 { // 0: not set
		w.OOMScoreAdj = &adj
	}

	return w
}
