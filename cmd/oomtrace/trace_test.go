// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
)

func TestTracePrintsNoIncidentThatDoesNotMatch(t *testing.T) {
	cmd, lines := running(t, "-o", "json", "--cgroup", "/", "--comm", "no such name")
	oom(t, "oomtrace-test-filtered")
	time.Sleep(300 * time.Millisecond)
	cmd.Process.Signal(os.Interrupt)

	var last events.Status

	for lines.Scan() {
		if !strings.Contains(lines.Text(), `"kind":"status"`) {
			t.Errorf("got %s, want only status lines", lines.Text())
		}

		if err := json.Unmarshal(lines.Bytes(), &last); err != nil {
			t.Fatal(err)
		}
	}

	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}

	if last.Phase != events.PhaseEnd || last.Incidents == nil || *last.Incidents == 0 {
		t.Errorf("got the last line %+v, want the end of the trace with the incident that was not printed", last)
	}
}

func TestTraceReportsAKillOnce(t *testing.T) {
	cmd, lines := running(t, "-o", "json")
	pid := oom(t, "oomtrace-test")

	time.Sleep(300 * time.Millisecond)
	cmd.Process.Signal(syscall.SIGTERM)
	var incidents int
	var end *events.Status

	for lines.Scan() {
		var head events.Envelope
		if err := json.Unmarshal(lines.Bytes(), &head); err != nil {
			t.Fatalf("%v: %s", err, lines.Text())
		}

		switch head.Kind {
		case events.KindIncident:
			var inc events.Incident
			if err := json.Unmarshal(lines.Bytes(), &inc); err != nil {
				t.Fatalf("%v: %s", err, lines.Text())
			}

			if slices.ContainsFunc(inc.Victims, func(v events.Victim) bool { return v.PID == pid }) {
				incidents++
			}
		case events.KindStatus:
			end = &events.Status{}
			if err := json.Unmarshal(lines.Bytes(), end); err != nil {
				t.Fatal(err)
			}
		}
	}

	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}

	if incidents != 1 || end == nil || end.Phase != "end" || *end.Lost != 0 {
		t.Errorf("got %d incidents and the end %+v, want 1 incident and nothing lost", incidents, end)
	}
}

func TestErrorsOfTheEnvironmentAreReported(t *testing.T) {
	rootAndTime(t)
	t.Run("a full disk", func(t *testing.T) {
		full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer full.Close()
		cmd := oomtrace("-o", "json", "--duration", "20s")
		cmd.Stdout = full
		var errs bytes.Buffer
		cmd.Stderr = &errs

		err = cmd.Run()
		if cmd.ProcessState.ExitCode() != exitError || !strings.Contains(errs.String(), "no space left on device") {
			t.Errorf("got error %v and %s, want status %d and no space left", err, errs.String(), exitError)
		}
	})
	t.Run("a closed pipe", func(t *testing.T) {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}

		r.Close()
		cmd := oomtrace("-o", "json")
		cmd.Stdout = w
		var errs bytes.Buffer
		cmd.Stderr = &errs

		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}

		w.Close()

		kill := time.AfterFunc(20*time.Second, func() { cmd.Process.Kill() })
		defer kill.Stop()

		if err := cmd.Wait(); err != nil || strings.Contains(errs.String(), "pipe") {
			t.Errorf("got error %v and %s, want a trace that ends by itself and without an error", err, errs.String())
		}
	})
	t.Run("not root", func(t *testing.T) {
		cmd := oomtrace("--duration", "1s")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		// The path of the test binary may not be accessible: /proc/self/exe needs none.
		var errs bytes.Buffer
		cmd.Stderr = &errs

		err := cmd.Run()

		const want = "missing CAP_BPF and CAP_PERFMON: run as root"
		if cmd.ProcessState.ExitCode() != exitError || !strings.Contains(errs.String(), want) {
			t.Errorf("got error %v and %s, want %q", err, errs.String(), want)
		}
	})
	t.Run("not root, and files", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.Chmod(dir, 0o700); err != nil {
			t.Fatal(err)
		}

		log := filepath.Join(dir, "log")
		if err := os.WriteFile(log, nil, 0o600); err != nil {
			t.Fatal(err)
		}

		open := t.TempDir() // of which others can list the files, but not read them
		if err := os.WriteFile(filepath.Join(open, "00000001-20260820T140307Z-boot.jsonl"), nil, 0o600); err != nil {
			t.Fatal(err)
		}

		for _, p := range []string{open, filepath.Dir(open)} { // both belong to this test
			if err := os.Chmod(p, 0o755); err != nil {
				t.Fatal(err)
			}
		}

		for _, args := range []string{
			"report " + dir, "report " + log, "report " + open, "report --kernel-log " + log,
			"replay " + dir, "demo", "record " + filepath.Join(dir, "x"),
		} {
			cmd := oomtrace(strings.Fields(args)...)
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}

			out, err := cmd.CombinedOutput()
			got := string(out)

			advice := strings.Contains(got, "permission denied: run") && strings.Contains(got, "as root")
			if cmd.ProcessState.ExitCode() != exitError || !advice {
				t.Errorf("%s: got error %v and %s, want the advice to run as root", args, err, got)
			}
		}
	})
	t.Run("an attach mode that is not available", func(t *testing.T) {
		out, err := oomtrace("doctor", "--wide").CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}

		if strings.Contains(string(out), "oom_kill_process: fentry") {
			t.Skip("this kernel supports the best attach mode")
		}

		out, err = oomtrace("--tier", "fentry", "--duration", "1s").CombinedOutput()
		if err == nil || !strings.Contains(string(out), "--tier fentry: this kernel ") {
			t.Errorf("got error %v and %s, want that fentry is not available", err, out)
		}
	})
	t.Run("interrupted twice", func(t *testing.T) {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()

		ready := filepath.Join(t.TempDir(), "ready")
		cmd := oomtrace("-o", "json", "--ready-file", ready)
		var errs bytes.Buffer
		cmd.Stdout, cmd.Stderr = w, &errs

		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}

		awaitReady(t, ready)
		// A full pipe keeps the first interrupt from ending the trace: it has a last line to write.
		fd := int(w.Fd())
		syscall.SetNonblock(fd, true)

		for err == nil {
			_, err = syscall.Write(fd, make([]byte, os.Getpagesize()))
		}

		syscall.SetNonblock(fd, false)

		cmd.Process.Signal(os.Interrupt)
		time.Sleep(sameSignal + 500*time.Millisecond) // before, it would count as the same
		cmd.Process.Signal(os.Interrupt)

		kill := time.AfterFunc(5*time.Second, func() { cmd.Process.Kill() })
		defer kill.Stop()

		err = cmd.Wait()

		w.Close()

		if cmd.ProcessState.ExitCode() != exitError || !strings.Contains(errs.String(), "interrupted twice") {
			t.Errorf("got error %v and %s, want status %d by the second interrupt", err, errs.String(), exitError)
		}
	})
}
