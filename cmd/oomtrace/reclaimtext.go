// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/host"
	"github.com/oomtrace/oomtrace/internal/kernel"
	"github.com/oomtrace/oomtrace/internal/phrase"
)

// formatReclaim returns the table of one interval; empty if nothing stalled.
func formatReclaim(now time.Time, by string, rows []*reclaimRow, kswapd []kswapdRow) string {
	const columns = "%-8s %9s %11s %10s %9s %10s %9s %9s %6s %9s  %s\n"
	var b strings.Builder
	at := now.Format(time.TimeOnly)

	if len(rows) > 0 {
		fmt.Fprintf(&b, columns, "TIME", "RECLAIMS", "NO-PROGRESS", "RECLAIM-ms", "HIGH-ms", "RECLAIMED",
			"USED", "HEADROOM", "PSI%", "REFAULTS", strings.ToUpper(by))
	}

	for _, row := range rows {
		fmt.Fprintf(&b, columns, at, count(row.reclaim.Count), count(row.reclaim.NoProgress),
			millis(row.reclaim.TotalNS), millis(row.highNS), mib(row.reclaim.ReclaimedPages*uint64(host.PageSize())),
			known(row.usage.usedBytes, mib), headroom(row.usage), known(row.usage.psiPercent, percent),
			known(row.usage.refaultPages, count), phrase.Sanitize(row.name))
	}

	for _, row := range rows {
		if row.service != "" {
			fmt.Fprintf(&b, "%-8s critical service %s was stalled for %s ms\n", at,
				phrase.Sanitize(row.service), millis(row.allNS))
		}
	}

	for _, k := range kswapd {
		fmt.Fprintf(&b, "%-8s kswapd of NUMA node %d was awake for %s ms, woken up %d times\n", at,
			k.node, millis(k.AwakeNS), k.Wakeups)
	}

	return b.String()
}

func count(n uint64) string        { return strconv.FormatUint(n, 10) }
func mib(bytes uint64) string      { return fmt.Sprintf("%.1fM", float64(bytes)/(1<<20)) }
func millis(ns uint64) string      { return fmt.Sprintf("%.1f", float64(ns)/1e6) }
func percent(value float64) string { return fmt.Sprintf("%.0f", value) }

// known formats a value, or a dash for one that is not known.
func known[T any](value *T, format func(T) string) string {
	if value == nil {
		return "-"
	}

	return format(*value)
}

func headroom(u cgroupUsage) string {
	text := known(u.headroomBytes, mib)
	if u.ancestorLimit {
		text += "^"
	}

	return text
}

// formatHistogram returns the distribution of the stalls' durations over all cgroups, by
// kind.
func formatHistogram(counts map[kernel.StallKey]kernel.StallCount) string {
	sums := map[events.StallKind]*[kernel.StallBuckets]uint64{}
	for key, c := range counts {
		if sums[key.What] == nil {
			sums[key.What] = new([kernel.StallBuckets]uint64)
		}

		for b, n := range c.Buckets {
			sums[key.What][b] += n
		}
	}

	if len(sums) == 0 {
		return "no stalls\n"
	}

	var b strings.Builder

	for _, what := range slices.Sorted(maps.Keys(sums)) {
		fmt.Fprintf(&b, "%s\n", what)
		formatBuckets(&b, sums[what])
	}

	return b.String()
}

// formatBuckets writes a bar for each bucket between the first and the last that is not
// empty.
func formatBuckets(b *strings.Builder, buckets *[kernel.StallBuckets]uint64) {
	const width = 40
	first, last, most := kernel.StallBuckets, 0, uint64(0)

	for i, n := range buckets {
		if n > 0 {
			first, last, most = min(first, i), i, max(most, n)
		}
	}

	for i := first; i <= last; i++ {
		n := buckets[i]
		fmt.Fprintf(b, "  %10s .. %-10s %10d |%s\n",
			bucketStart(i), bucketStart(i+1), n, strings.Repeat("#", int(n*width/most)))
	}
}

// bucketStart returns the shortest duration of a bucket; the first has all below 2 us.
func bucketStart(bucket int) string {
	if bucket == 0 {
		return "0"
	}

	return (time.Microsecond << bucket).String()
}
