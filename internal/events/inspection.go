// SPDX-License-Identifier: Apache-2.0

package events

// KindInspection is the kind of the one object that `oomtrace inspect -o json`
// prints.
const KindInspection = "inspection"

// Inspection is the state of a cgroup, or of the node, that still lives: whose
// limit is the nearest, and who would die if it came to a kill now.
type Inspection struct {
	Envelope
	// What was asked for; absent: the whole node.
	Cgroup   *Cgroup   `json:"cgroup,omitempty"`
	Level    Level     `json:"level,omitempty"`
	Workload *Workload `json:"workload,omitempty"`
	// Limiter is who would limit first: the cgroup of the ladder with the least
	// headroom, or the node if that has less. HeadroomBytes is what is left until
	// then, before anything is reclaimed.
	Limiter       *Limiter `json:"limiter,omitempty"`
	HeadroomBytes *uint64  `json:"headroom_bytes,omitempty"`
	Ladder        []Rung   `json:"ladder,omitempty"`
	Memory        *Memory  `json:"memory,omitempty"`
	// Events are of the cgroup and those below it since it was made, OwnEvents of
	// its own limits alone. cgroup v1 has only the latter.
	Events    *CgroupEvents `json:"events,omitempty"`
	OwnEvents *CgroupEvents `json:"own_events,omitempty"`
	PSISome   *PSI          `json:"psi_some,omitempty"`
	PSIFull   *PSI          `json:"psi_full,omitempty"`
	// Shares are the cgroups right below the limiter, the largest first.
	Shares        []Share `json:"shares,omitempty"`
	SharesLeftOut int     `json:"shares_left_out,omitempty"`
	// Candidates are the limiter's, the likeliest to die first.
	Candidates []Candidate `json:"candidates,omitempty"`
	// CandidatesLeftOut is how many more there are, CandidatesUnread how many could
	// not be looked at.
	CandidatesLeftOut int `json:"candidates_left_out,omitempty"`
	CandidatesUnread  int `json:"candidates_unread,omitempty"`
	// TotalPages is what oom_score_adj is taken of.
	TotalPages *uint64    `json:"total_pages,omitempty"`
	NodeState  *NodeState `json:"node_state,omitempty"`
	Eviction   *Eviction  `json:"eviction,omitempty"`
	// Causes are the rules that would hold if it came to a kill now.
	Causes  []Cause  `json:"causes,omitempty"`
	Unknown []string `json:"unknown,omitempty"`
}

// CgroupEvents counts what happened to a cgroup since it was made (memory.events).
// cgroup v1 knows only max (memory.failcnt) and oom_kill.
type CgroupEvents struct {
	Low          *uint64 `json:"low,omitempty"`
	High         *uint64 `json:"high,omitempty"` // held up over memory.high
	Max          *uint64 `json:"max,omitempty"`  // the limit was reached
	OOM          *uint64 `json:"oom,omitempty"`
	OOMKill      *uint64 `json:"oom_kill,omitempty"`
	OOMGroupKill *uint64 `json:"oom_group_kill,omitempty"`
}
