// SPDX-License-Identifier: Apache-2.0

package phrase

import (
	"fmt"
	"strconv"
	"strings"
)

// Size is a number of bytes in binary units, with one decimal.
func Size(bytes uint64) string {
	number, unit := scale(bytes)
	return number + " " + unit
}

func scale(bytes uint64) (number, unit string) {
	const prefixes = "KMGTPE"

	if bytes < 1024 {
		return strconv.FormatUint(bytes, 10), "B"
	}
	v := float64(bytes) / 1024

	i := 0
	for ; v >= 1023.95 && i < len(prefixes)-1; i++ { // would be rounded to 1024.0
		v /= 1024
	}

	return strconv.FormatFloat(v, 'f', 1, 64), prefixes[i:i+1] + "iB"
}

// SizeOrUnknown is Size, or "?" for nil.
func SizeOrUnknown(bytes *uint64) string {
	if bytes == nil {
		return "?"
	}

	return Size(*bytes)
}

// ShortSize is a size for a narrow column, such as 1.5Mi; "?" for nil.
func ShortSize(bytes *uint64) string {
	if bytes == nil {
		return "?"
	}
	number, unit := scale(*bytes)

	return number + strings.TrimSuffix(unit, "B")
}

// Ratio is usage/limit, with one unit where both have the same. A usage of nil is "?",
// a limit of nil is noLimit.
func Ratio(usage, limit *uint64, noLimit string) string {
	if limit == nil {
		return SizeOrUnknown(usage) + "/" + noLimit
	}

	if usage == nil {
		return "?/" + Size(*limit)
	}

	number, unit := scale(*usage)
	if m, same := scale(*limit); same == unit {
		return number + "/" + m + " " + unit
	}

	return Size(*usage) + "/" + Size(*limit)
}

// Part is a part of a whole: "300.0 MiB of 500.0 MiB (60 %)". A part that is more than the whole has
// no percentage: it is not a part then, such as the usage of a limit that was lowered.
func Part(part, whole uint64) string {
	switch {
	case whole == 0:
		return Size(part)
	case exceeds(part, whole):
		return Size(part) + ", more than " + Size(whole)
	}

	return fmt.Sprintf("%s of %s (%s)", Size(part), Size(whole), Percent(float64(part)/float64(whole)))
}

// PartOf is Part for a sentence, with a name for the whole instead of its size:
// "300.0 MiB (60 % of the pod's limit)".
func PartOf(part, whole uint64, name string) string {
	switch {
	case whole == 0:
		return Size(part)
	case exceeds(part, whole):
		return fmt.Sprintf("%s (more than all of %s)", Size(part), name)
	}

	return fmt.Sprintf("%s (%s of %s)", Size(part), Percent(float64(part)/float64(whole)), name)
}

// ShareOf is the share of a whole in few words, with a name for the whole: "60 % of the limit".
func ShareOf(part, whole uint64, name string) string {
	switch {
	case whole == 0:
		return Size(part)
	case exceeds(part, whole):
		return "more than " + name
	}

	return Percent(float64(part)/float64(whole)) + " of " + name
}

// exceeds reports whether a percentage would be past 100.
func exceeds(part, whole uint64) bool { return float64(part) > 1.005*float64(whole) }

// Percent writes a share of one as a percentage.
func Percent(share float64) string { return fmt.Sprintf("%.0f %%", share*100) }
