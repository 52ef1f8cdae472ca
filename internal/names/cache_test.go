// SPDX-License-Identifier: Apache-2.0

package names

import (
	"bytes"
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"unicode/utf8"

	"github.com/oomtrace/oomtrace/internal/events"
)

func mkfifo(file string) error { return syscall.Mkfifo(file, 0o644) }

func make4MiB() []byte {
	return []byte(`{"annotations":{"io.kubernetes.cri.sandbox-name":"` + strings.Repeat("x", maxConfig) + `"}}`)
}

func containerOf(i int) Ref {
	return Ref{ContainerID: fmt.Sprintf("%064x", i), PodUID: fmt.Sprintf("%032x", i)}
}

func workloadOf(i int) events.Workload {
	ref := containerOf(i)

	return events.Workload{
		Namespace: "shop", Pod: fmt.Sprintf("checkout-%d", i), PodUID: ref.PodUID, Container: "app", ContainerID: ref.ContainerID, Image: "shop/checkout:1.4",
		Labels: map[string]string{"app": "checkout", "pod-template-hash": fmt.Sprint(i)}, Source: SourceCRI,
	}
}

// heap is what is in use.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)

	return m.HeapAlloc
}

// A million containers come and go: the oldest dead are forgotten, the living and
// the lately dead are not.
func TestAMillionContainers(t *testing.T) {
	const all, living = 1_000_000, 100
	c := newCache(1000)
	before := heap()

	for i := range all {
		c.put(containerOf(i), workloadOf(i))

		if i >= living {
			ref := containerOf(i)
			c.gone(Ref{ContainerID: ref.ContainerID})
			c.gone(Ref{PodUID: ref.PodUID})
		}
	}

	live, dead := c.counts()
	if live != 2*living || dead != 2000 {
		t.Errorf("%d live, %d dead", live, dead)
	}

	if after := heap(); after > before+8<<20 {
		t.Errorf("%d MiB", (after-before)>>20)
	}

	for i, want := range map[int]bool{0: true, living - 1: true, living: false, all - 1001: false, all - 1000: true, all - 1: true} {
		ref := containerOf(i)
		if got := c.fill(&events.Workload{ContainerID: ref.ContainerID}).Pod != ""; got != want {
			t.Errorf("%d: known is %v", i, got)
		}
	}
}

// Removals can be lost, and names be as long as they may.
func TestBoundsOfMemory(t *testing.T) {
	c := newCache(0)
	for i := range maxLive + 1000 {
		c.containers.learn(containerOf(i).ContainerID, events.Workload{Source: SourceDisk, Pod: "p"})
	}

	if live, dead := c.counts(); live != maxLive || dead != 1000 {
		t.Errorf("%d live, %d dead", live, dead)
	}
	c = newCache(1 << 20)

	labels := map[string]string{}
	for i := range 2 * maxLabels {
		labels[fmt.Sprint("k", i)] = strings.Repeat("v", 100)
	}

	for i := range 10000 {
		w := workloadOf(i)
		w.Labels = labels
		c.put(containerOf(i), w)
		c.gone(Ref{PodUID: w.PodUID})
	}

	if c.pods.deadBytes > maxDeadBytes || c.pods.dead.Len() == 0 || c.pods.dead.Len() > 4000 {
		t.Errorf("%d bytes of %d dead", c.pods.deadBytes, c.pods.dead.Len())
	}
}

func TestRanks(t *testing.T) {
	ref, _ := RefOf(&app)
	c := newCache(0)

	put := func(w events.Workload) bool {
		v := c.version.Load()
		c.put(ref, w)

		return c.version.Load() != v
	}
	if !put(events.Workload{Namespace: "shop", Pod: "checkout-7d9f", Source: SourceLogDir}) {
		t.Error("no news")
	}

	if got := name(c.fill(&app)); got != "log_dir shop checkout-7d9f " {
		t.Error(got)
	}

	put(events.Workload{Namespace: "shop", Pod: "checkout-7d9f", Container: "app", Image: "i", Source: SourceCRI})

	if !put(events.Workload{Namespace: "x", Pod: "y", Container: "z", OOMScoreAdj: ptr(3), Source: SourceDisk}) {
		t.Error("no news of what was missing")
	}

	w := c.fill(&app)
	if name(w) != fromCRI || *w.OOMScoreAdj != 3 {
		t.Errorf("%+v", w)
	}

	put(events.Workload{Image: "sha256:" + appID, Source: SourceCRI})

	if w := c.fill(&app); w.Image != "i" {
		t.Errorf("the image's name %q was forgotten for its id", w.Image)
	}

	if put(events.Workload{Namespace: "x", Pod: "y", Container: "z", Source: SourceDisk}) {
		t.Error("the worse source is news")
	}

	if again := c.fill(w); again != w {
		t.Error("nothing is added, but it is another one")
	}

	if app.Pod != "" || app.Source != "path" {
		t.Error("the place was changed")
	}
}

// What a path says can be made up by who may write below a container.
func TestFillTrusts(t *testing.T) {
	c := newCache(0)
	ref, _ := RefOf(&app)
	c.put(ref, events.Workload{Namespace: "shop", Pod: "checkout-7d9f", Container: "app", Source: SourceCRI})

	r := &Resolver{cache: c}
	for _, w := range []*events.Workload{
		nil,
		{Unit: "sshd.service"},
		{ContainerID: appID, PodUID: crioUID}, // the runtime says another pod
		{ContainerID: appID, NodeContainerID: otherID},     // inside of another container
		{PodUID: crioUID, Source: "path", QoS: "b"},        // not known
		{ContainerID: otherID, PodUID: "", Source: "path"}, // not known
	} {
		if got := r.Fill(w); got != w {
			t.Errorf("%+v: %+v", w, got)
		}
	}

	if got := r.Fill(&events.Workload{PodUID: appUID, QoS: "burstable", Source: "path"}); name(got) != "cri shop checkout-7d9f " {
		t.Errorf("%+v", got)
	}

	if got := r.Fill(&events.Workload{ContainerID: appID}); got.PodUID != appUID {
		t.Errorf("%+v", got)
	}
}

// Whatever a runtime says, it is short, and a line of JSON is a line.
func TestHostileNames(t *testing.T) {
	long := strings.Repeat("\x1b[2J\n\u202e\xff", 600)
	c := newCache(0)

	labels := map[string]string{"k\x00": "v\n", "a\xff\xfe": "\xff", long: long}
	for i := range 100 {
		labels[fmt.Sprint("z", i)] = ""
	}
	ref, _ := RefOf(&app)
	c.put(ref, events.Workload{Namespace: long, Pod: long, Container: long, Image: long, Runtime: long, QoS: long, Labels: labels, Source: SourceCRI})

	w := c.fill(&events.Workload{ContainerID: appID, PodUID: appUID})
	for _, s := range []string{w.Namespace, w.Pod, w.Container, w.QoS} {
		if len(s) > maxName || !strings.HasSuffix(s, ellipsis) {
			t.Errorf("%d bytes: %q", len(s), s)
		}
	}

	if len(w.Labels) != maxLabels+1 || w.Labels[ellipsis] != "39 more labels" {
		t.Errorf("%d labels, %q", len(w.Labels), w.Labels[ellipsis])
	}

	line, err := events.Marshal(&events.Incident{Limiter: &events.Limiter{Workload: w}})
	if err != nil {
		t.Fatal(err)
	}

	if !utf8.Valid(line) || bytes.Count(line, []byte("\n")) != 1 {
		t.Errorf("no line: %q", line)
	}

	for _, r := range string(bytes.TrimSuffix(line, []byte("\n"))) {
		if !events.Printable(r) {
			t.Errorf("raw %U", r)
		}
	}

	var back events.Incident
	if err := json.Unmarshal(line, &back); err != nil {
		t.Fatal(err)
	}

	got := map[string]string{}
	for k, v := range back.Limiter.Workload.Labels {
		got[events.UnescapeText(k)] = events.UnescapeText(v)
	}

	if got["a\xff\xfe"] != "\xff" || got["k\x00"] != "v\n" {
		t.Errorf("%q", got)
	}
}

func TestClip(t *testing.T) {
	for _, test := range []struct{ s, want string }{
		{"12345678", "12345678"}, {"123456789", "12345…"}, {"1234é6789", "1234…"}, {"\xff\xff\xff\xff\xff\xff\xff\xff\xff", "\xff\xff\xff\xff\xff…"}, {"", ""},
	} {
		if got := clip(test.s, 8); got != test.want {
			t.Errorf("%q: %q", test.s, got)
		}
	}
}

// What a runtime lists no more is gone; another runtime's stays.
func TestSweep(t *testing.T) {
	c := newCache(0)
	a, b := &endpoint{}, &endpoint{}

	for i := range 4 {
		c.put(containerOf(i), workloadOf(i))
	}

	c.listed(a, 1, containerOf(0).ContainerID, containerOf(0).PodUID)
	c.listed(a, 2, containerOf(1).ContainerID, containerOf(1).PodUID)
	c.listed(b, 1, containerOf(2).ContainerID, containerOf(2).PodUID)
	c.sweep(a, 2)

	if live, dead := c.counts(); live != 6 || dead != 2 {
		t.Errorf("%d live, %d dead", live, dead)
	}

	if c.fill(&events.Workload{ContainerID: containerOf(0).ContainerID}).Pod == "" {
		t.Error("forgotten")
	}
}
