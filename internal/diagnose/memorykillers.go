// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"fmt"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/phrase"
)

// The conditions of advice on killers in user space.
var (
	forMemory = &condition{"for memory", func(f *facts) bool { return f.evictedFor() == evictedForMemory }}
	forOther  = &condition{"for another resource", func(f *facts) bool { return f.evictedFor() == evictedForOther }}
	forAny    = &condition{"the resource is not known", func(f *facts) bool { return f.evictedFor() == evictedForUnknown }}

	oomdOnSwap = &condition{"systemd-oomd, not for pressure", func(f *facts) bool {
		return f.killer.Path == events.PathSystemdOOMD && f.killer.Reason != events.ReasonRule && !f.oomdOnPressure()
	}}
	oomdOnPressure = &condition{"systemd-oomd, not for swap", func(f *facts) bool {
		return f.killer.Path == events.PathSystemdOOMD && f.killer.Reason != events.ReasonRule && f.killer.Reason != events.ReasonSwap
	}}
	oomdByRule = &condition{"systemd-oomd, by a rule file", func(f *facts) bool { return f.killer.Reason == events.ReasonRule }}

	ofOOMD     = &condition{"oomd", func(f *facts) bool { return f.killer.Path == events.PathOOMD }}
	ofEarlyOOM = &condition{"earlyoom", func(f *facts) bool { return f.killer.Path == events.PathEarlyOOM }}
	ofNohang   = &condition{"nohang", func(f *facts) bool { return f.killer.Path == events.PathNohang }}
)

// memoryKillerRules are about killers in user space that act before the kernel has to.
var memoryKillerRules = []rule{
	userKill("evicted",
		"The kubelet evicted the pod because the node was short of memory or of another resource. The "+
			"container's own limit was not involved.",
		"a kill from user space with reason eviction; it is for memory where the kubelet's log names memory, or "+
			"memory.available was at or below its hard threshold",
		`Kubernetes "Node-pressure Eviction"`,
		func(f *facts, k *events.Killer) (text, brief string, ok bool) {
			return evictedText(f), evictedBrief(f), k.Reason == events.ReasonEviction
		},
		advice{
			layer: kubernetes, text: "Set the pod's request close to the p95 to p99 of real " +
				"usage: pods above their request are evicted first.",
			when: forMemory,
		},
		advice{
			layer: kubernetes, text: "Reserve enough memory for the host (system-reserved, " +
				"kube-reserved), and spread the pods or add nodes.",
			when: forMemory,
		},
		advice{
			layer: kubernetes, text: "Check what uses the resource: logs, images and emptyDir volumes for ephemeral-storage " +
				"and inodes, processes for pids. Memory is not the cause.",
			when: forOther,
		},
		advice{
			layer: kubernetes, text: "Check the pod's event Evicted and its status message: they name the resource.",
			when: forAny,
		},
	),
	userKill("oomd_kill",
		"A user-space OOM daemon (systemd-oomd, oomd) killed a cgroup for its memory "+
			"pressure, for swap usage or by a rule, before the kernel had to.",
		"a kill from user space, sent by systemd-oomd or oomd",
		"systemd-oomd.service(8), oomd.conf(5)",
		func(f *facts, k *events.Killer) (text, brief string, ok bool) {
			return k.Path + " killed " + oomdVictims(k) + oomdReason(f, k) + "; the kernel's OOM killer did not run.",
				oomdBrief(f, k), k.Path == events.PathSystemdOOMD || k.Path == events.PathOOMD
		},
		advice{layer: kernel, text: "Check the daemon's log for the threshold that was " +
			"exceeded, and monitor PSI some and full over 60 s and 300 s."},
		advice{
			layer: cgroupLayer, text: "Set ManagedOOMSwap for the slices that systemd-oomd may act on for swap, " +
				"SwapUsedLimit in oomd.conf for how much of swap and memory may be used, and ManagedOOMPreference for the units " +
				"that it should spare.",
			when: oomdOnSwap,
		},
		advice{
			layer: cgroupLayer, text: "Set ManagedOOMMemoryPressure and its limit for the " +
				"slices that systemd-oomd may act on, and ManagedOOMPreference for those that it should spare.",
			when: oomdOnPressure,
		},
		advice{
			layer: cgroupLayer, text: "Check the rule that the evidence names (/etc/systemd/oomd/rules.d) and OOMRules of the " +
				"units that it applies to.",
			when: oomdByRule,
		},
		advice{layer: cgroupLayer, text: "Check the detectors of the rule set in the configuration of oomd.", when: ofOOMD},
	),
	userKill("earlyoom_kill",
		"earlyoom or nohang killed a process with a high OOM score because the node's available "+
			"memory and swap fell below the daemon's thresholds; nohang has some for zram and PSI, too.",
		"a kill from user space, sent by earlyoom or nohang",
		"earlyoom(1), nohang(8)",
		func(f *facts, k *events.Killer) (text, brief string, ok bool) {
			if k.Path == events.PathNohang {
				return "nohang killed the process because one of its thresholds was exceeded: for available memory and swap, " +
					"zram, or PSI.", "a threshold of nohang was exceeded", true
			}

			return "earlyoom killed the process because the node's available memory and swap fell below the daemon's thresholds.",
				"available memory and swap fell below a threshold", k.Path == events.PathEarlyOOM
		},
		advice{layer: kernel, text: "Check the daemon's log for the measured percentages."},
		advice{
			layer: kernel, text: "Set the thresholds of earlyoom with -m and -s, and steer the choice of victim with --prefer and --avoid.",
			when: ofEarlyOOM,
		},
		advice{
			layer: kernel, text: "Set soft_threshold_min_mem, soft_threshold_min_swap and their hard counterparts in nohang.conf, and " +
				"steer the choice of victim with badness adjustments.",
			when: ofNohang,
		},
	),
}

// evictionFor is the resource that a pod was evicted for.
type evictionFor int

const (
	evictedForUnknown evictionFor = iota
	evictedForMemory
	evictedForOther
)

// evictedFor concludes from what the kubelet logged, else from the signal that it computes.
func (f *facts) evictedFor() evictionFor {
	e, resource := f.eviction, f.killer.Resource
	switch {
	case events.IsMemoryResource(resource):
		return evictedForMemory
	case resource != "":
		return evictedForOther
	case e.AvailableBytes != nil && e.HardBytes != nil && *e.AvailableBytes <= *e.HardBytes:
		return evictedForMemory
	}

	return evictedForUnknown
}

func evictedText(f *facts) string {
	switch f.evictedFor() {
	case evictedForOther:
		return "The kubelet evicted the pod to reclaim " + phrase.ClipName(f.killer.Resource) + ", not memory; no limit of the pod was hit."
	case evictedForUnknown:
		return "The kubelet evicted the pod; the resource that the node was short of is unknown. No limit of the pod was hit."
	}

	e := f.eviction
	if e.AvailableBytes == nil {
		return "The kubelet evicted the pod because the node was short of memory; no limit of the pod was hit."
	}

	text := fmt.Sprintf("The kubelet evicted the pod: memory.available of the node was %s", phrase.Size(*e.AvailableBytes))
	if e.HardBytes != nil {
		text += ", its hard eviction threshold is " + phrase.Size(*e.HardBytes)
	}

	return text + ". No limit of the pod was hit."
}

// evictedBrief is evictedText in a few words.
func evictedBrief(f *facts) string {
	e := f.eviction

	switch f.evictedFor() {
	case evictedForOther:
		return "evicted for " + clip(f.killer.Resource) + ", not for memory"
	case evictedForUnknown:
		return "evicted for an unknown resource"
	}

	switch {
	case e.AvailableBytes == nil:
		return "evicted because the node was short of memory"
	case e.HardBytes == nil:
		return "evicted with " + phrase.Size(*e.AvailableBytes) + " available on the node"
	}

	return "evicted with " + phrase.Size(*e.AvailableBytes) + " available (threshold " + phrase.Size(*e.HardBytes) + ")"
}

// oomdOnPressure reports whether the daemon's log has pressure as the reason. A live trace does
// not see which of its two thresholds was exceeded.
func (f *facts) oomdOnPressure() bool {
	return f.killer.Reason == events.ReasonMemory && f.limiter.Which == "memory.pressure"
}

func oomdVictims(k *events.Killer) string {
	if k.Processes == nil {
		return "the cgroup"
	}

	return "the cgroup (" + phrase.Plural(*k.Processes, "process") + ")"
}

func oomdReason(f *facts, k *events.Killer) string {
	l := &f.limiter

	switch {
	case k.Reason == events.ReasonSwap && l.LimitBytes != nil && l.UsageBytes != nil && l.SwapLimitBytes != nil && l.SwapUsageBytes != nil:
		return fmt.Sprintf(" because memory and swap of the node were nearly used up: %s of memory, %s of swap",
			phrase.Part(*l.UsageBytes, *l.LimitBytes), phrase.Part(*l.SwapUsageBytes, *l.SwapLimitBytes))
	case k.Reason == events.ReasonSwap:
		return " because swap was nearly used up"
	case k.Reason == events.ReasonRule:
		return " because one of its rules applied"
	case f.oomdOnPressure() && l.Cgroup != nil:
		return " because of the memory pressure of " + phrase.Cgroup(l.Level, l.Workload, l.Cgroup)
	}

	return " because of memory pressure or swap usage"
}

// oomdBrief is oomdReason in a few words.
func oomdBrief(f *facts, k *events.Killer) string {
	l := &f.limiter

	switch {
	case k.Reason == events.ReasonSwap && l.SwapLimitBytes != nil && l.SwapUsageBytes != nil:
		return phrase.ShareOf(*l.SwapUsageBytes, *l.SwapLimitBytes, "swap") + " was used"
	case k.Reason == events.ReasonSwap:
		return "swap was nearly used up"
	case k.Reason == events.ReasonRule:
		return "a rule of " + clip(k.Path) + " applied"
	case f.oomdOnPressure() && l.Cgroup != nil:
		return "memory pressure of " + clip(phrase.Cgroup(l.Level, l.Workload, l.Cgroup))
	}

	return "memory pressure or swap usage was too high"
}
