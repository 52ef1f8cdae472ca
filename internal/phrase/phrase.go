// SPDX-License-Identifier: Apache-2.0

// Package phrase puts values into words: sizes, durations and counts, the enums of
// the event contract, processes, workloads, limits and killers. Text output, reports,
// causes and messages use it, so the same thing has the same name everywhere.
//
// Names and paths are not sanitized, unless a function's comment states it: a caller that
// writes to a terminal passes them through [Sanitize].
package phrase

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Plural counts things: "1 victim", "2 victims", "3 processes".
func Plural[N int | uint64](n N, thing string) string {
	switch {
	case n == 1:
	case strings.HasSuffix(thing, "s"):
		thing += "es"
	default:
		thing += "s"
	}

	return fmt.Sprintf("%d %s", n, thing)
}

// Spaced writes an enum value as words: "memcg reclaim" for memcg_reclaim.
func Spaced(enum string) string {
	if enum == strings.ToUpper(enum) { // a constant of the kernel
		return enum
	}

	return strings.ReplaceAll(enum, "_", " ")
}

// NonEmpty returns the words that are not empty. It reuses the memory of words.
func NonEmpty(words ...string) []string {
	return slices.DeleteFunc(words, func(s string) bool { return s == "" })
}

// Join joins the words that are not empty.
func Join(separator string, words ...string) string {
	return strings.Join(NonEmpty(words...), separator)
}

// FirstFew joins words by commas, and counts those after the fourth if they are several: a sentence stays
// readable on machines with many NUMA nodes or services.
func FirstFew(words []string) string {
	const few = 4
	if len(words) <= few+1 { // a count of one is no shorter than the word
		return strings.Join(words, ", ")
	}

	return fmt.Sprintf("%s, and %d more", strings.Join(words[:few], ", "), len(words)-few)
}

// Zone names a memory zone: "zone Normal of NUMA node 0". Long names are clipped.
func Zone(node int, zone string) string {
	return fmt.Sprintf("zone %s of NUMA node %d", ClipName(zone), node)
}

// NUMANodes names NUMA nodes: "NUMA node 4", "NUMA nodes 0-1,3".
func NUMANodes(ids []int) string {
	if len(ids) == 1 {
		return "NUMA node " + ranges(ids)
	}

	return "NUMA nodes " + ranges(ids)
}

// ranges writes numbers as the kernel does: 0-1,3.
func ranges(numbers []int) string {
	numbers = slices.Compact(slices.Sorted(slices.Values(numbers)))
	var parts []string

	for i := 0; i < len(numbers); {
		j := i
		for j+1 < len(numbers) && numbers[j+1] == numbers[j]+1 {
			j++
		}

		part := strconv.Itoa(numbers[i])
		if j > i {
			part += "-" + strconv.Itoa(numbers[j])
		}

		parts = append(parts, part)
		i = j + 1
	}

	return strings.Join(parts, ",")
}

// Capitalize starts a sentence, unless it starts with a name: that of a unit stays as it is.
func Capitalize(sentence string) string {
	for _, word := range []string{
		"the ", "a ", "an ", "all ", "no ", "whether ", "memory ", "pod ", "container ", "cgroup ", "slice ", "service ", "unit ",
		"node ", "user ", "kernel ", "job ", "task ", "step ", "allocation ", "build ", "slot ", "machine ",
	} {
		if strings.HasPrefix(sentence, word) {
			return strings.ToUpper(sentence[:1]) + sentence[1:]
		}
	}

	return sentence
}
