// SPDX-License-Identifier: Apache-2.0

package oom

import (
	"testing"

	"github.com/oomtrace/oomtrace/internal/events"
)

// Huge pages of hugetlb are part of the usage where cgroup2 is mounted with
// memory_hugetlb_accounting: a charge split adds up with them.
func TestAChargeOfHugePagesAddsUp(t *testing.T) {
	const mib = uint64(1) << 20
	m := events.Memory{AnonBytes: new(20 * mib), FileBytes: new(uint64(0)), ShmemBytes: new(uint64(0))}

	if AddsUp(&m, 100*mib) {
		t.Error("got a split of 20 MiB that adds up to 100 MiB, want one that does not")
	}

	m.HugetlbBytes = new(80 * mib)
	if !AddsUp(&m, 100*mib) {
		t.Error("got a split with 80 MiB in huge pages that does not add up, want one that does")
	}
}
