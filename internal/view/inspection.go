// SPDX-License-Identifier: Apache-2.0

package view

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
)

// Inspection writes the state of what still lives as a block, laid out as those
// of incidents are.
func Inspection(w io.Writer, i *events.Inspection, opts TextOptions) error {
	if opts.Width > 0 {
		opts.Width = max(opts.Width, minWidth)
	}
	p := &page{width: opts.Width, color: opts.Color}
	loc := zone(opts.Location)
	v := inspection{Inspection: i, wide: opts.Width == 0}
	v.block = block{
		inc: &events.Incident{Limiter: i.Limiter, Ladder: i.Ladder, Memory: i.Memory, Unknown: i.Unknown},
		max: max(opts.Width-indent, 20), wide: v.wide, loc: loc,
	}
	p.head(When(i.Time, "15:04:05", loc), v.title(), styleWarn, list(v.what()...))

	for _, s := range v.sections() {
		if s.groups = filled(s.groups); len(s.groups) > 0 {
			p.section(s)
		}
	}
	out := output{w: w, what: "text"}

	return out.write(p.buf.Bytes())
}

func filled(groups []group) []group {
	var kept []group

	for _, g := range groups {
		if len(g.items) > 0 {
			kept = append(kept, g)
		}
	}

	return kept
}

type inspection struct {
	*events.Inspection
	block block
	wide  bool
}

func (v inspection) title() string {
	if v.Cgroup == nil {
		return "NODE"
	}

	return strings.ToUpper(string(v.Level))
}

func (v inspection) what() []string {
	if v.Cgroup == nil {
		return []string{v.Node}
	}

	return appendSet(nil, owner(v.Workload, v.wide), v.block.path(v.Cgroup, v.block.max)[0])
}

func (v inspection) sections() []section {
	var all []section
	add := func(label string, groups ...group) { all = append(all, section{label, groups}) }
	add("limiter", v.limiter()...)

	if v.Cgroup == nil {
		add("memory", v.nodeMemory()...)
		add("stalled", stalled(v.NodeState.PSISome, v.NodeState.PSIFull))
		add("zones", v.zones()...)
		add("free", v.freeBlocks()...)
		add("slab", v.slabs())
		add("cgroups", v.shares(v.NodeState.Cgroups, 0)...)
	} else {
		add("ladder", v.block.ladder())
		add("memory", v.block.memory(), v.reclaim())
		add("events", counts("with those below", v.Events), counts("its own limits", v.OwnEvents))
		add("stalled", stalled(v.PSISome, v.PSIFull))
		add("shares", v.shares(v.Shares, v.SharesLeftOut)...)
	}

	add("to die", v.candidates()...)
	add("evict", v.eviction()...)
	add("causes", v.causes()...)
	add("unknown", list(v.Unknown...))

	return all
}

// limiter says who would limit first, and what is left until then.
func (v inspection) limiter() []group {
	l := v.Limiter
	if l == nil {
		return nil
	}

	room := "headroom " + maybe(v.HeadroomBytes)
	if l.Level == events.LevelNode {
		return []group{list("node", room+" (MemAvailable and free swap)")}
	}

	items := append(v.block.limits(l), room)
	if l.LimitBytes != nil && *l.LimitBytes > 0 && v.HeadroomBytes != nil {
		items[len(items)-1] += fmt.Sprintf(" (%.0f %%)", 100*float64(*v.HeadroomBytes)/float64(*l.LimitBytes))
	}

	groups := []group{list(items...)}
	if !l.Cgroup.Is(v.Cgroup) {
		groups = append(groups, list(v.block.identity(l)...), list(v.block.path(l.Cgroup, v.block.max)...))
	}

	return groups
}

// reclaim is what can be had back, and what cannot at once.
func (v inspection) reclaim() group {
	m := v.Memory
	if m == nil {
		return list()
	}

	return list(v.block.sizes(
		part{"inactive file", m.InactiveFileBytes}, part{"active file", m.ActiveFileBytes}, part{"dirty", m.FileDirtyBytes},
		part{"writeback", m.FileWritebackBytes}, part{"unevictable", m.UnevictableBytes},
		part{"slab reclaimable", m.SlabReclaimableBytes}, part{"unreclaimable", m.SlabUnreclaimableBytes},
		part{"anon in huge pages", m.AnonTHPBytes}, part{"percpu", m.PercpuBytes})...)
}

func counts(what string, e *events.CgroupEvents) group {
	if e == nil {
		return list()
	}
	items := []string{}

	for _, c := range []struct {
		name  string
		count *uint64
	}{{"high", e.High}, {"max", e.Max}, {"oom", e.OOM}, {"oom_kill", e.OOMKill}, {"oom_group_kill", e.OOMGroupKill}} {
		if c.count != nil {
			items = append(items, c.name+" "+strconv.FormatUint(*c.count, 10))
		}
	}

	if len(items) > 0 {
		items[0] = what + ": " + items[0]
	}

	return list(items...)
}

// stalled is the share of the time in which tasks stood still for memory.
func stalled(some, full *events.PSI) group {
	var items []string

	for _, k := range []struct {
		name string
		psi  *events.PSI
	}{{"some tasks", some}, {"all tasks", full}} {
		if k.psi != nil {
			items = append(items, fmt.Sprintf("%s %.1f/%.1f/%.1f %%", k.name, k.psi.Avg10, k.psi.Avg60, k.psi.Avg300))
		}
	}

	if len(items) > 0 {
		items = append(items, "of 10/60/300 s")
	}

	return list(items...)
}

func (v inspection) nodeMemory() []group {
	s := v.NodeState

	swap := list()
	if s.SwapTotalBytes != nil && *s.SwapTotalBytes == 0 {
		swap = list("no swap")
	} else if s.SwapTotalBytes != nil {
		swap = list(v.block.sizes(part{"swap", s.SwapTotalBytes}, part{"free", s.SwapFreeBytes})...)
	}

	if s.TransparentHuge != "" {
		swap.items = append(swap.items, "transparent huge pages "+s.TransparentHuge)
		swap.items = append(swap.items, v.block.sizes(part{"in use", s.AnonTHPBytes})...)
	}

	swap.sep = ", "
	if s.HugetlbBytes != nil && *s.HugetlbBytes > 0 {
		swap.items = append(swap.items, v.block.sizes(part{"hugetlb", s.HugetlbBytes}, part{"of it free", s.HugetlbFreeBytes})...)
	}

	return []group{
		list(v.block.sizes(part{"total", s.TotalBytes}, part{"available", s.AvailableBytes}, part{"free", s.FreeBytes})...),
		list(v.block.sizes(
			part{"anon", s.AnonBytes}, part{"file", s.FileBytes}, part{"shmem", s.ShmemBytes}, part{"dirty", s.DirtyBytes},
			part{"writeback", s.WritebackBytes}, part{"unevictable", s.UnevictableBytes})...),
		list(v.block.sizes(
			part{"slab reclaimable", s.SlabReclaimable}, part{"unreclaimable", s.SlabUnreclaimable},
			part{"kernel stacks", s.KernelStackBytes}, part{"page tables", s.PagetablesBytes})...),
		swap,
	}
}

// zones has the watermarks beside what is free, and sums of NUMA nodes where there
// is more than one.
func (v inspection) zones() []group {
	zones := v.NodeState.Zones
	if len(zones) == 0 {
		return nil
	}
	t := table{{"node", "zone", "free", "min", "low", "high", "managed", ""}}
	nodes := map[int][2]uint64{}

	for _, z := range zones {
		t = append(t, []string{
			strconv.Itoa(z.Node), z.Zone, shortSize(z.FreeBytes), shortSize(z.MinBytes), shortSize(z.LowBytes), shortSize(z.HighBytes),
			shortSize(z.ManagedBytes), watermark(z),
		})
		if z.FreeBytes != nil && z.ManagedBytes != nil {
			sum := nodes[z.Node]
			nodes[z.Node] = [2]uint64{sum[0] + *z.FreeBytes, sum[1] + *z.ManagedBytes}
		}
	}

	if len(nodes) > 1 {
		for n := range 1024 {
			if sum, ok := nodes[n]; ok {
				t = append(t, []string{strconv.Itoa(n), "all", shortSize(&sum[0]), "", "", "", shortSize(&sum[1]), ""})
			}
		}
	}

	return t.groups(2)
}

// watermark says below which mark a zone is.
func watermark(z events.Zone) string {
	for _, mark := range []struct {
		bytes *uint64
		text  string
	}{{z.MinBytes, "BELOW MIN"}, {z.LowBytes, "below low"}} {
		if z.FreeBytes != nil && mark.bytes != nil && *z.FreeBytes < *mark.bytes {
			return mark.text
		}
	}

	return ""
}

// freeBlocks counts free blocks by order: what is missing at the right cannot be
// had for a large allocation.
func (v inspection) freeBlocks() []group {
	var t table

	for _, z := range v.NodeState.Zones {
		if len(z.FreeBlocks) == 0 {
			continue
		}

		if t == nil {
			head := []string{"node", "zone", "order 0"}
			for order := 1; order < len(z.FreeBlocks); order++ {
				head = append(head, strconv.Itoa(order))
			}

			t = append(t, head)
		}

		row := []string{strconv.Itoa(z.Node), z.Zone}
		for _, n := range z.FreeBlocks {
			row = append(row, shortCount(n))
		}

		t = append(t, row)
	}

	return t.groups(2)
}

// shortCount is a number in at most 4 columns.
func shortCount(n uint64) string {
	for _, unit := range []string{"", "k", "M", "G"} {
		if n < 1000 {
			return strconv.FormatUint(n, 10) + unit
		}
		n /= 1000
	}

	return "many"
}

func (v inspection) slabs() group {
	var items []string
	for _, s := range v.NodeState.Slabs {
		if !v.wide && len(items) == 5 {
			break
		}
		items = append(items, s.Name+" "+size(s.Bytes))
	}

	return list(items...)
}

func (v inspection) shares(shares []events.Share, leftOut int) []group {
	if len(shares) == 0 {
		return nil
	}
	t := table{{"used", "limit", "cgroup"}}

	for _, s := range shares {
		limit := "max"
		if s.MaxBytes != nil {
			limit = shortSize(s.MaxBytes)
		}

		name := owner(s.Workload, v.wide)
		if name == "" || s.Workload.Unit != "" && s.Workload.ContainerID == "" {
			name = s.Cgroup.Path
			if !v.wide {
				name = shortPath(name, v.block.max-20)
			}
		}
		t = append(t, []string{shortSize(s.UsageBytes), limit, name})
	}

	groups := t.groups(0)
	if leftOut > 0 {
		groups = append(groups, list("and "+plural(uint64(leftOut), "smaller cgroup")))
	}

	return groups
}

// candidates are those who would die, with what the choice rests on.
func (v inspection) candidates() []group {
	if len(v.Candidates) == 0 {
		return nil
	}
	t := table{{"badness", "adj", "anon", "file", "swap", "process"}}

	for i := range v.Candidates {
		c := &v.Candidates[i]
		badness := "?"

		switch {
		case c.Unkillable:
			badness = "never"
		case c.Points != nil:
			badness = strconv.FormatInt(*c.Points, 10)
		}

		adj := "?"
		if c.OOMScoreAdj != nil {
			adj = strconv.Itoa(*c.OOMScoreAdj)
		}

		file := c.FileRSSBytes
		if file != nil && c.ShmemRSSBytes != nil {
			sum := *file + *c.ShmemRSSBytes
			file = &sum
		}

		anon := c.AnonRSSBytes
		if anon == nil {
			anon = c.RSSBytes // together
		}
		t = append(t, []string{badness, adj, shortSize(anon), shortSize(file), shortSize(c.SwapBytes), v.candidate(c)})
	}
	groups := t.groups(0)

	var rest []string
	if v.CandidatesLeftOut > 0 {
		rest = append(rest, "and "+plural(uint64(v.CandidatesLeftOut), "less likely process"))
		if v.CandidatesLeftOut > 1 {
			rest[0] = fmt.Sprintf("and %d less likely processes", v.CandidatesLeftOut)
		}
	}

	if v.CandidatesUnread > 0 {
		rest = append(rest, fmt.Sprintf("%d could not be looked at", v.CandidatesUnread))
	}

	if v.TotalPages != nil {
		rest = append(rest, fmt.Sprintf("badness in pages of %d; adj -1000 is never killed", *v.TotalPages))
	}

	return append(groups, list(rest...))
}

// candidate names a process, and where it is unless that was asked for: where
// space is short, by the one word that tells it from its neighbours.
func (v inspection) candidate(c *events.Candidate) string {
	name := task(c.Comm, c.PID)
	if v.wide {
		return join(name, v.block.place(&c.Process, v.Cgroup))
	}

	if where := v.where(&c.Process); where != "" {
		name += " in " + where
	}

	return clip(Sanitize(name), v.block.max-nameIndent)
}

func (v inspection) where(p *events.Process) string {
	if p.Cgroup == nil || p.Cgroup.Is(v.Cgroup) {
		return ""
	}

	if w := p.Workload; w != nil {
		for _, word := range []string{w.Container, shortID(w.ContainerID), w.Pod, shortID(w.PodUID), w.Unit} {
			if word != "" {
				return word
			}
		}
	}

	return shortPath(p.Cgroup.Path, 24)
}

// nameIndent is the columns of a candidate before its name.
const nameIndent = 42

func (v inspection) eviction() []group {
	e := v.Eviction
	if e == nil {
		return nil
	}

	groups := []group{prose(e.Text)}
	if e.MemAvailableBytes != nil {
		groups = append(groups, list("MemAvailable "+size(*e.MemAvailableBytes)+", which the kubelet does not ask"))
	}

	if v.wide && e.Source != "" {
		groups = append(groups, list("thresholds of "+e.Source))
	}

	return groups
}

func (v inspection) causes() []group {
	var groups []group
	if len(v.Causes) > 0 {
		groups = append(groups, prose("if it came to a kill now:"))
	}

	for _, c := range v.Causes {
		groups = append(groups, prose(join(c.Text, "("+c.Confidence+")")))
	}

	return groups
}

// table is rows of cells, the first is the head. Its columns are aligned to the
// right, save the last, and those that are named.
type table [][]string

// groups lays the rows out, one a line; the first columns that many are aligned
// to the left.
func (t table) groups(left int) []group {
	var widths []int

	for _, row := range t {
		for c, cell := range row {
			if c == len(widths) {
				widths = append(widths, 0)
			}
			row[c] = Sanitize(cell)
			widths[c] = max(widths[c], width(row[c]))
		}
	}

	groups := make([]group, 0, len(t))
	for _, row := range t {
		var line strings.Builder

		for c, cell := range row {
			if c > 0 {
				line.WriteString("  ")
			}

			pad := strings.Repeat(" ", widths[c]-width(cell))
			switch {
			case c < left, c == len(row)-1 && cell != "" && !isNumber(cell):
				line.WriteString(cell)

				if c < len(row)-1 {
					line.WriteString(pad)
				}
			default:
				line.WriteString(pad + cell)
			}
		}

		groups = append(groups, list(strings.TrimRight(line.String(), " ")))
	}

	return groups
}

// isNumber tells a cell of figures from words, in the last column.
func isNumber(cell string) bool { return cell[0] >= '0' && cell[0] <= '9' && len(cell) <= 7 }
