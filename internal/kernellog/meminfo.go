// SPDX-License-Identifier: Apache-2.0

package kernellog

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
)

// memInfo is the block that starts with "Mem-Info:" (mm/show_mem.c: show_free_areas and
// __show_mem).
type memInfo struct {
	global map[string]uint64 // the first lines, in pages
	nodes  map[int]map[string]uint64
	zones  []zone
	// Of the last lines, in pages.
	pageCache, swapCache, ram, reserved *uint64
	swapFree, swapTotal                 *uint64 // bytes
	hugeTotal, hugeFree                 *uint64 // bytes
	pageBytes                           uint64  // of order 0, as the free lists show it
}

type zone struct {
	node    int
	name    string
	values  map[string]uint64 // bytes
	blocks  []uint64
	blocked bool // blocks is known
}

func (m *memInfo) zone(node int, name string) *zone {
	for i := range m.zones {
		if m.zones[i].node == node && m.zones[i].name == name {
			return &m.zones[i]
		}
	}

	if len(m.zones) >= maxZones || len(name) > 32 {
		return nil
	}
	m.zones = append(m.zones, zone{node: node, name: name, values: map[string]uint64{}})

	return &m.zones[len(m.zones)-1]
}

// memInfoLine takes in a line of the block. A value that comes twice is of another report,
// and is not used.
func (r *report) memInfoLine(rec record, text string) bool {
	if text == "Mem-Info:" {
		if r.at >= inLimits || r.header == nil {
			return false // of an allocation failure, or sysrq-m
		}
		r.memInfo = &memInfo{global: map[string]uint64{}, nodes: map[int]map[string]uint64{}}
		r.advance(rec, inMemInfo)

		return true
	}

	if r.memInfo == nil || r.at > inSlab {
		return false
	}

	if r.at == inMemInfo && text == "Unreclaimable slab info:" {
		r.advance(rec, inSlab)
		return true
	}

	if r.at == inSlab {
		return r.slabLine(rec, text)
	}

	if !r.memInfo.line(rec, text) {
		return false
	}

	r.advance(rec, inMemInfo)

	return true
}

func (m *memInfo) line(rec record, text string) bool {
	if rest, found := strings.CutPrefix(text, "Node "); found {
		number, rest, _ := strings.Cut(rest, " ")

		node, err := strconv.Atoi(number)
		if err != nil || node < 0 {
			return false
		}

		return m.nodeLine(rec, node, rest)
	}

	if strings.HasPrefix(text, "lowmem_reserve[]:") || strings.HasPrefix(text, "Swap cache stats:") ||
		strings.HasPrefix(text, "Memory cgroup min protection") {
		return true
	}

	if rest, found := strings.CutPrefix(text, "Free swap "); found {
		return once(&m.swapFree, rec, strings.TrimLeft(rest, " ="), kib)
	}

	if rest, found := strings.CutPrefix(text, "Total swap "); found {
		return once(&m.swapTotal, rec, strings.TrimLeft(rest, " ="), kib)
	}

	if word, what, _ := strings.Cut(text, " "); isDigits(word) {
		switch what {
		case "total pagecache pages":
			return once(&m.pageCache, record{}, word, number)
		case "pages in swap cache":
			return once(&m.swapCache, record{}, word, number)
		case "pages RAM":
			return once(&m.ram, record{}, word, number)
		case "pages reserved":
			return once(&m.reserved, record{}, word, number)
		case "pages HighMem/MovableOnly", "pages cma reserved", "pages hwpoisoned", "pages shared", "pages non-shared":
			return true
		}

		return false
	}

	if strings.HasPrefix(text, "CPU ") && strings.Contains(text, "hi:") {
		return true // per-cpu lists, before 4.2
	}

	return m.globalLine(rec, text)
}

// once sets a value that may come only once.
func once(to **uint64, rec record, word string, read func(string) (uint64, bool)) bool {
	n, ok := read(word)
	if !ok || rec.torn || *to != nil {
		return false
	}
	*to = &n

	return true
}

// globalLine reads "active_anon:1 inactive_anon:2 isolated_anon:3", in pages.
func (m *memInfo) globalLine(rec record, text string) bool {
	words := strings.Fields(text)
	if len(words) > 16 {
		return false
	}

	if rec.torn && len(words) > 0 {
		words = words[:len(words)-1]
	}
	seen := false

	for _, word := range words {
		key, value, found := strings.Cut(word, ":")

		n, ok := number(value)
		if !found || !ok {
			return seen
		}

		if _, twice := m.global[key]; twice {
			return false
		}

		if len(m.global) < 128 && len(key) < 64 {
			m.global[key] = n
		}
		seen = true
	}

	return seen
}

// nodeLine reads what follows "Node N ": the node's own line, a zone's, a zone's
// free lists, or huge pages.
func (m *memInfo) nodeLine(rec record, node int, text string) bool {
	if strings.HasPrefix(text, "hugepages_total=") {
		return m.hugeLine(rec, text)
	}

	first, rest, _ := strings.Cut(text, " ")
	if name, found := strings.CutSuffix(first, ":"); found {
		return m.freeLists(rec, node, name, rest)
	}

	if strings.HasPrefix(rest, "per-cpu:") {
		return true
	}

	if strings.Contains(first, ":") {
		if m.nodes[node] != nil || len(m.nodes) >= maxZones {
			return false
		}
		m.nodes[node] = kibWords(rec, strings.ReplaceAll(text, ": ", ":")) // 5.x: "anon_thp: 0kB"

		return true
	}

	if !strings.HasPrefix(rest, "free:") {
		return false
	}

	z := m.zone(node, first)
	if z == nil || len(z.values) > 0 {
		return false
	}
	z.values = kibWords(rec, rest)

	return true
}

// kibWords reads "free:12kB min:3kB ..." as bytes. Kernels write some as KB.
func kibWords(rec record, text string) map[string]uint64 {
	values := map[string]uint64{}

	words := strings.Fields(text)
	if rec.torn && len(words) > 0 {
		words = words[:len(words)-1]
	}

	for _, word := range words[:min(len(words), 64)] {
		key, value, _ := strings.Cut(word, ":")
		if n, ok := kib(value); ok && wantedZone[key] {
			values[key] = n
		}
	}

	return values
}

var wantedZone = map[string]bool{
	"free": true, "min": true, "low": true, "high": true, "managed": true, "present": true, "kernel_stack": true, "anon_thp": true,
	"gpu_active": true, "gpu_reclaim": true,
}

// freeLists reads "0*4kB 1*8kB (U) ... = 1800kB".
func (m *memInfo) freeLists(rec record, node int, name, text string) bool {
	list, _, whole := strings.Cut(text, " = ")

	z := m.zone(node, name)
	if !whole || rec.torn && strings.HasSuffix(list, "=") || z == nil || z.blocked {
		return false
	}
	var blocks []uint64
	var pageBytes uint64

	for word := range strings.FieldsSeq(list) {
		count, size, found := strings.Cut(word, "*")
		if !found {
			continue // (UME): migrate types
		}
		n, ok1 := number(count)

		bytes, ok2 := kib(size)
		if !ok1 || !ok2 || len(blocks) > 20 {
			return false
		}

		if len(blocks) == 0 {
			pageBytes = bytes
		}

		if bytes != pageBytes<<len(blocks) {
			return false
		}
		blocks = append(blocks, n)
	}
	z.blocks, z.blocked, m.pageBytes = blocks, true, pageBytes

	return true
}

// hugeLine reads "hugepages_total=1 hugepages_free=1 hugepages_surp=0
// hugepages_size=2048kB". There is one for each node and size.
func (m *memInfo) hugeLine(rec record, text string) bool {
	values := map[string]string{}

	for word := range strings.FieldsSeq(text) {
		key, value, _ := strings.Cut(word, "=")
		values[key] = value
	}
	total, ok1 := number(values["hugepages_total"])
	free, ok2 := number(values["hugepages_free"])

	size, ok3 := kib(values["hugepages_size"])
	if !ok1 || !ok2 || !ok3 || rec.torn || total > 1<<32 || free > total || size > 1<<40 {
		return false
	}
	add := func(to **uint64, n uint64) {
		if *to != nil {
			n += **to
		}
		*to = &n
	}
	add(&m.hugeTotal, total*size)
	add(&m.hugeFree, free*size)

	return true
}

// slabLine reads "kmalloc-64   1234KB   1300KB": name, used, total (mm/slab_common.c:
// dump_unreclaimable_slab).
func (r *report) slabLine(rec record, text string) bool {
	words := strings.Fields(text)
	if len(words) < 3 {
		return false
	}

	if words[0] == "Name" {
		r.advance(rec, inSlab)
		return true
	}
	total, ok1 := kib(words[len(words)-1])

	_, ok2 := kib(words[len(words)-2])
	if !ok1 || !ok2 || rec.torn || len(text) > 512 {
		return false
	}

	if len(r.slabs) < maxSlabs {
		r.slabs = append(r.slabs, events.SlabCache{Name: strings.Join(words[:len(words)-2], " "), Bytes: total})
	} else {
		r.note("the log lists more slab caches than oomtrace reads")
	}

	r.advance(rec, inSlab)

	return true
}

// state returns the node's memory at the kill, as far as the log has the block.
func (m *memInfo) state(pageBytes uint64, slabs []events.SlabCache) *events.NodeState {
	n := &events.NodeState{SwapTotalBytes: m.swapTotal, SwapFreeBytes: m.swapFree}
	pages := func(key string) *uint64 {
		if v, ok := m.global[key]; ok && v < 1<<44 {
			return new(v * pageBytes)
		}

		return nil
	}

	if m.ram != nil && m.reserved != nil && *m.reserved <= *m.ram && *m.ram < 1<<44 {
		n.TotalBytes = new((*m.ram - *m.reserved) * pageBytes)
	}
	n.FreeBytes, n.ShmemBytes, n.PagetablesBytes = pages("free"), pages("shmem"), pages("pagetables")
	n.DirtyBytes, n.WritebackBytes, n.UnevictableBytes = pages("dirty"), pages("writeback"), pages("unevictable")

	n.SlabReclaimable, n.SlabUnreclaimable = pages("slab_reclaimable"), pages("slab_unreclaimable")
	if a, i := pages("active_file"), pages("inactive_file"); a != nil && i != nil {
		n.FileBytes = new(*a + *i)
	}
	n.AnonBytes = m.anon(pageBytes)
	n.KernelStackBytes, n.AnonTHPBytes = m.nodeSum("kernel_stack", pageBytes), m.nodeSum("anon_thp", pageBytes)
	n.GPUActiveBytes, n.GPUReclaimBytes = m.nodeSum("gpu_active", pageBytes), m.nodeSum("gpu_reclaim", pageBytes)

	n.HugetlbBytes, n.HugetlbFreeBytes = m.hugeTotal, m.hugeFree
	for _, z := range m.zones {
		n.Zones = append(n.Zones, z.event())
	}

	slices.SortStableFunc(slabs, func(a, b events.SlabCache) int { return cmp.Compare(b.Bytes, a.Bytes) })
	n.Slabs = slabs

	return n
}

// anon returns the mapped anonymous memory, nil if it cannot be computed. The lists of
// anonymous pages also contain shmem and the swap cache, and lack locked memory.
func (m *memInfo) anon(pageBytes uint64) *uint64 {
	var sum uint64

	for _, key := range []string{"active_anon", "inactive_anon", "isolated_anon"} {
		n, ok := m.global[key]
		if !ok || n > 1<<44 {
			return nil
		}
		sum += n
	}
	shmem, ok1 := m.global["shmem"]

	locked, ok2 := m.global["unevictable"]
	if !ok1 || !ok2 || locked != 0 || m.swapCache == nil || *m.swapCache != 0 || shmem > sum {
		return nil
	}

	return new((sum - shmem) * pageBytes)
}

// whole reports whether the block has all zones of the host: they make up its RAM. The
// kernel leaves out nodes that the allocation could not use.
func (m *memInfo) whole(pageBytes uint64) bool {
	var present uint64
	for i := range m.zones {
		present += m.zones[i].values["present"]
	}

	return m.ram != nil && present > 0 && *m.ram < 1<<44 && present == *m.ram*pageBytes
}

// nodeSum adds up a value of all nodes. It returns nil if one is missing.
func (m *memInfo) nodeSum(key string, pageBytes uint64) *uint64 {
	if !m.whole(pageBytes) {
		return nil
	}
	var sum uint64

	for i := range m.zones {
		if i > 0 && m.zones[i-1].node == m.zones[i].node {
			continue
		}

		n, ok := m.nodes[m.zones[i].node][key]
		if !ok {
			return nil
		}
		sum += n
	}

	return &sum
}

func (z *zone) event() events.Zone {
	bytes := func(key string) *uint64 {
		if n, ok := z.values[key]; ok {
			return &n
		}

		return nil
	}

	return events.Zone{
		Node: z.node, Zone: z.name, FreeBytes: bytes("free"), MinBytes: bytes("min"), LowBytes: bytes("low"),
		HighBytes: bytes("high"), ManagedBytes: bytes("managed"), FreeBlocks: z.blocks,
	}
}
