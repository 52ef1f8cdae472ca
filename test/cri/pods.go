// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const namespace = "shop"

// pod is one that runs, made as the kubelet makes them.
type pod struct {
	bed       *bed
	name, uid string
	parent    string // its cgroup
	sandbox   string
	config    *cri.PodSandboxConfig
}

type container struct {
	of       *pod
	name, id string
}

func newUID() string {
	b := make([]byte, 16)
	rand.Read(b)

	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// newPod starts a pod's sandbox. A limit in MiB is the pod's own; 0 is none.
func (b *bed) newPod(name string, limitMiB int) (*pod, error) {
	p := &pod{bed: b, name: name, uid: newUID()}

	p.parent = b.driver.pod(p.uid)
	if err := b.driver.create(p.parent, limitMiB<<20); err != nil {
		return nil, fmt.Errorf("make the cgroup of %s: %w", name, err)
	}
	p.config = &cri.PodSandboxConfig{
		Metadata:     &cri.PodSandboxMetadata{Name: name, Namespace: namespace, Uid: p.uid},
		LogDirectory: filepath.Join(b.dir, "log", name),
		Labels: map[string]string{
			"io.kubernetes.pod.name": name, "io.kubernetes.pod.namespace": namespace, "io.kubernetes.pod.uid": p.uid, "app": name,
		},
		Linux: &cri.LinuxPodSandboxConfig{CgroupParent: p.parent, SecurityContext: &cri.LinuxSandboxSecurityContext{
			NamespaceOptions: namespaces(), Seccomp: unconfined(),
		}},
	}

	ctx, cancel := context.WithTimeout(context.Background(), callPatience)
	defer cancel()

	answer, err := b.client.RunPodSandbox(ctx, &cri.RunPodSandboxRequest{Config: p.config})
	if err != nil {
		return nil, fmt.Errorf("run the sandbox of %s: %w", name, err)
	}
	p.sandbox = answer.PodSandboxId

	return p, nil
}

func namespaces() *cri.NamespaceOption {
	return &cri.NamespaceOption{Network: cri.NamespaceMode_NODE, Pid: cri.NamespaceMode_CONTAINER, Ipc: cri.NamespaceMode_POD}
}

func unconfined() *cri.SecurityProfile {
	return &cri.SecurityProfile{ProfileType: cri.SecurityProfile_Unconfined}
}

// run starts a container of the pod.
func (p *pod) run(name string, limitMiB int, args ...string) (*container, error) {
	return p.runWith(name, &cri.LinuxContainerResources{MemoryLimitInBytes: int64(limitMiB) << 20, OomScoreAdj: 900}, args...)
}

// runGroup starts one that is killed as a whole, as the kubelet has it from 1.28 on
// unless it is told singleProcessOOMKill.
func (p *pod) runGroup(name string, limitMiB int, args ...string) (*container, error) {
	return p.runWith(name, &cri.LinuxContainerResources{
		MemoryLimitInBytes: int64(limitMiB) << 20, OomScoreAdj: 900, Unified: map[string]string{"memory.oom.group": "1"},
	}, args...)
}

func (p *pod) runWith(name string, resources *cri.LinuxContainerResources, args ...string) (*container, error) {
	ctx, cancel := context.WithTimeout(context.Background(), callPatience)
	defer cancel()

	created, err := p.bed.client.CreateContainer(ctx, &cri.CreateContainerRequest{
		PodSandboxId: p.sandbox, SandboxConfig: p.config,
		Config: &cri.ContainerConfig{
			Metadata: &cri.ContainerMetadata{Name: name, Attempt: 2}, Image: &cri.ImageSpec{Image: hogImage},
			Args: args, LogPath: name + ".log",
			Labels: map[string]string{
				"io.kubernetes.container.name": name, "io.kubernetes.pod.name": p.name, "io.kubernetes.pod.namespace": namespace, "io.kubernetes.pod.uid": p.uid,
			},
			Linux: &cri.LinuxContainerConfig{
				Resources:       resources,
				SecurityContext: &cri.LinuxContainerSecurityContext{NamespaceOptions: namespaces(), Seccomp: unconfined()},
			},
		},
	})
	if err != nil {
		return nil, fmt.Errorf("create %s/%s: %w", p.name, name, err)
	}

	c := &container{of: p, name: name, id: created.ContainerId}
	if _, err := p.bed.client.StartContainer(ctx, &cri.StartContainerRequest{ContainerId: c.id}); err != nil {
		return nil, fmt.Errorf("start %s/%s: %w", p.name, name, err)
	}

	return c, nil
}

// exited waits for the end of a container.
func (c *container) exited() error {
	_, err := c.lived()
	return err
}

// lived waits for the end, too, and tells how long it took by the runtime's clock.
func (c *container) lived() (lived time.Duration, err error) {
	ended := until(c.of.bed.ctx, func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), callPatience)
		defer cancel()

		var answer *cri.ContainerStatusResponse
		if answer, err = c.of.bed.client.ContainerStatus(ctx, &cri.ContainerStatusRequest{ContainerId: c.id}); err != nil {
			return true
		}
		s := answer.Status
		lived = time.Duration(s.FinishedAt - s.StartedAt)

		return s.State == cri.ContainerState_CONTAINER_EXITED
	})
	if !ended {
		return 0, fmt.Errorf("%s/%s did not end", c.of.name, c.name)
	}

	return lived, err
}

func (c *container) stop(graceSeconds int64) error {
	ctx, cancel := context.WithTimeout(context.Background(), callPatience)
	defer cancel()
	_, err := c.of.bed.client.StopContainer(ctx, &cri.StopContainerRequest{ContainerId: c.id, Timeout: graceSeconds})

	return err
}

// pids are the processes of the container.
func (c *container) pids() ([]int, error) {
	text, err := os.ReadFile(filepath.Join(c.of.bed.layout.MemoryMount, c.of.parent, c.of.bed.driver.leaf(c.id), "cgroup.procs"))
	if err != nil {
		return nil, err
	}

	return numbers(string(text)), nil
}

func (p *pod) remove() error {
	ctx, cancel := context.WithTimeout(context.Background(), callPatience)
	defer cancel()

	if _, err := p.bed.client.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: p.sandbox}); err != nil {
		return fmt.Errorf("stop the sandbox of %s: %w", p.name, err)
	}

	if _, err := p.bed.client.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: p.sandbox}); err != nil {
		return fmt.Errorf("remove the sandbox of %s: %w", p.name, err)
	}

	return p.bed.driver.remove(p.parent)
}
