// SPDX-License-Identifier: Apache-2.0

package host

import (
	"bytes"
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
)

// slabs reads the largest caches of /proc/slabinfo, at most limit. Only root may read it.
func (r Reader) slabs(limit int) []events.SlabCache {
	text, err := readSmall(r.in("proc/slabinfo"))
	if err != nil {
		return nil
	}
	caches := parseSlabs(text, uint64(PageSize()))
	slices.SortStableFunc(caches, func(a, b events.SlabCache) int { return cmp.Compare(b.Bytes, a.Bytes) })

	caches = slices.Clone(caches[:min(limit, len(caches))]) // an incident keeps these, and not those cut off
	for i := range caches {
		caches[i].Name = strings.Clone(caches[i].Name) // of the line
	}

	return caches
}

// parseSlabs parses version 2.x (mm/slab_common.c: cache_show):
//
//	name active_objs num_objs objsize objperslab pagesperslab : tunables ... : slabdata active_slabs num_slabs sharedavail
//
// A cache occupies its slabs, whether their objects are in use or not.
func parseSlabs(text []byte, pageBytes uint64) []events.SlabCache {
	var caches []events.SlabCache

	for line := range bytes.Lines(text) {
		head, rest, ok := strings.Cut(string(line), " : tunables")
		_, data, ok2 := strings.Cut(rest, ": slabdata")

		words, slabs := strings.Fields(head), strings.Fields(data)
		if !ok || !ok2 || len(words) != 6 || len(slabs) < 2 {
			continue
		}
		pages, err := strconv.ParseUint(words[5], 10, 16)

		count, err2 := strconv.ParseUint(slabs[1], 10, 32)
		if err != nil || err2 != nil || count == 0 {
			continue
		}
		caches = append(caches, events.SlabCache{Name: words[0], Bytes: pages * count * pageBytes})
	}

	return caches
}
