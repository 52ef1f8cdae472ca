// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
)

// A live incident and the one that is read from the kernel's log follow one contract.
// Here they are compared key by key: a key that both have must be the same; one that only
// one of them has must be named in "unknown" by the other. A key without a rule is a
// problem, so that new keys get theirs.

// rule compares a key; without a function, the key is not compared, for the reason given.
type rule struct {
	compare func(p *pair, live, log any) bool
	why     string
	unless  events.Tier // which does not see it
}

var (
	same    = rule{compare: func(_ *pair, live, log any) bool { return fmt.Sprint(live) == fmt.Sprint(log) }}
	charged = within(1 << 20) // usage changes while the report is written
	rss     = rule{compare: func(p *pair, live, log any) bool {
		return within(float64(p.check.memorySlackKiB()<<10)).compare(p, live, log)
	}}
)

func within(slack float64) rule {
	return rule{compare: func(_ *pair, live, log any) bool {
		a, ok1 := live.(float64)
		b, ok2 := log.(float64)

		return ok1 && ok2 && a <= b+slack && b <= a+slack
	}}
}

func ignore(why string) rule { return rule{why: why} }

// rules are by key; one of a key holds for those below it that have none.
var rules = map[string]rule{
	"v": same, "kind": same,
	"time": ignore("the log's clock is uptime"), "boot_id": ignore("not in the log"), "node": ignore("not in the log"),
	"id": ignore("each source has its own"), "tier": ignore("not in the log"), "log": ignore("of a log only"),
	"unknown": ignore("each source has its own"), "notes": ignore("for people"),

	"scope":   {compare: sameScope},
	"outcome": same,

	"limiter":                  same,
	"limiter.usage_bytes":      charged,
	"limiter.swap_usage_bytes": charged, "limiter.memsw_usage_bytes": charged,

	"limiter.protected_min_bytes": charged, "limiter.protected_low_bytes": charged,

	"summary": ignore("a sentence of the other keys"),

	"ladder":                  same,
	"ladder.usage_bytes":      charged,
	"ladder.swap_usage_bytes": charged, "ladder.memsw_usage_bytes": charged,

	"trigger":           same,
	"trigger.thread":    ignore("the name in the log"),
	"trigger.is_kernel": ignore("not in the log"),

	"victims":                 same,
	"victims.thread":          ignore("the name in the log"),
	"victims.program":         ignore("read live"),
	"victims.chosen_by":       ignore("the log shows one of two"),
	"victims.reaped_after_ns": ignore("seen live only"),
	"victims.role":            {compare: sameRole},
	"victims.anon_rss_bytes":  rss,
	"victims.file_rss_bytes":  rss,
	"victims.shmem_rss_bytes": rss,
	"victims.swap_bytes":      rss,
	"victims.total_vm_bytes":  rss,
	"victims.pgtables_bytes":  within(slackPageTablesKiB << 10),

	"killer": same,

	"allocation":           same,
	"allocation.gfp_flags": {compare: sameSet},
	"memory":               charged,

	"passes":                    same,
	"passes.no_killable_task":   {compare: same.compare, unless: events.TierTracepoint},
	"passes.waiting_for_victim": ignore("not logged"),
	"passes.skipped":            ignore("not logged"),
	"passes.already_exiting":    ignore("seldom logged"),
	"exiting":                   ignore("seldom logged"),
	"passes.suspending":         ignore("not logged"),

	"follows": ignore("of SIGKILLs that are not logged"), "followed": ignore("not in the kernel's log"),
	"chosen": ignore("of a log alone"),
	"wait":   ignore("not logged"), "before": ignore("seen live only"), "audit": ignore("of live counters"),
	"limit_changes": ignore("seen live only"),
	"shares":        ignore("read live"), "candidates": ignore("read at another time"), "node_state": ignore("read at another time"),
	"node_at_kill":    ignore("the log's node_state, compared whole"),
	"shares_after_ns": ignore("read live"), "candidates_after_ns": ignore("read live"),
	"shares_left_out": ignore("read live"), "candidates_left_out": ignore("read at another time"),
	"completed_from": ignore("of a live incident only"),
	"eviction":       ignore("read live"), "reported": ignore("read live"), "causes": ignore("of all the evidence"),
}

func ruleOf(key string) (rule, bool) {
	for {
		if r, ok := rules[key]; ok {
			return r, true
		}

		at := strings.LastIndexByte(key, '.')
		if at < 0 {
			return rule{}, false
		}

		key = key[:at]
	}
}

// pair is one incident, as a tier and as the log have it.
type pair struct {
	check     *Check
	live, log *events.Incident
}

func (p *pair) errorf(format string, args ...any) {
	p.check.errorf("against the kernel's log: "+format, args...)
}

func (p *pair) compare() {
	live, log := p.keys(p.live), p.keys(p.log)
	p.compareVictims()
	p.compareLadders()
	p.compareNode()

	all := maps.Clone(live)
	maps.Copy(all, log)
	ofLive, ofLog := elements(live), elements(log)

	for at := range all {
		key := at.key
		if at.of != "" && !(ofLive[at.of] && ofLog[at.of]) || p.concluded(at) {
			continue
		}

		r, ok := ruleOf(key)
		got, inLive := live[at]
		want, inLog := log[at]

		switch {
		case !ok:
			p.errorf("%s: no rule compares it", key)
		case r.compare == nil, r.unless != "" && r.unless == p.live.Tier, p.spread(key):
		case inLive && inLog:
			if !r.compare(p, got, want) {
				p.errorf("%s: got %v, want %v", at, got, want)
			}
		case inLive && !lacks(p.log, key):
			p.errorf("%s: got %v, but the log neither has it nor names it as unknown", at, got)
		case inLog && !lacks(p.live, key):
			p.errorf("%s: got neither a value nor its name in unknown, want %v", at, want)
		}
	}
}

// lacks reports whether an incident names a key as unknown. A workload is known by its
// cgroup.
func lacks(inc *events.Incident, key string) bool {
	owner, _, ofWorkload := strings.Cut(key, ".workload.")
	return namesUnknown(inc, key) || ofWorkload && namesUnknown(inc, owner+".cgroup")
}

// place is a key, and of which victim or cgroup it is.
type place struct{ key, of string }

func (p place) String() string {
	if p.of == "" {
		return p.key
	}

	return fmt.Sprintf("%s of %q", p.key, p.of)
}

// elements are the victims and cgroups that keys are of.
func elements(keys map[place]any) map[string]bool {
	of := map[string]bool{}
	for at := range keys {
		of[at.of] = true
	}

	return of
}

// concluded reports whether one of the two has a key only as a conclusion, and names it
// as unknown: the process of a thread, or the node where it may be some of its NUMA nodes.
func (p *pair) concluded(at place) bool {
	if namesUnknown(p.live, "constraint") || namesUnknown(p.log, "constraint") {
		if at.key == "allocation.total_pages" || strings.HasPrefix(at.key, "limiter.") && at.key != "limiter.level" {
			return true
		}
	}

	return at.key == "trigger.pid" && namesUnknown(p.log, at.key)
}

// spread reports whether a count is reported once a second by limiter: in a burst, it is
// chance with which incident. The sum is compared.
func (p *pair) spread(key string) bool {
	return key == "passes.no_killable_task" && p.check.spec.Burst
}

// sameScope accepts the node for its NUMA nodes if one of the two cannot distinguish them.
func sameScope(p *pair, live, log any) bool {
	ofNode := []any{string(events.ScopeGlobal), string(events.ScopeCpuset), string(events.ScopeMempolicy)}
	unsure := namesUnknown(p.live, "constraint") || namesUnknown(p.log, "constraint")

	return live == log || unsure && slices.Contains(ofNode, live) && slices.Contains(ofNode, log)
}

// sameRole accepts that a member of a group which shares the memory of another one is
// signalled for both reasons.
func sameRole(p *pair, live, log any) bool {
	both := []any{string(events.RoleGroup), string(events.RoleSharedMM)}
	ofGroup := p.live.Killer != nil && p.live.Killer.GroupCgroup != nil

	return live == log || ofGroup && slices.Contains(both, live) && slices.Contains(both, log)
}

// sameSet compares lists whose order differs between kernels.
func sameSet(_ *pair, live, log any) bool {
	sorted := func(list any) []string {
		names := strings.Fields(strings.Trim(fmt.Sprint(list), "[]"))
		slices.Sort(names)

		return names
	}

	return slices.Equal(sorted(live), sorted(log))
}

// keys flattens an incident. Victims are distinguished by pid, cgroups of the ladder by
// path. Placeholders of unknown values are left out.
func (p *pair) keys(inc *events.Incident) map[place]any {
	flat := map[place]any{}
	text, err := events.Marshal(inc)

	var tree map[string]any
	if err == nil {
		err = json.Unmarshal(text, &tree)
	}

	if err != nil {
		p.errorf("%v", err)
		return flat
	}

	threadsName(tree["trigger"])

	for _, list := range []struct {
		name string
		id   func(map[string]any) any
	}{
		{"victims", func(v map[string]any) any { return v["pid"] }},
		{"ladder", func(r map[string]any) any { return r["cgroup"].(map[string]any)["path"] }},
	} {
		elements, _ := tree[list.name].([]any)
		delete(tree, list.name)

		for _, e := range elements {
			e := e.(map[string]any)
			threadsName(e)
			flatten(flat, place{list.name, fmt.Sprint(list.id(e))}, e)
		}
	}

	flatten(flat, place{}, tree)
	maps.DeleteFunc(flat, func(at place, value any) bool {
		placeholder := value == "unknown" || strings.HasSuffix(at.key, "cgroup.id") && value == 0.0 ||
			strings.HasSuffix(at.key, "cgroup.hierarchy") && inc == p.log

		return placeholder && namesUnknown(inc, at.key)
	})

	return flat
}

func flatten(flat map[place]any, at place, value any) {
	object, ok := value.(map[string]any)
	if !ok {
		flat[at] = value
		return
	}

	for key, inner := range object {
		flatten(flat, place{strings.TrimPrefix(at.key+"."+key, "."), at.of}, inner)
	}
}

// threadsName takes the name of the thread, as the kernel's log has it.
func threadsName(task any) {
	if object, ok := task.(map[string]any); ok && object["thread"] != nil {
		object["comm"] = object["thread"]
	}
}

// compareVictims: a process that only shares the memory of a victim has no line in the log.
func (p *pair) compareVictims() {
	in := func(victims []events.Victim, pid int) bool {
		return slices.ContainsFunc(victims, func(v events.Victim) bool { return v.PID == pid })
	}

	for _, v := range p.log.Victims {
		if !in(p.live.Victims, v.PID) {
			p.errorf("got no victim %s[%d], want it", v.Comm, v.PID)
		}
	}

	for _, v := range p.live.Victims {
		if !sharesMemory(p, v) && !in(p.log.Victims, v.PID) {
			p.errorf("got victim %s[%d], want none", v.Comm, v.PID)
		}
	}
}

// compareNode: what a live incident has of the node at the kill is the log's.
func (p *pair) compareNode() {
	if live, log := p.live.NodeAtKill, p.log.NodeState; live != nil && !reflect.DeepEqual(live, log) {
		p.errorf("node at the kill: got %+v, want %+v", live, log)
	}
}

// sharesMemory reports whether a victim may have died for the memory that it shares, which
// the log does not have. In the case of a group whose members share memory, it may be a
// member, too.
func sharesMemory(p *pair, v events.Victim) bool {
	return v.Role == events.RoleSharedMM || v.Role == events.RoleGroup && p.check.spec.SharedMemory
}

// compareLadders: the log has the cgroups from the victim's up to the limiter.
func (p *pair) compareLadders() {
	in := func(ladder []events.Rung, path string) bool {
		return slices.ContainsFunc(ladder, func(r events.Rung) bool { return r.Cgroup.Path == path })
	}

	if p.live.Ladder == nil || p.log.Ladder == nil {
		return // that it is unknown is compared with the other keys
	}

	for _, r := range p.log.Ladder {
		if !in(p.live.Ladder, r.Cgroup.Path) {
			p.errorf("ladder: got no %s, want it", r.Cgroup.Path)
		}
	}

	for _, r := range p.live.Ladder {
		if (r.Below || r.Cgroup.Path == limiterPath(p.live)) && !in(p.log.Ladder, r.Cgroup.Path) {
			p.errorf("ladder: got %s, want none", r.Cgroup.Path)
		}
	}
}
