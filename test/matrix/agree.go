// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
)

// A live incident and the one that is read from the kernel's log are of one
// contract. Here they are compared key by key: a key that both have must be the
// same; one that only one of them has must be named in "unknown" by the other. A
// key that no rule is about is a problem, so that new ones get theirs.

// rule tells how a key is compared; nil: it is not, for the reason given.
type rule struct {
	compare func(p *pair, live, log any) bool
	why     string
	unless  events.Tier // this one does not see it
}

var (
	same    = rule{compare: func(_ *pair, live, log any) bool { return fmt.Sprint(live) == fmt.Sprint(log) }}
	charged = within(1 << 20) // usage changes while the report is written
	rss     = rule{compare: func(p *pair, live, log any) bool { return within(float64(p.cc.slack()<<10)).compare(p, live, log) }}
)

func within(slack float64) rule {
	return rule{compare: func(_ *pair, live, log any) bool {
		a, ok1 := live.(float64)
		b, ok2 := log.(float64)

		return ok1 && ok2 && a <= b+slack && b <= a+slack
	}}
}

func ignore(why string) rule { return rule{why: why} }

// rules are by key; one for a key is one for those below it that have none.
var rules = map[string]rule{
	"v": same, "kind": same,
	"time": ignore("the log's clock is uptime"), "boot_id": ignore("not in the log"), "node": ignore("not in the log"),
	"id": ignore("each source has its own"), "tier": ignore("of course"), "log": ignore("of a log only"),
	"unknown": ignore("each source has its own"), "notes": ignore("for people"),

	"scope":   {compare: sameScope},
	"outcome": same,

	"limiter":                  same,
	"limiter.usage_bytes":      charged,
	"limiter.swap_usage_bytes": charged,

	"ladder":                  same,
	"ladder.usage_bytes":      charged,
	"ladder.swap_usage_bytes": charged,

	"trigger":           same,
	"trigger.thread":    ignore("the name in the log"),
	"trigger.is_kernel": ignore("not in the log"),

	"victims":                 same,
	"victims.thread":          ignore("the name in the log"),
	"victims.anon_rss_bytes":  rss,
	"victims.file_rss_bytes":  rss,
	"victims.shmem_rss_bytes": rss,
	"victims.swap_bytes":      rss,
	"victims.total_vm_bytes":  rss,
	"victims.pgtables_bytes":  within(slackPgKB << 10),

	"killer": same,

	"allocation":           same,
	"allocation.gfp_flags": {compare: sameSet},
	"memory":               charged,

	"passes":                    same,
	"passes.no_killable_task":   {compare: same.compare, unless: events.TierTracepoint},
	"passes.waiting_for_victim": ignore("it writes nothing"),
	"passes.skipped":            ignore("it writes nothing"),
	"passes.already_exiting":    ignore("it writes nothing, most often"),

	"before": ignore("seen live only"), "audit": ignore("of live counters"),
	"shares": ignore("looked up live"), "candidates": ignore("read at another time"), "node_state": ignore("read at another time"),
	"shares_left_out": ignore("looked up live"), "candidates_left_out": ignore("read at another time"),
	"eviction": ignore("looked up live"), "reported": ignore("looked up live"), "causes": ignore("of all the evidence"),
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

// pair is one decision, as a tier and as the log have it.
type pair struct {
	cc        *caseCheck
	live, log *events.Incident
}

func (p *pair) problem(format string, args ...any) {
	p.cc.problem("live and log: "+format, args...)
}

func (p *pair) compare() {
	live, log := p.keys(p.live), p.keys(p.log)
	p.victims()
	p.rungs()
	all := maps.Clone(live)
	maps.Copy(all, log)
	ofLive, ofLog := elements(live), elements(log)

	for at := range all {
		key := at.key
		if at.of != "" && !(ofLive[at.of] && ofLog[at.of]) || p.concluded(at) {
			continue
		}
		r, ok := ruleOf(key)
		a, inLive := live[at]

		b, inLog := log[at]
		switch {
		case !ok:
			p.problem("no rule says how to compare %s", key)
		case r.compare == nil, r.unless != "" && r.unless == p.live.Tier, p.folded(key):
		case inLive && inLog:
			if !r.compare(p, a, b) {
				p.problem("%s is %v and %v", at, a, b)
			}
		case inLive && !lacks(p.log, key):
			p.problem("%s is %v live; the log does not have it, and does not say so", at, a)
		case inLog && !lacks(p.live, key):
			p.problem("%s is %v in the log; live it is not there, and is not said to be unknown", at, b)
		}
	}
}

// names tells that an incident calls a key unknown.
func names(inc *events.Incident, key string) bool {
	return slices.ContainsFunc(inc.Unknown, func(u string) bool { return key == u || strings.HasPrefix(key, u+".") })
}

// lacks tells that an incident says that it does not know a key. The workload is
// known by its cgroup.
func lacks(inc *events.Incident, key string) bool {
	owner, _, ofWorkload := strings.Cut(key, ".workload.")
	return names(inc, key) || ofWorkload && names(inc, owner+".cgroup")
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

// concluded tells what one of the two has only as a conclusion, and says so: the
// process of a thread, or the node where it may be some of its NUMA nodes.
func (p *pair) concluded(at place) bool {
	if names(p.live, "constraint") || names(p.log, "constraint") {
		if at.key == "allocation.total_pages" || strings.HasPrefix(at.key, "limiter.") && at.key != "limiter.level" {
			return true
		}
	}

	return at.key == "trigger.pid" && names(p.log, at.key)
}

// folded tells a count of passes that comes once a second by limiter: where many die in
// that time, which of their incidents it is with is chance. Their sum is compared.
func (p *pair) folded(key string) bool {
	return p.cc.c.Name == "burst" && key == "passes.no_killable_task"
}

// noKillable is the number of passes that found nobody to kill, in all.
func noKillable(incidents []*events.Incident) (sum uint64) {
	for _, inc := range incidents {
		if inc.Passes != nil {
			sum += inc.Passes.NoKillable
		}
	}

	return sum
}

// sameScope takes the node for its NUMA nodes where one of the two cannot tell.
func sameScope(p *pair, live, log any) bool {
	ofNode := []any{string(events.ScopeGlobal), string(events.ScopeCpuset), string(events.ScopeMempolicy)}
	unsure := names(p.live, "constraint") || names(p.log, "constraint")

	return live == log || unsure && slices.Contains(ofNode, live) && slices.Contains(ofNode, log)
}

// sameSet compares lists whose order differs from kernel to kernel.
func sameSet(_ *pair, live, log any) bool {
	sorted := func(list any) []string {
		names := strings.Fields(strings.Trim(fmt.Sprint(list), "[]"))
		slices.Sort(names)

		return names
	}

	return slices.Equal(sorted(live), sorted(log))
}

// keys flattens an incident. Victims are told apart by pid, rungs by path. What
// stands for a value that is unknown is left out.
func (p *pair) keys(inc *events.Incident) map[place]any {
	flat := map[place]any{}
	text, err := events.Marshal(inc)

	var tree map[string]any
	if err == nil {
		err = json.Unmarshal(text, &tree)
	}

	if err != nil {
		p.problem("%v", err)
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
		unknown := strings.HasSuffix(at.key, "cgroup.id") && value == 0.0 || strings.HasSuffix(at.key, "cgroup.hierarchy") && inc == p.log || value == "unknown"
		return unknown && names(inc, at.key)
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

// threadsName is what the kernel's log has for a name.
func threadsName(task any) {
	if object, ok := task.(map[string]any); ok && object["thread"] != nil {
		object["comm"] = object["thread"]
	}
}

// victims: who only shares the memory of a victim has no line in the log.
func (p *pair) victims() {
	for _, v := range p.log.Victims {
		if !slices.ContainsFunc(p.live.Victims, func(l events.Victim) bool { return l.PID == v.PID }) {
			p.problem("%s[%d] is a victim in the log only", v.Comm, v.PID)
		}
	}

	for _, v := range p.live.Victims {
		if v.Role != events.RoleSharedMM && !slices.ContainsFunc(p.log.Victims, func(l events.Victim) bool { return l.PID == v.PID }) {
			p.problem("%s[%d] is a victim live only", v.Comm, v.PID)
		}
	}
}

// rungs: the log has those from the victim's up to the limiter.
func (p *pair) rungs() {
	in := func(ladder []events.Rung, path string) bool {
		return slices.ContainsFunc(ladder, func(r events.Rung) bool { return r.Cgroup.Path == path })
	}

	if p.live.Ladder == nil || p.log.Ladder == nil {
		return // what is unknown is told with the other keys
	}

	for _, r := range p.log.Ladder {
		if !in(p.live.Ladder, r.Cgroup.Path) {
			p.problem("%s is on the ladder in the log only", r.Cgroup.Path)
		}
	}

	for _, r := range p.live.Ladder {
		if (r.Below || r.Cgroup.Path == p.live.Limiter.Cgroup.Path) && !in(p.log.Ladder, r.Cgroup.Path) {
			p.problem("%s is on the ladder live only", r.Cgroup.Path)
		}
	}
}
