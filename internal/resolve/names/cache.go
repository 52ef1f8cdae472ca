// SPDX-License-Identifier: Apache-2.0

package names

import (
	"container/list"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/resolve"
	"github.com/oomtrace/oomtrace/internal/resolve/source"
)

const (
	// maxLive bounds containers, and pods, that are not known to be removed: removals
	// may be lost. Beyond it the one known longest counts as removed.
	maxLive = 65536
	// maxDeadBytes bounds what the names of removed ones take in memory.
	maxDeadBytes = 16 << 20
	// maxLearned bounds the refs that takeLearned returns.
	maxLearned = 4096
)

// cache remembers what was learnt, by container id and by pod UID. It implements
// source.Store. Its lock is held for accesses to memory only.
type cache struct {
	mu         sync.Mutex
	containers generations
	pods       generations
	// news is set while there are refs to take: the tracer asks often, without the lock.
	news atomic.Bool
	// learned are the refs that changed since takeLearned was called; overflow: more
	// than maxLearned.
	learned  map[resolve.Ref]struct{}
	overflow bool
	lists    uint64 // counts calls of Listed
}

// generations holds the entries of one kind by id, the live and the dead ones each in
// order, oldest first.
type generations struct {
	byID       map[string]*nameEntry
	live, dead *list.List
	remember   int
	deadBytes  int
}

type nameEntry struct {
	id string
	// w has no labels where it is a container's of a pod: they are the pod's.
	w     events.Workload
	exit  source.Exit // State is empty: unknown
	bytes int
	gone  bool
	at    *list.Element
	// feed is the feed that last listed it, and list the number of that list.
	feed string
	list uint64
}

func newCache(remember int) *cache {
	if remember <= 0 {
		remember = defaultRemembered
	}

	return &cache{containers: newGenerations(remember), pods: newGenerations(remember), learned: make(map[resolve.Ref]struct{})}
}

func newGenerations(remember int) generations {
	return generations{byID: make(map[string]*nameEntry), live: list.New(), dead: list.New(), remember: remember}
}

// obtain returns the entry of an id, and makes it if there is none.
func (g *generations) obtain(id string) *nameEntry {
	e := g.byID[id]
	if e == nil {
		e = &nameEntry{id: id}
		e.at = g.live.PushBack(e)

		g.byID[id] = e
		if g.live.Len() > maxLive {
			g.bury(g.live.Front().Value.(*nameEntry))
		}
	}

	return e
}

// bury counts an entry as removed, and forgets the oldest dead beyond the bounds.
func (g *generations) bury(e *nameEntry) {
	if e.gone {
		return
	}
	e.gone = true
	g.live.Remove(e.at)
	e.at = g.dead.PushBack(e)
	g.deadBytes += e.bytes
	g.forget()
}

func (g *generations) forget() {
	for g.dead.Len() > g.remember || g.deadBytes > maxDeadBytes {
		oldest := g.dead.Remove(g.dead.Front()).(*nameEntry)
		g.deadBytes -= oldest.bytes
		delete(g.byID, oldest.id)
	}
}

// set gives an entry the names that were learnt.
func (g *generations) set(e *nameEntry, w events.Workload) {
	before := e.bytes

	e.w, e.bytes = w, size(&w)
	if e.gone {
		g.deadBytes += e.bytes - before
		g.forget()
	}
}

// size estimates the memory of a workload in bytes.
func size(w *events.Workload) int {
	n := 512 + len(w.Namespace) + len(w.Pod) + len(w.PodUID) + len(w.Container) + len(w.ContainerID) + len(w.Image)
	for k, v := range w.Labels {
		n += 64 + len(k) + len(v)
	}

	return n
}

// Put takes in an answer for ref. The answer of a better source replaces that of a
// worse one; a worse one only adds what is missing. Text is bounded here, for all
// sources.
func (c *cache) Put(ref resolve.Ref, w events.Workload) {
	bound(&w)

	if w.ContainerID == "" {
		w.ContainerID = ref.ContainerID
	}

	if w.PodUID == "" {
		w.PodUID = ref.PodUID
	}

	c.mu.Lock()
	defer c.mu.Unlock()

	if w.PodUID != "" && w.Pod != "" {
		pod := w
		pod.Container, pod.ContainerID, pod.Image, pod.RestartCount, pod.OOMScoreAdj, pod.Runtime = "", "", "", nil, nil, ""

		if c.pods.learn(w.PodUID, pod) {
			c.note(resolve.Ref{PodUID: w.PodUID})
		}
	}

	if w.ContainerID != "" {
		if w.Pod != "" || w.PodUID != "" {
			w.Labels = nil
		}

		if c.containers.learn(w.ContainerID, w) {
			c.note(resolve.Ref{ContainerID: w.ContainerID})
		}
	}
}

// note records that something was learnt of ref.
func (c *cache) note(ref resolve.Ref) {
	c.news.Store(true)

	if c.overflow {
		return
	}

	c.learned[ref] = struct{}{}
	if len(c.learned) > maxLearned {
		c.overflow = true
		clear(c.learned)
	}
}

// takeLearned returns the refs that were learnt since it was last called; all is true
// if there were too many to keep.
func (c *cache) takeLearned() (refs []resolve.Ref, all bool) {
	if !c.news.Load() {
		return nil, false
	}

	c.mu.Lock()
	defer c.mu.Unlock()

	c.news.Store(false)

	for ref := range c.learned {
		refs = append(refs, ref)
	}

	all = c.overflow
	c.overflow = false
	clear(c.learned)

	return refs, all
}

// learn merges what was learnt of an id, and reports whether that changed anything.
func (g *generations) learn(id string, w events.Workload) bool {
	e := g.obtain(id)

	old, merged := e.w, w
	if source.Rank(w.Source) < source.Rank(old.Source) {
		merged = old
		add(&merged, &w)
	} else {
		add(&merged, &old)
	}

	if equal(&merged, &old) {
		return false
	}

	g.set(e, merged)

	return true
}

// add copies from more what into lacks. The source stays that of the names.
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

// isImageID reports whether image is an id, not a name: newer kubelets pass ids to
// runtimes.
func isImageID(image string) bool {
	return strings.HasPrefix(image, "sha256:") || resolve.IsContainerID(image)
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

// fill returns a copy of w with the names added, and w itself if there are none to add.
func (c *cache) fill(w *events.Workload) *events.Workload {
	c.mu.Lock()
	defer c.mu.Unlock()

	uid := w.PodUID

	var container *nameEntry
	if w.ContainerID != "" {
		container = c.containers.byID[w.ContainerID]
		switch {
		case container == nil:
		case uid == "":
			uid = container.w.PodUID
		case container.w.PodUID != "" && container.w.PodUID != uid:
			return w // path and runtime name different pods: the path cannot be trusted
		}
	}

	pod := c.pods.byID[uid]
	if container == nil && pod == nil {
		return w
	}
	out := *w

	out.Source = "" // that of the path; add sets that of the names
	if container != nil {
		add(&out, &container.w)
	}

	if pod != nil {
		add(&out, &pod.w)
	}

	if source.Rank(out.Source) <= source.Rank(w.Source) {
		out.Source = w.Source
	}

	if equal(&out, w) {
		return w
	}

	return &out
}

// fillHolder returns a copy of w with the name of the container that it is within, if that is
// one of the node's own runtime, and w itself if there is none to add. What is inside is not
// looked up: whoever may write there chose its ids.
func (c *cache) fillHolder(w *events.Workload) *events.Workload {
	if w == nil {
		return nil
	}

	at := slices.IndexFunc(w.Within, func(h events.Holder) bool {
		return h.Kind == events.HolderContainer || h.Kind == events.HolderGuest
	})
	if at < 0 || w.Within[at].Kind != events.HolderContainer {
		return w
	}

	c.mu.Lock()
	defer c.mu.Unlock()

	e := c.containers.byID[w.Within[at].ID]
	if e == nil || e.w.Container == w.Within[at].Name {
		return w
	}

	out := *w
	out.Within = slices.Clone(w.Within)
	out.Within[at].Name = e.w.Container

	return &out
}

// SourceOf implements source.Store.
func (c *cache) SourceOf(ref resolve.Ref) string {
	c.mu.Lock()
	defer c.mu.Unlock()

	if e := c.entry(ref); e != nil {
		return e.w.Source
	}

	return ""
}

// entry returns the entry of a container, or of a pod if ref has no container; nil if
// there is none.
func (c *cache) entry(ref resolve.Ref) *nameEntry {
	if ref.ContainerID != "" {
		return c.containers.byID[ref.ContainerID]
	}

	return c.pods.byID[ref.PodUID]
}

// Gone implements source.Store. What is unknown stays unknown.
func (c *cache) Gone(ref resolve.Ref) {
	c.mu.Lock()
	defer c.mu.Unlock()

	switch e := c.entry(ref); {
	case e == nil:
	case ref.ContainerID != "":
		c.containers.bury(e)
	default:
		c.pods.bury(e)
	}
}

// Exited implements source.Store.
func (c *cache) Exited(containerID string, x source.Exit) {
	c.mu.Lock()
	defer c.mu.Unlock()

	if e := c.containers.byID[containerID]; e != nil {
		e.exit = x
	}
}

// exitOf returns what Exited stored for a container; State is empty if nothing.
func (c *cache) exitOf(containerID string) source.Exit {
	c.mu.Lock()
	defer c.mu.Unlock()

	if e := c.containers.byID[containerID]; e != nil {
		return e.exit
	}

	return source.Exit{}
}

// Listed implements source.Store. Only what the feed itself had in its last list
// counts as removed.
func (c *cache) Listed(feed string, present []resolve.Ref) {
	c.mu.Lock()
	defer c.mu.Unlock()

	c.lists++

	for _, ref := range present {
		for _, e := range []*nameEntry{c.containers.byID[ref.ContainerID], c.pods.byID[ref.PodUID]} {
			if e != nil {
				e.feed, e.list = feed, c.lists
			}
		}
	}

	for _, g := range []*generations{&c.containers, &c.pods} {
		for at := g.live.Front(); at != nil; {
			e := at.Value.(*nameEntry)
			at = at.Next()

			if e.feed == feed && e.list < c.lists {
				g.bury(e)
			}
		}
	}
}
