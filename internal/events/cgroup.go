// SPDX-License-Identifier: Apache-2.0

package events

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// Level is the level of a cgroup in the cgroup tree of the node.
type Level string

// The levels.
const (
	LevelContainer Level = "container" // a container
	LevelPod       Level = "pod"       // a pod
	LevelQoS       Level = "qos"       // burstable or besteffort
	LevelKubepods  Level = "kubepods"  // all pods: node allocatable
	LevelService   Level = "service"   // a systemd service or a scope, of the host or of what it is within; a service of Talos
	LevelSlice     Level = "slice"     // a systemd slice that is not of Kubernetes
	LevelGuest     Level = "guest"     // a system container (LXC, Incus, nspawn) or a virtual machine
	LevelJob       Level = "job"       // a job of a scheduler, or a part of it: a step, a task, a slot
	LevelCgroup    Level = "cgroup"    // any other cgroup; its workload is the one that it is part of
	LevelNode      Level = "node"      // the whole machine
)

// CgroupKey names a cgroup. Ids are unique only within a hierarchy (0 is
// cgroup v2); an id is never used again while the node is up.
type CgroupKey struct {
	// Hierarchy is the hierarchy of the cgroup; 0 is cgroup v2.
	Hierarchy uint32 `json:"hierarchy"`
	// ID is unique within the hierarchy, and never used again while the node is up.
	ID uint64 `json:"id"`
}

// Cgroup is a cgroup as it is shown. A kernel log has paths alone: an id, and a hierarchy, that are not
// known are absent.
type Cgroup struct {
	CgroupKey
	// Path is the path from the mount of the hierarchy, starting with "/"; absent if it could not be
	// read.
	Path string `json:"path,omitempty"`
	// HierarchyUnknown is true if Hierarchy, which is 0 then, is not known.
	HierarchyUnknown bool `json:"-"`
}

// MarshalJSON leaves out what is not known of the key.
func (c Cgroup) MarshalJSON() ([]byte, error) {
	type line struct {
		Hierarchy *uint32 `json:"hierarchy,omitempty"`
		ID        uint64  `json:"id,omitempty"`
		Path      string  `json:"path,omitempty"`
	}

	known := line{ID: c.ID, Path: c.Path}
	if !c.HierarchyUnknown {
		known.Hierarchy = &c.Hierarchy
	}

	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)

	if err := enc.Encode(known); err != nil {
		return nil, fmt.Errorf("encode a cgroup: %w", err)
	}

	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil
}

// UnmarshalJSON reverses MarshalJSON. Lines of older versions have a hierarchy of 0, and an id of 0,
// where they are not known.
func (c *Cgroup) UnmarshalJSON(text []byte) error {
	var line struct {
		Hierarchy *uint32
		ID        uint64
		Path      string
	}
	if err := json.Unmarshal(text, &line); err != nil {
		return fmt.Errorf("decode a cgroup: %w", err)
	}

	*c = Cgroup{Path: line.Path, HierarchyUnknown: line.Hierarchy == nil}
	if c.ID = line.ID; line.Hierarchy != nil {
		c.Hierarchy = *line.Hierarchy
	}

	return nil
}

// Same compares two cgroups, by ids where both are known, else by paths: a kernel log
// has no ids. Known is false where too little is known of one.
func (c *Cgroup) Same(other *Cgroup) (equal, known bool) {
	switch {
	case c == nil || other == nil:
		return false, false
	case c.ID != 0 && other.ID != 0:
		return c.CgroupKey == other.CgroupKey, true
	case c.Path != "" && other.Path != "":
		return c.Path == other.Path, true
	}

	return false, false
}

// Is reports whether two cgroups are known to be the same.
func (c *Cgroup) Is(other *Cgroup) bool {
	equal, _ := c.Same(other)
	return equal
}

// Rung is one memcg of the ladder at the instant of the kill. A limit that is absent, and not named in
// unknown, is not set.
type Rung struct {
	// Cgroup is the memcg.
	Cgroup Cgroup `json:"cgroup"`
	// Level is its level in the cgroup tree of the node.
	Level Level `json:"level"`
	// UsageBytes is its usage, including that of its descendants.
	UsageBytes *uint64 `json:"usage_bytes,omitempty"`
	// MaxBytes is its limit.
	MaxBytes *uint64 `json:"max_bytes,omitempty"`
	// HighBytes is its memory.high.
	HighBytes *uint64 `json:"high_bytes,omitempty"`
	// MinBytes is its memory.min, which protects it from reclaim for an ancestor; absent: none.
	MinBytes *uint64 `json:"min_bytes,omitempty"`
	// LowBytes is its memory.low, which protects it while others can be reclaimed; absent: none.
	LowBytes *uint64 `json:"low_bytes,omitempty"`
	// PeakBytes is its highest usage so far.
	PeakBytes *uint64 `json:"peak_bytes,omitempty"`
	// SwapUsageBytes is the swap in use. In cgroup v1 it repeats memsw_usage_bytes.
	SwapUsageBytes *uint64 `json:"swap_usage_bytes,omitempty"`
	// SwapMaxBytes is its limit of swap. In cgroup v1 it repeats memsw_max_bytes.
	SwapMaxBytes *uint64 `json:"swap_max_bytes,omitempty"`
	// MemswUsageBytes is the memory and swap in use together, of cgroup v1.
	MemswUsageBytes *uint64 `json:"memsw_usage_bytes,omitempty"`
	// MemswMaxBytes is its limit of memory and swap together, of cgroup v1.
	MemswMaxBytes *uint64 `json:"memsw_max_bytes,omitempty"`
	// OOMGroup is the value of its memory.oom.group.
	OOMGroup *bool `json:"oom_group,omitempty"`
	// Below is true for a cgroup between the victim and the limiter.
	Below bool `json:"below,omitempty"`
	// Workload is what runs in it.
	Workload *Workload `json:"workload,omitempty"`
}

// ProtectAll is a memory.min or memory.low of "max", in bytes: the kernel's largest number of
// pages, with pages of 4 KiB.
const ProtectAll = uint64(1<<63 - 4096)

// Share is the usage of one of several cgroups under a limit.
type Share struct {
	// Cgroup is the cgroup that uses it.
	Cgroup Cgroup `json:"cgroup"`
	// Level is its level in the cgroup tree of the node.
	Level Level `json:"level"`
	// Workload is what runs in it.
	Workload *Workload `json:"workload,omitempty"`
	// UsageBytes is its usage.
	UsageBytes *uint64 `json:"usage_bytes,omitempty"`
	// MaxBytes is its own limit; absent: it has none.
	MaxBytes *uint64 `json:"max_bytes,omitempty"`
}
