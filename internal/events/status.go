// SPDX-License-Identifier: Apache-2.0

package events

// What was lost, as Lost.What has it, beside the kinds of records, which stand after
// "throttled " if a tenant's budget was used up.
const (
	LostRecording      = "recording"       // lines that could not be recorded
	LostNameLookup     = "name_lookup"     // look-ups of names, or of reports of container runtimes
	LostHostState      = "host_state"      // readings of the state of the host
	LostStallHistory   = "stall_history"   // stalls that were evicted from the flight recorder
	LostKernelLog      = "kernel_log"      // records of the kernel's log, and readings that complete an incident
	LostIncidentUpdate = "incident_update" // updates that came too late
	LostProgram        = "program"         // look-ups of what victims ran
	LostOOMWait        = "oom_wait"        // cgroups that were not examined for tasks that wait for memory
)

// The phases of a trace, as Status.Phase has them.
const (
	PhaseStart = "start"
	PhaseAudit = "audit" // a finding of the audit that belongs to no incident
	PhaseEnd   = "end"
)

// Lost counts records that did not reach user space since the last such line (Kind "lost").
type Lost struct {
	Envelope
	// What is the kind of record, throttled KIND, or recording, name_lookup, program, host_state, stall_history,
	// kernel_log, incident_update or oom_wait.
	What string `json:"what"`
	// Count is the number lost.
	Count uint64 `json:"count"`
	// Cgroup is the cgroup that was throttled last, of throttled records.
	Cgroup *Cgroup `json:"cgroup,omitempty"`
}

// Hook is the attach mode of one hook.
type Hook struct {
	// Name is the name of the hook.
	Name string `json:"name"`
	// Tier is its attach mode; absent: it is not attached.
	Tier Tier `json:"tier,omitempty"`
	// Why is why a better mode is not available.
	Why string `json:"why,omitempty"`
}

// Status opens and closes a trace, and carries findings of the audit that belong to no incident (Kind
// "status").
type Status struct {
	Envelope
	// Phase is start, audit, end.
	Phase string `json:"phase"`
	// Text is a sentence for users.
	Text string `json:"text,omitempty"`
	// Tier is the best attach mode of this node.
	Tier Tier `json:"tier,omitempty"`
	// CgroupMode is v1, v2, hybrid.
	CgroupMode string `json:"cgroup_mode,omitempty"`
	// KernelRelease is the release of the kernel.
	KernelRelease string `json:"kernel_release,omitempty"`
	// PageSizeBytes is the size of a page.
	PageSizeBytes int `json:"page_size_bytes,omitempty"`
	// Hooks are the hooks with their attach modes.
	Hooks []Hook `json:"hooks,omitempty"`
	// Unknown are the names of the keys that no incident of the trace can have: candidates, where
	// oomtrace is in a PID namespace of its own, as in a pod without hostPID.
	Unknown []string `json:"unknown,omitempty"`
	// Incidents is the number of incidents since the start, in phase end, also where a filter shows
	// fewer.
	Incidents *uint64 `json:"incident_count,omitempty"`
	// Victims is the number of victims since the start, in phase end.
	Victims *uint64 `json:"victim_count,omitempty"`
	// Lost is the number of lost records since the start, in phase end.
	Lost *uint64 `json:"lost_count,omitempty"`
	// Shown is the number of incidents that passed a filter. It is not published.
	Shown *uint64 `json:"-"`
}
