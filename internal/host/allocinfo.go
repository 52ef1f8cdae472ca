// SPDX-License-Identifier: Apache-2.0

package host

import (
	"bufio"
	"cmp"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/oom"
)

// maxAllocinfo bounds /proc/allocinfo in bytes; it has some 100 for each of some thousand sites.
const maxAllocinfo = 8 << 20

// allocationSites reads the largest sites of /proc/allocinfo, at most limit
// (CONFIG_MEM_ALLOC_PROFILING, since 6.10). Only root may read it.
func (r Reader) allocationSites(limit int) []events.AllocationSite {
	file, err := os.Open(r.in("proc/allocinfo"))
	if err != nil {
		return nil
	}
	defer file.Close()

	return parseAllocinfo(io.LimitReader(file, maxAllocinfo), limit)
}

// parseAllocinfo parses lines like "    4194304     1024 mm/slub.c:2305 func:alloc_slab_page". It
// keeps no more than the sites that it returns.
func parseAllocinfo(text io.Reader, limit int) []events.AllocationSite {
	var top []events.AllocationSite

	lines := bufio.NewScanner(text)
	for lines.Scan() {
		size, rest, _ := strings.Cut(strings.TrimLeft(lines.Text(), " "), " ")
		calls, tag, _ := strings.Cut(strings.TrimLeft(rest, " "), " ")

		bytes, err1 := strconv.ParseUint(size, 10, 56)
		count, err2 := strconv.ParseUint(calls, 10, 56)

		if err1 != nil || err2 != nil || bytes == 0 || len(top) == limit && bytes <= top[limit-1].Bytes {
			continue
		}

		site, ok := oom.AllocationSite(strings.TrimLeft(tag, " "))
		if !ok {
			continue
		}
		site.Bytes, site.Count = bytes, count

		at, _ := slices.BinarySearchFunc(top, site, func(a, b events.AllocationSite) int { return cmp.Compare(b.Bytes, a.Bytes) })
		top = slices.Insert(top, at, site)[:min(len(top)+1, limit)]
	}

	return top
}
