// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/test/internal/lab"
	"github.com/oomtrace/oomtrace/test/internal/trace"
)

// What belongs to no case: whether a tracer is offered, how it starts and ends.

// notOffered is in the error of a tracer that a kernel does not offer, behind the flag.
const notOffered = "this kernel "

// checkTracer checks the start and the end of a tier's tracer.
func (r *report) checkTracer(k Kernel, tier string, result *Result) {
	t, ok := result.Tracers[tier]

	switch offered := tier != k.Without; {
	case !ok:
		r.errorf("%s: oomtrace was not started", tier)
		return
	case t.Error != "" && offered:
		r.errorf("%s: %s", tier, t.Error)
		return
	case t.Error != "" && !strings.Contains(t.Error, "--tier "+tier+": "+notOffered):
		r.errorf("%s: got %s, want an error that this kernel does not offer it", tier, t.Error)
		return
	case t.Error != "":
		return
	case !offered:
		r.errorf("%s: it runs, but this kernel is listed as not offering it", tier)
	}

	if t.Failed != "" {
		r.errorf("%s: %s", tier, t.Failed)
	}

	r.checkStatus(k, tier, t, result)
}

// checkStatus compares the counts in the last status line with the lines.
func (r *report) checkStatus(k Kernel, tier string, t Tracer, result *Result) {
	var end *events.Status

	for _, line := range slices.Concat(t.Start, t.End) {
		var s events.Status
		if err := json.Unmarshal([]byte(line), &s); err != nil {
			r.errorf("%s: not JSON: %s", tier, line)
			continue
		}

		if s.Kind == events.KindStatus && s.Phase == "end" {
			end = &s
		}

		for _, hook := range s.Hooks {
			if strings.Contains(hook.Why, "verifier") {
				r.errorf("%s: hook %s: %s", tier, hook.Name, hook.Why)
			}
		}
	}

	if end == nil || end.Lost == nil || end.Incidents == nil {
		r.errorf("%s: got no status line with its counts at the end", tier)
		return
	}

	written := uint64(0)

	for _, run := range result.Runs {
		for _, line := range run.Lines[tier] {
			if trace.IsIncident(line) {
				written++
			}
		}
	}

	if lost, _ := losses(result, tier); *end.Lost != lost {
		r.errorf("%s: got a count of %d lost records, want the %d that were reported", tier, *end.Lost, lost)
	}

	if *end.Incidents != written {
		r.errorf("%s: got a count of %d incidents, want the %d that were written", tier, *end.Incidents, written)
	}
}

// losses counts the lost records that were reported, explained or not: the tracer counts all of
// them. It also returns the programs of which the kernel skipped runs.
// A program that is preempted, as many can be from 6.18 on, is not run for others on that
// CPU. What it would have recorded must be missing as unknown, which each case checks.
// The kill itself is under the kernel's own locks, and cannot be skipped so.
func losses(result *Result, tier string) (count uint64, programs []string) {
	lines := slices.Concat(result.Tracers[tier].Start, result.Tracers[tier].End)
	for _, run := range result.Runs {
		lines = append(lines, run.Lines[tier]...)
	}

	for _, line := range lines {
		l, skipped := skippedRun(line)
		if l.Kind != events.KindLost {
			continue
		}

		count += l.Count

		if skipped {
			programs = append(programs, strings.TrimPrefix(l.What, missedRun))
		}
	}

	return count, programs
}

// explainedLoss parses a line about a program that may be skipped, about the start of a stall, about
// what a victim ran, or about records of the noise that its tenant has no room for. The start of a
// stall takes memory of the kernel (task storage), which is not to be had while swapping to memory
// uses the reserves; what cases want of stalls is compared with the kernel's own counts. While a
// node has no memory, the files of a process may take longer to read than anything waits for them.
func explainedLoss(k Kernel, line string) (l events.Lost, ok bool) {
	if l, ok = skippedRun(line); ok || l.Kind != events.KindLost {
		return l, ok
	}

	if l.What == "start of a stall" || l.What == events.LostProgram && l.Count <= maxHanging {
		return l, true
	}

	if !k.Noise {
		return l, false
	}

	return l, l.What == "cgroup" || l.What == "user_kill" || strings.Contains(l.What, "throttled")
}

const missedRun = "missed run of "

// maxHanging is of how many victims at a time the program may not be read.
const maxHanging = 3

// skippedRun parses a line about a program that may be skipped.
func skippedRun(line string) (l events.Lost, ok bool) {
	if err := json.Unmarshal([]byte(line), &l); err != nil || l.Kind != events.KindLost {
		return l, false
	}

	program, missed := strings.CutPrefix(l.What, missedRun)
	if strings.HasPrefix(program, "kprobe_") || strings.HasPrefix(program, "kretprobe_") {
		return l, missed
	}

	essential := []string{"signal_generate", "mark_victim", "out_of_memory", "oom_kill_process"}

	return l, missed && !slices.ContainsFunc(essential, func(s string) bool { return strings.HasSuffix(program, s) })
}

// readTrace reads all that one tracer reported in a boot: updates may come while later
// cases run. Each line must be as the schema has it. A loss within a case is a problem of
// that case, which may be tried again; one while the tracers start or stop is one of the boot.
func (r *report) readTrace(k Kernel, tier string, result *Result) *trace.Trace {
	t := new(trace.Trace)

	var ofCases []string
	for _, run := range result.Runs {
		ofCases = append(ofCases, run.Lines[tier]...)
	}

	start := result.Tracers[tier].Start
	for i, line := range slices.Concat(start, ofCases, result.Tracers[tier].End) {
		inCase := i >= len(start) && i < len(start)+len(ofCases)

		if err := validate(line); err != nil {
			r.errorf("%s: against the schema: %v: %s", tier, err, line)
			continue
		}

		l, explained := explainedLoss(k, line)
		if explained || l.Kind == events.KindLost && inCase {
			continue
		}

		t.Add(line)
	}

	for _, problem := range t.Problems {
		r.errorf("%s: %s", tier, problem)
	}

	for _, id := range t.WithoutFinal() {
		r.errorf("%s: got no final line of incident %s, want one", tier, id)
	}

	return t
}

var readSchema = sync.OnceValues(func() (*jsonschema.Schema, error) {
	schema, err := jsonschema.NewCompiler().Compile(filepath.Join(lab.Root, "docs/events.schema.json"))
	if err != nil {
		return nil, fmt.Errorf("read the schema: %w", err)
	}

	return schema, nil
})

func validate(line string) error {
	schema, err := readSchema()
	if err != nil {
		return err
	}

	value, err := jsonschema.UnmarshalJSON(strings.NewReader(line))
	if err != nil {
		return err
	}

	return schema.Validate(value)
}

func TestSkippedRun(t *testing.T) {
	for _, test := range []struct {
		line string
		want bool
	}{
		{`{"kind":"lost","what":"missed run of kprobe_oom_kill_process","count":1}`, true},
		{`{"kind":"lost","what":"missed run of kretprobe_out_of_memory","count":1}`, true},
		{`{"kind":"lost","what":"missed run of fexit_exit_mmap","count":1}`, true},
		{`{"kind":"lost","what":"missed run of fentry_oom_kill_process","count":1}`, false},
		{`{"kind":"lost","what":"missed run of fexit_out_of_memory","count":1}`, false},
		{`{"kind":"lost","what":"missed run of mark_victim","count":1}`, false},
		{`{"kind":"lost","what":"missed run of signal_generate","count":1}`, false},
		{`{"kind":"lost","what":"kprobe_oom_kill_process","count":1}`, false},
		{`{"kind":"lost","what":"victim","count":1}`, false},
		{`{"kind":"status","what":"missed run of fexit_exit_mmap"}`, false},
		{`{"kind":"lost",`, false},
	} {
		if l, got := skippedRun(test.line); got != test.want || got && l.Count != 1 {
			t.Errorf("line %s: got %v, count %d; want %v", test.line, got, l.Count, test.want)
		}
	}
}

func TestExplainedLossOfNoise(t *testing.T) {
	for what, want := range map[string]bool{
		"cgroup": true, "user_kill": true, "sigkill": false, "mark_victim": false, "decision": false, "ladder": false, "exit": false,
	} {
		line := fmt.Sprintf(`{"kind":"lost","what":%q,"count":2}`, what)
		if l, got := explainedLoss(Kernel{Noise: true}, line); got != want || l.Count != 2 {
			t.Errorf("lost %s beside noise: got explained %v, count %d; want %v, 2", what, got, l.Count, want)
		}

		if _, got := explainedLoss(Kernel{}, line); got {
			t.Errorf("lost %s in silence: got it as explained, want it not", what)
		}
	}

	if _, got := explainedLoss(Kernel{}, `{"kind":"lost","what":"program","count":4}`); got {
		t.Error("lost 4 programs: got it as explained, want it not: one read hangs, or few")
	}

	for _, what := range []string{"start of a stall", events.LostProgram} {
		if _, got := explainedLoss(Kernel{}, fmt.Sprintf(`{"kind":"lost","what":%q,"count":2}`, what)); !got {
			t.Errorf("lost %s: got it as not explained, want it explained by a lack of memory", what)
		}
	}
}

func TestLossesBelongToTheirCase(t *testing.T) {
	lostLine := func(what string) string {
		return fmt.Sprintf(`{"v":1,"kind":"lost","time":"2026-01-01T00:00:00Z","boot_id":"b","node":"n","what":%q,"count":1}`, what)
	}
	skipped, lost, ofCase := lostLine("missed run of kprobe_oom_kill_process"), lostLine("victim"), lostLine("charge")
	run := &Run{Lines: map[string][]string{tierKprobe: {skipped, ofCase}}}
	result := &Result{Tracers: map[string]Tracer{tierKprobe: {Start: []string{skipped}, End: []string{skipped, lost}}}, Runs: []*Run{run}}

	r := new(report)
	r.readTrace(Kernel{}, tierKprobe, result)

	if len(r.general) != 1 || !strings.Contains(r.general[0], `"what":"victim"`) {
		t.Errorf("got problems %q, want the lost victim only", r.general)
	}

	c := &Check{Run: run, Tier: tierKprobe}
	c.takeLines(new(trace.Trace))

	if len(c.problems) != 1 || !strings.Contains(c.problems[0], `"what":"charge"`) {
		t.Errorf("got problems %q of the case, want its lost charge only", c.problems)
	}

	if count, programs := losses(result, tierKprobe); count != 5 || len(programs) != 3 {
		t.Errorf("got %d losses, skipped runs of %q, want 5 and three", count, programs)
	}
}
