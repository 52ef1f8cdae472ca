// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"fmt"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/phrase"
)

// sandboxBytes is more than a pod's sandbox uses, whose only process waits (pause).
const sandboxBytes = 4 << 20

// isOwnLimit reports whether the limit is that of the victim's own innermost workload. Known
// is false where the evidence does not decide.
func (f *facts) isOwnLimit() (own, known bool) {
	l := f.limiter

	switch {
	case l.Level == events.LevelQoS || l.Level == events.LevelKubepods:
		return false, true
	case f.victim == nil:
		return isWorkload(l.Level), isWorkload(l.Level) || l.Level == events.LevelPod
	case f.onlyContainer() != nil:
		return true, true
	}

	if equal, ok := l.Cgroup.Same(f.victim.Cgroup); ok && equal {
		return true, true
	}

	if isWorkload(l.Level) {
		return f.ownWorkload(), true
	}

	if _, ok := l.Cgroup.Same(f.victim.Cgroup); ok || f.ownCgroup() != nil {
		return false, true
	}

	// A pod's processes are in its containers.
	return false, l.Level == events.LevelPod
}

// isWorkload reports whether a cgroup of a level is a workload: cgroups below it are part of
// it unless they are workloads as well.
func isWorkload(level events.Level) bool {
	switch level {
	case events.LevelContainer, events.LevelService, events.LevelGuest, events.LevelJob:
		return true
	}

	return false
}

// ownWorkload reports whether the victim's innermost workload is the limiter's: by the
// workloads, or where the victim's is not known by the cgroups between them.
func (f *facts) ownWorkload() bool {
	if v := f.victim.Workload; v != nil && f.limiter.Workload != nil {
		return f.limiter.Workload.Same(v)
	}

	for i := range f.ancestry {
		if r := &f.ancestry[i]; r.Below && (isWorkload(r.Level) || r.Level == events.LevelPod) && !r.Workload.Same(f.limiter.Workload) {
			return false
		}
	}

	return true
}

// placeKnown reports whether it is known where the victim was.
func (f *facts) placeKnown() bool {
	v := f.victim
	return v == nil || v.Workload != nil || v.Cgroup != nil || f.ownCgroup() != nil
}

// onlyContainer is the victim's container if the limiter is its pod, and the limit is the
// container's own need: there is no other container, or its own limit is as high. Nil
// otherwise.
func (f *facts) onlyContainer() *events.Workload {
	v := f.victim.Workload
	if f.limiter.Level != events.LevelPod || v == nil || v.ContainerID == "" || v.Innermost() != events.LevelContainer {
		return nil
	}

	listed, others := f.containers(v.ContainerID)
	if !others && (f.sameLimit(v.ContainerID) || listed && f.leftOut == 0) {
		return v
	}

	return nil
}

// sameLimit reports whether the limit of a container is known to be that of its pod.
func (f *facts) sameLimit(containerID string) bool {
	for i := range f.ancestry {
		r := &f.ancestry[i]
		if r.Level == events.LevelContainer && r.Workload != nil && r.Workload.ContainerID == containerID {
			return r.MaxBytes != nil && f.limiter.LimitBytes != nil && *r.MaxBytes == *f.limiter.LimitBytes
		}
	}

	return false
}

// containers reports whether a container is among those that share the limit of its pod, and
// whether there are others, besides the sandbox.
func (f *facts) containers(containerID string) (listed, others bool) {
	for i := range f.shares {
		s := &f.shares[i]

		switch {
		case s.Workload != nil && s.Workload.ContainerID == containerID:
			listed = true
		case s.UsageBytes == nil || *s.UsageBytes > sandboxBytes:
			others = true
		}
	}

	return listed, others
}

// ancestorText names both: whose limit it was, and where the victim was.
func (f *facts) ancestorText() string {
	limit := phrase.Capitalize(f.limit())

	switch {
	case f.victim == nil || f.victim.Workload.Innermost() == "":
		return limit + " was hit, not that of the victim's own cgroup."
	case isWorkload(f.limiter.Level):
		return fmt.Sprintf("%s was hit, not that of %s inside it.",
			phrase.Capitalize("the limit of "+phrase.Cgroup(f.limiter.Level, f.limiter.Workload, f.limiter.Cgroup)),
			phrase.Innermost(f.victim.Workload))
	case f.victim.Workload.Innermost() == events.LevelContainer && !f.victim.Workload.Nested():
		return limit + " was hit, not the container's own."
	case f.limiter.Workload.Same(f.victim.Workload):
		return limit + " was hit, not that of the victim's own cgroup."
	}

	return limit + " was hit, not that of " + phrase.Cgroup("", f.victim.Workload, nil) + "."
}

// ancestorBrief is ancestorText in few words, without the limit that was hit.
func (f *facts) ancestorBrief() string {
	if f.victim == nil || f.victim.Workload.Innermost() == "" || f.limiter.Workload.Same(f.victim.Workload) {
		return "the limit of the victim's own cgroup was not hit"
	}

	return "the limit of " + shortPlace(f.victim.Workload) + " was not hit"
}

// shortPlace is a workload in a brief: "container app", "sshd.service".
func shortPlace(w *events.Workload) string {
	if w.Innermost() == events.LevelContainer {
		return "container " + clip(phrase.Container(w))
	}

	return clip(phrase.Innermost(w))
}

// isNodeContainer reports whether the limiter is a container, and the victim was in a
// container or pod inside it.
func (f *facts) isNodeContainer() bool {
	return f.limiter.Level == events.LevelContainer && f.victim != nil && f.victim.Workload != nil &&
		f.victim.Workload.NodeContainerID != "" && !f.ownWorkload()
}

// inPod reports whether the victim or the limiter is of a pod that the node's own kubelet
// runs.
func (f *facts) inPod() bool {
	if l := f.limiter; l.Workload == nil && l.Level == events.LevelPod || isPod(l.Workload) {
		return true
	}

	return f.victim != nil && isPod(f.victim.Workload)
}

// isPod leaves out the pods of podman.
func isPod(w *events.Workload) bool { return w.InPod() && (w.Runtime != "podman" || w.QoS != "") }

// concernsKubernetes reports whether advice on Kubernetes can help: for a cgroup's limit if a
// pod of this node is concerned, otherwise if the node has pods.
func (f *facts) concernsKubernetes() bool {
	l := f.limiter
	if f.inPod() || f.reserved() != nil {
		return true
	}

	if f.is(events.ScopeMemcg) {
		return (l.Level == events.LevelQoS || l.Level == events.LevelKubepods) && !l.Workload.Nested()
	}

	return f.kubepods() != nil || f.hasKubelet()
}

// hasKubelet reports whether the evidence is of a node with a kubelet: its thresholds, its
// reasons, its pods.
func (f *facts) hasKubelet() bool {
	if f.kubelet {
		return true
	}

	switch f.killer.Reason {
	case events.ReasonEviction, events.ReasonProbe, events.ReasonPreemption:
		return true
	}

	for i := range f.candidates {
		if isPod(f.candidates[i].Workload) {
			return true
		}
	}

	return false
}
