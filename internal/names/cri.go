// SPDX-License-Identifier: Apache-2.0

package names

import (
	"context"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/oomtrace/oomtrace/internal/events"
)

// list takes in all that the runtime has, and lets go what it has no more.
func (rt *endpoint) list(ctx context.Context, c *connection) error {
	sandboxes, err := call(ctx, c.client.ListPodSandbox, &cri.ListPodSandboxRequest{})
	if err != nil {
		return err
	}

	containers, err := call(ctx, c.client.ListContainers, &cri.ListContainersRequest{})
	if err != nil {
		return err
	}

	rt.seq++
	cache := rt.of.cache

	pods := make(map[string]events.Workload, len(sandboxes.Items))
	for _, s := range sandboxes.Items {
		w := c.sandbox(s.Metadata, s.Labels)
		pods[s.Id] = w
		cache.put(Ref{ContainerID: s.Id}, w)
		cache.listed(rt, rt.seq, s.Id, w.PodUID)

		if s.State != cri.PodSandboxState_SANDBOX_READY {
			cache.gone(Ref{ContainerID: s.Id})
		}
	}

	for _, k := range containers.Containers {
		w := c.container(k.Metadata, k.Labels, k.Image, k.ImageRef)
		if pod, ok := pods[k.PodSandboxId]; ok {
			w.Labels = pod.Labels
		}

		cache.put(Ref{ContainerID: k.Id}, w)
		cache.listed(rt, rt.seq, k.Id, "")

		if k.State == cri.ContainerState_CONTAINER_EXITED {
			cache.gone(Ref{ContainerID: k.Id})
		}
	}

	cache.sweep(rt, rt.seq)

	return nil
}

// stream takes in events until there are no more.
func (rt *endpoint) stream(ctx context.Context, c *connection) {
	stream, err := c.client.GetContainerEvents(ctx, &cri.GetEventsRequest{})
	for err == nil {
		var e *cri.ContainerEventResponse
		if e, err = stream.Recv(); err == nil {
			rt.event(c, e)
		}
	}
}

func (rt *endpoint) event(c *connection, e *cri.ContainerEventResponse) {
	cache := rt.of.cache

	var pod events.Workload
	if s := e.PodSandboxStatus; s != nil && s.Metadata.GetName() != "" {
		pod = c.sandbox(s.Metadata, s.Labels)
		cache.put(Ref{ContainerID: s.Id}, pod)
	}

	for _, s := range e.ContainersStatuses {
		w := c.status(s)
		w.Labels = pod.Labels
		cache.put(Ref{ContainerID: s.Id}, w)

		if x := exitOf(s); x.state == stateExited {
			cache.ended(s.Id, x)
		}
	}

	if e.ContainerEventType == cri.ContainerEventType_CONTAINER_DELETED_EVENT {
		cache.gone(Ref{ContainerID: e.ContainerId})
	}
}

// answer looks up ids that are wanted and that nothing told yet.
func (rt *endpoint) answer(ctx context.Context, c *connection) {
	for {
		select {
		case <-ctx.Done():
			return
		case ref := <-rt.wanted:
			if rt.of.cache.rank(ref) == rank[SourceCRI] {
				continue
			}

			if w, err := c.lookup(ctx, ref); err == nil {
				rt.of.cache.put(ref, w)
			}
		}
	}
}

// lookup implements source.
func (c *connection) lookup(ctx context.Context, ref Ref) (events.Workload, error) {
	if ref.ContainerID == "" {
		return c.pod(ctx, ref.PodUID)
	}

	answer, err := call(ctx, c.client.ContainerStatus, &cri.ContainerStatusRequest{ContainerId: ref.ContainerID})
	if status.Code(err) == codes.NotFound || err == nil && answer.Status == nil { // a sandbox?
		answer, err := call(ctx, c.client.PodSandboxStatus, &cri.PodSandboxStatusRequest{PodSandboxId: ref.ContainerID})
		if status.Code(err) == codes.NotFound || err == nil && answer.Status == nil {
			return events.Workload{}, errUnknown
		}

		if err != nil {
			return events.Workload{}, err
		}

		return c.sandbox(answer.Status.Metadata, answer.Status.Labels), nil
	}

	if err != nil {
		return events.Workload{}, err
	}
	w := c.status(answer.Status)
	// A question for a pod makes the runtime go through all of them. Mostly its
	// sandbox, which has a cgroup as well, was asked for before.
	if c.knows != nil && c.knows(w.PodUID) {
		return w, nil
	}

	if pod, err := c.pod(ctx, w.PodUID); err == nil {
		w.Labels = pod.Labels
	}

	return w, nil
}

// pod finds a pod by its UID, which the runtime knows as a label.
func (c *connection) pod(ctx context.Context, uid string) (events.Workload, error) {
	if uid == "" {
		return events.Workload{}, errUnknown
	}

	answer, err := call(ctx, c.client.ListPodSandbox, &cri.ListPodSandboxRequest{
		Filter: &cri.PodSandboxFilter{LabelSelector: map[string]string{labelPodUID: uid}},
	})
	if err != nil {
		return events.Workload{}, err
	}

	for _, s := range answer.Items {
		if s.Metadata.GetUid() == uid {
			return c.sandbox(s.Metadata, s.Labels), nil
		}
	}

	return events.Workload{}, errUnknown
}

// sandbox makes the workload of a pod.
func (c *connection) sandbox(m *cri.PodSandboxMetadata, labels map[string]string) events.Workload {
	return events.Workload{
		Namespace: m.GetNamespace(), Pod: m.GetName(), PodUID: m.GetUid(), Labels: userLabels(labels), Runtime: c.name, Source: SourceCRI,
	}
}

// container makes the workload of a container; its pod is in labels of the kubelet's.
func (c *connection) container(m *cri.ContainerMetadata, labels map[string]string, image *cri.ImageSpec, ref string) events.Workload {
	attempt := m.GetAttempt()

	return events.Workload{
		Namespace: labels[labelNamespace], Pod: labels[labelPod], PodUID: labels[labelPodUID],
		Container: m.GetName(), RestartCount: &attempt, Runtime: c.name, Source: SourceCRI,
		// As the pod's specification has it; newer runtimes give the image's id otherwise.
		Image: first(image.GetUserSpecifiedImage(), image.GetImage(), ref),
	}
}

func (c *connection) status(s *cri.ContainerStatus) events.Workload {
	w := c.container(s.Metadata, s.Labels, s.Image, s.ImageRef)
	if adj := int(s.GetResources().GetLinux().GetOomScoreAdj()); adj != 0 { // 0: not said
		w.OOMScoreAdj = &adj
	}

	return w
}
