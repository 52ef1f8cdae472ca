// SPDX-License-Identifier: Apache-2.0

package host

import (
	"bytes"
	"cmp"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
)

// maxDevices bounds the zram devices that are read.
const maxDevices = 64

// holders reads who else holds memory, other than what /proc/meminfo has.
func (r Reader) holders(s *events.NodeState) {
	if text, err := readSmall(r.in("proc/vmstat")); err == nil {
		if pages, ok := field(text, "nr_zspages"); ok && pages < 1<<44 {
			s.ZspagesBytes = new(pages * uint64(PageSize()))
		}
	}

	if s.ZswapBytes == nil { // before 5.19 /proc/meminfo has no Zswap, and its pool was not of zsmalloc as a rule
		s.ZswapBytes = readNumber(r.in("sys/kernel/debug/zswap/pool_total_size"))
	}

	if text, err := readSmall(r.in("proc/net/sockstat")); err == nil {
		s.NetworkBytes = socketMemory(text, uint64(PageSize()))
	}

	if text, err := readSmall(r.in("proc/spl/kstat/zfs/arcstats")); err == nil {
		s.ZFSCacheBytes = arcBuffers(text)
	}
	s.ZRAM = r.zram()
}

// socketMemory parses "TCP: inuse 5 orphan 0 tw 0 alloc 7 mem 3" and "UDP: inuse 4 mem 2", in pages
// of all network namespaces (net/ipv4/proc.c: sockstat_seq_show).
func socketMemory(text []byte, pageBytes uint64) *uint64 {
	var sum *uint64

	for line := range bytes.Lines(text) {
		words := strings.Fields(string(line))
		if len(words) < 3 || words[0] != "TCP:" && words[0] != "UDP:" {
			continue
		}

		at := slices.Index(words, "mem")
		if at < 0 || at+1 >= len(words) {
			continue
		}

		if pages, err := strconv.ParseUint(words[at+1], 10, 44); err == nil {
			sum = new(value(sum) + pages*pageBytes)
		}
	}

	return sum
}

// arcBuffers adds up the buffers of data and metadata in the cache of ZFS, "data_size 4 1234". They
// are pages in no counter of the kernel; the rest of the cache is slab.
func arcBuffers(text []byte) *uint64 {
	var sum *uint64

	for line := range bytes.Lines(text) {
		words := strings.Fields(string(line))
		if len(words) != 3 || words[0] != "data_size" && words[0] != "metadata_size" {
			continue
		}

		if n, err := strconv.ParseUint(words[2], 10, 56); err == nil {
			sum = new(value(sum) + n)
		}
	}

	return sum
}

// zram adds up mm_stat of all devices (Documentation/admin-guide/blockdev/zram.rst): the data, its
// compressed size, the memory used, its limit and peak, same pages, compacted pages and, since 5.0,
// huge pages. It returns nil without a device, or if one cannot be read.
func (r Reader) zram() *events.ZRAM {
	files, _ := filepath.Glob(r.in("sys/block/zram*/mm_stat"))
	if len(files) == 0 || len(files) > maxDevices {
		return nil
	}

	sum := &events.ZRAM{PeakBytes: new(uint64(0)), HugeBytes: new(uint64(0))}

	for _, file := range files {
		text, err := readSmall(file)
		if err != nil {
			return nil
		}

		columns := numbers(text)
		if len(columns) < 3 {
			return nil
		}
		sum.DataBytes += columns[0]
		sum.UsedBytes += columns[2]

		sum.PeakBytes = addColumn(sum.PeakBytes, columns, 4, 1)
		sum.HugeBytes = addColumn(sum.HugeBytes, columns, 7, uint64(PageSize()))
	}

	return sum
}

// addColumn adds a column in units of so many bytes; nil if it is missing.
func addColumn(sum *uint64, columns []uint64, at int, unit uint64) *uint64 {
	if sum == nil || at >= len(columns) {
		return nil
	}

	return new(*sum + columns[at]*unit)
}

// numbers parses a line of numbers, up to the first word that is none.
func numbers(text []byte) []uint64 {
	var list []uint64

	for _, word := range strings.Fields(string(text)) {
		n, err := strconv.ParseUint(word, 10, 50)
		if err != nil {
			break
		}

		list = append(list, n)
	}

	return list
}

// hugetlb reads the pages of all sizes: /proc/meminfo has those of the default size only, and not
// all kernels have the sum (Hugetlb, since 4.19).
func (r Reader) hugetlb(s *events.NodeState) {
	dirs, _ := filepath.Glob(r.in("sys/kernel/mm/hugepages/hugepages-*kB"))

	var pools []events.HugePages
	var free, all uint64

	for _, dir := range dirs {
		name := strings.TrimPrefix(filepath.Base(dir), "hugepages-")
		kib, err := strconv.ParseUint(strings.TrimSuffix(name, "kB"), 10, 32)

		unused := readNumber(filepath.Join(dir, "free_hugepages"))
		if err != nil || unused == nil || *unused > 1<<32 {
			return
		}
		pool := events.HugePages{SizeBytes: kib * 1024, Free: *unused}
		free += pool.Free * pool.SizeBytes

		if total := readNumber(filepath.Join(dir, "nr_hugepages")); total != nil && *total <= 1<<32 {
			pool.Total = *total
			all += pool.Total * pool.SizeBytes
			pools = append(pools, pool)
		}
	}

	if len(dirs) == 0 {
		return
	}
	s.HugetlbFreeBytes = &free

	if len(pools) == len(dirs) {
		s.HugetlbBytes = &all
		s.HugePages = inUse(pools)
	}
}

// inUse sorts pools by the size of a page, the largest first, and leaves out empty ones.
func inUse(pools []events.HugePages) []events.HugePages {
	pools = slices.DeleteFunc(pools, func(p events.HugePages) bool { return p.Total == 0 })
	slices.SortFunc(pools, func(a, b events.HugePages) int { return cmp.Compare(b.SizeBytes, a.SizeBytes) })

	if len(pools) == 0 {
		return nil
	}

	return pools
}
