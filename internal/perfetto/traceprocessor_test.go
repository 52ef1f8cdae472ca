// SPDX-License-Identifier: Apache-2.0

package perfetto

import (
	"cmp"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/testenv"
)

// query loads a trace into Perfetto's own trace processor, and returns the rows of each query.
func query(t *testing.T, trace []byte, queries ...string) [][][]any {
	t.Helper()
	testenv.Slow(t, "it compiles a trace processor of 13 MB for each trace")

	node, dir := testenv.Program(t, "node"), cmp.Or(os.Getenv("OOMTRACE_TRACE_PROCESSOR"), "../../.cache/trace-processor")
	if _, err := os.Stat(filepath.Join(dir, "trace_processor.wasm")); err != nil {
		testenv.Lacks(t, "this test needs Perfetto's trace processor: fetch it by scripts/trace-processor.sh")
	}

	file := filepath.Join(t.TempDir(), "trace")
	if err := os.WriteFile(file, trace, 0o600); err != nil {
		t.Fatal(err)
	}

	out, err := exec.Command(node, append([]string{"testdata/query.mjs", dir, file}, queries...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("node: %v: %s", err, out)
	}

	var results [][][]any

	for line := range strings.Lines(string(out)) {
		var rows [][]any
		if err := json.Unmarshal([]byte(line), &rows); err != nil {
			t.Fatalf("got line %q: %v", line, err)
		}

		results = append(results, rows)
	}

	if len(results) != len(queries) {
		t.Fatalf("got %d results, want %d: %s", len(results), len(queries), out)
	}

	return results
}

// complaints are what the trace processor did not understand.
const complaints = "SELECT name, value FROM stats WHERE severity IN ('error', 'data_loss') AND value > 0"

// rowsOf prints rows as JSON.
func rowsOf(t *testing.T, rows [][]any) []string {
	t.Helper()

	var all []string

	for _, row := range rows {
		text, err := json.Marshal(row)
		if err != nil {
			t.Fatal(err)
		}

		all = append(all, string(text))
	}

	return all
}

// TestTheTraceProcessorUnderstandsIt asks Perfetto's own trace processor what is in a trace.
func TestTheTraceProcessorUnderstandsIt(t *testing.T) {
	elsewhere := global()
	elsewhere.Node = "worker-4"
	later := podLimit("5f0c2c1e-1", 20e6) // begins before the memory of the first victim is free
	later.Before = nil
	lines := append([]events.Line{podLimit("5f0c2c1e-1", 0), later, elsewhere}, stalls()...)
	trace, _ := write(t, lines...)

	const (
		slicesOf = `SELECT p.name, t.name, parent.name, s.name, (s.ts - 1787234587000000000) / 1e6, s.dur / 1e6
			FROM slice s JOIN process_track t ON s.track_id = t.id JOIN process p USING (upid)
			LEFT JOIN track parent ON t.parent_id = parent.id ORDER BY s.ts, s.dur, s.name`
		countersOf = `SELECT t.name, t.unit, parent.name, (c.ts - 1787234587000000000) / 1e9, c.value
			FROM counter c JOIN counter_track t ON c.track_id = t.id JOIN track ON track.id = t.id JOIN track parent ON track.parent_id = parent.id
			WHERE t.name IN ('memory used', 'PSI some') ORDER BY t.name, c.ts`
		argsOf = `SELECT extract_arg(arg_set_id, 'debug.limit_bytes'), extract_arg(arg_set_id, 'debug.victims[0].comm'),
			extract_arg(arg_set_id, 'debug.causes[0].confidence'), extract_arg(arg_set_id, 'debug.advice'),
			extract_arg(arg_set_id, 'debug.notes[0]')
			FROM slice WHERE category = 'oom' ORDER BY ts LIMIT 1`
		clocks = "SELECT clock_name, ts, clock_value FROM clock_snapshot"
	)

	const boot = `"worker-3 (boot 5f0c2c1e…)"`
	const stalls, shared = `"stalls: memcg reclaim","pod shop/cart-0"`, `"stalls: memcg reclaim","cgroup /kubepods.slice"`
	names := []string{"complaints", "slices", "counters", "annotations", "clocks"}

	want := [][]string{
		nil,
		{
			`["worker-4 (boot 5f0c2c1e…)","kswapd of NUMA node 1",null,"awake 5.0 s, 12 wakeups",-60000,60000]`,
			`[` + boot + `,"early warnings","container app of pod shop/cart-0","reclaim makes no progress",-10000,10000]`,
			`[` + boot + `,` + stalls + `,"java[4711]: memcg reclaim",-800,700]`,
			`["worker-4 (boot 5f0c2c1e…)","the node",null,"killed ffmpeg[30811]",0,0]`,
			`[` + boot + `,"pod shop/cart-0",null,"killed java[4711]: likely the limit is the pod's",0,40]`,
			`[` + boot + `,` + stalls + `,"java[4711]: memcg reclaim",0,1000]`,
			`[` + boot + `,"pod shop/cart-0",null,"killed java[4711]: likely the limit is the pod's",20,40]`,
			`[` + boot + `,` + stalls + `,"java[4711]: memcg reclaim",2000,2000]`,
			`[` + boot + `,` + stalls + `,"java[4711]: memcg reclaim",3000,2000]`,
			`[` + boot + `,` + shared + `,"java[4711]: memcg reclaim",5000,1000]`,
			`[` + boot + `,"lost records",null,"42 × stall",7000,0]`,
		},
		{
			`["PSI some","%","pod shop/cart-0",-9.5,6.25]`, `["PSI some","%","pod shop/cart-0",-1.5,50]`,
			`["PSI some","%","pod shop/cart-0",-0.5,0]`,
			`["memory used","bytes","pod shop/cart-0",-9.5,419430400]`, `["memory used","bytes","pod shop/cart-0",-1.5,524288000]`,
			`["memory used","bytes","pod shop/cart-0",-0.5,534773760]`, `["memory used","bytes","pod shop/cart-0",0,536870912]`,
			`["memory used","bytes","pod shop/cart-0",0.02,536870912]`,
		},
		{`[536870912,"java","likely","Raise the limit of the pod.","a note"]`},
		{`["REALTIME",0,0]`},
	}

	for i, rows := range query(t, trace, complaints, slicesOf, countersOf, argsOf, clocks) {
		if got := rowsOf(t, rows); !slices.Equal(got, want[i]) {
			t.Errorf("%s: got\n%s\nwant\n%s", names[i], strings.Join(got, "\n"), strings.Join(want[i], "\n"))
		}
	}
}

// Times without a wall clock are on another clock, and hostile values make no error.
func TestTheTraceProcessorTakesAnyTrace(t *testing.T) {
	for name, test := range map[string]struct {
		lines []events.Line
		want  string // of how many slices, the first, and the clock
	}{
		"uptime":  {[]events.Line{ofLog(new(uint64(31669e6)))}, `[1,31669000000,"MONOTONIC"]`},
		"hostile": {hostile(), `[11,0,"REALTIME"]`},
	} {
		t.Run(name, func(t *testing.T) {
			trace, _ := write(t, test.lines...)
			results := query(t, trace, complaints, "SELECT count(*), min(ts), (SELECT clock_name FROM clock_snapshot) FROM slice")

			if got := rowsOf(t, results[0]); len(got) > 0 {
				t.Errorf("got %q, want no complaint", got)
			}

			if got := rowsOf(t, results[1]); !slices.Equal(got, []string{test.want}) {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}
