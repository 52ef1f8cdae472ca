// SPDX-License-Identifier: Apache-2.0

package kernellog

import (
	"cmp"
	"strings"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/kubelet"
)

// kubeletState holds the lines before an eviction.
type kubeletState struct {
	reclaim  record            // must evict pod(s) to reclaim
	resource string            // what
	uids     map[string]string // pod to UID, of the eviction at hand
}

// kubeletLine takes in a line of the kubelet's eviction manager: the resource that it
// has to reclaim, the pod that it is about to evict, and the pod that it evicted.
// Evictions for another resource than memory are not reported.
func (p *parser) kubeletLine(rec record, text string) bool {
	found, ok := kubelet.ParseLine(text)
	if !ok {
		return false
	}

	switch found.What {
	case kubelet.FoundMustEvict:
		p.user.kubelet = kubeletState{reclaim: rec, resource: found.Resource}
		return true
	case kubelet.FoundEvicting:
		if found.Resource != "" {
			p.user.kubelet.reclaim, p.user.kubelet.resource = rec, found.Resource
		}

		if found.Pod != "" && found.PodUID != "" && len(p.user.kubelet.uids) < 256 && len(found.Pod)+len(found.PodUID) < 1024 {
			if p.user.kubelet.uids == nil {
				p.user.kubelet.uids = map[string]string{}
			}
			p.user.kubelet.uids[found.Pod] = found.PodUID
		}

		return true
	case kubelet.FoundEvicted:
		if found.Pod == "" {
			return false
		}

		p.evicted(rec, found)

		return true
	}

	return false
}

// evicted reports an eviction, unless it was for another resource than memory.
func (p *parser) evicted(rec record, found kubelet.Finding) {
	w := &events.Workload{Source: "kubelet", PodUID: cmp.Or(found.PodUID, p.user.kubelet.uids[found.Pod])}

	namespace, pod, ok := strings.Cut(found.Pod, "/")
	if !ok {
		namespace, pod = "", found.Pod
	}
	w.Namespace, w.Pod = namespace, pod

	resource := p.user.kubelet.resource
	if p.user.kubelet.reclaim.host != rec.host || apart(p.user.kubelet.reclaim, rec) > 10*time.Minute {
		resource = ""
	}

	if resource != "" && !events.IsMemoryResource(resource) {
		return
	}

	v := &events.Victim{Process: events.Process{Workload: w}, Role: events.RoleUnknown}
	inc := p.userKill(rec, "runtime", "eviction", v, "victims.pid", "victims.tid", "victims.comm", "victims.cgroup", "victims.role")

	inc.Killer.Comm, inc.Killer.Resource = "kubelet", resource
	if resource == "" {
		inc.Unknown = append(inc.Unknown, "limiter", "killer.resource")
		inc.Notes = append(inc.Notes, "the log does not name the resource that the kubelet reclaimed: it may not be memory")

		return
	}

	inc.Limiter = &events.Limiter{Level: events.LevelNode, Which: "node"}
	inc.Unknown = append(inc.Unknown, "limiter.limit_bytes", "limiter.usage_bytes")
	evidence(inc, p.user.kubelet.reclaim)
}
