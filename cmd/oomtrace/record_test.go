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
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/host"
	"github.com/oomtrace/oomtrace/internal/record"
	"github.com/oomtrace/oomtrace/internal/testenv"
)

// recorded gives the lines of a recording.
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
			t.Errorf("recorded twice: %s", l.Raw)
		}
		lines[string(l.Raw)] = true
	}

	return lines, r.Stats()
}

// killStream makes processes die by the limit of a cgroup, one after the other,
// until the test is over.
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
			child := oomtrace("hog", "--bytes=33554432")

			in, err := child.StdinPipe()
			if err == nil {
				err = child.Start()
			}

			if err == nil {
				err = scratch.Add(child.Process.Pid)
			}

			if err != nil {
				t.Errorf("a process to be killed: %v", err)
				return
			}

			in.Write([]byte{1})
			child.Wait()
		}
	}()
}

// TestRecordKilled: a tracer that records is killed at any moment while OOM kills
// happen. Every incident that it printed is in the recording.
func TestRecordKilled(t *testing.T) {
	testenv.Root(t)
	kills := 40

	if text := os.Getenv("OOMTRACE_TEST_KILLS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			t.Fatalf("OOMTRACE_TEST_KILLS=%s: a number of kills", text)
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
		// Some die before the first kill that they see, most while they see some.
		kill := time.AfterFunc(30*time.Second, func() { cmd.Process.Kill() })

		after := events.KindIncident
		if run%5 == 0 {
			after = events.KindStatus
		}

		for armed := false; ; {
			line, err := in.ReadString('\n')
			if err != nil {
				break // without a newline it was not printed
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
			t.Fatalf("run %d ended by itself: %v", run, err)
		}

		lines, stats := recorded(t, dir)
		for line := range printed {
			if !lines[line] {
				t.Errorf("run %d: printed, and not recorded: %s", run, line)
			}
		}

		if stats.Damaged+stats.CutOff+stats.Missing+stats.Earlier != 0 {
			t.Errorf("run %d: %+v", run, stats)
		}

		if t.Failed() {
			return
		}
	}
	_, stats := recorded(t, dir)
	t.Logf("%d kills, %d incidents and %d updates printed; %d segments, %d lines, %d torn", kills, incidents, updates, stats.Segments, stats.Lines, stats.Torn)

	if incidents < kills/2 {
		t.Errorf("only %d incidents in %d traces: too few to tell", incidents, kills)
	}
}

// apart finds a headline that does not stand above its block.
var apart = regexp.MustCompile(`(?m)^\S+ OOM KILL .*\n(\S)`)

// TestReplayShowsWhatWasLive: text, table and JSON of a real OOM come out of its
// recording as they were. Only a headline that came before other lines, and that
// the block repeated, is not told twice.
func TestReplayShowsWhatWasLive(t *testing.T) {
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

			again, err := oomtrace("replay", "-o", format, dir).Output()
			if err != nil || stderr(err) != "" {
				t.Errorf("%v: %s", err, stderr(err))
			}

			want := live.String()
			for apart.MatchString(want) {
				want = apart.ReplaceAllString(want, "$1")
			}

			if string(again) != want || want == "" {
				t.Errorf("live:\n%s\nreplay:\n%s", live.String(), again)
			}
		})
	}
}

func TestRecord(t *testing.T) {
	testenv.Root(t)
	dir := filepath.Join(t.TempDir(), "recording")
	ready := filepath.Join(t.TempDir(), "ready")
	cmd := oomtrace("record", dir, "--ready-file", ready)
	var stdout bytes.Buffer

	cmd.Stdout, cmd.Stderr = &stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()

	for range 500 {
		if _, err := os.Stat(ready); err == nil {
			break
		}

		time.Sleep(20 * time.Millisecond)
	}
	pid := oom(t, "oomtrace-test-record")

	second, err := oomtrace("record", dir).CombinedOutput()
	if err == nil || !strings.Contains(string(second), fmt.Sprintf("already has a writer, pid %d", cmd.Process.Pid)) {
		t.Errorf("a second writer: %v, %s", err, second)
	}

	time.Sleep(300 * time.Millisecond)
	cmd.Process.Signal(os.Interrupt)

	if err := cmd.Wait(); err != nil || stdout.Len() > 0 {
		t.Errorf("%v, stdout %q", err, stdout.String())
	}

	for args, want := range map[string]bool{"": true, "--since 1h": true, "--pid " + fmt.Sprint(pid): true, "--pid 1": false} {
		args = strings.Replace(args, "--since 1h", "--since -1h", 1)

		out, err := oomtrace(append([]string{"replay", dir}, strings.Fields(args)...)...).Output()
		if got := strings.Contains(string(out), fmt.Sprintf("[%d]", pid)); err != nil || got != want {
			t.Errorf("%q: shown: %v, %v: %s", args, got, err, out)
		}
	}
}
