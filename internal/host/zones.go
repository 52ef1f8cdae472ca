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
// memory are left out.
func (r Reader) zones() []events.Zone {
	text, err := readUpTo(r.in("proc/zoneinfo"), maxZoneinfo)
	if err != nil {
		return nil
	}

	zones := parseZones(text, uint64(PageSize()))
	if text, err := readSmall(r.in("proc/buddyinfo")); err == nil {
		addFreeBlocks(zones, text)
	}

	return zones
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

func parseZones(text []byte, pageBytes uint64) []events.Zone {
	var zones []events.Zone
	var zone *events.Zone // nil outside of zones, and in parts that are not read

	for line := range bytes.Lines(text) {
		if node, name, _, ok := zoneHead(line); ok {
			zones = append(zones, events.Zone{Node: node, Zone: name})
			zone = &zones[len(zones)-1]

			continue
		}

		if zone == nil {
			continue
		}

		words := strings.Fields(string(line))
		if len(words) == 0 {
			continue
		}

		if words[0] == "pagesets" {
			zone = nil // "high:" means something else there
			continue
		}

		if words[0] == "pages" {
			words = words[1:]
		}

		if len(words) < 2 {
			continue
		}
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
		default:
			continue
		}

		if pages, err := strconv.ParseUint(words[1], 10, 50); err == nil {
			pages *= pageBytes
			*to = &pages
		}
	}

	kept := zones[:0]
	for _, z := range zones {
		if z.ManagedBytes == nil || *z.ManagedBytes > 0 {
			kept = append(kept, z)
		}
	}

	return kept
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
