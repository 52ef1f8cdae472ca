// SPDX-License-Identifier: Apache-2.0

package names

import (
	"container/list"
	"maps"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/oomtrace/oomtrace/internal/events"
)

const (
	// maxLive bounds containers, and pods, that are not known to be gone: removals
	// may be lost. Beyond it the one known longest counts as gone.
	maxLive = 65536
	// maxDeadBytes bounds what the names of removed ones take.
	maxDeadBytes = 16 << 20
)

// cache remembers what was learnt, by container id and by pod UID. Its lock is
// held for accesses to memory only.
type cache struct {
	mu         sync.Mutex
	containers ages
	pods       ages
	version    atomic.Uint64
}

// ages holds entries by id, the live and the dead ones each in order, oldest
// first.
type ages struct {
	byID       map[string]*entry
	live, dead *list.List
	remember   int
	deadBytes  int
}

type entry struct {
	id string
	// w has no labels where it is a container's: they are the pod's.
	w     events.Workload
	exit  *exit
	bytes int
	gone  bool
	at    *list.Element
	// turn is the list of a runtime that last had it; see cache.sweep.
	turn *endpoint
	seq  uint64
}

func newCache(remember int) *cache {
	if remember <= 0 {
		remember = DefaultRemembered
	}

	return &cache{containers: newAges(remember), pods: newAges(remember)}
}

func newAges(remember int) ages {
	return ages{byID: make(map[string]*entry), live: list.New(), dead: list.New(), remember: remember}
}

// obtain returns the entry of an id, making it if need be.
func (a *ages) obtain(id string) *entry {
	e := a.byID[id]
	if e == nil {
		e = &entry{id: id}
		e.at = a.live.PushBack(e)

		a.byID[id] = e
		if a.live.Len() > maxLive {
			a.bury(a.live.Front().Value.(*entry))
		}
	}

	return e
}

// bury counts an entry as gone, and forgets the oldest dead that are too many.
func (a *ages) bury(e *entry) {
	if e.gone {
		return
	}
	e.gone = true
	a.live.Remove(e.at)
	e.at = a.dead.PushBack(e)
	a.deadBytes += e.bytes
	a.forget()
}

func (a *ages) forget() {
	for a.dead.Len() > a.remember || a.deadBytes > maxDeadBytes {
		oldest := a.dead.Remove(a.dead.Front()).(*entry)
		a.deadBytes -= oldest.bytes
		delete(a.byID, oldest.id)
	}
}

// set gives an entry what was learnt.
func (a *ages) set(e *entry, w events.Workload) {
	before := e.bytes

	e.w, e.bytes = w, size(&w)
	if e.gone {
		a.deadBytes += e.bytes - before
		a.forget()
	}
}

// size is about what a workload's texts take.
func size(w *events.Workload) int {
	n := 512 + len(w.Namespace) + len(w.Pod) + len(w.PodUID) + len(w.Container) + len(w.ContainerID) + len(w.Image)
	for k, v := range w.Labels {
		n += 64 + len(k) + len(v)
	}

	return n
}

// put takes in an answer for ref. A better source's answer replaces a worse one's;
// a worse one only adds what is missing. Text is bounded here, for all sources.
func (c *cache) put(ref Ref, w events.Workload) {
	bound(&w)

	if w.ContainerID == "" {
		w.ContainerID = ref.ContainerID
	}

	if w.PodUID == "" {
		w.PodUID = ref.PodUID
	}

	c.mu.Lock()
	defer c.mu.Unlock()
	changed := false

	if w.PodUID != "" && w.Pod != "" {
		pod := w
		pod.Container, pod.ContainerID, pod.Image, pod.RestartCount, pod.OOMScoreAdj, pod.Runtime = "", "", "", nil, nil, ""
		changed = c.pods.learn(w.PodUID, pod)
	}

	if w.ContainerID != "" {
		w.Labels = nil
		changed = c.containers.learn(w.ContainerID, w) || changed
	}

	if changed {
		c.version.Add(1)
	}
}

// learn tells whether it was news.
func (a *ages) learn(id string, w events.Workload) bool {
	e := a.obtain(id)

	old, merged := e.w, w
	if rank[w.Source] < rank[old.Source] {
		merged = old
		add(&merged, &w)
	} else {
		add(&merged, &old)
	}

	if equal(&merged, &old) {
		return false
	}

	a.set(e, merged)

	return true
}

// add gives into what it lacks. The source stays that of the names.
func add(into, more *events.Workload) {
	text := func(a *string, b string) {
		if *a == "" {
			*a = b
		}
	}
	text(&into.Namespace, more.Namespace)
	text(&into.Pod, more.Pod)
	text(&into.PodUID, more.PodUID)
	text(&into.Container, more.Container)
	text(&into.ContainerID, more.ContainerID)
	text(&into.Runtime, more.Runtime)
	text(&into.QoS, more.QoS)

	if into.Image == "" || more.Image != "" && isImageID(into.Image) && !isImageID(more.Image) {
		into.Image = more.Image
	}

	text(&into.Source, more.Source)

	if into.Labels == nil {
		into.Labels = more.Labels
	}

	if into.RestartCount == nil {
		into.RestartCount = more.RestartCount
	}

	if into.OOMScoreAdj == nil {
		into.OOMScoreAdj = more.OOMScoreAdj
	}
}

// isImageID tells an image's id from its name: newer kubelets give runtimes the id.
func isImageID(image string) bool {
	return strings.HasPrefix(image, "sha256:") || len(image) == 64 && isHex(image)
}

func equal(a, b *events.Workload) bool {
	return a.Namespace == b.Namespace && a.Pod == b.Pod && a.PodUID == b.PodUID && a.Container == b.Container &&
		a.ContainerID == b.ContainerID && a.Runtime == b.Runtime && a.QoS == b.QoS && a.Unit == b.Unit && a.Image == b.Image &&
		a.Source == b.Source && same(a.RestartCount, b.RestartCount) && same(a.OOMScoreAdj, b.OOMScoreAdj) && maps.Equal(a.Labels, b.Labels)
}

func same[T comparable](a, b *T) bool {
	if a == nil || b == nil {
		return a == b
	}

	return *a == *b
}

// fill copies w and adds the names.
func (c *cache) fill(w *events.Workload) *events.Workload {
	c.mu.Lock()
	defer c.mu.Unlock()
	uid := w.PodUID

	var container *entry
	if w.ContainerID != "" {
		container = c.containers.byID[w.ContainerID]
		switch {
		case container == nil:
		case uid == "":
			uid = container.w.PodUID
		case container.w.PodUID != "" && container.w.PodUID != uid:
			return w // the path says another pod than the runtime: it cannot be trusted
		}
	}

	pod := c.pods.byID[uid]
	if container == nil && pod == nil {
		return w
	}
	out := *w

	out.Source = "" // the path's; whose the names are is said below
	if container != nil {
		add(&out, &container.w)
	}

	if pod != nil {
		add(&out, &pod.w)
	}

	if rank[out.Source] <= rank[w.Source] {
		out.Source = w.Source
	}

	if equal(&out, w) {
		return w
	}

	return &out
}

// rank tells how good a source the names are from; 0: nothing is known.
func (c *cache) rank(ref Ref) int {
	c.mu.Lock()
	defer c.mu.Unlock()

	var e *entry
	if ref.ContainerID != "" {
		e = c.containers.byID[ref.ContainerID]
	} else {
		e = c.pods.byID[ref.PodUID]
	}

	if e == nil {
		return 0
	}

	return rank[e.w.Source]
}

// gone marks what was removed. What is not known is not made.
func (c *cache) gone(ref Ref) {
	c.mu.Lock()
	defer c.mu.Unlock()

	if ref.ContainerID != "" {
		if e := c.containers.byID[ref.ContainerID]; e != nil {
			c.containers.bury(e)
		}

		return
	}

	if e := c.pods.byID[ref.PodUID]; e != nil {
		c.pods.bury(e)
	}
}

// ended remembers how the runtime says that a container ended.
func (c *cache) ended(id string, x exit) {
	c.mu.Lock()
	defer c.mu.Unlock()

	if e := c.containers.byID[id]; e != nil {
		e.exit = &x
	}
}

// exitOf is what ended was told.
func (c *cache) exitOf(id string) (exit, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()

	if e := c.containers.byID[id]; e != nil && e.exit != nil {
		return *e.exit, true
	}

	return exit{}, false
}

// listed marks what a runtime has, in its seq-th list.
func (c *cache) listed(of *endpoint, seq uint64, containerID, podUID string) {
	c.mu.Lock()
	defer c.mu.Unlock()

	if e := c.containers.byID[containerID]; e != nil {
		e.turn, e.seq = of, seq
	}

	if e := c.pods.byID[podUID]; e != nil {
		e.turn, e.seq = of, seq
	}
}

// sweep counts as gone what a runtime had in a list before seq, and has no more.
func (c *cache) sweep(of *endpoint, seq uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()

	for _, a := range []*ages{&c.containers, &c.pods} {
		for at := a.live.Front(); at != nil; {
			e := at.Value.(*entry)
			at = at.Next()

			if e.turn == of && e.seq < seq {
				a.bury(e)
			}
		}
	}
}

// counts of entries, for tests.
func (c *cache) counts() (live, dead int) {
	c.mu.Lock()
	defer c.mu.Unlock()

	return c.containers.live.Len() + c.pods.live.Len(), c.containers.dead.Len() + c.pods.dead.Len()
}
