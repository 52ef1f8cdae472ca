// SPDX-License-Identifier: Apache-2.0

package names

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/resolve"
	"github.com/oomtrace/oomtrace/internal/resolve/source"
	"github.com/oomtrace/oomtrace/internal/testenv"
)

func containerOf(i int) resolve.Ref {
	return resolve.Ref{ContainerID: fmt.Sprintf("%064x", i), PodUID: fmt.Sprintf("%032x", i)}
}

func workloadOf(i int) events.Workload {
	ref := containerOf(i)

	return events.Workload{
		Namespace: "shop", Pod: fmt.Sprintf("checkout-%d", i), PodUID: ref.PodUID, Container: "app", ContainerID: ref.ContainerID, Image: "shop/checkout:1.4",
		Labels: map[string]string{"app": "checkout", "pod-template-hash": fmt.Sprint(i)}, Source: source.NameCRI,
	}
}

// heap returns the bytes in use.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)

	return m.HeapAlloc
}

// counts returns how many entries there are of containers and pods together.
func (n *cache) counts() (live, dead int) {
	n.mu.Lock()
	defer n.mu.Unlock()

	return n.containers.live.Len() + n.pods.live.Len(), n.containers.dead.Len() + n.pods.dead.Len()
}

// TestTheOldestDeadAreForgotten: many containers come and go; the oldest removed ones
// are forgotten, those that live and those removed lately are not.
func TestTheOldestDeadAreForgotten(t *testing.T) {
	testenv.Slow(t, "takes a second")

	// Without a bound they would take some 40 MiB.
	const all, running = 30_000, 100
	n := newCache(1000)
	before := heap()

	for i := range all {
		n.Put(containerOf(i), workloadOf(i))

		if i >= running {
			ref := containerOf(i)
			n.Gone(resolve.Ref{ContainerID: ref.ContainerID})
			n.Gone(resolve.Ref{PodUID: ref.PodUID})
		}
	}

	if live, dead := n.counts(); live != 2*running || dead != 2000 {
		t.Errorf("got %d live and %d dead entries, want %d and 2000", live, dead, 2*running)
	}

	if grown := int64(heap()) - int64(before); grown > 8<<20 {
		t.Errorf("got %d MiB in use, want at most 8", grown>>20)
	}

	for i, want := range map[int]bool{0: true, running - 1: true, running: false, all - 1001: false, all - 1000: true, all - 1: true} {
		ref := containerOf(i)
		if got := n.fill(&events.Workload{ContainerID: ref.ContainerID}).Pod != ""; got != want {
			t.Errorf("container %d: got known %v, want %v", i, got, want)
		}
	}
}

// TestMemoryOfNamesIsBounded: removals can be lost, and names can be as long as their
// bounds permit.
func TestMemoryOfNamesIsBounded(t *testing.T) {
	testenv.Slow(t, "takes a second")

	n := newCache(0)
	for i := range maxLive + 1000 {
		n.containers.learn(containerOf(i).ContainerID, events.Workload{Source: source.NameDisk, Pod: "p"})
	}

	if live, dead := n.counts(); live != maxLive || dead != 1000 {
		t.Errorf("got %d live and %d dead entries, want %d and 1000", live, dead, maxLive)
	}

	n = newCache(1 << 20)

	labels := map[string]string{}
	for i := range 2 * maxLabels {
		labels[fmt.Sprint("k", i)] = strings.Repeat("v", 100)
	}

	for i := range 10000 {
		w := workloadOf(i)
		w.Labels = labels
		n.Put(containerOf(i), w)
		n.Gone(resolve.Ref{PodUID: w.PodUID})
	}

	if n.pods.deadBytes > maxDeadBytes || n.pods.dead.Len() == 0 || n.pods.dead.Len() > 4000 {
		t.Errorf("got %d bytes of %d dead pods, want at most %d bytes and 4000 pods", n.pods.deadBytes, n.pods.dead.Len(), maxDeadBytes)
	}
}

func TestTheBetterSourceCounts(t *testing.T) {
	ref, _ := resolve.RefOf(&app)
	n := newCache(0)

	put := func(w events.Workload) bool {
		n.Put(ref, w)
		refs, _ := n.takeLearned()

		return len(refs) > 0
	}
	if !put(events.Workload{Namespace: "shop", Pod: "checkout-7d9f", Source: source.NameLogDir}) {
		t.Error("got no change by the first name, want one")
	}

	if got := name(n.fill(&app)); got != "log_dir shop checkout-7d9f " {
		t.Errorf("got %q, want the name of the log directory", got)
	}

	put(events.Workload{Namespace: "shop", Pod: "checkout-7d9f", Container: "app", Image: "i", Source: source.NameCRI})

	if !put(events.Workload{Namespace: "x", Pod: "y", Container: "z", OOMScoreAdj: ptr(3), Source: source.NameDisk}) {
		t.Error("got no change by a missing score, want one")
	}

	w := n.fill(&app)
	if name(w) != fromCRI || *w.OOMScoreAdj != 3 {
		t.Errorf("got %+v, want %q with a score of 3", w, fromCRI)
	}

	put(events.Workload{Image: "sha256:" + appID, Source: source.NameCRI})

	if w := n.fill(&app); w.Image != "i" {
		t.Errorf("got image %q, want the name i, not the id", w.Image)
	}

	if put(events.Workload{Namespace: "x", Pod: "y", Container: "z", Source: source.NameDisk}) {
		t.Error("got a change by a worse source, want none")
	}

	if again := n.fill(w); again != w {
		t.Error("got a copy without a change, want the same workload")
	}

	if app.Pod != "" || app.Source != "path" {
		t.Error("got a changed place, want it untouched")
	}
}

// TestFillDistrustsPaths: names below a container are chosen by whoever may write there.
func TestFillDistrustsPaths(t *testing.T) {
	n := newCache(0)
	ref, _ := resolve.RefOf(&app)
	n.Put(ref, events.Workload{Namespace: "shop", Pod: "checkout-7d9f", Container: "app", Source: source.NameCRI})

	r := &Resolver{cache: n}
	for _, w := range []*events.Workload{
		nil,
		{Unit: "sshd.service"},
		{ContainerID: appID, PodUID: crioUID}, // the runtime has another pod
		{ContainerID: appID, NodeContainerID: otherID},     // in another container
		{PodUID: crioUID, Source: "path", QoS: "b"},        // unknown
		{ContainerID: otherID, PodUID: "", Source: "path"}, // unknown
	} {
		if got := r.Fill(w); got != w {
			t.Errorf("%+v: got %+v, want it unchanged", w, got)
		}
	}

	if got := r.Fill(&events.Workload{PodUID: appUID, QoS: "burstable", Source: "path"}); name(got) != "cri shop checkout-7d9f " {
		t.Errorf("got %+v, want the pod's name", got)
	}

	if got := r.Fill(&events.Workload{ContainerID: appID}); got.PodUID != appUID {
		t.Errorf("got %+v, want pod %s", got, appUID)
	}
}

// TestANodeContainerHasAName: the container that nested ones are within is one of the node's
// own runtime; those inside, and what is inside of a guest, are looked up by nobody.
func TestANodeContainerHasAName(t *testing.T) {
	node, guest := events.Holder{Kind: events.HolderContainer, ID: appID}, events.Holder{Kind: events.HolderGuest, Name: "web1"}
	service := events.Holder{Kind: events.HolderService, Name: "user@1000.service"}
	r := &Resolver{cache: newCache(0)}
	r.cache.Put(resolve.Ref{ContainerID: appID}, events.Workload{Container: "kind-worker", Source: source.NameDisk})

	for _, test := range []struct {
		name   string
		within []events.Holder
		want   string // of each holder
	}{
		{"in a node container", []events.Holder{node}, "kind-worker"},
		{"in a node container of a user", []events.Holder{service, node}, "user@1000.service kind-worker"},
		{"in a guest of a node container", []events.Holder{node, guest}, "kind-worker web1"},
		{"in a container of a guest that has this id", []events.Holder{guest, node}, "web1 "},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := &events.Workload{PodUID: appUID, ContainerID: strings.Repeat("0", 64), NodeContainerID: appID, Within: test.within}
			before := slices.Clone(test.within)

			var got []string
			for _, h := range r.Fill(w).Within {
				got = append(got, h.Name)
			}

			if strings.Join(got, " ") != test.want {
				t.Errorf("got names %q, want %q", got, test.want)
			}

			if !slices.Equal(test.within, before) {
				t.Errorf("got %+v in the workload that was passed, want it unchanged", test.within)
			}
		})
	}

	if w := r.Fill(nil); w != nil {
		t.Errorf("got %+v of no workload, want none", w)
	}
}

// TestLabelsOfAContainer: those of a container without a pod are its own, those of a pod come
// with the pod.
func TestLabelsOfAContainer(t *testing.T) {
	labels := map[string]string{"com.docker.compose.service": "web"}

	alone := newCache(0)
	alone.Put(resolve.Ref{ContainerID: appID}, events.Workload{Container: "web", Labels: labels, Source: source.NameDisk})

	if w := alone.fill(&events.Workload{ContainerID: appID}); w.Labels["com.docker.compose.service"] != "web" {
		t.Errorf("got labels %q without a pod, want those of the container", w.Labels)
	}

	pod := newCache(0)
	pod.Put(resolve.Ref{ContainerID: appID, PodUID: appUID}, events.Workload{Container: "web", Labels: labels, Source: source.NameDisk})

	if w := pod.fill(&events.Workload{ContainerID: appID, PodUID: appUID}); w.Labels != nil {
		t.Errorf("got labels %q in a pod, want none", w.Labels)
	}
}

// TestHostileNamesAreBounded: text of a runtime is cut, and makes no second line of
// JSON.
func TestHostileNamesAreBounded(t *testing.T) {
	long := strings.Repeat("\x1b[2J\n\u202e\xff", 600)
	n := newCache(0)

	labels := map[string]string{"k\x00": "v\n", "a\xff\xfe": "\xff", long: long}
	for i := range 100 {
		labels[fmt.Sprint("z", i)] = ""
	}
	ref, _ := resolve.RefOf(&app)
	n.Put(ref, events.Workload{Namespace: long, Pod: long, Container: long, Image: long, Runtime: long, QoS: long,
		Labels: labels, Source: source.NameCRI})

	w := n.fill(&events.Workload{ContainerID: appID, PodUID: appUID})
	for _, s := range []string{w.Namespace, w.Pod, w.Container, w.QoS} {
		if len(s) > maxName || !strings.HasSuffix(s, source.Ellipsis) {
			t.Errorf("got %d bytes %q, want at most %d, and %s", len(s), s, maxName, source.Ellipsis)
		}
	}

	if len(w.Labels) != maxLabels+1 || w.Labels[source.Ellipsis] != "39 more labels" {
		t.Errorf("got %d labels, %q, want %d and 39 more", len(w.Labels), w.Labels[source.Ellipsis], maxLabels+1)
	}

	line, err := events.Marshal(&events.Incident{Limiter: &events.Limiter{Workload: w}})
	if err != nil {
		t.Fatal(err)
	}

	if !utf8.Valid(line) || bytes.Count(line, []byte("\n")) != 1 {
		t.Errorf("got %q, want one line of UTF-8", line)
	}

	for _, r := range string(bytes.TrimSuffix(line, []byte("\n"))) {
		if !events.Printable(r) {
			t.Errorf("got %U, want it escaped", r)
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
		t.Errorf("got %q, want the labels as they were", got)
	}
}

// TestListsRemove: what a feed had in its last list and has no more is gone; what
// another feed listed stays.
func TestListsRemove(t *testing.T) {
	n := newCache(0)
	for i := range 4 {
		n.Put(containerOf(i), workloadOf(i))
	}

	n.Listed("a", []resolve.Ref{containerOf(0), containerOf(1)})
	n.Listed("b", []resolve.Ref{containerOf(2)})
	n.Listed("a", []resolve.Ref{containerOf(1)})

	if live, dead := n.counts(); live != 6 || dead != 2 {
		t.Errorf("got %d live and %d dead entries, want 6 and 2", live, dead)
	}

	if n.fill(&events.Workload{ContainerID: containerOf(0).ContainerID}).Pod == "" {
		t.Error("got no name of a removed container, want it remembered")
	}
}

// TestLearnedReturnsEachChangeOnce: refs with one id each, of what changed.
func TestLearnedReturnsEachChangeOnce(t *testing.T) {
	r := &Resolver{cache: newCache(0)}
	ref := containerOf(1)

	r.cache.Put(ref, workloadOf(1))
	r.cache.Put(ref, workloadOf(1)) // no change

	refs, all := r.Learned()
	slices.SortFunc(refs, func(a, b resolve.Ref) int { return cmp.Compare(a.ContainerID, b.ContainerID) })

	if want := []resolve.Ref{{PodUID: ref.PodUID}, {ContainerID: ref.ContainerID}}; !slices.Equal(refs, want) || all {
		t.Errorf("got %+v, %v, want %+v, false", refs, all, want)
	}

	if refs, all := r.Learned(); len(refs) != 0 || all {
		t.Errorf("got %+v, %v in a second call, want nothing", refs, all)
	}
}

// TestLearnedOverflows: where nobody takes them, refs are not kept without bound.
func TestLearnedOverflows(t *testing.T) {
	r := &Resolver{cache: newCache(0)}
	for i := range maxLearned {
		r.cache.Put(containerOf(i), workloadOf(i))
	}

	if refs, all := r.Learned(); len(refs) != 0 || !all {
		t.Errorf("got %d refs, %v after an overflow, want none, true", len(refs), all)
	}

	r.cache.Put(containerOf(maxLearned), workloadOf(maxLearned))

	if refs, all := r.Learned(); len(refs) != 2 || all {
		t.Errorf("got %d refs, %v after the overflow was taken, want 2, false", len(refs), all)
	}
}
