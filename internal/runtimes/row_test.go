// SPDX-License-Identifier: Apache-2.0

package runtimes_test

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oomtrace/oomtrace/internal/alert"
	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/kernel"
	"github.com/oomtrace/oomtrace/internal/resolve"
	"github.com/oomtrace/oomtrace/internal/resolve/names"
	"github.com/oomtrace/oomtrace/internal/runtimes"
	"github.com/oomtrace/oomtrace/internal/sigkill"
)

// invented is a runtime that no package has heard of.
var invented = runtimes.Runtime{
	Name:           "invented",
	CgroupPrefixes: []string{"inv"},
	CgroupParents:  []string{"invents"},
	PodParents:     []string{"invented_pods"},
	PodPrefixes:    []string{"inv_pod_"},
	InnerCgroup:    "payload",
	Sockets:        []string{"/run/invented/cri.sock"},
	Format:         runtimes.FormatBundle,
	StateDirs:      []string{"/run/invented"},
	Bundle: &runtimes.Bundle{
		Files: []string{"bundles/" + runtimes.ID + "/config.json"}, Namespace: []string{"inv/namespace"}, Pod: []string{"inv/pod"},
		PodUID: []string{"inv/uid"}, Container: []string{"inv/name"}, Image: []string{"inv/image"}, Restarts: []string{"inv/restarts"},
		Labels: "inv/labels", Sandbox: "inv/sandbox", KindKey: "inv/kind", KindSandbox: "sandbox",
	},
	Daemons: []string{"inventd"},
	Shims:   []string{"inv-shim*"},
	Clients: []string{"invctl"},
	Units:   []string{"inventd.service"},
}

var (
	containerID = strings.Repeat("3f2a91c0", 8)
	sandboxID   = strings.Repeat("b7c6d5e4", 8)
)

const podUID = "6ba0af16-1c3e-4d5f-8a9b-0c1d2e3f4a5b"

// TestARowIsEnough: with the row of an invented runtime, and nothing else, its paths
// are parsed, its socket and files are found, its processes are recognized as senders
// of SIGKILL, and its service is critical. None of that happens without the row.
func TestARowIsEnough(t *testing.T) {
	with := append(runtimes.Known(), invented)

	t.Run("paths", func(t *testing.T) { testPaths(t, with) })
	t.Run("socket", func(t *testing.T) { testSocket(t, with) })
	t.Run("files", func(t *testing.T) { testFiles(t, with) })
	t.Run("killers", func(t *testing.T) { testKillers(t, with) })
	t.Run("critical service", func(t *testing.T) {
		if !slices.Contains(alert.CriticalServices(with), "inventd.service") {
			t.Errorf("got %q, want inventd.service among them", alert.CriticalServices(with))
		}

		if slices.Contains(alert.CriticalServices(runtimes.Known()), "inventd.service") {
			t.Error("got inventd.service without the row, want it left out")
		}
	})
}

func testPaths(t *testing.T, table runtimes.Table) {
	pod := strings.ReplaceAll(podUID, "-", "_")

	for path, want := range map[string]events.Workload{
		"/kubepods.slice/kubepods-pod" + pod + ".slice/inv-" + containerID + ".scope":         {PodUID: podUID, ContainerID: containerID, QoS: "guaranteed"},
		"/kubepods.slice/kubepods-pod" + pod + ".slice/inv-" + containerID + ".scope/payload": {PodUID: podUID, ContainerID: containerID, QoS: "guaranteed"},
		"/invents/" + containerID:           {ContainerID: containerID},
		"/invented_pods/" + sandboxID:       {PodUID: sandboxID},
		"/x.slice/inv_pod_" + sandboxID:     {PodUID: sandboxID},
		"/inventd.service/inv-" + sandboxID: {ContainerID: sandboxID, Unit: "inventd.service"},
	} {
		place := resolve.NewPaths(table).Parse(path)

		got := place.Workload
		if got == nil {
			t.Errorf("%s: got no workload, want %+v", path, want)
			continue
		}

		if got.Runtime != "invented" || got.PodUID != want.PodUID || got.ContainerID != want.ContainerID ||
			got.QoS != want.QoS || got.Unit != want.Unit {
			t.Errorf("%s: got %+v, want %+v of invented", path, *got, want)
		}

		if place.Level != events.LevelContainer && place.Level != events.LevelPod {
			t.Errorf("%s: got level %s, want that of a container or pod", path, place.Level)
		}

		if w := resolve.ParsePath(path).Workload; w != nil && w.Runtime != "" {
			t.Errorf("%s: got runtime %q without the row, want none", path, w.Runtime)
		}
	}
}

func testSocket(t *testing.T, table runtimes.Table) {
	root, err := os.MkdirTemp("/tmp", "row") // short enough for a socket
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { os.RemoveAll(root) })

	socket := filepath.Join(root, invented.Sockets[0])
	if err := os.MkdirAll(filepath.Dir(socket), 0o755); err != nil {
		t.Fatal(err)
	}

	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()

	r, err := names.New(names.Options{HostRoot: root, Runtimes: table})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()

	if err := listener.(*net.UnixListener).SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}

	conn, err := listener.Accept()
	if err != nil {
		t.Fatalf("got %v, want a connection to %s", err, socket)
	}

	conn.Close()
}

func testFiles(t *testing.T, table runtimes.Table) {
	root := t.TempDir()
	for id, config := range map[string]string{
		containerID: `{"annotations": {"inv/namespace": "shop", "inv/pod": "checkout", "inv/uid": "` + podUID + `", "inv/name": "app",
			"inv/image": "shop/app:1", "inv/restarts": "7", "inv/sandbox": "` + sandboxID + `"}, "process": {"oomScoreAdj": 985}}`,
		sandboxID: `{"annotations": {"inv/kind": "sandbox", "inv/pod": "checkout", "inv/labels": "{\"app\": \"checkout\"}"}}`,
	} {
		file := filepath.Join(root, "run/invented/bundles", id, "config.json")
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}

		if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
			t.Fatal(err)
		}
	}

	r, err := names.New(names.Options{HostRoot: root, Runtimes: table})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()

	r.Seen(resolve.Ref{ContainerID: containerID})

	w := &events.Workload{ContainerID: containerID}
	for end := time.Now().Add(5 * time.Second); w.Pod == "" && time.Now().Before(end); time.Sleep(time.Millisecond) {
		w = r.Fill(w)
	}

	if w.Namespace != "shop" || w.Pod != "checkout" || w.PodUID != podUID || w.Container != "app" || w.Image != "shop/app:1" ||
		w.Runtime != "invented" || w.Labels["app"] != "checkout" || w.RestartCount == nil || *w.RestartCount != 7 ||
		w.OOMScoreAdj == nil || *w.OOMScoreAdj != 985 {
		t.Errorf("got %+v, want the names of the bundle", w)
	}
}

func testKillers(t *testing.T, table runtimes.Table) {
	sender := func(exe string, parents ...string) *sigkill.Facts {
		f := &sigkill.Facts{
			Kill:   kernel.Kill{Sender: &kernel.Sender{}, Group: true},
			Sender: sigkill.Process{PID: 2, Comm: filepath.Base(exe), Exe: exe},
		}
		for _, p := range parents {
			f.Ancestors = append(f.Ancestors, sigkill.Process{PID: 1, Comm: p, TTY: "pts/1"})
		}

		return f
	}

	for name, facts := range map[string]*sigkill.Facts{
		"daemon": sender("/usr/bin/inventd"), "shim": sender("/usr/bin/inv-shim-v2"), "client": sender("/usr/bin/invctl"),
		"child of the shim": sender("/usr/bin/helper", "inv-shim-v2"),
	} {
		if k := sigkill.NewClassifier(table).Classify(facts); k.Path != events.PathRuntime {
			t.Errorf("%s: got path %s, want %s", name, k.Path, events.PathRuntime)
		}

		if k := sigkill.NewClassifier(runtimes.Known()).Classify(facts); k.Path == events.PathRuntime {
			t.Errorf("%s: got path %s without the row, want another one", name, k.Path)
		}
	}

	// What a person does with the runtime's command is a person's request.
	if k := sigkill.NewClassifier(table).Classify(sender("/usr/bin/inventd", "invctl")); k.Reason != events.ReasonAsked {
		t.Errorf("got reason %q for a client on a terminal, want %q", k.Reason, events.ReasonAsked)
	}
}
