// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/oomtrace/oomtrace/internal/answer"
	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/view"
)

var update = flag.Bool("update", false, "write the golden files")

const goldenDir = "golden"

// goldenFor reports whether there are golden files for a kernel and tier.
// Noise makes a case take longer, and with that other victims and triggers than usual.
func goldenFor(k Kernel, tier string) bool {
	return k.ID() == "amd64-6.12" && tier == tierFentry && !k.Noise
}

// checkGolden compares what was reported of a case, as JSON and as text, with the golden
// files. What varies from run to run is masked.
func (c *Check) checkGolden() {
	incidents := slices.Clone(c.Incidents)
	if c.spec.Burst && len(incidents) > 1 {
		incidents = incidents[:1]
	}

	slices.SortStableFunc(incidents, func(a, b *events.Incident) int { return strings.Compare(limiterPath(a), limiterPath(b)) })

	var asJSON, asText bytes.Buffer

	for _, inc := range incidents {
		inc := c.steady(inc)

		text, err := json.MarshalIndent(inc, "", "  ")
		if err == nil {
			asJSON.Write(append(text, '\n'))

			err = printText(&asText, inc)
		}

		if err != nil {
			c.errorf("print the incident: %v", err)
			return
		}
	}

	masked := maskJSON(asJSON.String())
	if c.spec.FreeLimit {
		masked = anyLimit.ReplaceAllString(masked, `$1"VARIES"`)
	}

	c.compareGolden(c.spec.Name+".json", masked)
	c.compareGolden(c.spec.Name+".txt", maskText(asText.String()))
}

// printText prints an incident as the text output does.
func printText(w io.Writer, inc *events.Incident) error {
	return view.NewText(w, view.TextOptions{Location: time.UTC}).Write(inc)
}

// steady leaves out what depends on timing alone: OOM invocations that wait for a
// victim's exit, how many incidents are between two samples of the counters, which page
// of a fault hit the limit, what the case lists as unknown of victims.
func (c *Check) steady(inc *events.Incident) *events.Incident {
	out := *inc
	out.Before = nil
	// What is read of the machine varies; causes are compared by id.
	out.Shares, out.Candidates, out.NodeState, out.NodeAtKill, out.Eviction, out.Causes = nil, nil, nil, nil, nil, nil
	out.SharesLeftOut, out.CandidatesLeftOut, out.SharesAfterNS, out.CandidatesAfterNS = 0, 0, nil, nil

	out.Victims = slices.Clone(inc.Victims)
	for i := range out.Victims {
		out.Victims[i].Program = nil       // read before the kill, if there was time
		out.Victims[i].ReapedAfterNS = nil // the oom_reaper comes two seconds later, to those who are slow
	}

	if released := "victims.released_after_ns"; slices.Contains(c.spec.Unknown, released) {
		out.Unknown = slices.DeleteFunc(slices.Clone(inc.Unknown), func(key string) bool { return key == released })
		if len(out.Unknown) == 0 {
			out.Unknown = nil
		}

		for i := range out.Victims {
			out.Victims[i].ReleasedAfterNS = nil
		}
	}

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
		audit.Incidents, audit.WindowKills, audit.Text = 1, audit.KernelKills, "counters as seen"
		out.Audit = &audit
	}

	if a := inc.Allocation; a != nil && (a.Class == "pagetable" || a.Class == "slab" && c.spec.Name != slab.Name) {
		// A fault may hit the limit when it needs a page for its page table, or a small object.
		fault := *a

		fault.Class, fault.GFP, fault.GFPFlags = "anon_fault", new(uint32(3264)), []string{"GFP_KERNEL"}
		if inc.Scope == events.ScopeGlobal {
			fault.GFP, fault.GFPFlags = new(uint32(1314250)), []string{"GFP_HIGHUSER_MOVABLE", "__GFP_ZERO", "__GFP_COMP"}
		}
		out.Allocation = &fault
	}

	if a := out.Allocation; a != nil && a.Class == "anon_fault" && c.spec.AnyPage {
		ofFile := *a
		ofFile.Class = "page_cache"
		out.Allocation = &ofFile
	}

	out.Notes = slices.DeleteFunc(slices.Clone(inc.Notes), func(n string) bool { return strings.Contains(n, "was still exiting") })
	for i, n := range out.Notes {
		out.Notes[i] = maskText(n)
	}

	out.Summary = answer.Summarize(&out)

	return &out
}

func (c *Check) compareGolden(name, got string) {
	file := filepath.Join(goldenDir, name)

	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			c.errorf("%v", err)
		}

		return
	}

	want, err := os.ReadFile(file)
	if err != nil {
		c.errorf("%v: scripts/vm-test.sh --arch amd64 --kernel 6.12 --update writes it", err)
		return
	}

	if string(want) != got {
		c.errorf("test/vm/%s (-), got (+):\n%s", file, difference(string(want), got))
	}
}

// maxDifferences is how many lines of a golden file are printed: more of them would not help.
const maxDifferences = 20

func difference(want, got string) string {
	var b strings.Builder

	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	different := 0

	for i := range max(len(w), len(g)) {
		if i < len(w) && i < len(g) && w[i] == g[i] {
			continue
		}

		if different++; different > maxDifferences {
			continue
		}

		if i < len(w) {
			fmt.Fprintf(&b, "-%s\n", w[i])
		}

		if i < len(g) {
			fmt.Fprintf(&b, "+%s\n", g[i])
		}
	}

	if more := different - maxDifferences; more > 0 {
		fmt.Fprintf(&b, "and %d more lines\n", more)
	}

	return b.String()
}

var (
	// Limits and roles stay; identities, times and measurements do not.
	varyingJSON = regexp.MustCompile(`("(?:pid|tid|id|time|boot_id|node|start_time|usage_bytes|swap_usage_bytes|peak_bytes|points|text|value|\w*_after_ns|before_ns|after_ns|\w*_before_ns|` +
		`\w*rss_bytes|swap_bytes|pgtables_bytes|total_vm_bytes|(?:anon|file|shmem|slab|kernel_stack|active_file|inactive_file|unevictable)\w*_bytes|` +
		`protected_\w+_bytes|pagetables_bytes|sock_bytes|percpu_bytes|no_killable_task|waiting_for_victim|vmstat_oom_kill|kernel_kills|window_\w+|memory_events_oom_kill|` +
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
		{numbered, "${1}N"},
		{kworker, "kworker"},
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

		if strings.Contains(line, `"summary"`) {
			line = maskText(line)
		}

		line = kworker.ReplaceAllString(line, "kworker")
		b.WriteString(numbered.ReplaceAllString(line, "${1}N"))
	}

	return b.String()
}

var anyLimit = regexp.MustCompile(`("(?:limit_bytes|max_bytes)": )\d+`)

var (
	kworker = regexp.MustCompile(`kworker/[\w:+-]+`)
	// Which of several equal processes or kernel threads it is depends on timing.
	numbered = regexp.MustCompile(`\b(burst|member|kswapd)\d`)
)

func maskText(text string) string {
	for _, v := range varyingText {
		text = v.what.ReplaceAllString(text, v.with)
	}

	return text
}
