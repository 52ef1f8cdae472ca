// SPDX-License-Identifier: Apache-2.0

package record

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/testenv"

	"golang.org/x/sys/unix"
)

const (
	crashDir  = "OOMTRACE_TEST_CRASH_DIR"
	crashRun  = "OOMTRACE_TEST_CRASH_RUN"
	crashTiny = "OOMTRACE_TEST_CRASH_TINY"
)

// TestMain runs the test binary as a writer if a test started it as one.
func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDir); dir != "" {
		writeUntilKilled(dir)
	}

	os.Exit(m.Run())
}

// writeUntilKilled prints the id of each incident once it is recorded.
func writeUntilKilled(dir string) {
	opts := Options{BootID: testBoot, Node: "n", Warn: func(text string) { fmt.Fprintln(os.Stderr, text) }}
	if os.Getenv(crashTiny) != "" {
		opts.SegmentBytes = 1 << 10
	}

	w, err := Create(dir, opts)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}

	for i := 0; ; i++ {
		id := fmt.Sprintf("%s-%d", os.Getenv(crashRun), i)
		for kind, durable := range map[string]bool{events.KindIncident: true, events.KindIncidentUpdate: false} {
			inc := &events.Incident{
				Envelope: events.Envelope{V: 1, Kind: kind, Time: time.Now(), BootID: testBoot, Node: "n"},
				ID:       id, Notes: []string{strings.Repeat(kind+" ", 1+i%10)},
			}

			line, err := events.Marshal(inc)
			if err != nil {
				panic(err)
			}

			w.Append(line, durable)

			if durable {
				os.Stdout.WriteString(id + "\n")
			}
		}
	}
}

// Every incident that a killed writer printed is recorded once, in order, and nothing is
// damaged.
func TestAKilledWriterLosesNoIncident(t *testing.T) {
	testenv.Slow(t, "200 writers are killed")

	const kills, killsOfOne = 200, 20
	printed, torn, parts, both := 0, 0, 0, 0

	for from := 0; from < kills; from += killsOfOne {
		dir := filepath.Join(t.TempDir(), "recording")

		var want []string
		for run := from; run < from+killsOfOne; run++ {
			want = append(want, killedWriter(t, dir, run, run%3 != 0)...)
			if root, err := os.OpenRoot(dir); err == nil {
				if l, err := list(root); err == nil {
					parts += len(l.parts)
					for _, s := range l.segments {
						if s.plain && s.compressed {
							both++
						}
					}
				}

				root.Close()
			}

			if len(want) > 0 {
				torn += checkRecorded(t, dir, want)
			}

			if t.Failed() {
				return
			}
		}
		printed += len(want)
	}

	if printed == 0 {
		t.Error("got no incident printed by any writer")
	}

	t.Logf("%d kills, %d incidents printed, %d torn lines, %d interrupted compressions, %d originals not yet removed",
		kills, printed, torn, parts, both)
}

func killedWriter(t *testing.T, dir string, run int, tiny bool) (printed []string) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")

	cmd.Env = append(os.Environ(), crashDir+"="+dir, fmt.Sprintf("%s=%d", crashRun, run))
	if tiny {
		cmd.Env = append(cmd.Env, crashTiny+"=1")
	}
	var errs strings.Builder
	cmd.Stderr = &errs

	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}

	if err != nil {
		t.Fatal(err)
	}

	time.AfterFunc(time.Duration(rand.IntN(60_000))*time.Microsecond, func() { cmd.Process.Kill() })

	in := bufio.NewReader(out)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			break // an incomplete line is not printed
		}

		printed = append(printed, strings.TrimSuffix(line, "\n"))
	}

	cmd.Wait()

	if errs.Len() > 0 {
		t.Errorf("got errors of run %d: %s", run, errs.String())
	}

	return printed
}

// checkRecorded checks that the incidents are recorded in order, and returns the number
// of torn lines.
func checkRecorded(t *testing.T, dir string, want []string) int {
	t.Helper()

	r, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	got := make(map[string]bool)
	run, last := 0, -1

	for l, err := range r.Lines() {
		if err != nil {
			t.Fatal(err)
		}

		if l.Kind != events.KindIncident {
			continue
		}

		var ofRun, i int
		if _, err := fmt.Sscanf(l.ID, "%d-%d", &ofRun, &i); err != nil {
			t.Fatal(err)
		}

		if ofRun < run || ofRun == run && i != last+1 || ofRun > run && i != 0 {
			t.Errorf("got %s after %d-%d, want the next one", l.ID, run, last)
		}
		run, last = ofRun, i
		got[l.ID] = true
	}

	for _, id := range want {
		if !got[id] {
			t.Errorf("got no record of %s, which was printed", id)
		}
	}

	stats := r.Stats()
	if stats.Damaged+stats.CutOff+stats.Missing+stats.Earlier+stats.Refused != 0 {
		t.Errorf("got %+v, want torn lines at most", stats)
	}

	return stats.Torn
}

// The writer goes on when there is room again. It warns once, and the recording has the
// number of missing lines.
func TestAFullDiskLosesLinesAndCountsThem(t *testing.T) {
	testenv.Root(t)

	disk := t.TempDir()
	if err := unix.Mount("tmpfs", disk, "tmpfs", 0, "size=512k"); err != nil {
		t.Fatalf("mount a tmpfs: %v", err)
	}
	defer unix.Unmount(disk, 0)
	dir, ballast := filepath.Join(disk, "recording"), filepath.Join(disk, "ballast")
	var warnings []string

	warn := func(text string) { warnings = append(warnings, text) }

	w := create(t, dir, Options{BootID: testBoot, Node: "n", Warn: warn})
	defer w.Close()

	appended := 0
	add := func(n int) {
		for range n {
			appended++
			w.Append(incidentLine(t, fmt.Sprint(appended), appended), appended%2 == 0)
		}
	}
	add(100)
	fill(t, ballast)
	add(500)

	if len(warnings) != 1 || !strings.Contains(warnings[0], "no space left on device: the trace continues") ||
		!strings.Contains(warnings[0], dir) {
		t.Fatalf("got warnings %q, want one about the full disk", warnings)
	}

	got, stats := readAll(t, dir, Selection{})
	if len(got) < 100 || len(got) == appended || stats.Damaged+stats.Torn != 0 {
		t.Fatalf("got %d lines, %+v, want 100 or more, and fewer than %d", len(got), stats, appended)
	}

	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}

	add(100)

	if len(warnings) != 2 || !strings.Contains(warnings[1], "resumed") {
		t.Errorf("got warnings %q, want a second one when there is room again", warnings)
	}

	fill(t, ballast)
	add(500)
	os.Remove(ballast)
	add(100)

	if len(warnings) != 2 {
		t.Errorf("got warnings %q, want none about a second outage within a minute", warnings)
	}

	if err := w.Close(); err != nil {
		t.Error(err)
	}

	present, missing, gaps := countGaps(t, dir)
	if present+missing != appended || missing == 0 {
		t.Errorf("got %d recorded and %d missing lines, want %d together, and some missing", present, missing, appended)
	}

	t.Logf("%d recorded, %d missing in %d gaps", present, missing, gaps)
}

// countGaps counts the incidents of a recording and those that its lost lines count, and
// checks that they are numbered without another gap.
func countGaps(t *testing.T, dir string) (present, missing, gaps int) {
	t.Helper()

	r, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()

	last := 0

	for l, err := range r.Lines() {
		if err != nil {
			t.Fatal(err)
		}

		decoded, err := l.Decode()
		if err != nil {
			t.Fatal(err)
		}

		switch d := decoded.(type) {
		case *events.Incident:
			present++

			if n := d.Victims[0].PID; n != last+1 {
				t.Errorf("got incident %d after %d, want the next one", n, last)
			} else {
				last = n
			}
		case *events.Lost:
			if d.What != events.LostRecording || d.BootID != testBoot || d.Node != "n" || d.V != 1 {
				t.Errorf("got lost line %+v, want one of the recording with version, boot id and node", d)
			}
			missing, gaps, last = missing+int(d.Count), gaps+1, last+int(d.Count)
		}
	}

	return present, missing, gaps
}

// Lines that may be lost with the segment count as missing.
func TestASegmentWhoseSyncFailedIsFinished(t *testing.T) {
	dir := t.TempDir()
	var warnings []string
	w := create(t, dir, Options{SegmentBytes: 1000, Warn: func(text string) { warnings = append(warnings, text) }})
	w.Append(incidentLine(t, "on disk", 1), true)

	for round := range 2 {
		// Writing to a pipe works, syncing it fails.
		in, out, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()

		w.mu.Lock()
		w.open.file.Close()
		w.open.file = out
		w.mu.Unlock()
		w.Append(updateLine(t, "a", 1, "x"), false)

		if round == 0 {
			w.Append(incidentLine(t, "refused", 2), true)
		} else { // while a segment is finished
			w.Append(updateLine(t, "a", 1, strings.Repeat("y", 1000)), false)
		}

		w.Append(incidentLine(t, fmt.Sprint("next ", round), 3), true)
	}

	w.Close()
	var got []string

	lines, stats := readAll(t, dir, Selection{})
	for _, line := range lines {
		l, err := parse([]byte(line))
		if err != nil {
			t.Fatal(err)
		}

		decoded, err := l.Decode()
		if err != nil {
			t.Fatal(err)
		}

		if lost, ok := decoded.(*events.Lost); ok {
			got = append(got, fmt.Sprint("lost ", lost.Count))
		} else {
			got = append(got, l.Kind+" "+l.ID)
		}
	}

	want := "incident on disk, lost 2, incident next 0, lost 1, incident_update a, incident next 1"
	if text := strings.Join(got, ", "); text != want || stats.Torn+stats.Damaged != 0 {
		t.Errorf("got %s, %+v, want %s", text, stats, want)
	}

	if len(warnings) != 2 || !strings.Contains(warnings[0], "invalid argument") ||
		!strings.Contains(warnings[1], "dropped: 2") {
		t.Errorf("got warnings %q, want one about the sync, and one about 2 missing lines", warnings)
	}
}

func TestCloseOnAFullDiskReturnsTheNumberOfMissingLines(t *testing.T) {
	testenv.Root(t)

	disk := t.TempDir()
	if err := unix.Mount("tmpfs", disk, "tmpfs", 0, "size=256k"); err != nil {
		t.Fatalf("mount a tmpfs: %v", err)
	}
	defer unix.Unmount(disk, 0)
	w := create(t, filepath.Join(disk, "recording"), Options{})
	fill(t, filepath.Join(disk, "ballast"))

	for i := range 20 {
		w.Append(incidentLine(t, fmt.Sprint(i), i), true)
	}

	if err := w.Close(); err == nil || !strings.Contains(err.Error(), "20 lines were dropped") {
		t.Errorf("got error %v, want one about 20 lines", err)
	}
}

// fill fills a file system to the last byte.
func fill(t *testing.T, path string) {
	t.Helper()

	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()

	for _, size := range []int{4096, 1} {
		for block := make([]byte, size); ; {
			if _, err := file.Write(block); err != nil {
				break
			}
		}
	}
}
