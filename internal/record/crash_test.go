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

// TestMain lets the test binary be a writer that is killed.
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

// TestKilled: a writer is killed at any moment. What it printed is recorded, once
// and in order, and nothing else is damaged.
func TestKilled(t *testing.T) {
	const kills, killsOfOne = 200, 20
	printed, torn, halves, boths := 0, 0, 0, 0

	for from := 0; from < kills; from += killsOfOne {
		dir := filepath.Join(t.TempDir(), "recording")

		var want []string
		for run := from; run < from+killsOfOne; run++ {
			want = append(want, killedWriter(t, dir, run, run%3 != 0)...)
			if root, err := os.OpenRoot(dir); err == nil {
				if l, err := list(root); err == nil {
					halves += len(l.parts)
					for _, s := range l.segments {
						if s.plain && s.packed {
							boths++
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
		t.Error("no writer came to print anything")
	}

	t.Logf("%d kills, %d incidents printed, torn lines met %d times, %d compressions cut off, %d originals not yet removed", kills, printed, torn, halves, boths)
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
			break // without a newline it was not printed
		}

		printed = append(printed, strings.TrimSuffix(line, "\n"))
	}

	cmd.Wait()

	if errs.Len() > 0 {
		t.Errorf("run %d: %s", run, errs.String())
	}

	return printed
}

// checkRecorded gives the number of torn lines.
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
			t.Errorf("%s after %d-%d", l.ID, run, last)
		}
		run, last = ofRun, i
		got[l.ID] = true
	}

	for _, id := range want {
		if !got[id] {
			t.Errorf("%s was printed, and is not recorded", id)
		}
	}

	stats := r.Stats()
	if stats.Damaged+stats.CutOff+stats.Missing+stats.Earlier+stats.Refused != 0 {
		t.Errorf("%+v", stats)
	}

	return stats.Torn
}

// TestFullDisk: the trace goes on, what is missing is counted, told once, and said
// in the recording when there is room again.
func TestFullDisk(t *testing.T) {
	testenv.Root(t)

	disk := t.TempDir()
	if err := unix.Mount("tmpfs", disk, "tmpfs", 0, "size=512k"); err != nil {
		t.Fatalf("mounting a tmpfs as root: %v", err)
	}
	defer unix.Unmount(disk, 0)
	dir, ballast := filepath.Join(disk, "recording"), filepath.Join(disk, "ballast")
	var told []string

	w := create(t, dir, Options{BootID: testBoot, Node: "n", Warn: func(text string) { told = append(told, text) }})
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

	if len(told) != 1 || !strings.Contains(told[0], "no space left on device: the trace goes on") || !strings.Contains(told[0], dir) {
		t.Fatalf("%q", told)
	}

	got, stats := readAll(t, dir, Selection{})
	if len(got) < 100 || len(got) == appended || stats.Damaged+stats.Torn != 0 {
		t.Fatalf("%d lines of %d, %+v", len(got), appended, stats)
	}

	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}

	add(100)

	if len(told) != 2 || !strings.Contains(told[1], "goes on") {
		t.Errorf("%q", told)
	}

	fill(t, ballast)
	add(500)
	os.Remove(ballast)
	add(100)

	if len(told) != 2 { // the second time within a minute: only counted
		t.Errorf("%q", told)
	}

	if err := w.Close(); err != nil {
		t.Error(err)
	}

	r, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	present, missing, gaps, last := 0, 0, 0, 0

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
				t.Errorf("%d after %d", n, last)
			} else {
				last = n
			}
		case *events.Lost:
			if d.What != LostRecording || d.BootID != testBoot || d.Node != "n" || d.V != 1 {
				t.Errorf("%+v", d)
			}
			missing, gaps, last = missing+int(d.Count), gaps+1, last+int(d.Count)
		}
	}

	if present+missing != appended || missing == 0 {
		t.Errorf("%d recorded and %d missing of %d", present, missing, appended)
	}

	t.Logf("%d recorded, %d missing in %d gaps", present, missing, gaps)
}

// TestSyncRefused: a segment that the disk refused is not written to any more, and
// what may be lost with it counts as missing.
func TestSyncRefused(t *testing.T) {
	dir := t.TempDir()
	var told []string
	w := create(t, dir, Options{SegmentBytes: 1000, Warn: func(text string) { told = append(told, text) }})
	w.Append(incidentLine(t, "on disk", 1), true)

	for round := range 2 {
		// A pipe takes lines, and cannot be synced.
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
		t.Errorf("%s, %+v", text, stats)
	}

	if len(told) != 2 || !strings.Contains(told[0], "invalid argument") || !strings.Contains(told[1], "missing: 2") {
		t.Errorf("%q", told)
	}
}

// TestFullToTheEnd: who closes on a full disk is told what is missing.
func TestFullToTheEnd(t *testing.T) {
	testenv.Root(t)

	disk := t.TempDir()
	if err := unix.Mount("tmpfs", disk, "tmpfs", 0, "size=256k"); err != nil {
		t.Fatalf("mounting a tmpfs as root: %v", err)
	}
	defer unix.Unmount(disk, 0)
	w := create(t, filepath.Join(disk, "recording"), Options{})
	fill(t, filepath.Join(disk, "ballast"))

	for i := range 20 {
		w.Append(incidentLine(t, fmt.Sprint(i), i), true)
	}

	if err := w.Close(); err == nil || !strings.Contains(err.Error(), "20 lines were not recorded") {
		t.Errorf("%v", err)
	}
}

// fill leaves no byte of a file system free.
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
