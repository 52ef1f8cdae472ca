// SPDX-License-Identifier: Apache-2.0

// Package phrase writes sizes and durations for people, the same way wherever
// oomtrace speaks to them.
package phrase

import (
	"fmt"
	"strconv"
	"time"
)

// Size is a number of bytes in binary units, with one decimal.
func Size(bytes uint64) string {
	n, unit := Scale(bytes)
	return n + " " + unit
}

// Scale is Size, the number and its unit apart.
func Scale(bytes uint64) (number, unit string) {
	const prefixes = "KMGTPE"

	if bytes < 1024 {
		return strconv.FormatUint(bytes, 10), "B"
	}
	v := float64(bytes) / 1024

	i := 0
	for ; v >= 1023.95 && i < len(prefixes)-1; i++ { // what would be rounded to 1024.0
		v /= 1024
	}

	return strconv.FormatFloat(v, 'f', 1, 64), prefixes[i:i+1] + "iB"
}

// Duration is a time in nanoseconds, as coarse as people read it.
func Duration(ns uint64) string {
	d := time.Duration(min(ns, 1<<63-1))
	switch {
	case d < time.Millisecond:
		return fmt.Sprintf("%d µs", d.Microseconds())
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.1f ms", d.Seconds()*1e3)
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%.1f s", d.Seconds())
	}

	return fmt.Sprintf("%d min %d s", int(d.Minutes()), int(d.Seconds())%60)
}
