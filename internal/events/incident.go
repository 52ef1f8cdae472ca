// SPDX-License-Identifier: Apache-2.0

package events

import "slices"

// Scope is the scope of the shortage of memory, or of a kill without one.
type Scope string

// The scopes. A constraint that a future kernel adds is passed through under
// the kernel's own name.
const (
	ScopeMemcg     Scope = "memcg"     // a cgroup's limit
	ScopeGlobal    Scope = "global"    // the whole node
	ScopeCpuset    Scope = "cpuset"    // the NUMA nodes of a cpuset
	ScopeMempolicy Scope = "mempolicy" // the NUMA nodes of a memory policy
	ScopeSysrq     Scope = "sysrq"     // sysrq-f: nothing ran out
	ScopeUser      Scope = "user"      // a SIGKILL that the OOM killer did not send
	ScopeUnknown   Scope = "unknown"   // the evidence was lost
)

// Outcome is the result of an OOM invocation.
type Outcome string

// The outcomes.
const (
	OutcomeKilled         Outcome = "killed"             // at least one process was sent SIGKILL
	OutcomeNoKillable     Outcome = "no_killable_task"   // nothing could be killed
	OutcomeWaiting        Outcome = "waiting_for_victim" // an earlier victim is still dying
	OutcomeAlreadyExiting Outcome = "already_exiting"    // the chosen task was exiting by itself: no signal, no count

	OutcomeSkipped Outcome = "skipped" // out_of_memory returned without a choice (no __GFP_FS, or a notifier freed memory)

	OutcomeOOMKillDisabled Outcome = "oom_kill_disabled" // the OOM killer is disabled for the limiter (cgroup v1): its tasks wait

	OutcomeSuspending Outcome = "suspending" // the OOM killer was turned off, for suspend or hibernation: the allocation failed

	OutcomePanic Outcome = "panic" // the kernel panicked (known from a kernel log only): vm.panic_on_oom, or the node has nothing killable
)

// Tier is the attach mode of a hook, or the source of an incident.
type Tier string

// The tiers, best first.
const (
	TierFentry     Tier = "fentry"     // BPF trampolines
	TierKprobe     Tier = "kprobe"     // kprobes
	TierTracepoint Tier = "tracepoint" // tracepoints only, which provide less
	// TierKernelLog is an incident that was read from a kernel log afterwards.
	TierKernelLog Tier = "kernel_log"
)

// Log is the place of an incident in a kernel log.
type Log struct {
	// FirstLine is the first line of the report, counted from 1.
	FirstLine int `json:"first_line"`
	// LastLine is its last line.
	LastLine int `json:"last_line"`
	// UptimeNS is the time by the clock of the log: since boot, and some milliseconds off other
	// clocks.
	UptimeNS *uint64 `json:"uptime_ns,omitempty"`
	// Truncated is true if the report has gaps or no end.
	Truncated bool `json:"truncated,omitempty"`
	// Panic is true if the kernel panicked with it.
	Panic bool `json:"panic,omitempty"`
}

// Passes counts the OOM invocations of an incident by outcome. Those without a kill are one incident.
type Passes struct {
	// Killed counts invocations that killed.
	Killed uint64 `json:"killed,omitempty"`
	// NoKillable counts invocations that found nothing killable.
	NoKillable uint64 `json:"no_killable_task,omitempty"`
	// Waiting counts invocations that waited for an earlier victim.
	Waiting uint64 `json:"waiting_for_victim,omitempty"`
	// AlreadyExiting counts invocations that chose a task which was exiting.
	AlreadyExiting uint64 `json:"already_exiting,omitempty"`
	// Skipped counts invocations that made no choice.
	Skipped uint64 `json:"skipped,omitempty"`
	// Suspending counts invocations while the OOM killer was turned off, for suspend or hibernation.
	Suspending uint64 `json:"suspending,omitempty"`
}

// Audit compares the counters of the kernel with what was reported.
type Audit struct {
	// Victims is the number of processes reported as killed.
	Victims int `json:"victims"`
	// KernelKills is how often __oom_kill_process was seen to send SIGKILL: the chosen victim of a
	// group may be killed twice.
	KernelKills uint64 `json:"kernel_kills"`
	// VMStatDelta is the growth of oom_kill in /proc/vmstat over the window.
	VMStatDelta *uint64 `json:"vmstat_oom_kill,omitempty"`
	// Incidents is the number of incidents in the window.
	Incidents int `json:"window_incidents,omitempty"`
	// WindowKills is the number of kills by the kernel in the window.
	WindowKills uint64 `json:"window_kernel_kills,omitempty"`
	// MemcgDelta is the growth of oom_kill in memory.events of the limiter.
	MemcgDelta *uint64 `json:"memory_events_oom_kill,omitempty"`
	// Explained is true if the numbers agree.
	Explained bool `json:"explained"`
	// Text explains the result to users.
	Text string `json:"text"`
}

// The sources of Completion, as Completion.Source has them.
const (
	SourceKernelLog  = "kernel_log"  // the kernel's own report of the same kill
	SourceMemoryStat = "memory.stat" // the file of the limiter, read after the kill
)

// Completion names what the trace itself did not see of a kill, and was filled in afterwards
// from another source.
type Completion struct {
	// Source is the source: kernel_log, the kernel's own report of the same kill; or memory.stat of
	// the limiter.
	Source string `json:"source"`
	// Keys are the keys that are from it: whole objects, or keys of objects.
	Keys []string `json:"keys"`
	// AfterNS is the time from the kill to the reading; absent if the source is of the instant of the
	// kill.
	AfterNS *uint64 `json:"after_ns,omitempty"`
}

// Incident is one OOM decision with all its victims (Kind "incident"), or a later change of it (Kind
// "incident_update": same id, only new or changed keys; victims are matched by pid), or the whole of it
// (Kind "incident_final").
type Incident struct {
	Envelope
	// ID is unique within a boot; together with boot_id, it is unique.
	ID string `json:"id"`
	// Summary is the incident in one sentence: whose limit was hit, what triggered it, who was killed
	// by whom, and why. It is replaced as more becomes known.
	Summary string `json:"summary,omitempty"`
	// Scope is the scope of the shortage.
	Scope Scope `json:"scope,omitempty"`
	// Outcome is the result of the OOM invocation.
	Outcome Outcome `json:"outcome,omitempty"`
	// Limiter is the owner of the limit that was hit.
	Limiter *Limiter `json:"limiter,omitempty"`
	// LimitChanges are the limits of its cgroup that were lowered in the minute before.
	LimitChanges []LimitChange `json:"limit_changes,omitempty"`
	// Ladder are the memcg ancestors from the limiter up to the root at that instant. Those
	// below it, down to the cgroup of the victim, may precede the limiter.
	Ladder []Rung `json:"ladder,omitempty"`
	// Trigger is the process whose allocation failed.
	Trigger *Process `json:"trigger,omitempty"`
	// Exiting is the process that was exiting already, where that is the outcome.
	Exiting *Process `json:"exiting,omitempty"`
	// Chosen is the process that the kernel chose, where it is not among the victims: its child was
	// killed (before Linux 5.1), or the log does not show whether it died.
	Chosen *Chosen `json:"chosen,omitempty"`
	// Victims are all processes that were sent SIGKILL.
	Victims []Victim `json:"victims,omitempty"`
	// Wait is about tasks that wait for memory, of outcome oom_kill_disabled.
	Wait *OOMWait `json:"wait,omitempty"`
	// Killer is the sender of the signal.
	Killer *Killer `json:"killer,omitempty"`
	// Follows is the earlier kill that this one followed from, in scope user; absent: none is known.
	Follows *Follows `json:"follows,omitempty"`
	// Followed is what came of the kill, oldest first: of its unit, container or PID namespace. An
	// update has the whole list.
	Followed []Consequence `json:"followed,omitempty"`
	// Allocation is the allocation that failed.
	Allocation *Allocation `json:"allocation,omitempty"`
	// Memory is the charge of the limiter by kind.
	Memory *Memory `json:"memory,omitempty"`
	// Before is the stall history.
	Before *Before `json:"before,omitempty"`
	// Passes is the number of OOM invocations by outcome.
	Passes *Passes `json:"passes,omitempty"`
	// Audit compares the counters of the kernel with what was reported.
	Audit *Audit `json:"audit,omitempty"`
	// Shares are the cgroups right below the limiter, the largest first.
	Shares []Share `json:"shares,omitempty"`
	// Candidates are processes that could have been killed, the likeliest first.
	Candidates []Candidate `json:"candidates,omitempty"`
	// SharesAfterNS is the time from the kill to the reading of the shares: the victim's memory may be
	// gone from them.
	SharesAfterNS *uint64 `json:"shares_after_ns,omitempty"`
	// CandidatesAfterNS is the time from the kill to the reading of the candidates, other than victims.
	CandidatesAfterNS *uint64 `json:"candidates_after_ns,omitempty"`
	// SharesLeftOut is the number of shares that are not listed.
	SharesLeftOut int `json:"shares_left_out,omitempty"`
	// CandidatesLeftOut is the number of candidates that are not listed.
	CandidatesLeftOut int `json:"candidates_left_out,omitempty"`
	// NodeState is the state of the node's memory.
	NodeState *NodeState `json:"node_state,omitempty"`
	// NodeAtKill is the state of the node's memory at the kill, of a live trace: as the kernel's own
	// report has it. Absent: the kernel's log has none, or could not be read.
	NodeAtKill *NodeState `json:"node_at_kill,omitempty"`
	// Eviction is the distance of the node to an eviction by the kubelet.
	Eviction *Eviction `json:"eviction,omitempty"`
	// Reported are the container runtime's reports of the containers.
	Reported []Reported `json:"reported,omitempty"`
	// Causes are the causes, the best supported first.
	Causes []Cause `json:"causes,omitempty"`
	// Log is its place in the kernel log, for tier kernel_log.
	Log *Log `json:"log,omitempty"`
	// CompletedFrom names what was filled in from other sources than the trace.
	CompletedFrom []Completion `json:"completed_from,omitempty"`
	// Notes are sentences for users about what is unusual.
	Notes []string `json:"notes,omitempty"`
	// Tier is the attach mode that it was traced by.
	Tier Tier `json:"tier,omitempty"`
	// Unknown are the names of the keys that could not be read. An empty list is that of an update after
	// which all is known.
	Unknown []string `json:"unknown,omitzero"`
}

// LimiterCgroup returns the cgroup of the limiter; nil: it has none, or is not known.
func (inc *Incident) LimiterCgroup() *Cgroup {
	if inc.Limiter == nil {
		return nil
	}

	return inc.Limiter.Cgroup
}

// LimiterWorkload returns what runs in the limiter's cgroup; nil: nothing that is known.
func (inc *Incident) LimiterWorkload() *Workload {
	if inc.Limiter == nil {
		return nil
	}

	return inc.Limiter.Workload
}

// SourceOf returns where a key was filled in from; nil: the incident's own source.
func (inc *Incident) SourceOf(key string) *Completion {
	for i := range inc.CompletedFrom {
		if c := &inc.CompletedFrom[i]; slices.Contains(c.Keys, key) {
			return c
		}
	}

	return nil
}
