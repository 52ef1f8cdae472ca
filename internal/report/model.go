// SPDX-License-Identifier: Apache-2.0

package report

import (
	"cmp"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/phrase"
)

// maxRows is how many rows of a table HTML shows; the raw event has all.
const maxRows = 100

// document is what the template shows.
type document struct {
	Title, Made, Scope string
	Policy             string
	Summary            *summaryPage // nil: a single incident needs none
	Incidents          func(yield func(*incidentPage) bool)
	None               bool
	Remarks            []string
	Charts             bool
}

// incidentPage is an incident, all its texts safe to be shown.
type incidentPage struct {
	*events.Incident
	Anchor, At, Outcome, Shortage string
	Alarm                         bool
	Sentence                      string
	Cards                         []card
	Panels                        []Panel
	Ladder                        []rungRow
	Split                         *split
	Shares                        []shareRow
	SharesMore                    int
	Victims                       []victimRow
	VictimsMore                   int
	Candidates                    []candidateRow
	CandidatesMore                int
	// Whether any row has the column.
	LadderHigh, LadderSwap, Resident, Badness bool
	Node                                      *nodePage
	Raw                                       string
}

// victimRow and candidateRow tell where a process was, too.
type (
	victimRow struct {
		events.Victim
		Where string
	}
	candidateRow struct {
		events.Candidate
		Where string
	}
)

// where tells where a process was, without the pod that the limit is of.
func where(inc *events.Incident, p *events.Process) string {
	return or(owner(p.Workload, said(inc)), path(p.Cgroup))
}

// card answers one of the four questions.
type card struct {
	Question, Answer string
	Facts            []fact
}

type fact struct{ Name, Value string }

func facts(pairs ...string) []fact {
	var all []fact

	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			all = append(all, fact{pairs[i], pairs[i+1]})
		}
	}

	return all
}

func anchor(seq int) string { return fmt.Sprintf("incident-%d", seq) }

// newIncidentPage takes the incident over.
func newIncidentPage(inc *events.Incident, seq int, o *Options) (*incidentPage, error) {
	raw, err := raw(inc)
	if err != nil {
		return nil, err
	}

	plain(reflect.ValueOf(inc))

	p := &incidentPage{
		Incident: inc, Anchor: anchor(seq), At: clock(inc.Time, o), Outcome: outcomeWord(inc), Shortage: phrase.Shortage(inc.Scope, inc.Limiter),
		Alarm: inc.Outcome == events.OutcomeKilled || inc.Outcome == events.OutcomePanic || inc.Outcome == events.OutcomeNoKillable, Sentence: sentence(inc),
		Cards: cards(inc, o), Panels: panels(inc), Ladder: ladder(inc), Split: chargeSplit(inc),
		Node: newNodePage(inc.NodeState), Raw: raw,
	}
	for _, r := range p.Ladder {
		p.LadderHigh = p.LadderHigh || r.HighBytes != nil
		p.LadderSwap = p.LadderSwap || r.SwapUsageBytes != nil
	}

	if inc.Scope == events.ScopeUser {
		p.Shortage = "" // nothing was short
	}

	victims, more := head(inc.Victims)
	for _, v := range victims {
		p.Victims = append(p.Victims, victimRow{v, where(inc, &v.Process)})
		p.Badness = p.Badness || v.Points != nil
	}
	p.VictimsMore = more

	candidates, more := head(inc.Candidates)
	for _, c := range candidates {
		p.Candidates = append(p.Candidates, candidateRow{c, where(inc, &c.Process)})
		p.Resident = p.Resident || c.RSSBytes != nil
	}
	p.CandidatesMore = more
	p.Shares, p.SharesMore = shareRows(inc.Shares, said(inc))

	return p, nil
}

func outcomeWord(inc *events.Incident) string {
	if inc.Scope == events.ScopeUser && inc.Killer != nil && inc.Killer.Kind == "user" {
		return "KILLED FROM USER SPACE"
	}

	return phrase.Outcome(inc.Scope, inc.Outcome)
}

// raw is the event as the contract has it, indented.
func raw(inc *events.Incident) (string, error) {
	line, err := events.Marshal(inc)
	if err != nil {
		return "", err
	}

	var out strings.Builder
	if err := indent(&out, line); err != nil {
		return "", fmt.Errorf("lay out incident %s: %w", inc.ID, err)
	}

	return out.String(), nil
}

func indent(out *strings.Builder, line []byte) error {
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")

	return enc.Encode(json.RawMessage(line))
}

func clock(at time.Time, o *Options) string {
	return phrase.When(at, "2006-01-02 15:04:05.000 MST", o.location())
}

func head[T any](all []T) (first []T, more int) {
	if len(all) > maxRows {
		return all[:maxRows], len(all) - maxRows
	}

	return all, 0
}

func size(bytes *uint64) string {
	if bytes == nil {
		return ""
	}

	return phrase.Size(*bytes)
}

func span(ns *uint64) string {
	if ns == nil {
		return ""
	}

	return phrase.Duration(*ns)
}

func cards(inc *events.Incident, o *Options) []card {
	v := judge(inc)

	return []card{
		{"Who limited", or(begin(v.Limited), "not known"), limiterFacts(inc)},
		{"Who triggered", or(begin(v.Triggered), noTrigger(inc)), triggerFacts(inc)},
		{"Who died", or(v.Died, "Nobody"), victimFacts(inc, o)},
		{"Who killed", killerAnswer(inc, v), killerFacts(inc)},
	}
}

func or(s, otherwise string) string { return cmp.Or(s, otherwise) }

func noTrigger(inc *events.Incident) string {
	if inc.Scope == events.ScopeUser {
		return "Nobody: no allocation failed"
	}

	return "not known"
}

func killerAnswer(inc *events.Incident, v verdict) string {
	switch {
	case inc.Outcome != events.OutcomeKilled:
		return begin(outcome(inc, v))
	case v.Killed == "":
		return "not known"
	}

	return begin(strings.TrimSuffix(v.Killed, ","))
}

func limiterFacts(inc *events.Incident) []fact {
	l := inc.Limiter
	if l == nil {
		return nil
	}

	name := "swap used"
	if l.Cgroup != nil && l.Cgroup.Hierarchy != 0 {
		name = "memory+swap used"
	}

	return facts("used", size(l.UsageBytes), "limit", size(l.LimitBytes), name, ratio(l.SwapUsageBytes, l.SwapLimitBytes),
		"QoS", identity(l.Workload).QoS, "pod UID", phrase.ShortID(identity(l.Workload).PodUID),
		"container id", phrase.ShortID(identity(l.Workload).ContainerID), "cgroup", path(l.Cgroup))
}

func identity(w *events.Workload) events.Workload {
	if w == nil {
		return events.Workload{}
	}

	return *w
}

func ratio(usage, limit *uint64) string {
	switch {
	case usage == nil:
		return ""
	case limit == nil:
		return phrase.Size(*usage)
	}

	return phrase.Size(*usage) + " of " + phrase.Size(*limit)
}

func triggerFacts(inc *events.Incident) []fact {
	var all []fact

	if p := inc.Trigger; p != nil {
		thread := ""
		if p.Thread != "" && p.TID != p.PID {
			thread = phrase.Task(p.Thread, p.TID)
		}
		all = facts("thread", thread, "container id", phrase.ShortID(identity(p.Workload).ContainerID), "cgroup", path(p.Cgroup))
	}

	if a := inc.Allocation; a != nil && inc.Scope != events.ScopeUser {
		order := ""
		if a.Order != nil && *a.Order >= 0 && *a.Order < 32 {
			order = fmt.Sprintf("order %d (%s)", *a.Order, phrase.Plural(1<<*a.Order, "page"))
		}
		all = append(all, facts("allocation", order, "for", phrase.Class(a.Class), "flags", strings.Join(a.GFPFlags, " | "))...)
	}

	return all
}

func path(c *events.Cgroup) string {
	if c == nil {
		return ""
	}

	return phrase.ShortPath(c.Path, 64)
}

func victimFacts(inc *events.Incident, o *Options) []fact {
	if len(inc.Victims) == 0 {
		return nil
	}
	v := &inc.Victims[0]

	memory := ""
	if v.AnonRSSBytes != nil {
		memory = size(v.AnonRSSBytes) + " anonymous"
	}

	init := ""
	if v.IsContainerInit != nil && *v.IsContainerInit {
		init = "yes: the container ended with it"
	}

	adj := ""
	if v.OOMScoreAdj != nil {
		adj = fmt.Sprint(*v.OOMScoreAdj)
	}

	started := ""
	if v.StartTime != nil {
		started = phrase.When(*v.StartTime, time.DateTime, o.location())
	}

	return facts("container id", phrase.ShortID(identity(v.Workload).ContainerID), "image", identity(v.Workload).Image, "memory", memory, "container's init", init, "oom_score_adj", adj,
		"started", started, "dead after", span(v.ExitAfterNS), "memory back after", span(v.ReleasedAfterNS))
}

func killerFacts(inc *events.Incident) []fact {
	k := inc.Killer
	if k == nil {
		return nil
	}

	way := ""
	if k.Path != "" && k.Kind != "user" {
		way = phrase.KillPath(k.Path, inc.Scope)
	}

	group := ""
	if k.GroupCgroup != nil || k.GroupLevel != "" {
		group = strings.TrimSpace("memory.oom.group=1 of the " + string(k.GroupLevel))
	}

	var parents []string
	for _, a := range k.Ancestry {
		parents = append(parents, phrase.Task(a.Comm, a.PID))
	}

	login := ""
	if l := k.Login; l != nil {
		login = strings.Join(slices.DeleteFunc([]string{l.User, l.SudoUser, l.TTY, l.Session}, func(s string) bool { return s == "" }), ", ")
	}

	term := ""
	if k.TermBeforeNS != nil {
		term = span(k.TermBeforeNS) + " before"
	}

	reported := ""
	if len(inc.Reported) > 0 && inc.Reported[0].Reason != "" {
		reported = inc.Reported[0].Reason
	}

	return facts("way", way, "group", group, "why", spaced(k.Reason), "SIGTERM", term, "program", k.Exe,
		"parents", strings.Join(parents, " ← "), "login", login, "cgroup", path(k.Cgroup), "runtime says", reported)
}

// rungRow is a cgroup of the ladder as a bar.
type rungRow struct {
	events.Rung
	Name    string
	Limiter bool
	Limited bool
	Fill    float64 // percent of its own limit
	High    float64 // where memory.high is on it; 0: none
}

func ladder(inc *events.Incident) []rungRow {
	rungs, _ := head(inc.Ladder)
	var rows []rungRow

	for i := range rungs {
		r := rungs[i]

		row := rungRow{Rung: r, Name: rungName(&r), Limiter: limitingCgroup(inc).Is(&r.Cgroup), Limited: r.MaxBytes != nil}
		if r.MaxBytes != nil && *r.MaxBytes > 0 && r.UsageBytes != nil {
			row.Fill = percent(*r.UsageBytes, *r.MaxBytes)
			if r.HighBytes != nil {
				row.High = percent(*r.HighBytes, *r.MaxBytes)
			}
		}

		rows = append(rows, row)
	}

	return rows
}

// rungName is what is to be said beside the level.
func rungName(r *events.Rung) string {
	w := identity(r.Workload)

	name := phrase.Ancestor(r.Level, r.Workload, r.Cgroup.Path)
	switch r.Level {
	case events.LevelContainer:
		name = or(w.Container, phrase.ShortID(w.ContainerID))
	case events.LevelPod:
		name = or(w.Pod, phrase.ShortID(w.PodUID))
		if w.Pod != "" && w.Namespace != "" {
			name = w.Namespace + "/" + w.Pod
		}
	}

	if name == string(r.Level) {
		return ""
	}

	return name
}

// percent is at most 100, with one decimal.
func percent(part, of uint64) float64 {
	if of == 0 {
		return 0
	}

	return round(min(100, float64(part)/float64(of)*100))
}

// split is what the charge is made of.
type split struct {
	Parts []splitPart
	Total uint64
	Inner []fact // parts of parts
}

type splitPart struct {
	Name    string
	Bytes   uint64
	Begin   float64 // percent of the bar
	Percent float64
	Colour  int
}

// chargeSplit: file holds shmem (NR_FILE_PAGES), and is shown without it, since
// only the rest of it is a cache.
func chargeSplit(inc *events.Incident) *split {
	m := inc.Memory
	if m == nil {
		return nil
	}
	s := &split{}
	add := func(name string, bytes *uint64, colour int) {
		if bytes != nil && *bytes > 0 {
			s.Parts = append(s.Parts, splitPart{Name: name, Bytes: *bytes, Colour: colour})
			s.Total += *bytes
		}
	}

	cache := m.FileBytes
	if cache != nil && m.ShmemBytes != nil {
		rest := *cache - min(*cache, *m.ShmemBytes)
		cache = &rest
	}

	add("anonymous", m.AnonBytes, 1)
	add("page cache", cache, 4)
	add("shmem, tmpfs", m.ShmemBytes, 2)
	add("slab", m.SlabBytes, 5)
	add("kernel stacks", m.KernelStackBytes, 7)
	add("page tables", m.PagetablesBytes, 6)
	add("sockets", m.SockBytes, 3)

	if l := inc.Limiter; l != nil && l.UsageBytes != nil && *l.UsageBytes > s.Total && s.Total > 0 {
		rest := *l.UsageBytes - s.Total
		add("not told apart", &rest, 8)
	}

	if s.Total == 0 {
		return nil
	}
	var begin uint64

	for i := range s.Parts {
		p := &s.Parts[i]
		p.Begin, p.Percent = percent(begin, s.Total), percent(p.Bytes, s.Total)
		begin += p.Bytes
	}
	s.Inner = facts("dirty", size(m.FileDirtyBytes), "under writeback", size(m.FileWritebackBytes), "active file", size(m.ActiveFileBytes),
		"inactive file", size(m.InactiveFileBytes), "unevictable", size(m.UnevictableBytes), "anonymous huge pages", size(m.AnonTHPBytes),
		"reclaimable slab", size(m.SlabReclaimableBytes), "unreclaimable slab", size(m.SlabUnreclaimableBytes), "per-CPU", size(m.PercpuBytes))

	return s
}

// shareRow is a cgroup beside others, as a bar against the largest.
type shareRow struct {
	events.Share
	Name string
	Fill float64
}

func shareRows(shares []events.Share, said *events.Workload) (rows []shareRow, more int) {
	shares, more = head(shares)
	most := uint64(1)

	for _, s := range shares {
		if s.UsageBytes != nil {
			most = max(most, *s.UsageBytes)
		}
	}

	for _, s := range shares {
		row := shareRow{Share: s, Name: or(owner(s.Workload, said), phrase.Ancestor(s.Level, s.Workload, s.Cgroup.Path))}
		if s.UsageBytes != nil {
			row.Fill = percent(*s.UsageBytes, most)
		}

		rows = append(rows, row)
	}

	return rows, more
}

// nodePage is the state of the machine.
type nodePage struct {
	*events.NodeState
	Memory  []fact
	Zones   []zoneRow
	Orders  []int
	Cgroups []shareRow
	Slabs   []slabRow
}

type zoneRow struct {
	events.Zone
	Low bool // below its min watermark
}

type slabRow struct {
	events.SlabCache
	Fill float64
}

func newNodePage(n *events.NodeState) *nodePage {
	if n == nil {
		return nil
	}
	p := &nodePage{NodeState: n}
	p.Memory = facts("total", size(n.TotalBytes), "free", size(n.FreeBytes), "available", size(n.AvailableBytes), "anonymous", size(n.AnonBytes),
		"file", size(n.FileBytes), "shmem", size(n.ShmemBytes), "slab, reclaimable", size(n.SlabReclaimable),
		"slab, unreclaimable", size(n.SlabUnreclaimable), "page tables", size(n.PagetablesBytes), "kernel stacks", size(n.KernelStackBytes),
		"dirty", size(n.DirtyBytes), "writeback", size(n.WritebackBytes), "unevictable", size(n.UnevictableBytes),
		"anonymous huge pages", size(n.AnonTHPBytes), "hugetlb", size(n.HugetlbBytes), "hugetlb free", size(n.HugetlbFreeBytes),
		"swap", size(n.SwapTotalBytes), "swap free", size(n.SwapFreeBytes), "transparent huge pages", n.TransparentHuge)
	orders := 0

	zones, _ := head(n.Zones)
	for i := range zones {
		z := zones[i]
		if len(z.FreeBlocks) > 16 {
			z.FreeBlocks = z.FreeBlocks[:16] // MAX_ORDER is 10 everywhere that oomtrace runs
		}
		orders = max(orders, len(z.FreeBlocks))
		p.Zones = append(p.Zones, zoneRow{z, z.FreeBytes != nil && z.MinBytes != nil && *z.FreeBytes < *z.MinBytes})
	}

	for i := range orders {
		p.Orders = append(p.Orders, i)
	}
	p.Cgroups, _ = shareRows(n.Cgroups, nil)
	slabs, _ := head(n.Slabs)

	most := uint64(1)
	for _, s := range slabs {
		most = max(most, s.Bytes)
	}

	for _, s := range slabs {
		p.Slabs = append(p.Slabs, slabRow{s, percent(s.Bytes, most)})
	}

	return p
}
