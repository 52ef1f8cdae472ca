// SPDX-License-Identifier: Apache-2.0

package incident

import (
	"testing"

	"github.com/oomtrace/oomtrace/internal/events"
)

// Huge pages of hugetlb are part of the usage where cgroup2 is mounted with
// memory_hugetlb_accounting: a charge split with them is not stale.
func TestAChargeOfHugePagesIsFresh(t *testing.T) {
	const mib = uint64(1) << 20
	m := events.Memory{AnonBytes: new(20 * mib), FileBytes: new(uint64(0)), ShmemBytes: new(uint64(0))}

	if fresh(m, 100*mib) {
		t.Error("got a fresh split of 20 of 100 MiB, want a stale one")
	}

	m.HugetlbBytes = new(80 * mib)
	if !fresh(m, 100*mib) {
		t.Error("got a stale split with 80 MiB in huge pages, want a fresh one")
	}
}
