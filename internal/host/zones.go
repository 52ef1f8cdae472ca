// SPDX-License-Identifier: Apache-2.0

package host

import (
	"bytes"
	"strconv"
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
)

// maxZoneinfo bounds /proc/zoneinfo in bytes; it has some 130 for each zone and CPU.
const maxZoneinfo = 16 << 20

// maxOrders bounds the orders of a line of buddyinfo; kernels have 11.
const maxOrders = 32

// zones reads /proc/zoneinfo and /proc/buddyinfo (mm/vmstat.c). Zones without
// memory are left out. The sum is of the free pages on the lists of CPUs, nil if it is not known.
func (r Reader) zones() (zones []events.Zone, freePCP *uint64) {
	text, err := readUpTo(r.in("proc/zoneinfo"), maxZoneinfo)
	if err != nil {
		return nil, nil
	}

	zones, freePCP = parseZones(text, uint64(PageSize()))
	if text, err := readSmall(r.in("proc/buddyinfo")); err == nil {
		addFreeBlocks(zones, text)
	}

	return zones, freePCP
}

// zoneHead parses "Node 0, zone   Normal", with the number of the NUMA node, and
// returns the rest of the line.
func zoneHead(line []byte) (node int, zone string, rest []byte, ok bool) {
	line, ok = bytes.CutPrefix(line, []byte("Node "))
	if !ok {
		return 0, "", nil, false
	}
	number, rest, _ := bytes.Cut(line, []byte(","))
	node, err := strconv.Atoi(string(number))

	rest, ok = bytes.CutPrefix(rest, []byte(" zone"))
	if err != nil || !ok || node < 0 {
		return 0, "", nil, false
	}
	rest = bytes.TrimLeft(rest, " ")

	end := bytes.IndexAny(rest, " \n")
	if end < 0 {
		end = len(rest)
	}

	if end == 0 || end > 32 {
		return 0, "", nil, false
	}

	return node, string(rest[:end]), rest[end:], true
}

func parseZones(text []byte, pageBytes uint64) (zones []events.Zone, freePCP *uint64) {
	var zone *events.Zone // nil outside of zones
	pagesets := false     // within the lists of CPUs, where "high:" means something else

	for line := range bytes.Lines(text) {
		if node, name, _, ok := zoneHead(line); ok {
			zones = append(zones, events.Zone{Node: node, Zone: name})
			zone, pagesets = &zones[len(zones)-1], false

			continue
		}

		words := strings.Fields(string(line))
		if zone == nil || len(words) == 0 {
			continue
		}

		if words[0] == "pages" {
			words = words[1:]
		}

		switch {
		case words[0] == "pagesets":
			pagesets = true
		case len(words) < 2:
		case pagesets:
			freePCP = addCount(freePCP, words, pageBytes)
		case words[0] == "protection:":
			zone.ReserveBytes = reserves(words[1:], pageBytes)
		default:
			zoneValue(zone, words, pageBytes)
		}
	}

	kept := zones[:0]
	for _, z := range zones {
		if z.ManagedBytes == nil || *z.ManagedBytes > 0 {
			kept = append(kept, z)
		}
	}

	return kept, freePCP
}

// zoneValue takes in a line of a zone such as "min 33", in pages.
func zoneValue(zone *events.Zone, words []string, pageBytes uint64) {
	var to **uint64

	switch words[0] {
	case "free":
		to = &zone.FreeBytes
	case "min":
		to = &zone.MinBytes
	case "low":
		to = &zone.LowBytes
	case "high":
		to = &zone.HighBytes
	case "managed":
		to = &zone.ManagedBytes
	case "nr_free_cma":
		to = &zone.FreeCMABytes
	default:
		return
	}

	if pages, err := strconv.ParseUint(words[1], 10, 50); err == nil {
		*to = new(pages * pageBytes)
	}
}

// addCount adds the pages of a CPU's list, "count: 25".
func addCount(sum *uint64, words []string, pageBytes uint64) *uint64 {
	pages, err := strconv.ParseUint(words[1], 10, 32)
	if words[0] != "count:" || err != nil {
		return sum
	}

	return new(value(sum) + pages*pageBytes)
}

// reserves parses "(0, 3019, 7499, 7499)", in pages; nil if it is something else.
func reserves(words []string, pageBytes uint64) []uint64 {
	const maxZoneTypes = 8 // include/linux/mmzone.h: MAX_NR_ZONES is 6 at most

	var list []uint64

	for _, word := range words[:min(len(words), maxZoneTypes)] {
		pages, err := strconv.ParseUint(strings.Trim(word, "(,)"), 10, 50)
		if err != nil {
			return nil
		}

		list = append(list, pages*pageBytes)
	}

	return list
}

// addFreeBlocks parses "Node 0, zone  Normal  6329  5356 ...", with a number for each order.
func addFreeBlocks(zones []events.Zone, text []byte) {
	for line := range bytes.Lines(text) {
		node, name, rest, ok := zoneHead(line)
		if !ok {
			continue
		}
		var blocks []uint64

		for _, word := range strings.Fields(string(rest)) {
			n, err := strconv.ParseUint(word, 10, 64)
			if err != nil || len(blocks) == maxOrders {
				blocks = nil
				break
			}
			blocks = append(blocks, n)
		}

		for i := range zones {
			if zones[i].Node == node && zones[i].Zone == name {
				zones[i].FreeBlocks = blocks
			}
		}
	}
}
