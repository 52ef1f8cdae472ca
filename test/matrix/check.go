// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/test/lab"
)

// verdict is what one kernel's boot came to.
type verdict struct {
	kernel   kernel
	cells    map[string]map[string]string // case, tier: ok, FAIL, or why there is none
	problems []string
	once     []string // problems that were not there when their cases were played again
}

func (v *verdict) problem(format string, args ...any) {
	v.problems = append(v.problems, fmt.Sprintf(format, args...))
}

const notOffered = "–"

// judge looks at everything that a boot gave. Each case must have run, and each
// tier must have been right about it.
func judge(k kernel, result *lab.Result, err error, o options) verdict {
	v := verdict{kernel: k, cells: map[string]map[string]string{}}
	if err != nil {
		v.problem("%v", err)
		return v
	}

	wanted := tiers
	if len(o.tiers) > 0 {
		wanted = o.tiers
	}

	for _, tier := range wanted {
		t, ok := result.Tracers[tier]

		offered := !slices.Contains(k.without, tier)
		switch {
		case !ok:
			v.problem("%s: the tracer was not started", tier)
		case t.Error != "" && offered:
			v.problem("%s: %s", tier, t.Error)
		case t.Error == "" && !offered:
			v.problem("%s: it runs, although this kernel was not thought to offer it", tier)
		case t.Error != "" && !strings.Contains(t.Error, "is not available on this kernel"):
			v.problem("%s: not offered, but the reason is unclear: %s", tier, t.Error)
		}

		if ok && t.Error == "" {
			v.session(tier, t, result)
		}
	}

	told := map[string]story{}
	for _, tier := range wanted {
		told[tier] = v.story(tier, result)
	}

	skipped := map[string][]string{}
	for _, tier := range wanted {
		_, skipped[tier] = skippedRuns(result, tier)
	}

	for _, e := range expectations {
		if len(o.cases) > 0 && !slices.Contains(o.cases, e.name) || k.v1 && !e.v1 {
			continue
		}
		v.cells[e.name] = map[string]string{}

		i := slices.IndexFunc(result.Cases, func(c lab.Case) bool { return c.Name == e.name })
		if i < 0 {
			v.problem("%s did not run", e.name)
			continue
		}

		c := result.Cases[i]
		if c.Error != "" {
			v.problem("%s could not be done: %s", e.name, c.Error)
		}

		log, err := readLog(c)
		if err != nil {
			v.problem("%s: reading the kernel's log: %v", e.name, err)
		}

		v.kernelLog(k, c, log)

		for _, tier := range wanted {
			if slices.Contains(k.without, tier) {
				v.cells[e.name][tier] = notOffered
				continue
			}
			before := len(v.problems)
			cc := newCaseCheck(&v, k, tier, c, log, told[tier])
			cc.skipped = skipped[tier]
			cc.all(e)

			if c.Error == "" && o.golden(k, tier) && !e.countOnly {
				cc.golden(o.update)
			}

			v.cells[e.name][tier] = "ok"
			if len(v.problems) > before && c.Error == "" && cc.fellBack() {
				v.problems = v.problems[:before]

				cc.victims(e)
				v.cells[e.name][tier] = fellBack
			}

			if len(v.problems) > before || c.Error != "" {
				v.cells[e.name][tier] = "FAIL"
			}
		}
	}
	less := 0

	for _, cells := range v.cells {
		if cells["kprobe"] == fellBack {
			less++
		}
	}

	if less > mostFallBacks {
		v.problem("kprobe: in %d cases a kill was told by tracepoints alone: that is no chance", less)
	}

	return v
}

// session checks what belongs to no case: the tracer's start and end.
func (v *verdict) session(tier string, t lab.Tracer, result *lab.Result) {
	if !t.ExitOK {
		v.problem("%s: the tracer did not end well: %s", tier, t.Stderr)
	}
	var end *events.Status

	for _, line := range append(slices.Clone(t.Start), t.End...) {
		var s events.Status
		if err := json.Unmarshal([]byte(line), &s); err != nil {
			v.problem("%s: not JSON: %s", tier, line)
			continue
		}

		if s.Kind == events.KindStatus && s.Phase == "end" {
			end = &s
		}
	}

	if end == nil {
		v.problem("%s: no status line at the end", tier)
		return
	}
	seen := uint64(0)

	for _, c := range result.Cases {
		for _, line := range c.Lines[tier] {
			if strings.Contains(line, `"kind":"incident",`) {
				seen++
			}
		}
	}

	if told, _ := skippedRuns(result, tier); *end.Lost != told {
		v.problem("%s: %d records lost, %d of them explained", tier, *end.Lost, told)
	}

	if *end.Incidents != seen {
		v.problem("%s: it counted %d incidents and wrote %d", tier, *end.Incidents, seen)
	}
}

// skippedRuns counts runs of programs that the kernel skipped. A program that
// is preempted, as many can be from 6.18 on, is not run for others on that CPU. What
// they would have told must be missing as unknown, which each case checks. The
// kill itself is under the kernel's own locks, and cannot be skipped so.
func skippedRuns(result *lab.Result, tier string) (count uint64, programs []string) {
	lines := slices.Clone(result.Tracers[tier].End) // they are looked for now and then
	for _, c := range result.Cases {
		lines = append(lines, c.Lines[tier]...)
	}

	for _, line := range lines {
		if l, ok := skippedRun(line); ok {
			count += l.Count
			programs = append(programs, strings.TrimPrefix(l.What, missedRun))
		}
	}

	return count, programs
}

const missedRun = "missed run of "

// skippedRun tells such a line.
func skippedRun(line string) (l events.Lost, ok bool) {
	if err := json.Unmarshal([]byte(line), &l); err != nil || l.Kind != events.KindLost {
		return l, false
	}
	what, missed := strings.CutPrefix(l.What, missedRun)
	sacred := []string{"signal_generate", "mark_victim", "out_of_memory", "oom_kill_process"}

	if strings.HasPrefix(what, "kprobe_") || strings.HasPrefix(what, "kretprobe_") {
		return l, missed
	}

	return l, missed && !slices.ContainsFunc(sacred, func(s string) bool { return strings.HasSuffix(what, s) })
}

// fellBack is a case in which the kernel did not let a kprobe tell of a decision: while
// a task inside of a bpf() call is preempted, kprobe programs do not run on its CPU
// (kernel/trace/bpf_trace.c: trace_call_bpf, bpf_prog_active). Such a kill is told by
// tracepoints alone; who died must be right even so.
const fellBack = "less"

func (cc *caseCheck) fellBack() bool {
	return cc.tier == "kprobe" && slices.ContainsFunc(cc.incidents, func(inc *events.Incident) bool { return inc.Tier == events.TierTracepoint })
}

// mostFallBacks is how many cases of a boot may have such a kill, by chance.
const mostFallBacks = 3

// caseCheck judges one tier's account of one case.
type caseCheck struct {
	v         *verdict
	kernel    kernel
	tier      string
	c         lab.Case
	incidents []*events.Incident // updates merged
	stalls    []events.StallLine
	skipped   []string // programs of which the kernel skipped runs in this session
	log       kernelLog
}

func (cc *caseCheck) problem(format string, args ...any) {
	cc.v.problem("%s %s: %s", cc.c.Name, cc.tier, fmt.Sprintf(format, args...))
}

func (cc *caseCheck) equal(what string, got, want any) {
	if fmt.Sprint(got) != fmt.Sprint(want) {
		cc.problem("%s is %v, not %v", what, got, want)
	}
}

// story is all that one tracer said of a boot: incidents by id, with their
// updates, which may come while later cases run.
type story map[string]*events.Incident

func (v *verdict) story(tier string, result *lab.Result) story {
	told := story{}

	lines := slices.Clone(result.Tracers[tier].Start)
	for _, c := range result.Cases {
		lines = append(lines, c.Lines[tier]...)
	}

	for _, line := range append(lines, result.Tracers[tier].End...) {
		if err := validate(line); err != nil {
			v.problem("%s: against the schema: %v: %s", tier, err, line)
			continue
		}

		var head events.Envelope
		if err := json.Unmarshal([]byte(line), &head); err != nil || head.Kind != events.KindIncident && head.Kind != events.KindIncidentUpdate {
			continue
		}

		var inc events.Incident
		if err := json.Unmarshal([]byte(line), &inc); err != nil {
			v.problem("%s: %v: %s", tier, err, line)
			continue
		}

		unescape(&inc)

		old := told[inc.ID]
		switch {
		case head.Kind == events.KindIncident && old == nil:
			told[inc.ID] = &inc
		case head.Kind == events.KindIncident:
			v.problem("%s: incident %s came twice", tier, inc.ID)
		case old == nil:
			v.problem("%s: an update of %s, which was not told", tier, inc.ID)
		default:
			events.Merge(old, &inc)
		}
	}

	return told
}

// newCaseCheck takes the incidents that were told in the case. Whatever else was
// told in it must be an update.
func newCaseCheck(v *verdict, k kernel, tier string, c lab.Case, log kernelLog, told story) *caseCheck {
	cc := &caseCheck{v: v, kernel: k, tier: tier, c: c, log: log}
	for _, line := range c.Lines[tier] {
		var head struct {
			Kind string `json:"kind"`
			ID   string `json:"id"`
		}
		if err := json.Unmarshal([]byte(line), &head); err != nil {
			cc.problem("not JSON: %s", line)
			continue
		}

		switch head.Kind {
		case events.KindIncident:
			if inc := told[head.ID]; inc != nil {
				cc.incidents = append(cc.incidents, inc)
			}
		case events.KindIncidentUpdate:
		case events.KindStall:
			var stall events.StallLine
			if err := json.Unmarshal([]byte(line), &stall); err != nil {
				cc.problem("%v: %s", err, line)
			}
			cc.stalls = append(cc.stalls, stall)
		default:
			if _, explained := skippedRun(line); !explained {
				cc.problem("an unexpected line: %s", line)
			}
		}
	}

	return cc
}

func unescape(inc *events.Incident) {
	for i := range inc.Victims {
		inc.Victims[i].Comm = events.UnescapeText(inc.Victims[i].Comm)
	}

	if inc.Trigger != nil {
		inc.Trigger.Comm = events.UnescapeText(inc.Trigger.Comm)
	}

	if inc.Limiter != nil && inc.Limiter.Cgroup != nil {
		inc.Limiter.Cgroup.Path = events.UnescapeText(inc.Limiter.Cgroup.Path)
	}
}

var readSchema = sync.OnceValues(func() (*jsonschema.Schema, error) {
	schema, err := jsonschema.NewCompiler().Compile("docs/events.schema.json")
	if err != nil {
		return nil, fmt.Errorf("reading the schema: %w: run it in the repository", err)
	}

	return schema, nil
})

func validate(line string) error {
	schema, err := readSchema()
	if err != nil {
		return err
	}

	value, err := jsonschema.UnmarshalJSON(strings.NewReader(line))
	if err != nil {
		return err
	}

	return schema.Validate(value)
}

func (cc *caseCheck) all(e expectation) {
	cc.victims(e)
	cc.counters()

	if e.countOnly {
		e.check(cc)
		return
	}

	if !e.users && slices.ContainsFunc(cc.incidents, byUser) {
		cc.problem("it has an incident of scope user: %d in all", len(cc.incidents))
	}

	for _, inc := range cc.incidents {
		cc.known(inc)

		if inc.Outcome == events.OutcomeKilled {
			cc.before(inc)
		}
	}

	cc.againstLog()
	e.check(cc)
	cc.causes()
}

// victims: whoever was killed is in exactly one incident, and nobody else is.
func (cc *caseCheck) victims(e expectation) {
	reported := map[int]int{}

	for _, inc := range cc.incidents {
		for _, v := range inc.Victims {
			if !byUser(inc) {
				reported[v.PID]++
			}
		}
	}

	for _, p := range cc.c.Procs {
		switch n := reported[p.PID]; {
		case n > 1:
			cc.problem("%s[%d] is a victim of %d incidents", p.Name, p.PID, n)
		case p.Killed && !e.notOOM && n == 0:
			cc.problem("%s[%d] was killed, and is in no incident", p.Name, p.PID)
		case n == 1 && (!p.Killed || e.notOOM):
			cc.problem("%s[%d] is called a victim of the OOM killer, and was not", p.Name, p.PID)
		}

		delete(reported, p.PID)
	}

	for pid := range reported {
		if !cc.log.killed[pid] {
			cc.problem("victim %d is neither of the case nor in the kernel's log", pid)
		}
	}

	for pid := range cc.log.killed {
		if _, v := cc.find(pid); v == nil {
			cc.problem("the kernel's log has victim %d, no incident has", pid)
		}
	}
}

// find gives the incident and the victim with a pid, which the kernel may have
// as a thread's.
func (cc *caseCheck) find(pid int) (*events.Incident, *events.Victim) {
	for _, inc := range cc.incidents {
		for i := range inc.Victims {
			if v := &inc.Victims[i]; v.PID == pid || v.TID == pid {
				return inc, v
			}
		}
	}

	return nil, nil
}

// counters: the kernel's own counts are what the incidents say.
func (cc *caseCheck) counters() {
	var kills uint64

	for _, inc := range cc.incidents {
		if inc.Outcome != events.OutcomeKilled || byUser(inc) {
			continue
		}

		if inc.Audit == nil {
			cc.problem("incident %s has no audit", inc.ID)
			continue
		}

		if !inc.Audit.Explained {
			cc.problem("its audit explains nothing: %s", inc.Audit.Text)
		}
		kills += inc.Audit.KernelKills
	}

	cc.equal("the sum of kills", kills, cc.c.OOMKills[1]-cc.c.OOMKills[0])

	for _, g := range cc.c.Groups {
		var below, hits uint64

		for _, inc := range cc.incidents {
			if inc.Audit == nil {
				continue
			}

			if counted(inc, g.ID, cc.kernel.v1) {
				below += inc.Audit.KernelKills
			}

			if inc.Limiter != nil && inc.Limiter.Cgroup != nil && inc.Limiter.Cgroup.ID == g.ID {
				hits++
			}
		}

		cc.equal("oom_kill of "+g.Name, below, g.OOMKill)

		if hits > 0 && !cc.kernel.v1 && g.OOMLocal == 0 {
			cc.problem("%s is called the limiter, and its own limit was never hit", g.Name)
		}
	}
}

// counted tells whether a cgroup counts the kills of an incident: each ancestor
// of the victim's does on cgroup v2, only the victim's own on v1.
func counted(inc *events.Incident, id uint64, v1 bool) bool {
	if v1 {
		return len(inc.Ladder) > 0 && inc.Ladder[0].Cgroup.ID == id
	}

	return slices.ContainsFunc(inc.Ladder, func(r events.Rung) bool { return r.Cgroup.ID == id })
}

// before: each kill tells what stalled before it, and what cannot be seen.
func (cc *caseCheck) before(inc *events.Incident) {
	if inc.Before == nil {
		cc.problem("incident %s does not tell what was before", inc.ID)
		return
	}

	high := slices.Contains(inc.Before.Unseen, string(events.StallMemoryHigh))
	if high != (cc.tier == "tracepoint") {
		cc.problem("unseen is %q", inc.Before.Unseen)
	}
	// A task from elsewhere reclaims where the limit is lowered: this tier does not
	// know for whom.
	elsewhere := cc.c.Name == "limit-lowered" && cc.tier == "tracepoint" && !strings.HasPrefix(cc.kernel.name, "7.")
	if cc.c.Name != "burst" && !elsewhere && inc.Scope == events.ScopeMemcg && stalled(inc, events.StallMemcgReclaim) == 0 {
		cc.problem("a cgroup's limit was hit without reclaim: %+v", inc.Before.Stalls)
	}

	if inc.Scope == events.ScopeGlobal && cc.c.Name == "global" && stalled(inc, events.StallDirectReclaim) == 0 {
		cc.problem("the node ran out without direct reclaim: %+v", inc.Before.Stalls)
	}
}

func stalled(inc *events.Incident, what events.StallKind) uint64 {
	for _, s := range inc.Before.Stalls {
		if s.What == string(what) {
			return s.Count
		}
	}

	return 0
}

// againstLog compares the incidents with those that are read from the kernel's log.
func (cc *caseCheck) againstLog() {
	reports := map[*events.Incident]int{}

	for _, log := range cc.log.incidents {
		live := cc.partner(log)
		if live != nil {
			reports[live]++
			p := pair{cc: cc, live: live, log: log}
			p.compare()
		} else if !(cc.tier == "tracepoint" && log.Outcome == events.OutcomeNoKillable) {
			cc.problem("the kernel's log has an incident (%s, line %d, %d victims) that is not told", log.Outcome, log.Log.FirstLine, len(log.Victims))
		}
	}

	for _, live := range cc.incidents {
		told := live.Outcome == events.OutcomeKilled || live.Outcome == events.OutcomeNoKillable // the others write nothing
		if n := reports[live]; told && !byUser(live) && n != 1 {
			cc.problem("incident %s (%s) is %d times in the kernel's log", live.ID, live.Outcome, n)
		}
	}
	// The log of a burst has gaps.
	if live, log := noKillable(cc.incidents), noKillable(cc.log.incidents); cc.tier != "tracepoint" && live < log {
		cc.problem("%d passes found nobody to kill, the log has %d", live, log)
	}
}

// partner is the live incident of one in the log: that with its victims, or that
// without any for the same limiter.
func (cc *caseCheck) partner(log *events.Incident) *events.Incident {
	for _, live := range cc.incidents {
		if byUser(live) || live.Outcome != log.Outcome {
			continue
		}

		if len(log.Victims) > 0 && isOf(live, log.Victims[0].TID) {
			return live
		}

		if len(log.Victims) == 0 && limiterPath(live) == limiterPath(log) {
			return live
		}
	}

	return nil
}

// Kernels before 6.2 keep a part of the counts in each thread, and the others
// change between the signal and the log's line.
const (
	slackKB   = 1024
	slackOld  = 4096
	slackPgKB = 128
)

// slack of a process's memory, in KiB.
func (cc *caseCheck) slack() uint64 {
	if strings.HasPrefix(cc.kernel.name, "5.") || strings.HasPrefix(cc.kernel.name, "6.1-") || cc.kernel.name == "6.1" {
		return slackOld
	}

	return slackKB
}

func near(cc *caseCheck, what string, got, want, slack uint64) {
	if got+slack < want || got > want+slack {
		cc.problem("%s is %d, not near %d", what, got, want)
	}
}

// known: each field is there, or named as unknown, and unknown is only what this
// tier may leave so.
func (cc *caseCheck) known(inc *events.Incident) {
	text, err := json.Marshal(inc)
	if err != nil {
		cc.problem("%v", err)
		return
	}

	var tree map[string]any
	if err := json.Unmarshal(text, &tree); err != nil {
		cc.problem("%v", err)
		return
	}

	for _, path := range required(inc, cc.tier) {
		said := slices.ContainsFunc(inc.Unknown, func(u string) bool { return path == u || strings.HasPrefix(path, u+".") })

		there := has(tree, strings.Split(path, "."))
		switch {
		case there && said && path != "limiter" && path != "scope":
			cc.problem("%s is there, and named as unknown", path)
		case !there && !said:
			cc.problem("%s is absent, and not named as unknown", path)
		}
	}

	for _, u := range inc.Unknown {
		if !mayBeUnknown(u, inc, cc) {
			cc.problem("%s is unknown, and need not be", u)
		}
	}
}

func required(inc *events.Incident, tier string) []string {
	if inc.Scope == events.ScopeUser {
		return requiredOfUser
	}

	list := []string{"scope", "outcome", "tier", "trigger.pid", "trigger.tid", "trigger.comm", "allocation.class",
		"allocation.order", "allocation.gfp", "allocation.total_pages", "limiter.level", "limiter.which",
		"limiter.usage_bytes", "limiter.limit_bytes", "ladder", "memory"}
	if inc.Outcome != events.OutcomeKilled {
		return list
	}

	list = append(list, "killer.kind", "killer.path", "passes.killed", "audit.text")
	for _, key := range []string{"pid", "tid", "comm", "role", "anon_rss_bytes", "file_rss_bytes", "shmem_rss_bytes", "swap_bytes",
		"pgtables_bytes", "total_vm_bytes", "oom_score_adj", "uid", "start_time", "is_container_init", "exit_after_ns",
		"released_after_ns", "cgroup.path"} {
		list = append(list, "victims."+key)
	}

	if inc.Scope == events.ScopeMemcg {
		list = append(list, "limiter.cgroup.path", "ladder.usage_bytes", "ladder.peak_bytes", "ladder.cgroup.path", "memory.anon_bytes",
			"memory.file_bytes", "memory.slab_bytes", "memory.kernel_stack_bytes", "memory.pagetables_bytes", "memory.sock_bytes",
			"memory.file_dirty_bytes", "memory.file_writeback_bytes", "memory.active_file_bytes", "memory.inactive_file_bytes",
			"memory.unevictable_bytes", "memory.anon_thp_bytes", "memory.slab_reclaimable_bytes", "memory.slab_unreclaimable_bytes",
			"memory.percpu_bytes")
	}

	return list
}

// has follows keys; in a list every element must have the rest.
func has(value any, path []string) bool {
	if list, ok := value.([]any); ok {
		return len(list) > 0 && !slices.ContainsFunc(list, func(e any) bool { return !has(e, path) })
	}

	if len(path) == 0 {
		return value != nil
	}

	object, ok := value.(map[string]any)
	if !ok {
		return false
	}
	next, there := object[path[0]]

	return there && has(next, path[1:])
}

func mayBeUnknown(name string, inc *events.Incident, cc *caseCheck) bool {
	if byUser(inc) {
		return strings.HasPrefix(name, "ladder.swap_") && cc.kernel.v1 // without swap accounting
	}
	node := inc.Scope != events.ScopeMemcg
	unkilled := inc.Outcome != events.OutcomeKilled

	switch name {
	case "limiter.usage_bytes", "limiter.swap_usage_bytes":
		return node
	case "limiter.limit_bytes":
		return inc.Scope == events.ScopeCpuset || inc.Scope == events.ScopeMempolicy
	case "memory":
		// Of a node; or the counters were not flushed, where the log was rate limited.
		// A split that does not add up to the usage is not told: 6.18 counts page tables late.
		return node || unkilled || !cc.whole(inc) || cc.c.Name == "page-tables"
	case "memory.pagetables_bytes":
		return strings.HasPrefix(cc.kernel.name, "5.10")
	case "memory.slab_bytes":
		return false
	case "allocation.class":
		return true // a compiler may have inlined what tells it
	case "ladder", "allocation.total_pages":
		return unkilled || cc.tier == "tracepoint"
	}
	// The kernel skipped the program that tells, and the tracer said so.
	if slices.Contains(cc.skipped, "sched_process_exit") && strings.HasSuffix(name, "_after_ns") ||
		name == "victims.released_after_ns" && slices.ContainsFunc(cc.skipped, func(p string) bool { return strings.HasSuffix(p, "exit_mmap") }) {
		return true
	}

	if name == "victims.released_after_ns" && (cc.c.Name == "burst" || cc.tier == "kprobe") {
		// A process may die while it becomes another program; a kprobe is skipped
		// where another BPF program is in the way.
		return true
	}

	if cc.tier != "tracepoint" {
		return false
	}

	switch name {
	case "victims.points", "victims.released_after_ns", "allocation.order", "allocation.gfp", "allocation.gfp_flags", "constraint":
		return true
	case "limiter", "scope", "trigger":
		return unkilled
	}

	return false
}

// whole tells that the kernel wrote all of its report.
func (cc *caseCheck) whole(inc *events.Incident) bool {
	return slices.ContainsFunc(cc.log.incidents, func(log *events.Incident) bool {
		return log.Trigger != nil && len(log.Victims) > 0 && isOf(inc, log.Victims[0].TID)
	})
}
