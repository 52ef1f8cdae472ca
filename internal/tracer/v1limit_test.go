// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The kernel charges memory and swap together before memory (mm/memcontrol.c:
// try_charge_memcg), so of two limits that are reached at once that of both fails. The
// failcnt of memory shows which one it was; that of both is not counted on every kernel.
func TestTheLimitOfCgroupV1IsTheOneWhoseChargeFailed(t *testing.T) {
	for name, test := range map[string]struct {
		digit, memsw string
		fails        bool // a charge of memory alone
		want         string
	}{
		"equal limits":          {"7", "33554432", false, "memory.memsw.limit_in_bytes"},
		"more for both of them": {"8", "67108864", true, "memory.limit_in_bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := containerCgroup(t, containerID(test.digit))

			for _, limit := range [][2]string{
				{"memory.limit_in_bytes", "33554432"}, {"memory.memsw.limit_in_bytes", test.memsw},
			} {
				file := filepath.Join(dir, limit[0])
				if _, err := os.Stat(file); err != nil {
					t.Skipf("there is no %s: cgroup v2, or swap is not counted", limit[0])
				}

				if err := os.WriteFile(file, []byte(limit[1]), 0); err != nil {
					t.Fatal(err)
				}
			}

			var failcnt string

			pid := 0
			k := traced(t, func() {
				cmd, _ := startIn(t, dir, "exec tail /dev/zero", nil)
				pid = cmd.Process.Pid
				cmd.Wait()

				text, err := os.ReadFile(filepath.Join(dir, "memory.failcnt"))
				if err != nil {
					t.Fatal(err)
				}
				failcnt = strings.TrimSpace(string(text))
			})

			if fails := failcnt != "0"; fails != test.fails {
				t.Fatalf("got memory.failcnt %s, want failures %t", failcnt, test.fails)
			}

			inc := k.of(pid)
			if inc == nil || inc.Limiter == nil {
				t.Fatalf("got incident %+v, want one of pid %d with a limiter", inc, pid)
			}

			if got := inc.Limiter.Which; got != test.want {
				t.Errorf("got limit %s, want %s", got, test.want)
			}
		})
	}
}
