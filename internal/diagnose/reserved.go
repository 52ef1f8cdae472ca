// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"fmt"
	"slices"
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/phrase"
)

var reservedRule = rule{
	id: "reserved_limit",
	means: "The limit is what the kubelet reserves for the daemons of the node. It sets kubeReserved or systemReserved as a " +
		"limit if enforceNodeAllocatable names them.",
	needs: "scope memcg; the limiter is a cgroup that is reserved for daemons by its name (podruntime.slice, runtime.slice, " +
		"kube-reserved, ...), or one above the kubelet's own service, which was killed. Only likely: MemoryMax= of the slice " +
		"looks the same",
	reference: `Kubernetes "Reserve Compute Resources for System Daemons", enforcing node allocatable`,
	match:     reservedLimit,
	advice: []advice{
		{layer: kubernetes, text: "Raise kubeReserved (systemReserved for system daemons) for memory above the p99 of " +
			"what these daemons use, or take kube-reserved and system-reserved out of enforceNodeAllocatable: then the " +
			"reservation counts for the scheduler, and limits nothing."},
	},
}

// reservedCgroups are the names that distributions and the documentation of Kubernetes give
// to kubeReservedCgroup.
var reservedCgroups = []string{
	"podruntime.slice", "podruntime", "runtime.slice", "runtime", "kubelet.slice", "kube-reserved", "kube-reserved.slice",
	"kubereserved", "kubereserved.slice", "kube.slice",
}

// kubelets are the services that are a kubelet, or have one.
var kubelets = []string{
	"kubelet.service", "k3s.service", "k3s-agent.service", "rke2-server.service", "rke2-agent.service", "k0sworker.service",
	"k0scontroller.service", "snap.microk8s.daemon-kubelite.service", "snap.kubelet-eks.daemon.service",
}

func reservedLimit(f *facts) *finding {
	reserved := f.reserved()
	if reserved == nil {
		return nil
	}

	setting := "kubeReserved"
	if *reserved == "system.slice" {
		setting = "systemReserved"
	}

	hit := &finding{confidence: likely, evidence: limitEvidence(f)}
	hit.text = fmt.Sprintf("%s was hit. It is what the kubelet reserves for daemons of the node: with enforceNodeAllocatable "+
		"it sets %s as the limit of this cgroup.", phrase.Capitalize(f.limit()), setting)

	hit.brief = "the limit is what the kubelet reserves for daemons"
	if limit := f.limiter.LimitBytes; limit != nil {
		hit.brief = "the kubelet reserves " + phrase.Size(*limit) + " for daemons"
	}

	if v := f.victim; v != nil {
		hit.text += fmt.Sprintf(" %s was in %s.", process(&v.Process), phrase.Cgroup("", v.Workload, v.Cgroup))
		hit.add("cgroup of the victim", phrase.Cgroup("", v.Workload, v.Cgroup), f.source(fromKernel))
	}

	return hit
}

// reserved is the name of the limiter if the kubelet may have set its limit for the daemons of
// the node, nil otherwise. The limit of a service is its own.
func (f *facts) reserved() *string {
	l := f.limiter
	if !f.is(events.ScopeMemcg) || l.Cgroup == nil || l.Level != events.LevelSlice && l.Level != events.LevelCgroup || l.Workload.Nested() {
		return nil
	}

	name := l.Cgroup.Path[strings.LastIndexByte(l.Cgroup.Path, '/')+1:]
	if l.Cgroup.Path == "/"+name && slices.Contains(reservedCgroups, name) {
		return &name
	}

	if v := f.victim; v != nil && v.Workload != nil && !v.Workload.Nested() && slices.Contains(kubelets, v.Workload.Unit) {
		if inside, _ := inside(v.Cgroup, l.Cgroup); inside && l.Level == events.LevelSlice {
			return &name
		}
	}

	return nil
}
