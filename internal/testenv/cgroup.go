// SPDX-License-Identifier: Apache-2.0

package testenv

import (
	"os"
	"testing"
	"time"
)

// Cgroup creates a cgroup, and removes it after the test. What dies in it may take some
// seconds to leave it.
func Cgroup(t *testing.T, dir string) {
	t.Helper()

	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() {
		for range 500 {
			if os.Remove(dir) == nil {
				return
			}

			time.Sleep(20 * time.Millisecond)
		}

		t.Errorf("got %s after the test, want it removed", dir)
	})
}
