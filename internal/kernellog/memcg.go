// SPDX-License-Identifier: Apache-2.0

package kernellog

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
)

// limits holds the lines "memory: usage NkB, limit NkB, failcnt N" and the like
// (mm/memcontrol.c: mem_cgroup_print_oom_meminfo). memory+swap and kmem are of cgroup v1,
// swap is of v2.
type limits struct {
	memory, memsw, swap, kmem *counter
	// "Task in P killed as a result of limit of L", before 5.0: ofTask is that the log has
	// the line, of which either path may be missing.
	taskIn, limitOf string
	ofTask          bool
}

type counter struct {
	usage, limit *uint64 // bytes
	unlimited    bool
	failures     *uint64 // to charge it; of memory+swap always 0 where the kernel does not count them
}

func (l *limits) any() bool {
	return l.memory != nil || l.memsw != nil || l.swap != nil || l.kmem != nil
}

// unlimitedBytes is the smallest limit that counts as not set. The kernel prints such a
// limit as the largest number of pages, or of bytes before 3.19, of its counter.
const unlimitedBytes = 9007199254740000 << 10

func (p *parser) limitsLine(s *stream, rec record, text string) bool {
	name, rest, found := strings.Cut(text, ": usage ")
	if !found || !strings.Contains(rest, "limit") {
		return false
	}

	slot := func(l *limits) **counter {
		switch name {
		case "memory":
			return &l.memory
		case "memory+swap":
			return &l.memsw
		case "swap":
			return &l.swap
		case "kmem":
			return &l.kmem
		}

		return nil
	}
	if slot(&limits{}) == nil {
		return false
	}
	var c counter

	if word, ok := after(rec, text, ": usage "); ok {
		if n, ok := kib(word); ok {
			c.usage = &n
		}
	}

	if word, ok := after(rec, text, ", limit "); ok {
		if n, ok := kib(word); ok && n < unlimitedBytes {
			c.limit = &n
		} else if ok {
			c.unlimited = true
		} else if n, ok := number(strings.TrimSuffix(strings.TrimSuffix(word, "kB"), "KB")); ok && n > unlimitedBytes>>10 {
			c.unlimited = true
		}
	}

	if word, ok := after(rec, text, ", failcnt "); ok {
		if n, ok := number(word); ok {
			c.failures = &n
		}
	}

	r := p.reportAt(s, rec, inLimits)
	if *slot(&r.limits) != nil || r.memInfo != nil || r.contradictsMemcg() {
		r = p.begin(s, rec)
		r.advance(rec, inLimits)
	}
	*slot(&r.limits) = &c

	return true
}

// protection is how much of the usage below the limiter, or of the node's cgroups,
// memory.min and memory.low protect, in bytes.
type protection struct{ min, low uint64 }

// protectionLine reads "Memory cgroup min protection NkB -- low protection NkB", which 7.x
// prints before the tasks (mm/memcontrol.c: mem_cgroup_show_protected_memory).
func (r *report) protectionLine(rec record, text string) bool {
	if r.at >= inTasks || r.protected != nil {
		return false
	}
	size := func(key string) (uint64, bool) {
		word, ok := after(rec, text, key)
		if !ok {
			return 0, false
		}

		return kib(word)
	}
	min, ok1 := size("min protection ")
	low, ok2 := size("low protection ")

	if !ok1 || !ok2 {
		return false
	}
	r.protected = &protection{min, low}
	r.advance(rec, r.at)

	return true
}

// taskInMiddle parts the two paths of "Task in P killed as a result of limit of L".
const taskInMiddle = " killed as a result of limit of "

// taskInLine reads "Task in P killed as a result of limit of L".
func (p *parser) taskInLine(s *stream, rec record, text string) bool {
	task, limit, found := strings.Cut(strings.TrimPrefix(text, "Task in "), taskInMiddle)
	if !strings.HasPrefix(task, "/") || len(text) > 2*maxPath {
		return false
	}

	r := p.reportAt(s, rec, inLimits)
	if r.limits.any() || r.limits.ofTask || r.memInfo != nil || r.contradictsMemcg() {
		r = p.begin(s, rec)
		r.advance(rec, inLimits)
	}
	r.limits.ofTask = true

	if !found {
		return true
	}

	r.limits.taskIn = task

	if rec.torn {
		return true
	}

	// A limit is that of the task's own cgroup or of an ancestor. The root has none.
	if limit = strings.TrimRight(limit, " "); !strings.HasPrefix(limit, "/") || limit == "/" || !within(task, limit) {
		r.note("the log names a limit that cannot be the task's: its line is damaged")
		return true
	}

	r.limits.limitOf = limit
	r.edge(rec, func() { r.limits.limitOf = "" })

	return true
}

// memcgStats holds the counters of one memcg. Before 5.2 each cgroup below the limiter has a
// line with its own counts (perCgroup); later there is one for the limiter, with sums.
type memcgStats struct {
	path      string
	perCgroup bool
	values    map[string]uint64 // bytes
}

// statsHead reads "Memory cgroup stats for P:", followed by its values before 5.2.
func (p *parser) statsHead(s *stream, rec record, text string) bool {
	text = strings.TrimPrefix(text, "Memory cgroup stats for ")
	one := memcgStats{values: map[string]uint64{}}

	path, values, perCgroup := strings.Cut(text, ": cache:")
	if perCgroup {
		one.path, one.perCgroup = path, true

		for word := range strings.FieldsSeq("cache:" + values) {
			key, size, _ := strings.Cut(word, ":")
			if n, ok := kib(size); ok && wantedStats[key] {
				one.values[key] = n
			}
		}

		if rec.torn && len(one.values) > 0 {
			one.values = map[string]uint64{}
		}
	} else {
		path, colon := strings.CutSuffix(strings.TrimRight(text, " "), ":")
		if one.path = path; !colon || rec.torn {
			one.path = "" // its end is missing
		}
	}

	if !strings.HasPrefix(path, "/") || len(one.path) > maxPath {
		return false
	}

	if r := s.open; one.path == "" && r != nil && r.at == inStats && !r.settled() {
		r.statsCut = true // one of several
		r.advance(rec, inStats)

		return true
	}

	r := p.reportAt(s, rec, inStats)

	other := r.memInfo != nil || r.contradictsMemcg()
	if len(r.stats) > 0 {
		top := cmp.Or(r.limits.limitOf, r.stats[0].path)
		other = other || !one.perCgroup || !r.stats[0].perCgroup || !within(one.path, top) || one.path == r.stats[0].path
	}

	if r.limits.limitOf != "" && one.path != "" {
		other = other || !within(one.path, r.limits.limitOf)
	}

	if other {
		r = p.begin(s, rec)
		r.advance(rec, inStats)
	}

	if len(r.stats) < maxStats {
		r.stats = append(r.stats, one)
	} else {
		r.note("the log lists more cgroups below the limiter than oomtrace reads")
	}
	r.inStats = !one.perCgroup

	return true
}

// counterLine takes in a line of the statistics: one that follows their head, or whose head is
// missing while the limits are there.
func (r *report) counterLine(rec record, text string) bool {
	key, _, ok := statOf(text)

	switch {
	case !ok || r.at > inStats || r.at < inLimits:
		return false
	case r.at == inLimits && len(r.stats) == 0 && (key == "anon" || key == "cache"): // the first of v2 and v1
		r.stats = append(r.stats, memcgStats{values: map[string]uint64{}})
	case len(r.stats) == 0 || r.stats[0].perCgroup:
		return false
	case !r.inStats && !wantedStats[key]:
		return false // a foreign line, which may look like this
	}

	return r.statLine(rec, text)
}

// statLine reads "anon 4096".
func (r *report) statLine(rec record, text string) bool {
	key, n, ok := statOf(text)

	values := r.stats[len(r.stats)-1].values
	if _, twice := values[key]; twice || !ok {
		return false
	}

	if wantedStats[key] && !rec.torn {
		values[key] = n

		r.edge(rec, func() { delete(values, key) })
	}

	r.advance(rec, inStats)
	r.inStats = true

	return true
}

func statOf(text string) (key string, n uint64, ok bool) {
	key, value, _ := strings.Cut(text, " ")
	if key == "" || strings.Trim(key, "abcdefghijklmnopqrstuvwxyz_0123456789") != "" {
		return "", 0, false
	}
	n, ok = number(value)

	return key, n, ok
}

var wantedStats = func() map[string]bool {
	wanted := map[string]bool{}

	for _, f := range memoryFields(&events.Memory{}) {
		for _, key := range f.keys {
			wanted[key] = true
		}
	}

	return wanted
}()

// memoryField is a part of the charge and its names: in cgroup v2, in v1 as a sum, and in
// the one-line form before 5.2.
type memoryField struct {
	to   **uint64
	keys [3]string
}

func memoryFields(m *events.Memory) []memoryField {
	return []memoryField{
		{&m.AnonBytes, [3]string{"anon", "total_rss", "rss"}},
		{&m.FileBytes, [3]string{"file", "total_cache", "cache"}},
		{&m.ShmemBytes, [3]string{"shmem", "total_shmem", "shmem"}},
		{&m.SlabBytes, [3]string{"slab"}},
		{&m.KernelStackBytes, [3]string{"kernel_stack"}},
		{&m.PagetablesBytes, [3]string{"pagetables"}},
		{&m.SockBytes, [3]string{"sock"}},

		{&m.FileDirtyBytes, [3]string{"file_dirty", "total_dirty", "dirty"}},
		{&m.FileWritebackBytes, [3]string{"file_writeback", "total_writeback", "writeback"}},
		{&m.ActiveFileBytes, [3]string{"active_file", "total_active_file", "active_file"}},
		{&m.InactiveFileBytes, [3]string{"inactive_file", "total_inactive_file", "inactive_file"}},
		{&m.UnevictableBytes, [3]string{"unevictable", "total_unevictable", "unevictable"}},
		{&m.AnonTHPBytes, [3]string{"anon_thp", "total_rss_huge", "rss_huge"}},
		{&m.SlabReclaimableBytes, [3]string{"slab_reclaimable"}},
		{&m.SlabUnreclaimableBytes, [3]string{"slab_unreclaimable"}},
		{&m.PercpuBytes, [3]string{"percpu"}},
		{&m.HugetlbBytes, [3]string{"hugetlb"}},
	}
}

// memory returns the limiter's charge split, nil if the log does not have it.
func (r *report) memory() *events.Memory {
	if len(r.stats) == 0 || r.statsCut || r.limits.memory == nil || r.limits.memory.usage == nil {
		return nil
	}
	var m events.Memory
	form := 0

	values := r.stats[0].values
	switch {
	case r.stats[0].perCgroup:
		form, values = 2, r.sumStats()
	case has(values, "total_rss"):
		form = 1 // of cgroup v1, whose "rss" is without the cgroups below
	case !has(values, "anon"):
		return nil
	}

	for _, f := range memoryFields(&m) {
		if n, ok := values[f.keys[form]]; ok && f.keys[form] != "" {
			*f.to = &n
		}
	}

	if m.SlabBytes == nil && m.SlabReclaimableBytes != nil && m.SlabUnreclaimableBytes != nil {
		m.SlabBytes = new(*m.SlabReclaimableBytes + *m.SlabUnreclaimableBytes)
	}

	if r.stats[0].perCgroup && !r.sumsUp(&m) {
		return nil
	}

	return &m
}

func has(values map[string]uint64, key string) bool {
	_, ok := values[key]
	return ok
}

// shares returns the cgroups right below the limiter with what is charged to them and below, the
// largest first. Before 5.2 the log has the counts of each cgroup. It returns nil if some are
// missing, or if there is none.
func (r *report) shares() []events.Share {
	top := r.limiterPath()
	if len(r.stats) < 2 || !r.stats[0].perCgroup || r.stats[0].path != top || r.memory() == nil {
		return nil
	}

	used := map[string]uint64{}

	for _, one := range r.stats[1:] {
		child, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(one.path, top), "/"), "/")
		used[child] += one.values["rss"] + one.values["cache"]
	}

	var list []events.Share

	for _, child := range slices.Sorted(maps.Keys(used)) {
		cgroup, place := r.cgroupOf(strings.TrimSuffix(top, "/") + "/" + child)
		list = append(list, events.Share{Cgroup: *cgroup, Level: place.Level, Workload: place.Workload, UsageBytes: new(used[child])})
	}

	slices.SortStableFunc(list, func(a, b events.Share) int { return cmp.Compare(*b.UsageBytes, *a.UsageBytes) })

	return list
}

// sumStats adds up the counts of each cgroup.
func (r *report) sumStats() map[string]uint64 {
	sum := map[string]uint64{}

	for key := range r.stats[0].values {
		for _, one := range r.stats {
			if n, ok := one.values[key]; ok {
				sum[key] += n
			}
		}
	}

	return sum
}

// sumsUp reports whether no significant cgroup is missing: the parts make up the usage,
// except for kernel memory and for what each CPU has charged ahead.
func (r *report) sumsUp(m *events.Memory) bool {
	if m.AnonBytes == nil || m.FileBytes == nil {
		return false
	}

	sum, usage := *m.AnonBytes+*m.FileBytes, *r.limits.memory.usage
	if r.limits.kmem != nil && r.limits.kmem.usage != nil {
		sum += *r.limits.kmem.usage
	}
	slack := usage/50 + 1<<20

	return sum+slack >= usage && sum <= usage+slack
}
