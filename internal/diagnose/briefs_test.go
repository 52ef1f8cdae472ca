// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"cmp"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/testenv"
)

// usualRunes is what a brief takes where names and numbers are of a usual length: it is read in a sentence, or
// in a column of a table.
const usualRunes = 64

// startsLower matches the start of a clause: a lower-case letter, a number, a setting, or a name in capitals.
var startsLower = regexp.MustCompile(`^([a-z0-9-]|[A-Z]{2,} )`)

// wrongBrief is what a brief lacks, empty if nothing.
func wrongBrief(brief string, most int) string {
	switch {
	case brief == "":
		return "one"
	case utf8.RuneCountInString(brief) > most:
		return fmt.Sprintf("at most %d runes", most)
	case strings.ContainsAny(brief, "\n\r\t"):
		return "one line"
	case strings.Contains(brief, "%!"):
		return "a format for its numbers"
	}

	return ""
}

// TestEachCauseHasABrief lists the briefs of all cases as well, to be read.
func TestEachCauseHasABrief(t *testing.T) {
	var list strings.Builder

	for _, tt := range cases() {
		for _, c := range Diagnose(tt.make(), tt.history) {
			checkBrief(t, tt.rule+"/"+tt.name, c)

			if c.ID == tt.rule {
				fmt.Fprintf(&list, "%-24s %-55s %s\n", tt.rule, cmp.Or(tt.name, "-"), c.Brief)
			}
		}
	}

	testenv.Golden(t, "briefs.golden", []byte(list.String()), *rewrite)
}

func TestBriefsOfExamples(t *testing.T) {
	files, err := os.ReadDir("testdata/cases")
	if err != nil {
		t.Fatal(err)
	}

	for _, file := range files {
		for _, c := range Diagnose(example(t, file.Name()), nil) {
			checkBrief(t, file.Name(), c)
		}
	}
}

func checkBrief(t *testing.T, name string, c events.Cause) {
	t.Helper()

	wrong := wrongBrief(c.Brief, usualRunes)

	switch {
	case wrong != "":
	case strings.HasSuffix(c.Brief, "."):
		wrong = "no full stop"
	case !startsLower.MatchString(c.Brief):
		wrong = "a lower-case letter first"
	case strings.Contains(c.Brief, ": "):
		wrong = "no colon: it follows one"
	}

	if wrong != "" {
		t.Errorf("%s: %s: got brief %q, want %s", name, c.ID, c.Brief, wrong)
	}
}

// TestBriefsByEvidence has what the cases of the rules leave out.
func TestBriefsByEvidence(t *testing.T) {
	user := func(path, reason string, change func(*incident)) *incident {
		return with(userKillOf(path, reason), change)()
	}
	nothing := func(*incident) {}

	for _, test := range []struct {
		rule, want string
		inc        *incident
	}{
		{"own_limit", "its own usage filled the limit", with(plainKill(), func(i *incident) {
			i.Memory, i.Victims[0].AnonRSSBytes = nil, nil
		})()},
		{"own_limit", "page cache is 59 % of the limit", filled(func(m *events.Memory) { m.FileBytes = new(300 * mib) })()},
		{"own_limit", "anonymous memory is 100 % of the limit", filled(func(m *events.Memory) { m.AnonBytes = new(530 * mib) })()},
		{"own_limit", "anonymous memory is 94 % of the usage", with(plainKill(), func(i *incident) { i.Limiter.LimitBytes = nil })()},
		{"own_limit", "the victim's anonymous memory is 480.0 MiB", with(plainKill(), func(i *incident) {
			i.Memory, i.Limiter.LimitBytes, i.Limiter.UsageBytes = nil, nil, nil
		})()},
		{"ancestor_limit", "container app has a higher limit, which never applies", with(podKill(), func(i *incident) {
			i.Ladder[0].MaxBytes = new(gib)
		})()},
		{"ancestor_limit", "the limit of the victim's own cgroup was not hit", with(podKill(), func(i *incident) {
			i.Ladder, i.Victims[0].Workload = nil, nil
		})()},
		{"reserved_limit", "the limit is what the kubelet reserves for daemons", with(reservedKill(), func(i *incident) {
			i.Limiter.LimitBytes = nil
		})()},
		{"cpuset_exhausted", "the cpuset excludes 2 NUMA nodes with free memory", with(numaKill(events.ScopeCpuset), func(i *incident) {
			i.NodeState.Zones = append(i.NodeState.Zones, zone(2, "Normal", 4*gib, 32*mib, 8*gib))
		})()},
		{"no_killable", "2 processes with oom_score_adj -1000 may not be killed", with(plainKill(), func(i *incident) {
			i.Outcome, i.Victims = events.OutcomeNoKillable, nil
			i.Candidates = []events.Candidate{candidate(1, "a", mib, -1000), candidate(2, "b", mib, -1000)}
		})()},
		{"oomd_kill", "swap was nearly used up", user("oomd", "swap", nothing)},
		{"oomd_kill", "94 % of swap was used", user("systemd-oomd", "swap", func(i *incident) {
			i.Limiter = &events.Limiter{SwapLimitBytes: new(100 * mib), SwapUsageBytes: new(94 * mib)}
		})},
		{"oomd_kill", "a rule of systemd-oomd applied", user("systemd-oomd", "rule", nothing)},
		{"oomd_kill", "memory pressure of cgroup /a.slice", user("systemd-oomd", "memory_pressure", func(i *incident) {
			i.Limiter = &events.Limiter{Level: events.LevelSlice, Which: "memory.pressure", Cgroup: cgroup(3, "/a.slice")}
		})},
		{"earlyoom_kill", "a threshold of nohang was exceeded", user("nohang", "", nothing)},
		{"evicted", "evicted for pids, not for memory", user("runtime", "eviction", func(i *incident) { i.Killer.Resource = "pids" })},
		{"evicted", "evicted because the node was short of memory", user("runtime", "eviction", func(i *incident) { i.Killer.Resource = "memory" })},
		{"evicted", "evicted with 90.0 MiB available on the node", user("runtime", "eviction", func(i *incident) {
			i.Killer.Resource, i.Eviction = "memory", &events.Eviction{AvailableBytes: new(90 * mib)}
		})},
		{"killed_by_bpf", "a BPF program sent SIGKILL", user("bpf", "", nothing)},
		{"killed_by_own_request", "SIGKILL was set as the signal of a file (F_SETSIG)", user("sigio", "", nothing)},
		{"killed_by_human", "a logged-in user sent SIGKILL", user("human", "", nothing)},
		{"runtime_stop", "the workload was stopped by runc[900]", user("runtime", "", nothing)},
		{"runtime_stop", "the pod was deleted, SIGTERM 30.0 s earlier", user("runtime", "delete", func(i *incident) {
			i.Killer.TermBeforeNS = new(uint64(30e9))
		})},
		{"followed_oom", "the unit was stopped after the OOM kill of hog[1]", user("systemd", "unit_stop", func(i *incident) {
			i.Follows = &events.Follows{Kind: events.AfterUnitStop, Victim: "hog[1]"}
		})},
		{"followed_oom", "PID 1 exited after an OOM kill", user("pidns", "", func(i *incident) {
			i.Follows = &events.Follows{Kind: events.AfterPIDNS}
		})},
		{"many_processes", `\x1b[2Jphp ×4 held 50 % of the limit`, with(plainKill(), func(i *incident) {
			for pid := range crowd {
				i.Candidates = append(i.Candidates, candidate(100+pid, "\x1b[2Jphp", 64*mib, 0))
			}
		})()},
	} {
		t.Run(test.want, func(t *testing.T) {
			c := find(Diagnose(test.inc, nil), test.rule)
			if c == nil {
				t.Fatalf("got causes %v, want %s", ids(Diagnose(test.inc, nil)), test.rule)
			}

			if c.Brief != test.want {
				t.Errorf("got brief %q, want %q", c.Brief, test.want)
			}
		})
	}
}
