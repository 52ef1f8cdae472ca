// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"slices"
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
)

// maxRecentKills bounds the kills that are remembered; beyond it, the oldest is forgotten.
const maxRecentKills = 1024

// recentKills are the kills whose stalls the flight recorder may still have: the counts of reclaim
// after a kill do not name the process, so those of kills with common cgroups cannot be separated.
type recentKills struct{ list []recentKill }

type recentKill struct {
	id     string
	bootNS uint64
	of     *events.Cgroup // whose subtree ran out of memory; nil: the node
}

func (r *recentKills) add(inc *events.Incident, bootNS uint64) {
	if len(r.list) == maxRecentKills {
		r.list = slices.Delete(r.list, 0, 1)
	}
	r.list = append(r.list, recentKill{inc.ID, bootNS, subtree(inc)})
}

// forget drops kills whose stalls are in no window of a kill to come.
func (r *recentKills) forget(nowNS uint64) {
	r.list = slices.DeleteFunc(r.list, func(k recentKill) bool { return nowNS-min(k.bootNS, nowNS) > forgetAfterNS })
}

// alone reports whether no other kill was in the same cgroups.
func (r *recentKills) alone(inc *events.Incident) bool {
	of := subtree(inc)

	return !slices.ContainsFunc(r.list, func(k recentKill) bool { return k.id != inc.ID && overlap(k.of, of) })
}

// overlap reports whether two subtrees may have cgroups in common.
func overlap(a, b *events.Cgroup) bool {
	if a == nil || b == nil || a.Path == "" || b.Path == "" || a.CgroupKey == b.CgroupKey {
		return true
	}
	within := func(path, top string) bool { return strings.HasPrefix(path+"/", strings.TrimSuffix(top, "/")+"/") }

	return within(a.Path, b.Path) || within(b.Path, a.Path)
}

// ofOther reports whether a stall is of a process that another kill ended.
func ofOther(inc *events.Incident, what events.StallKind, tgid uint32) bool {
	return what == events.StallAfterKill &&
		!slices.ContainsFunc(inc.Victims, func(v events.Victim) bool { return v.PID == int(tgid) })
}
