// SPDX-License-Identifier: Apache-2.0

package kubelet

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
)

func TestAppendedLinesAreFollowed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kubelet.log")
	if err := os.WriteFile(path, []byte(`I1125 03:00:00.0 1 kuberuntime_container.go:1] "Killing container with a grace period" pod="shop/old" podUID="u0" gracePeriod=30`+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}

	f, err := Follow(path, "", func(text string) { t.Error(text) })
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()

	log, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}

	stamp := time.Now().UTC().Format("0102 15:04:05.000000")
	for _, line := range []string{
		`E` + stamp + ` 1 prober.go:1] "Probe failed" probeType="Liveness" pod="shop/cart-0" podUID="u1" containerName="app"`,
		`I` + stamp + ` 1 eviction_manager.go:1] "Eviction manager: must evict pod(s) to reclaim" resourceName="memory"`,
		`I` + stamp + ` 1 kuberuntime_container.go:1] "Killing container with a grace period" pod="shop/cart-0" podUID="u1" containerName="app" gracePeriod=30`,
		`I` + stamp + ` 1 kuberuntime_container.go:1] "Killing container with a grace period" pod="shop/other" podUID="u2" containerName="app" gracePeriod=30`,
		`nothing of interest`,
	} {
		if _, err := log.WriteString(line + "\n"); err != nil {
			t.Fatal(err)
		}
	}

	var lines []Finding
	for end := time.Now().Add(10 * time.Second); len(lines) < 3 && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		lines = f.About(&events.Workload{PodUID: "u1", Namespace: "shop", Pod: "cart-0"}, time.Now())
	}

	all := fmt.Sprint(lines)
	if len(lines) != 3 || !strings.Contains(lines[0].String(), "Liveness") || strings.Contains(all, "other") || strings.Contains(all, "old") {
		t.Errorf("got %+v, want the three lines about cart-0, the node's among them", lines)
	}

	if old := f.About(&events.Workload{PodUID: "u1"}, time.Now().Add(time.Hour)); len(old) != 0 {
		t.Errorf("got %+v an hour later, want none", old)
	}
}

func TestAMissingFileIsAnError(t *testing.T) {
	if _, err := Follow("/nonexistent/kubelet.log", "", func(string) {}); err == nil {
		t.Error("got no error, want one")
	}
}

// journalctl replaces the command by a script.
func journalctl(t *testing.T, script string) (dir string) {
	t.Helper()

	dir = t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "journalctl"), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}

	t.Setenv("PATH", dir+":/usr/bin:/bin")

	return dir
}

// TestTheJournalIsFollowed: that of the node, and Close ends journalctl.
func TestTheJournalIsFollowed(t *testing.T) {
	dir := journalctl(t, `echo "$@" > $(dirname $0)/args
echo '1755698587.4 n kubelet[1]: I0101 00:00:00.0 1 eviction_manager.go:1] "Eviction manager: pod is evicted successfully" pod="a/b"'
exec sleep 60`)

	f, err := Follow("", "/host", func(text string) { t.Error(text) })
	if err != nil {
		t.Fatal(err)
	}

	var lines []Finding
	for end := time.Now().Add(10 * time.Second); len(lines) == 0 && time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		lines = f.About(&events.Workload{Namespace: "a", Pod: "b"}, time.Now())
	}

	if len(lines) != 1 {
		t.Errorf("got %+v, want the eviction", lines)
	}

	start := time.Now()

	f.Close()

	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("got %v until Close returned, want less than that of journalctl", took)
	}

	args, _ := os.ReadFile(filepath.Join(dir, "args"))
	for _, want := range []string{"--unit=kubelet", "--follow", "--directory=/host/var/log/journal"} {
		if !strings.Contains(string(args), want) {
			t.Errorf("got arguments %s, want %s among them", args, want)
		}
	}
}

func TestAMissingJournalctlIsWarnedOf(t *testing.T) {
	t.Setenv("PATH", t.TempDir())

	warned := make(chan string, 1)

	f, err := Follow("", "", func(text string) { warned <- text })
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()

	select {
	case text := <-warned:
		if !strings.Contains(text, "--kubelet-log") {
			t.Errorf("got warning %q, want the advice to give a file", text)
		}
	case <-time.After(10 * time.Second):
		t.Error("got no warning, want one")
	}
}
