// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const (
	namespace = "shop"
	restarts  = 2 // of each container
)

// pod is a running one, made as the kubelet makes them.
type pod struct {
	of        *containerd
	name, uid string
	parent    string // its cgroup
	sandbox   string
	config    *cri.PodSandboxConfig
}

type container struct {
	pod      *pod
	name, id string
}

func newUID() string {
	b := make([]byte, 16)
	rand.Read(b)

	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// newPod starts a pod's sandbox. A limit in MiB is the pod's own; 0 is none.
func (c *containerd) newPod(name string, limitMiB int) (*pod, error) {
	p := &pod{of: c, name: name, uid: newUID()}

	p.parent = c.driver.pod(p.uid)
	if err := c.driver.create(p.parent, limitMiB<<20); err != nil {
		return nil, fmt.Errorf("make the cgroup of %s: %w", name, err)
	}
	p.config = &cri.PodSandboxConfig{
		Metadata:     &cri.PodSandboxMetadata{Name: name, Namespace: namespace, Uid: p.uid},
		LogDirectory: filepath.Join(c.dir, "log", name),
		Labels: map[string]string{
			"io.kubernetes.pod.name": name, "io.kubernetes.pod.namespace": namespace, "io.kubernetes.pod.uid": p.uid, "app": name,
		},
		Linux: &cri.LinuxPodSandboxConfig{CgroupParent: p.parent, SecurityContext: &cri.LinuxSandboxSecurityContext{
			NamespaceOptions: namespaces(), Seccomp: unconfined(),
		}},
	}

	ctx, cancel := context.WithTimeout(context.Background(), callLimit)
	defer cancel()

	answer, err := c.client.RunPodSandbox(ctx, &cri.RunPodSandboxRequest{Config: p.config})
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

// runGroup starts one that is killed as a whole, as the kubelet does from 1.28 on without
// singleProcessOOMKill.
func (p *pod) runGroup(name string, limitMiB int, args ...string) (*container, error) {
	return p.runWith(name, &cri.LinuxContainerResources{
		MemoryLimitInBytes: int64(limitMiB) << 20, OomScoreAdj: 900, Unified: map[string]string{"memory.oom.group": "1"},
	}, args...)
}

func (p *pod) runWith(name string, resources *cri.LinuxContainerResources, args ...string) (*container, error) {
	ctx, cancel := context.WithTimeout(context.Background(), callLimit)
	defer cancel()

	created, err := p.of.client.CreateContainer(ctx, &cri.CreateContainerRequest{
		PodSandboxId: p.sandbox, SandboxConfig: p.config,
		Config: &cri.ContainerConfig{
			Metadata: &cri.ContainerMetadata{Name: name, Attempt: restarts}, Image: &cri.ImageSpec{Image: hogImage},
			Args: args, LogPath: name + ".log",
			Labels: map[string]string{
				"io.kubernetes.container.name": name, "io.kubernetes.pod.name": p.name, "io.kubernetes.pod.namespace": namespace,
				"io.kubernetes.pod.uid": p.uid,
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

	c := &container{pod: p, name: name, id: created.ContainerId}
	if _, err := p.of.client.StartContainer(ctx, &cri.StartContainerRequest{ContainerId: c.id}); err != nil {
		return c, fmt.Errorf("start %s/%s: %w", p.name, name, err) // it may have been killed
	}

	return c, nil
}

// exited waits for the end of a container.
func (c *container) exited() error {
	_, err := c.lived()
	return err
}

// lived waits for the end, and returns how long the container ran by the runtime's clock.
func (c *container) lived() (lived time.Duration, err error) {
	ended := until(c.pod.of.ctx, func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), callLimit)
		defer cancel()

		var answer *cri.ContainerStatusResponse
		if answer, err = c.pod.of.client.ContainerStatus(ctx, &cri.ContainerStatusRequest{ContainerId: c.id}); err != nil {
			return true
		}
		s := answer.Status
		lived = time.Duration(s.FinishedAt - s.StartedAt)

		return s.State == cri.ContainerState_CONTAINER_EXITED
	})
	if !ended {
		return 0, fmt.Errorf("%s/%s did not exit", c.pod.name, c.name)
	}

	return lived, err
}

func (c *container) stop(graceSeconds int64) error {
	ctx, cancel := context.WithTimeout(context.Background(), callLimit)
	defer cancel()
	_, err := c.pod.of.client.StopContainer(ctx, &cri.StopContainerRequest{ContainerId: c.id, Timeout: graceSeconds})

	return err
}

// pids are the processes of the container.
func (c *container) pids() ([]int, error) {
	of := c.pod.of

	text, err := os.ReadFile(filepath.Join(of.layout.MemoryMount, c.pod.parent, of.driver.leaf(c.id), "cgroup.procs"))
	if err != nil {
		return nil, err
	}

	return numbers(string(text)), nil
}

// deaf waits until PID 1 of a container ignores SIGTERM: before, a Go program exits at one.
func (c *container) deaf() error {
	var err error

	deaf := until(c.pod.of.ctx, func() bool {
		var pids []int

		if pids, err = c.pids(); err != nil || len(pids) == 0 {
			return err != nil
		}

		var ignored uint64

		ignored, err = ignoredSignals(pids[0])

		return err != nil || ignored&(1<<(syscall.SIGTERM-1)) != 0
	})
	if err == nil && !deaf {
		err = fmt.Errorf("%s/%s does not ignore SIGTERM", c.pod.name, c.name)
	}

	return err
}

// ignoredSignals reads the set of signals that a process ignores, the lowest bit for signal 1
// (Documentation/filesystems/proc.rst: SigIgn).
func ignoredSignals(pid int) (uint64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}

	_, rest, _ := strings.Cut(string(text), "\nSigIgn:\t")
	set, _, _ := strings.Cut(rest, "\n")

	return strconv.ParseUint(set, 16, 64)
}

func (p *pod) remove() error {
	ctx, cancel := context.WithTimeout(context.Background(), callLimit)
	defer cancel()

	if _, err := p.of.client.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: p.sandbox}); err != nil {
		return fmt.Errorf("stop the sandbox of %s: %w", p.name, err)
	}

	if _, err := p.of.client.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: p.sandbox}); err != nil {
		return fmt.Errorf("remove the sandbox of %s: %w", p.name, err)
	}

	return p.of.driver.remove(p.parent)
}
