// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/host"
	"github.com/oomtrace/oomtrace/internal/ledger"
	"github.com/oomtrace/oomtrace/internal/testenv"
)

// TestMain runs oomtrace itself, or churn, where an environment variable asks for it.
func TestMain(m *testing.M) {
	if os.Getenv("OOMTRACE_TEST_MAIN") == "1" {
		main()
	}

	if os.Getenv("OOMTRACE_TEST_CHURN") == "1" {
		churn(os.Args[1])
	}

	os.Exit(m.Run())
}

// oomtrace returns the command that runs this test binary as oomtrace.
func oomtrace(args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", args...)

	cmd.Env = append(os.Environ(), "OOMTRACE_TEST_MAIN=1")

	return cmd
}

func TestUsageErrorsAreOneLineWithStatus2(t *testing.T) {
	for _, test := range []struct {
		args   string
		status int
		want   string
	}{
		{"version", exitOK, "oomtrace "},
		{"--help", exitOK, "sudo oomtrace "},
		{"nonsense", exitUsage, "unknown command \"nonsense\"; see `oomtrace --help`"},
		{"report", exitUsage, "see `oomtrace report --help`"},
		{"report --nonsense", exitUsage, "see `oomtrace report --help`"},
		{"--pid -4", exitUsage, "see `oomtrace --help`"},
		{"trace --pid -4", exitUsage, "see `oomtrace trace --help`"},
		{"help nosuch", exitUsage, "unknown command \"nosuch\"; see `oomtrace --help`"},
		{"help", exitOK, "sudo oomtrace "},
		{"help report", exitOK, "report explains each incident"},
		{"trace nonsense", exitUsage, "takes no arguments"},
		{"--nonsense", exitUsage, "unknown flag: --nonsense"},
		{"-o xml", exitUsage, "one of text, json, table, bcc"},
		{"demo -o table", exitUsage, "one of text, json"},
		{"--tier perf", exitUsage, "one of auto, fentry"},
		{"--duration -1s", exitUsage, "negative"},
		{"--duration soon", exitUsage, "invalid argument"},
		{"--pid x", exitUsage, "invalid argument"},
		{"--pid -4", exitUsage, "negative"},
		{"--cgroup kubepods.slice", exitUsage, "must start with /"},
		{"--container xyz", exitUsage, "hexadecimal"},
		{"--qos best", exitUsage, "one of guaranteed"},
		{"--pod-label app", exitUsage, "key=value"},
		{"--no-names -n shop", exitUsage, "need names"},
		{"--cri-endpoint run/c.sock", exitUsage, "unix:///run"},
		{"--cri-endpoint tcp://1.2.3.4:5", exitUsage, "unix:///run"},
		{"--kubelet-endpoint 127.0.0.1", exitUsage, "https://"},
		{"--kubelet-endpoint http://127.0.0.1:10255 --kubelet-token-file /t", exitUsage, "without TLS"},
	} {
		var stdout, stderr bytes.Buffer
		status := run(strings.Fields(test.args), &stdout, &stderr)

		all := stdout.String() + stderr.String()
		if status != test.status || !strings.Contains(all, test.want) {
			t.Errorf("%s: got status %d and %q, want status %d and %q", test.args, status, all, test.status, test.want)
		}

		if status != exitOK && strings.Count(stderr.String(), "\n") != 1 {
			t.Errorf("%s: got %q, want one line", test.args, stderr.String())
		}
	}
}

func TestFullDiskIsReported(t *testing.T) {
	for _, args := range []string{
		"--help", "help report", "report --help", "version", "report " + podLimit, "replay " + podLimit, "inspect",
	} {
		full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		var stderr bytes.Buffer
		status := run(strings.Fields(args), full, &stderr)
		full.Close()

		const want = "no space left on device: free up space, or write elsewhere\n"
		if got := stderr.String(); status != exitError || !strings.Contains(got, want) {
			t.Errorf("%s: got status %d and %q, want status %d and %q", args, status, got, exitError, want)
		}
	}
}

// A flag has the same shorthand and the same name of its value in all commands. Of several
// values, a command may take fewer.
func TestFlagsAreTheSameInAllCommands(t *testing.T) {
	root := newRoot(io.Discard, io.Discard)
	long, values := map[string]string{}, map[string]string{}

	for _, cmd := range append(root.Commands(), root) {
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if f.Shorthand != "" {
				if other := long[f.Shorthand]; other != "" && other != f.Name {
					t.Errorf("%s: got -%s for --%s, want --%s as in other commands", cmd.Name(), f.Shorthand, f.Name, other)
				}
				long[f.Shorthand] = f.Name
			}

			value, _ := pflag.UnquoteUsage(f)

			other, seen := values[f.Name]
			if seen && !strings.HasPrefix(value, other) && !strings.HasPrefix(other, value) {
				t.Errorf("%s: got --%s %s, want %s as in other commands", cmd.Name(), f.Name, value, other)
			}

			if len(value) > len(other) {
				values[f.Name] = value
			}
		})
	}
}

// An empty value comes from a shell variable that is not set: it must not select everything.
func TestEmptyValuesAreUsageErrors(t *testing.T) {
	for _, args := range []string{
		"--comm", "--container", "-n", "--namespace", "--pod", "--pod-uid", "--pod-label", "--qos", "--cgroup",
		"trace --comm", "--record", "replay /a --comm", "replay /a --id", "replay /a --since",
		"report /a --id", "report /a --until", "report /a --html", "report --kernel-log",
	} {
		var stdout, stderr bytes.Buffer

		status := run(append(strings.Fields(args), ""), &stdout, &stderr)

		const want = "must not be empty; see `oomtrace "
		if got := stderr.String(); status != exitUsage || !strings.Contains(got, want) || strings.Count(got, "\n") != 1 {
			t.Errorf("%s: got status %d and %q, want status %d and one line with %q", args, status, got, exitUsage, want)
		}
	}
}

func TestFilterMatchesLimiterOrVictim(t *testing.T) {
	inc := &events.Incident{
		Limiter: &events.Limiter{
			Cgroup: &events.Cgroup{Path: "/kubepods.slice/pod1/c1"},
			Workload: &events.Workload{
				PodUID: "6ba0af16-1c3e-4d5f-8a9b-0c1d2e3f4a5b", ContainerID: "3f2a91c07d4e", QoS: "burstable",
				Namespace: "shop", Pod: "checkout-7d9f", Labels: map[string]string{"app": "checkout", "tier": "front"},
			},
		},
		Victims: []events.Victim{{Process: events.Process{
			PID: 10, TID: 11, Comm: "java", Thread: "C2", Workload: &events.Workload{Namespace: "ops", Pod: "agent"},
		}}},
	}
	for _, test := range []struct {
		f    filter
		want bool
	}{
		{filter{}, true},
		{filter{pid: 10}, true},
		{filter{pid: 11}, true},
		{filter{pid: 12}, false},
		{filter{comm: "java"}, true},
		{filter{comm: "C2"}, true},
		{filter{comm: "jav"}, false},
		{filter{podUID: "6ba0af16_1c3e_4d5f_8a9b_0c1d2e3f4a5b"}, true},
		{filter{podUID: "6ba0af16"}, false},
		{filter{containerID: "3F2a"}, true},
		{filter{containerID: "f2a"}, false},
		{filter{cgroup: "/kubepods.slice"}, true},
		{filter{cgroup: "/kubepods.slice/pod1/c1/"}, true},
		{filter{cgroup: "/kubepods"}, false},
		{filter{cgroup: "/"}, true},
		{filter{pid: 10, comm: "sh"}, false},
		{filter{namespace: "shop"}, true},
		{filter{namespace: "sho"}, false},
		{filter{pod: "checkout-7d9f"}, true},
		{filter{pod: "shop/checkout-7d9f"}, true},
		{filter{pod: "other/checkout-7d9f"}, false},
		{filter{podLabel: "app=checkout"}, true},
		{filter{podLabel: "app=checkout,tier=front"}, true},
		{filter{podLabel: "app=checkout,tier=back"}, false},
		{filter{podLabel: "empty="}, false},
		{filter{qos: "Burstable"}, true},
		{filter{qos: "guaranteed"}, false},
		{filter{namespace: "shop", qos: "guaranteed"}, false},
		{filter{namespace: "ops", comm: "java"}, true},          // the victim's
		{filter{namespace: "ops", pod: "checkout-7d9f"}, false}, // of two workloads
	} {
		if got := test.f.incident(inc); got != test.want {
			t.Errorf("%+v: got match %v, want %v", test.f, got, test.want)
		}
	}

	if (&filter{comm: "x"}).incident(&events.Incident{}) {
		t.Error("got a match by name of an incident without a victim, want none")
	}
}

func TestDemoReportsItsOwnKill(t *testing.T) {
	rootAndTime(t)

	out, err := oomtrace("demo", "-o", "json").Output()
	if err != nil {
		t.Fatalf("%v: %s", err, stderr(err))
	}

	var inc events.Incident
	if err := json.Unmarshal(out, &inc); err != nil {
		t.Fatal(err)
	}

	if inc.Scope != events.ScopeMemcg || len(inc.Victims) != 1 || !inc.Audit.Explained {
		t.Errorf("got %s, want one victim of a memcg limit, explained by the counters", out)
	}
}

// rootAndTime skips a test that traces this machine without root, and under -short.
func rootAndTime(t *testing.T) {
	t.Helper()
	testenv.Slow(t, "it attaches to the kernel, and most tests trigger OOM kills")
	testenv.Root(t)
}

// stderr returns what a command that failed wrote to stderr.
func stderr(err error) string {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return string(exit.Stderr)
	}

	return ""
}

// running starts a trace and waits until it is ready.
func running(t *testing.T, args ...string) (cmd *exec.Cmd, lines *bufio.Scanner) {
	t.Helper()
	rootAndTime(t)
	ready := filepath.Join(t.TempDir(), "ready")
	cmd = oomtrace(append(args, "--ready-file", ready)...)
	cmd.Stderr = os.Stderr

	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}

	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { cmd.Process.Kill() })

	awaitReady(t, ready)
	lines = bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)

	return cmd, lines
}

// awaitReady waits for the file of --ready-file.
func awaitReady(t *testing.T, file string) {
	t.Helper()

	for range 500 {
		if _, err := os.Stat(file); err == nil {
			return
		}

		time.Sleep(20 * time.Millisecond)
	}

	t.Fatal("got no ready file within 10 s, want one")
}

// oom triggers an OOM kill in a new cgroup, and returns the PID of the victim.
func oom(t *testing.T, name string) int {
	t.Helper()

	scratch, err := host.NewScratch(fmt.Sprintf("%s-%d", name, os.Getpid()), 16<<20)
	if err != nil {
		t.Fatal(err)
	}
	defer scratch.Close()
	child := oomtrace("allocate", "--bytes=134217728")

	in, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}

	if err := child.Start(); err != nil {
		t.Fatal(err)
	}

	if err := scratch.Add(child.Process.Pid); err != nil {
		t.Fatal(err)
	}

	in.Write([]byte{1})

	if err := child.Wait(); !killedBySIGKILL(err) {
		t.Fatalf("got %v from the child, want SIGKILL", err)
	}

	return child.Process.Pid
}

// A format without a case of its own would print text.
func TestEveryFormatHasItsOwnOutput(t *testing.T) {
	inc := &events.Incident{
		ID: "a", Outcome: events.OutcomeKilled,
		Victims: []events.Victim{{Process: events.Process{PID: 10, TID: 10, Comm: "java"}}},
	}
	formats := map[string]string{}

	for _, format := range outputs {
		var stdout bytes.Buffer

		out := newOutput(&traceFlags{formatFlags: formatFlags{output: format}}, nil, &stdout, io.Discard)
		if err := errors.Join(out.Write(inc), out.close()); err != nil {
			t.Fatal(err)
		}

		if other, ok := formats[stdout.String()]; ok || stdout.Len() == 0 {
			t.Errorf("%s: got %q as of %s, want a format of its own", format, &stdout, other)
		}
		formats[stdout.String()] = format
	}
}

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

func TestEveryFormatShowsTheVictim(t *testing.T) {
	for _, format := range []string{"text", "table", "bcc"} {
		t.Run(format, func(t *testing.T) {
			cmd, lines := running(t, "-o", format)
			pid := oom(t, "oomtrace-test-"+format)

			time.Sleep(300 * time.Millisecond)
			cmd.Process.Signal(os.Interrupt)

			found := false
			for lines.Scan() {
				found = found || strings.Contains(lines.Text(), fmt.Sprint(pid))
			}

			if err := cmd.Wait(); err != nil || !found {
				t.Errorf("got victim shown %v and error %v, want the victim and no error", found, err)
			}
		})
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
		out, err := oomtrace("doctor").CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}

		if strings.Contains(string(out), "oom_kill_process: fentry") {
			t.Skip("this kernel supports the best attach mode")
		}

		out, err = oomtrace("--tier", "fentry", "--duration", "1s").CombinedOutput()
		if err == nil || !strings.Contains(string(out), "attach mode fentry is not available on this kernel") {
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
		time.Sleep(500 * time.Millisecond) // two pending signals of a kind would be one
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

func TestDoctorChecksThisMachine(t *testing.T) {
	rootAndTime(t)

	out, err := oomtrace("doctor").CombinedOutput()

	text := string(out)
	if err != nil || !strings.Contains(text, "oomtrace can trace on this machine") || !strings.Contains(text, "hook ") {
		t.Errorf("got error %v and %s, want hooks and no problem", err, out)
	}
}

// A filter by name shows an incident once, when its names arrive, with its updates until
// then. Incidents that never get names are counted at the end.
func TestFilterByNameWaitsForNames(t *testing.T) {
	var stdout, stderr bytes.Buffer

	flags := traceFlags{formatFlags: formatFlags{output: "json"}, filter: filter{namespace: "shop"}}
	out := newOutput(&flags, nil, &stdout, &stderr)
	open := ledger.New(ledger.Limits{}, nil)
	incident := func(id string) *events.Incident {
		return &events.Incident{ID: id, Limiter: &events.Limiter{Workload: &events.Workload{PodUID: "u-" + id}}}
	}
	named := func(id, namespace string) *events.Incident {
		return &events.Incident{ID: id, Limiter: &events.Limiter{Workload: &events.Workload{
			PodUID: "u-" + id, Namespace: namespace, Pod: "p", Labels: map[string]string{},
		}}}
	}
	update := func(change *events.Incident) events.Line { return &events.Update{Change: change} }

	for _, published := range []events.Line{
		incident("a"), incident("b"), incident("c"), named("d", "shop"),
		update(&events.Incident{ID: "a", Notes: []string{"before the names"}}),
		update(named("a", "shop")), update(named("b", "other")),
		update(&events.Incident{ID: "a", Notes: []string{"later"}}),
		update(&events.Incident{ID: "b", Notes: []string{"never"}}),
	} {
		line, err := open.Take(published, 0)
		if err == nil {
			err = out.Write(line)
		}

		if err != nil {
			t.Fatal(err)
		}
	}

	if err := out.close(); err != nil {
		t.Fatal(err)
	}

	var got []string

	for line := range strings.Lines(stdout.String()) {
		var inc events.Incident
		if err := json.Unmarshal([]byte(line), &inc); err != nil {
			t.Fatal(err)
		}
		got = append(got, inc.ID+" "+strings.Join(inc.Notes, ","))
	}

	if want := []string{"d ", "a before the names", "a later"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}

	const want = "1 incident not shown: the pod names could not be resolved"
	if got := stderr.String(); !strings.Contains(got, want) {
		t.Errorf("got stderr %q, want %q", got, want)
	}
}
