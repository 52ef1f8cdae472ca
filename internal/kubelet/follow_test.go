// SPDX-License-Identifier: Apache-2.0

package kubelet

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
)

func TestFollow(t *testing.T) {
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

	var lines []string
	for end := time.Now().Add(10 * time.Second); len(lines) < 3 && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		lines = f.About(&events.Workload{PodUID: "u1", Namespace: "shop", Pod: "cart-0"}, time.Now())
	}

	all := strings.Join(lines, "\n")
	if len(lines) != 3 || !strings.Contains(lines[0], "Liveness") || strings.Contains(all, "other") || strings.Contains(all, "old") {
		t.Errorf("%q", lines)
	}

	if old := f.About(&events.Workload{PodUID: "u1"}, time.Now().Add(time.Hour)); len(old) != 0 {
		t.Errorf("an hour later: %q", old)
	}
}

func TestFollowNoFile(t *testing.T) {
	if _, err := Follow("/nonexistent/kubelet.log", "", func(string) {}); err == nil {
		t.Error("it was followed")
	}
}
