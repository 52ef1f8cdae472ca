// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"os"
	"testing"

	"github.com/oomtrace/oomtrace/internal/host"
	"github.com/oomtrace/oomtrace/internal/testenv"
)

// BenchmarkOpen loads all programs, attaches and detaches them.
func BenchmarkOpen(b *testing.B) {
	testenv.Root(b)

	layout, err := host.Cgroups()
	if err != nil {
		b.Fatal(err)
	}

	for b.Loop() {
		p, err := Open(Options{MemoryHierarchy: layout.HierarchyID, PageSize: uint64(os.Getpagesize()), Stalls: true})
		if err != nil {
			b.Fatal(err)
		}

		p.Close()
	}
}
