// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/host"
	"github.com/oomtrace/oomtrace/internal/record"
)

// recorded returns the lines of a recording.
func recorded(t *testing.T, dir string) (map[string]bool, record.Stats) {
	t.Helper()

	r, err := record.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	lines := make(map[string]bool)

	for l, err := range r.Lines() {
		if err != nil {
			t.Fatal(err)
		}

		if lines[string(l.Raw)] && l.IsIncident() {
			t.Errorf("got %s twice in the recording, want it once", l.Raw)
		}
		lines[string(l.Raw)] = true
	}

	return lines, r.Stats()
}

// killStream triggers one OOM kill after the other in a cgroup, until the test ends.
func killStream(t *testing.T) {
	t.Helper()

	scratch, err := host.NewScratch(fmt.Sprintf("oomtrace-test-stream-%d", os.Getpid()), 4<<20)
	if err != nil {
		t.Fatal(err)
	}
	stop, stopped := make(chan struct{}), make(chan struct{})

	t.Cleanup(func() {
		close(stop)
		<-stopped
		scratch.Close()
	})

	go func() {
		defer close(stopped)

		for {
			select {
			case <-stop:
				return
			default:
			}
			child := oomtrace("allocate", "--bytes=33554432")

			in, err := child.StdinPipe()
			if err == nil {
				err = child.Start()
			}

			if err == nil {
				err = scratch.Add(child.Process.Pid)
			}

			if err != nil {
				t.Errorf("start a process to be killed: %v", err)
				return
			}

			in.Write([]byte{1})
			child.Wait()
		}
	}()
}

// A tracer is killed at random moments while OOM kills happen.
func TestEveryPrintedIncidentSurvivesAKilledTracer(t *testing.T) {
	rootAndTime(t)
	kills := 40

	if text := os.Getenv("OOMTRACE_TEST_KILLS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			t.Fatalf("got OOMTRACE_TEST_KILLS=%s, want a number of kills", text)
		}
		kills = n
	}

	killStream(t)
	dir := filepath.Join(t.TempDir(), "recording")
	incidents, updates := 0, 0
	printed := make(map[string]bool)

	for run := range kills {
		cmd := oomtrace("trace", "-o", "json", "--record", dir, "--segment-size", "64KiB")
		cmd.Stderr = os.Stderr

		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}

		if err != nil {
			t.Fatal(err)
		}
		in := bufio.NewReader(out)
		// Some tracers are killed before they report anything, most while they do.
		kill := time.AfterFunc(30*time.Second, func() { cmd.Process.Kill() })

		after := events.KindIncident
		if run%5 == 0 {
			after = events.KindStatus
		}

		for armed := false; ; {
			line, err := in.ReadString('\n')
			if err != nil {
				break // a line without a newline was not printed
			}

			var head events.Envelope
			if err := json.Unmarshal([]byte(line), &head); err != nil {
				t.Fatalf("run %d: %v: %s", run, err, line)
			}

			if !armed && head.Kind == after {
				armed = true

				kill.Reset(time.Duration(rand.IntN(400_000)) * time.Microsecond)
			}
			printed[strings.TrimSuffix(line, "\n")] = true

			switch head.Kind {
			case events.KindIncident:
				incidents++
			case events.KindIncidentUpdate:
				updates++
			}
		}

		if err := cmd.Wait(); !killedBySIGKILL(err) {
			t.Fatalf("run %d: got %v, want SIGKILL", run, err)
		}

		lines, stats := recorded(t, dir)
		for line := range printed {
			if !lines[line] {
				t.Errorf("run %d: got no recorded line %s, which was printed", run, line)
			}
		}

		if stats.Damaged+stats.CutOff+stats.Missing+stats.Earlier != 0 {
			t.Errorf("run %d: got %+v, want nothing damaged or missing", run, stats)
		}

		if t.Failed() {
			return
		}
	}
	_, stats := recorded(t, dir)
	t.Logf("%d kills, %d incidents and %d updates printed; %d segments, %d lines, %d torn",
		kills, incidents, updates, stats.Segments, stats.Lines, stats.Torn)

	if incidents < kills/2 {
		t.Errorf("got %d incidents in %d traces, want at least half as many", incidents, kills)
	}
}

// withoutHeadlines sorts the lines of text, without headlines: a live trace prints them before
// their incidents, and other lines while an incident waits for its causes.
func withoutHeadlines(text string) string {
	lines := slices.DeleteFunc(strings.SplitAfter(text, "\n"), func(line string) bool {
		return strings.Contains(line, "OOM KILL")
	})
	slices.Sort(lines)

	return strings.Join(lines, "")
}

func TestReplayPrintsWhatWasPrintedLive(t *testing.T) {
	for _, format := range []string{"text", "table", "json"} {
		t.Run(format, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "recording")
			cmd, lines := running(t, "-o", format, "--stalls", "--record", dir)
			oom(t, "oomtrace-test-record-"+format)
			time.Sleep(1500 * time.Millisecond)
			cmd.Process.Signal(syscall.SIGTERM)

			var live strings.Builder
			for lines.Scan() {
				live.WriteString(lines.Text() + "\n")
			}

			if err := cmd.Wait(); err != nil {
				t.Error(err)
			}

			replay := oomtrace("replay", "-o", format, dir)
			var errs bytes.Buffer
			replay.Stderr = &errs

			again, err := replay.Output()
			if err != nil || strings.Contains(errs.String(), "oomtrace: ") { // a table has its status there
				t.Errorf("replay: got error %v and %q, want no error and no warning", err, errs.String())
			}

			got, want := string(again), live.String()
			if format == "text" {
				got, want = withoutHeadlines(got), withoutHeadlines(want)
			}

			if got != want || want == "" {
				t.Errorf("got\n%s\nwant, as it was live,\n%s", again, live.String())
			}
		})
	}
}

func TestRecordPrintsNothingAndCanBeReplayed(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "recording")
	cmd, lines := running(t, "record", dir)
	pid := oom(t, "oomtrace-test-record")

	second, err := oomtrace("record", dir).CombinedOutput()
	if err == nil || !strings.Contains(string(second), fmt.Sprint(cmd.Process.Pid)) {
		t.Errorf("second writer: got error %v and %s, want one with the PID of the first", err, second)
	}

	time.Sleep(300 * time.Millisecond)
	cmd.Process.Signal(os.Interrupt)

	for lines.Scan() {
		t.Errorf("got %q on stdout, want nothing", lines.Text())
	}

	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}

	for args, want := range map[string]bool{
		"": true, "--since -1h": true, "--pid " + fmt.Sprint(pid): true, "--pid 1": false,
	} {
		out, err := oomtrace(append([]string{"replay", dir}, strings.Fields(args)...)...).Output()
		if got := strings.Contains(string(out), fmt.Sprintf("[%d]", pid)); err != nil || got != want {
			t.Errorf("%q: got shown %v and error %v, want shown %v: %s", args, got, err, want, out)
		}
	}
}
