// SPDX-License-Identifier: Apache-2.0

package node

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/oomtrace/oomtrace/test/internal/lab"
)

// TestPods runs the scenarios of TestContainerd in a whole Debian, with its containerd, on
// cgroup v2. The subtests are driver and scenario.
func TestPods(t *testing.T) {
	lab.Require(t)

	drivers := []string{"cgroupfs", "systemd"}
	lab.Select(t, drivers...)

	for _, driver := range drivers {
		t.Run(driver, func(t *testing.T) {
			selected := lab.Select(t, scenarioNames(2)...)
			programs := map[string]string{"guest": "./test/guest", "oomtrace": "./cmd/oomtrace", "hog": "./test/node/hog"}
			d := newDebian(t, driver, programs, true)

			var result PodsResult
			d.result(lab.Context(t), t, "lab.pods="+driver+" lab.cases="+strings.Join(selected, ","), &result)
			d.keep(t, "trace.jsonl", result.Trace)

			results := parseOutput(result.Output)
			test, outside := "", results[""].output // of no scenario

			for _, level := range []string{"TestContainerd", "/installed", "/" + driver} {
				test += level
				outside += results[test].output
			}

			lab.Logf(t, "Linux %s\n%s", result.Kernel, outside)

			if !result.Passed {
				t.Error("in the guest: got a failure, want none")
			}

			for _, name := range selected {
				t.Run(name, func(t *testing.T) {
					if p := results[test+"/"+name].problem(); p != "" {
						t.Errorf("in the guest: %s", p)
					}
				})
			}
		})
	}
}

// testResult is what go test printed of a test, without its subtests.
type testResult struct {
	status string // PASS, FAIL or SKIP; "" if it did not end
	output string
}

// problem returns why a test did not pass, or "".
func (r testResult) problem() string {
	if r.status == "PASS" {
		return ""
	}

	return fmt.Sprintf("got status %q, want PASS; its output:\n%s", r.status, r.output)
}

var (
	outputFrom = regexp.MustCompile(`^=== (?:RUN|NAME|CONT) +(\S+)$`)
	statusOf   = regexp.MustCompile(`^ *--- (PASS|FAIL|SKIP): (\S+) \(`)
)

// parseOutput parses the output of go test -v, by the name of a test.
func parseOutput(output string) map[string]testResult {
	results := map[string]testResult{}
	current := ""

	for line := range strings.Lines(output) {
		line = strings.TrimRight(line, "\r\n")

		if m := outputFrom.FindStringSubmatch(line); m != nil {
			current = m[1]
			continue
		}

		name, of := current, statusOf.FindStringSubmatch(line)
		if of != nil {
			name = of[2]
		}

		r := results[name]
		if of != nil {
			r.status = of[1]
		} else {
			r.output += line + "\n"
		}

		results[name] = r
	}

	return results
}

func TestParseOutput(t *testing.T) {
	const output = "=== RUN   TestContainerd/installed/cgroupfs\n" +
		"    suite_test.go:70: containerd 1.7\n" +
		"=== RUN   TestContainerd/installed/cgroupfs/pod-limit\n" +
		"=== RUN   TestContainerd/installed/cgroupfs/loop\r\n" +
		"    expect_test.go:50: no incident\r\n" +
		"        of loop-3\n" +
		"=== NAME  TestContainerd/installed/cgroupfs\n" +
		"    suite_test.go:90: left behind\n" +
		"        --- FAIL: TestContainerd/installed/cgroupfs (70.00s)\n" +
		"            --- PASS: TestContainerd/installed/cgroupfs/pod-limit (3.21s)\r\n" +
		"            --- FAIL: TestContainerd/installed/cgroupfs/loop (30.00s)\n"

	got := parseOutput(output)

	for name, want := range map[string]testResult{
		"":           {"FAIL", "    suite_test.go:70: containerd 1.7\n    suite_test.go:90: left behind\n"},
		"/pod-limit": {"PASS", ""},
		"/loop":      {"FAIL", "    expect_test.go:50: no incident\n        of loop-3\n"},
		"/restart":   {},
	} {
		if got := got["TestContainerd/installed/cgroupfs"+name]; got != want {
			t.Errorf("test %q: got %+v, want %+v", name, got, want)
		}
	}
}

func TestProblemOfTestResult(t *testing.T) {
	for status, want := range map[string]string{
		"PASS": "",
		"FAIL": "got status \"FAIL\", want PASS; its output:\nno incident\n",
		"SKIP": "got status \"SKIP\", want PASS; its output:\nno incident\n",
		"":     "got status \"\", want PASS; its output:\nno incident\n",
	} {
		if got := (testResult{status, "no incident\n"}).problem(); got != want {
			t.Errorf("status %q: got %q, want %q", status, got, want)
		}
	}
}

// TestSelectionOfNothingFails: without these failures, a mistake in -run looks like success.
func TestSelectionOfNothingFails(t *testing.T) {
	for _, test := range []struct{ pattern, want string }{
		{"^TestPods$/^systemv$", "selects nothing in TestPods; there are: cgroupfs,"},
		{"^TestPods$/^cgroupfs$/^pod-limt$", "selects nothing in TestPods/cgroupfs; there are: "},
		{"^TestKillers$/^sodu$", "selects nothing in TestKillers; there are: "},
	} {
		if got := lab.Rerun(t, nil, test.pattern); !strings.Contains(got, test.want) {
			t.Errorf("pattern %s: got %s, want an error with %q", test.pattern, got, test.want)
		}
	}
}
