// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/view"
)

// The golden files are of one kernel and tier.
func (o options) golden(k kernel, tier string) bool {
	return k.id() == "amd64-6.12" && tier == "fentry"
}

const goldenDir = "test/matrix/golden"

// golden compares what was said of a case, as JSON and as text, with what is
// kept; what varies from run to run is masked.
func (cc *caseCheck) golden(update bool) {
	incidents := cc.incidents
	if cc.c.Name == "burst" && len(incidents) > 1 {
		incidents = incidents[:1]
	}

	sort.SliceStable(incidents, func(i, j int) bool { return limiterPath(incidents[i]) < limiterPath(incidents[j]) })
	var asJSON, asText bytes.Buffer

	for _, inc := range incidents {
		inc := steady(inc)

		text, err := json.MarshalIndent(inc, "", "  ")
		if err != nil {
			cc.problem("%v", err)
			return
		}

		asJSON.Write(text)
		asJSON.WriteByte('\n')

		if err := view.NewText(&asText, view.TextOptions{Location: time.UTC}).Write(inc); err != nil {
			cc.problem("%v", err)
		}
	}

	masked := maskJSON(asJSON.String())
	if cc.c.Name == "high-order" { // its limit is what there is
		masked = anyLimit.ReplaceAllString(masked, `$1"VARIES"`)
	}

	cc.compare(cc.c.Name+".json", masked, update)
	cc.compare(cc.c.Name+".txt", maskText(asText.String()), update)
}

// steady leaves out what depends on time alone: passes that wait for a victim's
// end, how many incidents one look at the counters holds, which page of a fault
// was the one too many.
func steady(inc *events.Incident) *events.Incident {
	out := *inc
	out.Before = nil
	// What is read of the machine after the kill varies; causes are compared by id.
	out.Shares, out.Candidates, out.NodeState, out.Eviction, out.Causes = nil, nil, nil, nil, nil
	out.SharesLeftOut, out.CandidatesLeftOut = 0, 0

	if inc.Passes != nil {
		passes := *inc.Passes

		passes.Waiting = 0
		if inc.Outcome == events.OutcomeKilled {
			passes = events.Passes{Killed: passes.Killed}
		}
		out.Passes = &passes
	}

	if inc.Audit != nil {
		audit := *inc.Audit
		audit.Incidents, audit.WindowKills, audit.Text = 1, audit.KernelKills, plain
		out.Audit = &audit
	}

	if a := inc.Allocation; a != nil && a.Class == "pagetable" {
		// A fault may find the limit when it needs a page for its page table.
		fault := *a

		fault.Class, fault.GFP, fault.GFPFlags = "anon_fault", new(uint32(3264)), []string{"GFP_KERNEL"}
		if inc.Scope == events.ScopeGlobal {
			fault.GFP, fault.GFPFlags = new(uint32(1314250)), []string{"GFP_HIGHUSER_MOVABLE", "__GFP_ZERO", "__GFP_COMP"}
		}
		out.Allocation = &fault
	}

	out.Notes = slices.DeleteFunc(slices.Clone(inc.Notes), func(n string) bool { return strings.Contains(n, "was still exiting") })
	for i, n := range out.Notes {
		out.Notes[i] = maskText(n)
	}

	return &out
}

const plain = "counters as seen"

func limiterPath(inc *events.Incident) string {
	if inc.Limiter == nil || inc.Limiter.Cgroup == nil {
		return ""
	}

	return inc.Limiter.Cgroup.Path
}

func (cc *caseCheck) compare(name, got string, update bool) {
	file := filepath.Join(goldenDir, name)
	if update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			cc.problem("%v", err)
		}

		return
	}

	want, err := os.ReadFile(file)
	if err != nil {
		cc.problem("%v: scripts/vm-test.sh --kernel 6.12 --arch amd64 --update writes it", err)
		return
	}

	if string(want) != got {
		cc.problem("it differs from %s:\n%s", file, difference(string(want), got))
	}
}

func difference(want, got string) string {
	var b strings.Builder

	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range max(len(w), len(g)) {
		var a, c string
		if i < len(w) {
			a = w[i]
		}

		if i < len(g) {
			c = g[i]
		}

		if a != c {
			fmt.Fprintf(&b, "-%s\n+%s\n", a, c)
		}
	}

	return b.String()
}

var (
	// Limits and roles stay; identities, times and measurements do not.
	varyingJSON = regexp.MustCompile(`("(?:pid|tid|id|time|boot_id|node|start_time|usage_bytes|swap_usage_bytes|peak_bytes|points|text|value|\w*_after_ns|\w*_before_ns|` +
		`\w*rss_bytes|swap_bytes|pgtables_bytes|total_vm_bytes|(?:anon|file|shmem|slab|kernel_stack|active_file|inactive_file|unevictable)\w*_bytes|` +
		`pagetables_bytes|sock_bytes|percpu_bytes|no_killable_task|waiting_for_victim|vmstat_oom_kill|kernel_kills|window_\w+|memory_events_oom_kill|` +
		`total_pages|swap_limit_bytes|limit_bytes)": )("(?:[^"\\]|\\.)*"|-?[0-9.e+]+)`)
	varyingText = []struct {
		what *regexp.Regexp
		with string
	}{
		{regexp.MustCompile(`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?`), "TIME"},
		{regexp.MustCompile(`\[\d+\]`), "[PID]"},
		{regexp.MustCompile(`tid \d+`), "tid TID"},
		{regexp.MustCompile(`cgroup \d+ of`), "cgroup ID of"},
		{regexp.MustCompile(`\d+(\.\d+)? ?(ns|µs|ms|s)\b`), "SPAN"},
		{regexp.MustCompile(`\d+(\.\d+)? (B|KiB|MiB|GiB)\b`), "SIZE"},
		{regexp.MustCompile(`\d+(\.\d+)?/`), "SIZE/"},
		{regexp.MustCompile(`\b\d[\d ]* (pages|times|passes|OOM)`), "N $1"},
		{regexp.MustCompile(`\d+ (killed|found|chose)`), "N $1"},
		{regexp.MustCompile(`burst\d`), "burstN"},
		{regexp.MustCompile(`kworker/[\w:+-]+`), "kworker"},
	}
)

// maskJSON keeps limits of cgroups, which the case sets, and masks the rest.
func maskJSON(text string) string {
	var b strings.Builder

	for line := range strings.Lines(text) {
		keep := strings.Contains(line, `"limit_bytes"`) && !strings.Contains(text, `"level": "node"`)
		if !keep {
			line = varyingJSON.ReplaceAllString(line, `$1"VARIES"`)
		}
		line = kworker.ReplaceAllString(line, "kworker")
		b.WriteString(burstName.ReplaceAllString(line, "burstN"))
	}

	return b.String()
}

var anyLimit = regexp.MustCompile(`("(?:limit_bytes|max_bytes)": )\d+`)

var (
	kworker   = regexp.MustCompile(`kworker/[\w:+-]+`)
	burstName = regexp.MustCompile(`burst\d`)
)

func maskText(text string) string {
	for _, v := range varyingText {
		text = v.what.ReplaceAllString(text, v.with)
	}

	return text
}

// printTable shows kernel, tier and case.
func printTable(verdicts []verdict, o options) {
	wanted := tiers
	if len(o.tiers) > 0 {
		wanted = o.tiers
	}

	fmt.Printf("%-16s", "case")

	for _, v := range verdicts {
		fmt.Printf(" %-14s", v.kernel.id())
	}

	fmt.Printf("   (%s)\n", strings.Join(wanted, " "))

	for _, e := range expectations {
		var row []string
		some := false

		for _, v := range verdicts {
			var cells []string
			for _, tier := range wanted {
				cell := v.cells[e.name][tier]
				if cell == "" {
					cell = "."
				} else {
					some = true
				}
				cells = append(cells, cell)
			}

			row = append(row, fmt.Sprintf("%-14s", strings.Join(cells, " ")))
		}

		if some {
			fmt.Printf("%-16s %s\n", e.name, strings.Join(row, " "))
		}
	}

	fmt.Printf("\n. not played on this kernel   %s not offered by this kernel   %s: the kernel skipped a kprobe, a kill was told by tracepoints alone   %s: right when it was played once more\n",
		notOffered, fellBack, playedAgain)
}
