// SPDX-License-Identifier: Apache-2.0

package kubelet

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/oomtrace/oomtrace/internal/host"
)

// The signals of memory (pkg/kubelet/eviction/api/types.go).
const (
	signalMemory      = "memory.available"
	signalAllocatable = "allocatableMemory.available"
)

// Memory is what the kubelet compares with its thresholds. Nil is unknown; of
// Allocatable it also means that the kubelet does not enforce it.
type Memory struct {
	CapacityBytes  *uint64 // MemTotal
	AvailableBytes *uint64 // memory.available
	// MemAvailableBytes is the kernel's own estimate, which the kubelet does not use.
	MemAvailableBytes *uint64
	// AllocatableBytes is the limit of all pods together, AllocatableAvailableBytes
	// the part of it that they do not use.
	AllocatableBytes, AllocatableAvailableBytes *uint64
}

// Read computes memory.available as the kubelet does: capacity less the working
// set of the root cgroup, which is its usage without inactive files. With cgroup
// v2 the root has no memory.current, and usage is anon and file of its memory.stat
// (github.com/opencontainers/cgroups v0.0.6; older ones took MemTotal less MemFree).
// The same is done for kubepods, against its limit, where the kubelet enforces it.
func (c *Config) Read(r host.Reader) Memory {
	var m Memory
	state := r.Meminfo()
	m.CapacityBytes, m.MemAvailableBytes = state.TotalBytes, state.AvailableBytes

	var used *uint64
	if state.TotalBytes != nil && state.FreeBytes != nil {
		used = new(*state.TotalBytes - min(*state.FreeBytes, *state.TotalBytes))
	}

	root := r.Layout.MountRoot
	if root == "" {
		root = "/"
	}

	m.AvailableBytes = left(m.CapacityBytes, workingSet(r, root, used))
	if pods := c.kubepods(r); pods != "" && slices.Contains(c.EnforceNodeAllocatable, "pods") {
		sample := host.SampleCgroup(r.Layout, pods)
		m.AllocatableBytes = sample.LimitBytes
		m.AllocatableAvailableBytes = left(sample.LimitBytes, workingSet(r, pods, nil))
	}

	return m
}

// workingSet returns the usage of a cgroup without inactive files, nil where that is
// unknown. The argument otherwise is the usage where the cgroup has no such file.
func workingSet(r host.Reader, cgroup string, otherwise *uint64) *uint64 {
	usage := host.SampleCgroup(r.Layout, cgroup).UsageBytes

	charge := r.Charge(cgroup)
	switch {
	case charge == nil || charge.InactiveFileBytes == nil:
		return otherwise
	case usage == nil && charge.AnonBytes != nil && charge.FileBytes != nil:
		usage = new(*charge.AnonBytes + *charge.FileBytes)
	case usage == nil:
		usage = otherwise
	}

	if usage == nil {
		return nil
	}

	return new(*usage - min(*charge.InactiveFileBytes, *usage))
}

// kubepods returns the path of the cgroup of all pods, empty if there is none. The
// driver need not be known: only the name of one driver exists.
func (c *Config) kubepods(r host.Reader) string {
	root := path.Join("/", r.Layout.MountRoot)
	slice := strings.Trim(strings.ReplaceAll(c.CgroupRoot, "/", "-"), "-")

	prefix, above := "", root
	if slice != "" {
		prefix = slice + "-"

		at := ""
		for part := range strings.SplitSeq(slice, "-") {
			at = strings.TrimPrefix(at+"-"+part, "-")
			above = path.Join(above, at+".slice")
		}
	}

	for _, name := range []string{path.Join(root, c.CgroupRoot, "kubepods"), path.Join(above, prefix+"kubepods.slice")} {
		if r.Cgroup(name).ID != 0 {
			return name
		}
	}

	return ""
}

func left(of, used *uint64) *uint64 {
	if of == nil || used == nil {
		return nil
	}

	return new(*of - min(*used, *of))
}

// Threshold parses the threshold of a signal: a quantity, or a percentage of a capacity
// (pkg/kubelet/eviction/helpers.go). It returns nil where there is none; 0% and 100%
// mean that as well.
func Threshold(of map[string]string, signal string, capacityBytes *uint64) (*uint64, error) {
	text, ok := of[signal]
	if !ok || text == "0%" || text == "100%" {
		return nil, nil
	}

	if number, ok := strings.CutSuffix(text, "%"); ok {
		percent, err := strconv.ParseFloat(number, 32)
		if err != nil || !(percent >= 0 && percent <= 100) {
			return nil, fmt.Errorf("threshold %s of %s: not a percentage", text, signal)
		}

		if capacityBytes == nil {
			return nil, nil
		}
		// The kubelet computes with float32: the result is off by some bytes.
		return new(uint64(float64(*capacityBytes) * float64(float32(percent)/100))), nil
	}

	quantity, err := resource.ParseQuantity(text)
	if err != nil {
		return nil, fmt.Errorf("threshold %s of %s: %w", text, signal, err)
	}

	if quantity.Sign() <= 0 {
		return nil, fmt.Errorf("threshold %s of %s: not above zero", text, signal)
	}

	return new(uint64(quantity.Value())), nil
}

// grace returns how long a soft threshold may be crossed before the kubelet evicts.
func (c *Config) grace(signal string) (time.Duration, bool) {
	d, err := time.ParseDuration(c.EvictionSoftGracePeriod[signal])
	return d, err == nil && d >= 0
}

// quantity formats bytes as the kubelet does, in whole MiB.
func quantity(bytes uint64) string {
	if bytes >= 1<<20 {
		bytes &^= 1<<20 - 1
	}

	return resource.NewQuantity(int64(min(bytes, 1<<62)), resource.BinarySI).String()
}
