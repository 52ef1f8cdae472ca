// SPDX-License-Identifier: Apache-2.0

package node

import (
	"regexp"
	"testing"

	"github.com/oomtrace/oomtrace/test/internal/lab"
)

// TestPods runs the scenarios of TestContainerd in a whole Debian, with its containerd, on
// cgroup v2. The subtests are driver and scenario.
func TestPods(t *testing.T) {
	lab.Require(t)

	for _, driver := range []string{"cgroupfs", "systemd"} {
		t.Run(driver, func(t *testing.T) {
			programs := map[string]string{"guest": "./test/guest", "oomtrace": "./cmd/oomtrace", "hog": "./test/node/hog"}
			d := newDebian(t, driver, programs, true)

			var result PodsResult
			d.result(interruptible(t), t, "lab.pods="+driver+" lab.scenario="+lab.Selected().Level(2), &result)
			d.keep(t, "trace.jsonl", result.Trace)
			t.Logf("Linux %s\n%s", result.Kernel, result.Output)

			scenarios := guestResults(result.Output, driver)
			for _, s := range scenarios {
				t.Run(s.name, func(t *testing.T) {
					if s.status != "PASS" {
						t.Errorf("in the guest: got %s, want PASS; its output is above", s.status)
					}
				})
			}

			if !result.Passed || len(scenarios) == 0 {
				t.Errorf("in the guest: got passed %v with %d scenarios, want all of them passed", result.Passed, len(scenarios))
			}
		})
	}
}

type guestResult struct{ name, status string }

var guestLine = regexp.MustCompile(`--- (PASS|FAIL|SKIP): TestContainerd/installed/(\w+)/([\w-]+) \(`)

// guestResults parses the scenarios of a driver in the output of go test.
func guestResults(output, driver string) (all []guestResult) {
	for _, m := range guestLine.FindAllStringSubmatch(output, -1) {
		if m[2] == driver {
			all = append(all, guestResult{name: m[3], status: m[1]})
		}
	}

	return all
}

func TestGuestResults(t *testing.T) {
	const output = "=== RUN   TestContainerd/installed/cgroupfs/pod-limit\n" +
		"            --- PASS: TestContainerd/installed/cgroupfs/pod-limit (3.21s)\r\n" +
		"            --- FAIL: TestContainerd/installed/cgroupfs/loop (30.00s)\n" +
		"        --- FAIL: TestContainerd/installed/cgroupfs (70.00s)\n"

	got := guestResults(output, "cgroupfs")
	if len(got) != 2 || got[0] != (guestResult{"pod-limit", "PASS"}) || got[1] != (guestResult{"loop", "FAIL"}) {
		t.Errorf("got %+v, want pod-limit passed, loop failed", got)
	}
}
