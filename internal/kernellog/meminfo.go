// SPDX-License-Identifier: Apache-2.0

package kernellog

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/oom"
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
	huge                                []hugePool
	sites                               []events.AllocationSite
	inSites                             bool   // within the lines of allocation sites
	pageBytes                           uint64 // of order 0, as the free lists show it
	lastZone                            int    // of the last line of a zone, whose reserves come next; -1: none
	last                                string // the key in global that a line ended with
}

// hugePool has the huge pages of one size, of all nodes.
type hugePool struct{ size, total, free uint64 }

// maxHugeSizes bounds the sizes of huge pages; kernels have five at most (arm64).
const maxHugeSizes = 16

// maxSites bounds the allocation sites; the kernel prints ten.
const maxSites = 16

type zone struct {
	node    int
	name    string
	values  map[string]uint64 // bytes
	reserve []uint64          // pages
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
	if text == "Mem-Info:" || r.memInfo == nil && isMemInfo(text) {
		if r.at >= inLimits || r.header == nil || r.contradictsNode() {
			return false // of an allocation failure, or sysrq-m
		}

		r.memInfo = &memInfo{global: map[string]uint64{}, nodes: map[int]map[string]uint64{}, lastZone: -1}
		r.advance(rec, inMemInfo)

		if text == "Mem-Info:" {
			return true
		}
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

	m := r.memInfo

	m.last = ""
	if !m.line(rec, text) {
		return false
	}

	if key := m.last; key != "" {
		r.edge(rec, func() { delete(m.global, key) })
	}

	r.advance(rec, inMemInfo)

	return true
}

// isMemInfo reports whether a line is of the block by its form alone.
func isMemInfo(text string) bool {
	return strings.HasPrefix(text, "Node ") || strings.HasPrefix(text, "active_anon:") || strings.HasPrefix(text, "active_file:")
}

func (m *memInfo) line(rec record, text string) bool {
	if strings.HasPrefix(text, "Memory allocations") && strings.HasSuffix(text, ":") {
		m.inSites = true
		return true
	}

	if m.inSites {
		return m.siteLine(rec, text)
	}

	if rest, found := strings.CutPrefix(text, "lowmem_reserve[]:"); found {
		m.reserveLine(rec, rest)
		return true
	}
	m.lastZone = -1

	// Without CONFIG_NUMA, a zone has no node (mm/show_mem.c: show_node).
	if name, _, _ := strings.Cut(text, " "); oom.IsZone(strings.TrimSuffix(name, ":")) {
		return m.nodeLine(rec, 0, text)
	}

	if rest, found := strings.CutPrefix(text, "Node "); found {
		number, rest, _ := strings.Cut(rest, " ")

		node, err := strconv.Atoi(number)
		if err != nil || node < 0 {
			return false
		}

		return m.nodeLine(rec, node, rest)
	}

	if strings.HasPrefix(text, "Swap cache stats:") || strings.HasPrefix(text, "Memory cgroup min protection") {
		return true
	}

	if rest, found := strings.CutPrefix(text, "Free swap "); found {
		return once(&m.swapFree, rec, strings.TrimLeft(rest, " ="), kib)
	}

	if rest, found := strings.CutPrefix(text, "Total swap "); found {
		return once(&m.swapTotal, rec, strings.TrimLeft(rest, " ="), kib)
	}

	if count, what, _ := strings.Cut(text, " "); isDigits(count) {
		return m.countLine(count, what)
	}

	if strings.HasPrefix(text, "CPU ") && strings.Contains(text, "hi:") {
		return true // per-cpu lists, before 4.2
	}

	return m.globalLine(rec, text)
}

// countLine reads one of the last lines, such as "2097018 pages RAM". Its number comes first, so no cut
// changes it.
func (m *memInfo) countLine(count, what string) bool {
	switch what {
	case "total pagecache pages":
		return once(&m.pageCache, record{}, count, number)
	case "pages in swap cache":
		return once(&m.swapCache, record{}, count, number)
	case "pages RAM":
		return once(&m.ram, record{}, count, number)
	case "pages reserved":
		return once(&m.reserved, record{}, count, number)
	case "pages HighMem/MovableOnly", "pages cma reserved", "pages hwpoisoned", "pages shared", "pages non-shared":
		return true
	}

	return false
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
			m.global[key], m.last = n, key
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
	m.lastZone = slices.IndexFunc(m.zones, func(o zone) bool { return o.node == node && o.name == first })

	return true
}

// reserveLine reads "0 3870 3870 3870", in pages: of the zone in the line before.
func (m *memInfo) reserveLine(rec record, text string) {
	const maxZoneTypes = 8 // include/linux/mmzone.h: MAX_NR_ZONES is 6 at most

	at := m.lastZone
	m.lastZone = -1

	words := strings.Fields(text)
	if at < 0 || rec.torn || len(words) > maxZoneTypes {
		return
	}
	var reserve []uint64

	for _, word := range words {
		pages, ok := number(word)
		if !ok || pages > 1<<44 {
			return
		}
		reserve = append(reserve, pages)
	}
	m.zones[at].reserve = reserve
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
	"gpu_active": true, "gpu_reclaim": true, "Balloon": true, "free_cma": true, "zspages": true,
}

// freeLists reads "0*4kB 1*8kB (U) ... = 1800kB".
func (m *memInfo) freeLists(rec record, node int, name, text string) bool {
	list, _, whole := strings.Cut(text, " = ")
	if !whole && rec.torn {
		return true
	}

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

	if rec.torn {
		return true
	}

	if !ok1 || !ok2 || !ok3 || total > 1<<32 || free > total || size > 1<<40 {
		return false
	}

	at := slices.IndexFunc(m.huge, func(p hugePool) bool { return p.size == size })
	if at < 0 {
		if len(m.huge) == maxHugeSizes {
			return false
		}
		at = len(m.huge)
		m.huge = append(m.huge, hugePool{size: size})
	}
	m.huge[at].total += total
	m.huge[at].free += free

	return true
}

// siteLine reads a line of "Memory allocations:", such as "22.8 MiB 5833 mm/slub.c:2305
// func:alloc_slab_page" (mm/show_mem.c, since 6.10 with CONFIG_MEM_ALLOC_PROFILING). The size has
// three digits (lib/string_helpers.c: string_get_size).
func (m *memInfo) siteLine(rec record, text string) bool {
	words := strings.Fields(text)
	if len(words) < 5 || rec.torn {
		return false
	}
	size, ok1 := roundedSize(words[0], words[1])
	count, ok2 := number(words[2])
	site, ok3 := oom.AllocationSite(strings.Join(words[3:], " "))

	if !ok1 || !ok2 || !ok3 {
		return false
	}

	if site.Bytes, site.Count = size, count; len(m.sites) < maxSites {
		m.sites = append(m.sites, site)
	}

	return true
}

// roundedSize reads a number with a unit of the powers of 1024.
func roundedSize(word, unit string) (bytes uint64, ok bool) {
	shift := 10 * slices.Index([]string{"B", "KiB", "MiB", "GiB", "TiB"}, unit)

	n, err := strconv.ParseFloat(word, 64)
	if err != nil || shift < 0 || !(n >= 0 && n < 1<<20) {
		return 0, false
	}

	return uint64(n * float64(uint64(1)<<shift)), true
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

// state returns the node's memory at the kill, as far as the log has the block. The kernel leaves
// out NUMA nodes that the allocation could not use; allNodes means that it could use all.
func (m *memInfo) state(pageBytes uint64, slabs []events.SlabCache, allNodes bool) *events.NodeState {
	n := &events.NodeState{SwapTotalBytes: m.swapTotal, SwapFreeBytes: m.swapFree, AllocationSites: m.sites}
	pages := func(keys ...string) *uint64 {
		var sum uint64

		for _, key := range keys {
			v, ok := m.global[key]
			if !ok || v >= 1<<44 {
				return nil
			}
			sum += v * pageBytes
		}

		return &sum
	}

	n.TotalBytes = m.total(pageBytes)
	n.FreeBytes, n.ShmemBytes, n.PagetablesBytes = pages("free"), pages("shmem"), pages("pagetables")
	n.FreePCPBytes, n.FreeCMABytes, n.SecPagetablesBytes = pages("free_pcp"), pages("free_cma"), pages("sec_pagetables")
	n.DirtyBytes, n.WritebackBytes, n.UnevictableBytes = pages("dirty"), pages("writeback"), pages("unevictable")

	n.SlabReclaimable, n.SlabUnreclaimable = pages("slab_reclaimable"), pages("slab_unreclaimable")
	n.MiscReclaimableBytes = pages("kernel_misc_reclaimable")

	n.ActiveFileBytes, n.InactiveFileBytes = pages("active_file"), pages("inactive_file")
	n.LRUBytes = pages("active_anon", "inactive_anon", "isolated_anon", "active_file", "inactive_file", "isolated_file", "unevictable")
	m.userMemory(n, pageBytes)

	n.KernelStackBytes, n.AnonTHPBytes = m.nodeSum("kernel_stack", pageBytes), m.nodeSum("anon_thp", pageBytes)
	n.GPUActiveBytes, n.GPUReclaimBytes = m.nodeSum("gpu_active", pageBytes), m.nodeSum("gpu_reclaim", pageBytes)
	n.BalloonBytes, n.ZspagesBytes = m.nodeSum("Balloon", pageBytes), m.zoneSum("zspages", pageBytes)
	m.hugePages(n)

	for i := range m.zones {
		n.Zones = append(n.Zones, m.zones[i].event())
	}

	if m.whole(pageBytes) { // else a line of reserves may be of a zone that the log lacks
		for i := range m.zones {
			n.Zones[i].ReserveBytes = m.zones[i].reserves(pageBytes)
		}
	}

	slices.SortStableFunc(slabs, func(a, b events.SlabCache) int { return cmp.Compare(b.Bytes, a.Bytes) })
	n.Slabs = slabs

	if allNodes || m.whole(pageBytes) {
		n.Ledger = oom.NodeLedger(n)
	}

	return n
}

// neverPrinted are the entries of a ledger that no report has. Another one that is missing may be in
// a line that the log lacks.
var neverPrinted = []string{"vmalloc", "per-CPU memory", "network buffers", oom.LedgerCompressed}

// holed reports whether a ledger may lack entries that the report had.
func holed(l *events.NodeLedger) bool {
	return l != nil && slices.ContainsFunc(l.Missing, func(name string) bool { return !slices.Contains(neverPrinted, name) })
}

// total is MemTotal: the pages that the allocator manages.
func (m *memInfo) total(pageBytes uint64) *uint64 {
	if m.ram == nil || m.reserved == nil || *m.reserved > *m.ram || *m.ram >= 1<<44 {
		return nil
	}

	return new((*m.ram - *m.reserved) * pageBytes)
}

// userMemory splits what is on the LRU lists into page cache and anonymous memory, which includes
// the swap cache. "total pagecache pages" is NR_FILE_PAGES, with the swap cache.
func (m *memInfo) userMemory(n *events.NodeState, pageBytes uint64) {
	if m.swapCache != nil && *m.swapCache < 1<<44 {
		n.SwapCacheBytes = new(*m.swapCache * pageBytes)
	}

	if m.pageCache == nil || m.swapCache == nil || *m.swapCache > *m.pageCache || *m.pageCache > 1<<44 {
		return
	}
	n.FileBytes = new((*m.pageCache - *m.swapCache) * pageBytes)

	if n.LRUBytes == nil || *n.LRUBytes < *n.FileBytes {
		return
	}

	if anon := *n.LRUBytes - *n.FileBytes; n.TotalBytes != nil && anon <= *n.TotalBytes {
		n.AnonBytes = &anon
	}
}

func (m *memInfo) hugePages(n *events.NodeState) {
	if len(m.huge) == 0 {
		return
	}
	n.HugetlbBytes, n.HugetlbFreeBytes = new(uint64), new(uint64)

	for _, p := range m.huge {
		*n.HugetlbBytes += p.total * p.size
		*n.HugetlbFreeBytes += p.free * p.size

		if p.total > 0 {
			n.HugePages = append(n.HugePages, events.HugePages{SizeBytes: p.size, Total: p.total, Free: p.free})
		}
	}

	slices.SortFunc(n.HugePages, func(a, b events.HugePages) int { return cmp.Compare(b.SizeBytes, a.SizeBytes) })
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

// nodeSum adds up a value of all nodes, or of their zones where the kernel counts it there (up to
// 4.7). It returns nil if one is missing.
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
			return m.zoneSum(key, pageBytes)
		}
		sum += n
	}

	return &sum
}

// zoneSum adds up a value of all zones. It returns nil if one is missing.
func (m *memInfo) zoneSum(key string, pageBytes uint64) *uint64 {
	if !m.whole(pageBytes) {
		return nil
	}
	var sum uint64

	for i := range m.zones {
		n, ok := m.zones[i].values[key]
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
		HighBytes: bytes("high"), ManagedBytes: bytes("managed"), FreeCMABytes: bytes("free_cma"), FreeBlocks: z.blocks,
	}
}

func (z *zone) reserves(pageBytes uint64) []uint64 {
	var list []uint64
	for _, pages := range z.reserve {
		list = append(list, pages*pageBytes)
	}

	return list
}
