// SPDX-License-Identifier: Apache-2.0

package phrase

import "testing"

func TestSize(t *testing.T) {
	for bytes, want := range map[uint64]string{
		0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 1<<20 - 1: "1.0 MiB", 512 << 20: "512.0 MiB", 1<<64 - 1: "16.0 EiB",
	} {
		if got := Size(bytes); got != want {
			t.Errorf("Size(%d) = %q, want %q", bytes, got, want)
		}
	}
}

func TestDuration(t *testing.T) {
	for ns, want := range map[uint64]string{
		0: "0 µs", 999_999: "999 µs", 1_500_000: "1.5 ms", 31_200_000: "31 ms", 4_200_000_000: "4.2 s", 61_000_000_000: "1 min 1 s",
		1<<64 - 1: "153722867 min 16 s", // the most that time.Duration holds
	} {
		if got := Duration(ns); got != want {
			t.Errorf("Duration(%d) = %q, want %q", ns, got, want)
		}
	}
}
