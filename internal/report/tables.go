// SPDX-License-Identifier: Apache-2.0

package report

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/oomtrace/oomtrace/internal/answer"
	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/phrase"
)

// limitRow is a cgroup on the way from the victim to the root, with its usage as a bar.
type limitRow struct {
	Level, Name string
	Used        string
	More        string // memory.high, swap and what else is not the usual case
	Limiter     bool
	Limited     bool
	Fill        float64 // percent of its own limit
	High        float64 // where memory.high is on it; 0: none
}

func limits(inc *events.Incident) []limitRow {
	var rows []limitRow

	for i := range inc.Ladder[:min(len(inc.Ladder), maxRows)] {
		r := &inc.Ladder[i]
		row := limitRow{
			Level: string(r.Level), Name: ancestorName(r), More: rungFacts(r, inc.Limiter),
			Limiter: inc.LimiterCgroup().Is(&r.Cgroup), Limited: r.MaxBytes != nil,
		}

		switch {
		case r.MaxBytes == nil && r.UsageBytes == nil:
			row.Used = "not known"
		case r.MaxBytes == nil:
			row.Used = phrase.Size(*r.UsageBytes) + ", no limit"
		default:
			row.Used = phrase.SizeOrUnknown(r.UsageBytes) + " of " + phrase.Size(*r.MaxBytes)
		}

		if r.MaxBytes != nil && *r.MaxBytes > 0 && r.UsageBytes != nil {
			row.Fill = percent(*r.UsageBytes, *r.MaxBytes)
			row.Used += fmt.Sprintf(", %.0f %%", float64(*r.UsageBytes)/float64(*r.MaxBytes)*100)

			if r.HighBytes != nil {
				row.High = percent(*r.HighBytes, *r.MaxBytes)
			}
		}

		rows = append(rows, row)
	}

	return rows
}

// rungFacts are what a cgroup has beside its usage and its limit.
func rungFacts(r *events.Rung, l *events.Limiter) string {
	var words []string

	add := func(name string, bytes *uint64) {
		if bytes == nil {
			return
		}

		value := phrase.Size(*bytes)
		if *bytes >= events.ProtectAll {
			value = "max"
		}

		words = append(words, name+" "+value)
	}
	add("memory.high", r.HighBytes)
	add("memory.min", r.MinBytes)
	add("memory.low", r.LowBytes)

	switch v1 := r.Cgroup.Hierarchy != 0 || l.V1(); {
	case v1 && cmp.Or(r.MemswMaxBytes, r.SwapMaxBytes) != nil: // counted together
		used, limit := cmp.Or(r.MemswUsageBytes, r.SwapUsageBytes), cmp.Or(r.MemswMaxBytes, r.SwapMaxBytes)
		words = append(words, "memory+swap "+phrase.Ratio(used, limit, "?"))
	case !v1 && r.SwapUsageBytes != nil && *r.SwapUsageBytes > 0, !v1 && r.SwapMaxBytes != nil && *r.SwapMaxBytes > 0:
		words = append(words, "swap "+phrase.Ratio(r.SwapUsageBytes, r.SwapMaxBytes, "max"))
	}

	if r.PeakBytes != nil && (r.UsageBytes == nil || *r.PeakBytes > *r.UsageBytes) {
		add("peak", r.PeakBytes)
	}

	if r.OOMGroup != nil && *r.OOMGroup {
		words = append(words, "memory.oom.group")
	}

	return strings.Join(words, ", ")
}

// ancestorName is the name beside the level; empty if it would only repeat that.
func ancestorName(r *events.Rung) string {
	name := phrase.Ancestor(r.Level, r.Workload, r.Cgroup.Path)
	switch r.Level {
	case events.LevelContainer:
		name = phrase.Container(r.Workload)
	case events.LevelPod:
		name = phrase.QualifiedPod(r.Workload)
	}

	if name == string(r.Level) {
		return ""
	}

	return name
}

// sharer names a cgroup that shares the limit. A plain one is not the workload that it is
// part of.
func sharer(s *events.Share, known *events.Workload) string {
	name := phrase.Ancestor(s.Level, s.Workload, s.Cgroup.Path)
	if s.Level == events.LevelCgroup {
		return name
	}

	return cmp.Or(phrase.Place(s.Workload, known), name)
}

// percent is a share in percent with one decimal, at most 100.
func percent(part, of uint64) float64 {
	if of == 0 {
		return 0
	}

	return round(min(100, float64(part)/float64(of)*100))
}

// split is what the limit was used for.
type split struct {
	Parts []splitPart
	Used  string
	Inner []fact // parts of parts
}

// splitPart is a part of a charge. Begin and Percent are percentages of the bar, which is as long as
// the limit.
type splitPart struct {
	Name, Size string
	Bytes      uint64
	Begin      float64
	Percent    float64
	Colour     string
}

// chargeSplit shows file without shmem, which the kernel counts as file (NR_FILE_PAGES):
// only the rest is page cache. It is nil where nothing is known.
func chargeSplit(inc *events.Incident) *split {
	m := inc.Memory
	if m == nil {
		return nil
	}

	s := &split{}
	total := uint64(0)
	add := func(name string, bytes *uint64, colour string) {
		if bytes != nil && *bytes > 0 {
			s.Parts = append(s.Parts, splitPart{Name: name, Size: phrase.Size(*bytes), Bytes: *bytes, Colour: colour})
			total += *bytes
		}
	}

	cache := m.FileBytes
	if cache != nil && m.ShmemBytes != nil {
		rest := *cache - min(*cache, *m.ShmemBytes)
		cache = &rest
	}

	add("anonymous", m.AnonBytes, "anon")
	add("page cache", cache, "file")
	add("shmem, tmpfs", m.ShmemBytes, "shmem")
	add("hugetlb", m.HugetlbBytes, "huge")
	add("slab", m.SlabBytes, "kernel")
	add("kernel stacks", m.KernelStackBytes, "kernel2")
	add("page tables", m.PagetablesBytes, "kernel3")
	add("sockets", m.SockBytes, "kernel4")
	add("per CPU", m.PercpuBytes, "kernel2")

	if total == 0 {
		return nil
	}

	whole := total

	if l := inc.Limiter; l != nil && l.UsageBytes != nil {
		s.Used = usedOf(l.UsageBytes, l.LimitBytes)

		if *l.UsageBytes > total {
			rest := *l.UsageBytes - total
			add("not in these", &rest, "other")
		}

		whole = max(total, *l.UsageBytes)
		if l.LimitBytes != nil {
			whole = max(whole, *l.LimitBytes)
		}
	}

	var begin uint64

	for i := range s.Parts {
		p := &s.Parts[i]
		p.Begin, p.Percent = percent(begin, whole), percent(p.Bytes, whole)
		begin += p.Bytes
	}

	s.Inner = facts("dirty", size(m.FileDirtyBytes), "under writeback", size(m.FileWritebackBytes), "active file", size(m.ActiveFileBytes),
		"inactive file", size(m.InactiveFileBytes), "unevictable", size(m.UnevictableBytes), "anonymous huge pages", size(m.AnonTHPBytes),
		"reclaimable slab", size(m.SlabReclaimableBytes), "unreclaimable slab", size(m.SlabUnreclaimableBytes))

	return s
}

// tables are those about processes, cgroups and stalls.
func tables(inc *events.Incident) []dataTable {
	var all []dataTable

	if b := inc.Before; b != nil {
		all = append(all, stallTable(b), longestTable(inc))
	}

	used, read := answer.Shares(inc)

	shares := shareTable("Who shared the limit", used, inc.SharesLeftOut, inc.LimiterWorkload())
	shares.Sub = read

	all = append(all, shares, candidateTable(inc))

	var shown []dataTable

	for _, t := range all {
		if len(t.Rows) > 0 {
			shown = append(shown, t)
		}
	}

	return shown
}

func victimTable(inc *events.Incident) *dataTable {
	type victim = events.Victim

	t := newTable("", "victims", 0, inc.Victims,
		textColumn("Process", func(v *victim) string { return phrase.Victim(v, inc.Killer) }),
		textColumn("Role", func(v *victim) string {
			if v.Role == events.RoleUnknown {
				return ""
			}

			return phrase.Role(v.Role)
		}),
		textColumn("In", func(v *victim) string { return where(inc, &v.Process) }),
		textColumn("Settings", func(v *victim) string { return settings(v.Program) }),
		numberColumn("Anonymous", func(v *victim) string { return size(v.AnonRSSBytes) }),
		numberColumn("File", func(v *victim) string { return size(v.FileRSSBytes) }),
		numberColumn("Shmem", func(v *victim) string { return size(v.ShmemRSSBytes) }),
		numberColumn("Swap", func(v *victim) string { return size(v.SwapBytes) }),
		numberColumn("Page tables", func(v *victim) string { return size(v.PgtablesBytes) }),
		numberColumn("Badness", func(v *victim) string { return number(v.Points) }),
		numberColumn("oom_score_adj", func(v *victim) string { return number(v.OOMScoreAdj) }),
		numberColumn("Exited after", func(v *victim) string { return span(v.ExitAfterNS) }),
		numberColumn("Freed after", func(v *victim) string { return span(v.ReleasedAfterNS) }),
	)
	t.Class = "sort"

	return &t
}

func candidateTable(inc *events.Incident) dataTable {
	type candidate = events.Candidate

	t := newTable("Who could have been killed", "processes", inc.CandidatesLeftOut, inc.Candidates,
		column[candidate]{head{"Process", false}, func(c *candidate) cell {
			tag := ""

			switch {
			case c.Victim:
				tag = "killed"
			case c.Unkillable:
				tag = "not killable"
			}

			return cell{Text: phrase.Task(c.Comm, c.PID), Tag: tag}
		}},
		textColumn("In", func(c *candidate) string { return where(inc, &c.Process) }),
		numberColumn("Badness", func(c *candidate) string { return number(c.Points) }),
		numberColumn("oom_score_adj", func(c *candidate) string { return number(c.OOMScoreAdj) }),
		numberColumn("Resident", func(c *candidate) string { return size(c.RSSBytes) }),
		numberColumn("Anonymous", func(c *candidate) string { return size(c.AnonRSSBytes) }),
		numberColumn("File", func(c *candidate) string { return size(c.FileRSSBytes) }),
		numberColumn("Shmem", func(c *candidate) string { return size(c.ShmemRSSBytes) }),
		numberColumn("Swap", func(c *candidate) string { return size(c.SwapBytes) }),
		numberColumn("Page tables", func(c *candidate) string { return size(c.PgtablesBytes) }),
	)
	t.Class, t.Sub = "sort", "the likeliest first"

	if inc.CandidatesAfterNS != nil {
		t.Sub += "; those that live on as of " + phrase.Duration(*inc.CandidatesAfterNS) + " after the kill"
	}

	return t
}

// shareTable has a bar for each cgroup, relative to the largest.
func shareTable(title string, shares []events.Share, leftOut int, known *events.Workload) dataTable {
	most := uint64(1)

	for _, s := range shares {
		if s.UsageBytes != nil {
			most = max(most, *s.UsageBytes)
		}
	}

	return newTable(title, "cgroups", leftOut, shares,
		textColumn("Cgroup", func(s *events.Share) string { return sharer(s, known) }),
		column[events.Share]{head{"", false}, func(s *events.Share) cell {
			if s.UsageBytes == nil {
				return cell{}
			}

			return cell{Bar: max(1, percent(*s.UsageBytes, most))}
		}},
		numberColumn("Used", func(s *events.Share) string { return size(s.UsageBytes) }),
		numberColumn("Own limit", func(s *events.Share) string { return cmp.Or(size(s.MaxBytes), "none") }),
	)
}

func stallTable(b *events.Before) dataTable {
	type sum = events.StallSum

	return newTable("Stalls by kind", "kinds", 0, b.Stalls,
		textColumn("Stall kind", func(s *sum) string { return phrase.Stall(s.What) }),
		numberColumn("Stalls", func(s *sum) string { return fmt.Sprint(s.Count) }),
		numberColumn("Total", func(s *sum) string { return phrase.Duration(s.TotalNS) }),
		numberColumn("Longest", func(s *sum) string { return phrase.Duration(s.MaxNS) }),
		numberColumn("No progress", func(s *sum) string { return fmt.Sprint(s.Fruitless) }),
		numberColumn("Reclaimed", func(s *sum) string { return size(&s.ReclaimedBytes) }),
	)
}

// longestTable names a limit only where it is not the one that was hit.
func longestTable(inc *events.Incident) dataTable {
	type stall = events.LongStall

	t := newTable("Longest single stalls", "stalls", 0, inc.Before.Longest,
		textColumn("Stall", func(s *stall) string { return phrase.Stall(s.What) }),
		textColumn("Task", func(s *stall) string { return phrase.Join(" ", phrase.Task(s.Task.Comm, s.Task.PID), s.Task.Thread) }),
		textColumn("For the limit of", func(s *stall) string {
			if s.Limiter.Is(inc.LimiterCgroup()) {
				return ""
			}

			return path(s.Limiter)
		}),
		numberColumn("For", func(s *stall) string { return phrase.Duration(s.DurationNS) }),
		numberColumn("Ended before", func(s *stall) string { return phrase.Duration(s.BeforeNS) }),
		numberColumn("Reclaimed", func(s *stall) string { return size(&s.ReclaimedBytes) }),
	)
	t.Folded = true

	return t
}

// stallSentences are what is known of the time before beside sums.
func stallSentences(inc *events.Incident) []string {
	b := inc.Before
	if b == nil {
		return nil
	}

	var all []string

	if len(b.Stalls) == 0 {
		all = append(all, "No stalls in the last "+phrase.Duration(b.WindowNS)+".")
	}

	if g := b.GaveUp; g != nil && g.Reclaim != nil {
		r := g.Reclaim
		all = append(all, fmt.Sprintf("The allocator gave up in %s: %s free or reclaimable, min watermark %s; %s without progress.",
			phrase.Zone(int(r.Node), r.Zone), phrase.Size(r.AvailableBytes), phrase.Size(r.MinWatermarkBytes),
			phrase.Plural(uint64(r.NoProgressLoops), "round")))
	}

	if g := b.GaveUp; g != nil && g.Compact != nil {
		c := g.Compact
		all = append(all, fmt.Sprintf("Compaction for order %d: %s, %d of %d retries.",
			c.Order, phrase.Spaced(c.Result), c.Retries, c.MaxRetries))
	}

	var words []string
	for _, g := range b.Guardians {
		words = append(words, g.Unit+" for "+phrase.Duration(g.TotalNS))
	}

	if len(words) > 0 {
		all = append(all, "Critical services stalled: "+strings.Join(words, ", ")+".")
	}

	words = nil
	for _, k := range b.Kswapd {
		words = append(words, fmt.Sprintf("NUMA node %d for %s (%s)",
			k.Node, phrase.Duration(k.AwakeNS), phrase.Plural(k.Wakeups, "wakeup")))
	}

	if len(words) > 0 {
		all = append(all, "kswapd was awake: "+strings.Join(words, ", ")+".")
	}

	words = nil
	for _, what := range b.Unseen {
		words = append(words, phrase.Stall(what))
	}

	if len(words) > 0 {
		all = append(all, "Not traced: "+strings.Join(words, ", ")+".")
	}

	return all
}
