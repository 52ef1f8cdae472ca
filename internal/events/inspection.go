// SPDX-License-Identifier: Apache-2.0

package events

// KindInspection is the kind of the one object that `oomtrace inspect -o json`
// prints.
const KindInspection = "inspection"

// Inspection is the state of a cgroup, or of the node: the nearest limit, and the most likely victim
// of an OOM kill.
type Inspection struct {
	Envelope
	// Cgroup is the cgroup that was inspected; absent: the whole node.
	Cgroup *Cgroup `json:"cgroup,omitempty"`
	// Level is its level in the cgroup tree of the node.
	Level Level `json:"level,omitempty"`
	// Workload is what runs in it.
	Workload *Workload `json:"workload,omitempty"`
	// NearestLimits are the cgroups with the least room below their own limits, the least first; of an
	// inspection of the node. A limit that an ancestor's would precede is not among them.
	NearestLimits []NearLimit `json:"nearest_limits,omitempty"`
	// NearestLimitsLeftOut is the number of such limits that are not listed.
	NearestLimitsLeftOut int `json:"nearest_limits_left_out,omitempty"`
	// NearestLimitsUnread is the number of cgroups whose limit could not be read.
	NearestLimitsUnread int `json:"nearest_limits_unread,omitempty"`
	// Limiter is the limit that would be hit first: that of the ancestor with the least headroom, or
	// the node if it has less (MemAvailable and free swap).
	Limiter *Limiter `json:"limiter,omitempty"`
	// HeadroomBytes is the memory left below that limit, without what could be reclaimed.
	HeadroomBytes *uint64 `json:"headroom_bytes,omitempty"`
	// Ladder are its memcg ancestors, from itself up to the root.
	Ladder []Rung `json:"ladder,omitempty"`
	// Memory is its charge by kind.
	Memory *Memory `json:"memory,omitempty"`
	// Events counts memory.events of it and its descendants, since it was created; absent in cgroup
	// v1.
	Events *CgroupEvents `json:"events,omitempty"`
	// OwnEvents counts events of its own limits only.
	OwnEvents *CgroupEvents `json:"own_events,omitempty"`
	// ScannedBytes is how much was scanned in it to reclaim memory, since it was created.
	ScannedBytes *uint64 `json:"scanned_bytes,omitempty"`
	// ScannedProactivelyBytes is the part of it that was requested through memory.reclaim: no
	// shortage.
	ScannedProactivelyBytes *uint64 `json:"scanned_proactively_bytes,omitempty"`
	// PSISome is the share of time in which some of its tasks stalled for memory.
	PSISome *PSI `json:"psi_some,omitempty"`
	// PSIFull is the share of time in which all of its tasks stalled for memory.
	PSIFull *PSI `json:"psi_full,omitempty"`
	// Shares are the cgroups right below the limiter, the largest first.
	Shares []Share `json:"shares,omitempty"`
	// SharesLeftOut is the number of shares that are not listed.
	SharesLeftOut int `json:"shares_left_out,omitempty"`
	// Wait is about tasks that wait for memory under the limiter now, because its OOM killer is disabled.
	Wait *OOMWait `json:"wait,omitempty"`
	// Candidates are processes that the limiter could kill now, the likeliest first; if others than
	// those of the inspected cgroup are likelier, some of its own as well. Where its OOM killer is
	// disabled (limiter.oom_kill_disable), nothing would be killed.
	Candidates []Candidate `json:"candidates,omitempty"`
	// CandidatesLeftOut is the number of candidates that are not listed.
	CandidatesLeftOut int `json:"candidates_left_out,omitempty"`
	// CandidatesUnread is the number of processes that could not be read.
	CandidatesUnread int `json:"candidates_unread,omitempty"`
	// TotalPages is the number of pages that oom_score_adj is relative to.
	TotalPages *uint64 `json:"total_pages,omitempty"`
	// PageSizeBytes is the size of a page, the unit of candidates.points and total_pages.
	PageSizeBytes int `json:"page_size_bytes,omitempty"`
	// NodeState is the state of the node's memory.
	NodeState *NodeState `json:"node_state,omitempty"`
	// Eviction is the distance of the node to an eviction by the kubelet.
	Eviction *Eviction `json:"eviction,omitempty"`
	// Causes are the causes that a kill would have now.
	Causes []Cause `json:"causes,omitempty"`
	// Unknown are the names of the keys that could not be read.
	Unknown []string `json:"unknown,omitempty"`
}

// NearLimit is the limit of a cgroup, and how far it is from it.
type NearLimit struct {
	// Cgroup is the cgroup whose limit it is.
	Cgroup Cgroup `json:"cgroup"`
	// Level is its level in the cgroup tree of the node.
	Level Level `json:"level"`
	// Workload is what runs in it.
	Workload *Workload `json:"workload,omitempty"`
	// UsageBytes is its usage.
	UsageBytes uint64 `json:"usage_bytes"`
	// LimitBytes is its limit (memory.max; of cgroup v1 memory.limit_in_bytes).
	LimitBytes uint64 `json:"limit_bytes"`
	// HeadroomBytes is the memory left below the limit, without what could be reclaimed.
	HeadroomBytes uint64 `json:"headroom_bytes"`
}

// CgroupEvents counts the events of a cgroup since it was created (memory.events). cgroup v1 has only
// max (memory.failcnt) and oom_kill.
type CgroupEvents struct {
	// Low counts how often it was reclaimed although below memory.low.
	Low *uint64 `json:"low,omitempty"`
	// High counts how often its tasks were throttled by memory.high.
	High *uint64 `json:"high,omitempty"`
	// Max counts how often the limit was reached.
	Max *uint64 `json:"max,omitempty"`
	// OOM counts how often an allocation was about to fail at the limit.
	OOM *uint64 `json:"oom,omitempty"`
	// OOMKill is the number of processes killed.
	OOMKill *uint64 `json:"oom_kill,omitempty"`
	// OOMGroupKill counts how often a group was killed.
	OOMGroupKill *uint64 `json:"oom_group_kill,omitempty"`
	// SockThrottled counts how often its sockets were throttled, because their buffers use too much memory.
	SockThrottled *uint64 `json:"sock_throttled,omitempty"`
}
