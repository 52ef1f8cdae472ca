// SPDX-License-Identifier: Apache-2.0

package oom

// Sum adds the known parts; nil if none is known.
func Sum(parts ...*uint64) *uint64 {
	var total *uint64

	for _, p := range parts {
		switch {
		case p == nil:
		case total == nil:
			total = new(*p)
		default:
			*total += *p
		}
	}

	return total
}

// SumOfAll adds the parts; nil unless all are known.
func SumOfAll(parts ...*uint64) *uint64 {
	for _, p := range parts {
		if p == nil {
			return nil
		}
	}

	return Sum(parts...)
}
