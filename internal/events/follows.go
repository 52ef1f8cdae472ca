// SPDX-License-Identifier: Apache-2.0

package events

// What follows from a kill, as Consequence.Kind and Follows.Kind have it.
const (
	AfterUnitStop   = "unit_stop"   // systemd stopped the rest of the unit (OOMPolicy=stop)
	AfterUnitFailed = "unit_failed" // systemd recorded the unit's result: oom-kill
	AfterRestart    = "restart"     // systemd or the kubelet starts it again
	AfterProbe      = "probe"       // a probe failed, and the kubelet has the container killed
	AfterPIDNS      = "pidns"       // PID 1 exited, and the kernel killed the rest of its PID namespace
	AfterCleanup    = "cleanup"     // the runtime, or systemd, killed what was left of the workload
	AfterKilled     = "killed"      // a process was sent SIGKILL, by whom the text has
)

// Follows is the kill that another one followed from.
type Follows struct {
	// ID is the id of its incident.
	ID string `json:"id,omitempty"`
	// Kind is the way from one to the other: unit_stop, probe, pidns or cleanup.
	Kind string `json:"kind"`
	// AfterNS is the time between the two.
	AfterNS *uint64 `json:"after_ns,omitempty"`
	// TermAfterNS is the time from that kill to the SIGTERM that preceded this one.
	TermAfterNS *uint64 `json:"term_after_ns,omitempty"`
	// Victim is who died in that kill.
	Victim string `json:"victim,omitempty"`
	// Confidence is certain or likely.
	Confidence string `json:"confidence"`
}

// Consequence is what came of a kill.
type Consequence struct {
	// Kind is unit_stop, unit_failed, restart, probe, pidns, cleanup or killed.
	Kind string `json:"kind"`
	// AfterNS is the time since the kill; absent: not known.
	AfterNS *uint64 `json:"after_ns,omitempty"`
	// ID is the incident that it is, if it is one.
	ID string `json:"id,omitempty"`
	// Text is a sentence for users.
	Text string `json:"text"`
	// Source is where it is from: kernel, or the log of a program.
	Source string `json:"source"`
}
