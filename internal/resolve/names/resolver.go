// SPDX-License-Identifier: Apache-2.0

// Package names knows what pods and containers are called. It asks container runtimes, the
// kubelet and the files of both, and remembers what they answered.
package names

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/resolve"
	"github.com/oomtrace/oomtrace/internal/resolve/source"
	"github.com/oomtrace/oomtrace/internal/runtimes"
)

// Options configure a Resolver. The zero value finds all sources itself.
type Options struct {
	// HostRoot is where the node's file system is mounted; empty is "/".
	HostRoot string
	// CRIEndpoint is the only socket to ask, as unix:///path or a path, not below
	// HostRoot; empty: those of Runtimes that exist.
	CRIEndpoint string
	// Kubelet is asked where it has an endpoint.
	Kubelet source.KubeletOptions
	// Runtimes are the runtimes whose sockets and files are read; nil: runtimes.Known.
	Runtimes runtimes.Table
	// Remember is how many removed containers are remembered, the oldest forgotten
	// first; 0 is 8192.
	Remember int
	// Warn takes warnings for people, each once. It is called from several
	// goroutines; nil drops them.
	Warn func(text string)
}

// defaultRemembered is how many removed containers a Resolver remembers.
const defaultRemembered = 8192

const (
	// queued bounds how many ids wait to be looked up.
	queued = 32768
	// findEvery is the time between two searches for sockets.
	findEvery = 10 * time.Second
	// maxWarning bounds a warning in bytes: text of a runtime may be part of it.
	maxWarning = 400
)

// Resolver knows the names of containers and pods. It asks all sources at once, not
// one after the other: the runtime's files are removed some 30 ms after a kill, and a
// socket may take seconds to answer. The answer of the best source counts.
//
// Its methods are safe for concurrent use, and none but Exit and Close waits.
type Resolver struct {
	opts  Options
	root  source.Root
	cache *cache
	files []source.Source
	disk  *source.Disk
	// Ids of new cgroups go before those of cgroups that existed before: the files
	// of a new container may be removed at any moment.
	queue, backlog chan resolve.Ref

	// feeds are the kubelet, and sockets as they are found.
	feeds struct {
		sync.Mutex
		list []source.Feed
		cri  []*source.CRI
	}
	searched atomic.Bool // sockets were searched for once

	dropped atomic.Uint64
	warned  struct {
		sync.Mutex
		keys map[string]bool
	}

	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup
}

// New starts a resolver. It fails only where an option is wrong.
func New(opts Options) (*Resolver, error) {
	if opts.Warn == nil {
		opts.Warn = func(string) {}
	}

	if opts.Runtimes == nil {
		opts.Runtimes = runtimes.Known()
	}

	root := source.Root(opts.HostRoot)
	r := &Resolver{
		opts: opts, root: root, cache: newCache(opts.Remember), disk: source.NewDisk(root, opts.Runtimes),
		queue: make(chan resolve.Ref, queued), backlog: make(chan resolve.Ref, queued),
	}
	r.files = []source.Source{r.disk, source.NewLogDir(root)}
	r.warned.keys = make(map[string]bool)
	r.ctx, r.cancel = context.WithCancel(context.Background())

	endpoint, err := source.ParseEndpoint(opts.CRIEndpoint)
	if err != nil {
		return nil, err
	}

	if opts.Kubelet.Endpoint != "" {
		kubelet, err := source.NewKubelet(opts.Kubelet, r.cache, r.warnOnce)
		if err != nil {
			return nil, err
		}

		r.start(kubelet)
	}

	r.work.Go(r.readFiles)

	if endpoint != "" {
		r.startCRI(endpoint, endpoint)
	} else {
		r.work.Go(r.findSockets)
	}

	return r, nil
}

// Close ends all look-ups, and returns once all goroutines have ended. Names that
// were learnt stay.
func (r *Resolver) Close() {
	r.cancel()
	r.work.Wait()
}

// Seen queues a container or pod whose cgroup was just made. Where too many are
// queued it is dropped and counted.
func (r *Resolver) Seen(ref resolve.Ref) { r.enqueue(r.queue, ref) }

// Found queues one whose cgroup existed before; it comes after those that were Seen.
func (r *Resolver) Found(ref resolve.Ref) { r.enqueue(r.backlog, ref) }

func (r *Resolver) enqueue(queue chan<- resolve.Ref, ref resolve.Ref) {
	select {
	case queue <- ref:
	default:
		r.dropped.Add(1)
	}
}

// Gone reports that a container's or pod's cgroup was removed. Its names are
// remembered while there is room.
func (r *Resolver) Gone(ref resolve.Ref) { r.cache.Gone(ref) }

// Fill returns w with all names that are known so far. It does not change w; where
// there is nothing to add it returns w itself.
func (r *Resolver) Fill(w *events.Workload) *events.Workload {
	if _, ok := resolve.RefOf(w); !ok {
		return r.cache.fillHolder(w)
	}

	return r.cache.fill(w)
}

// Learned returns the containers and pods of which something was learnt since the
// last call. Each ref has exactly one id: compare it with Workload.ContainerID or
// Workload.PodUID. Where more was learnt than is kept, all is true, refs is empty, and
// any workload may have got a name.
func (r *Resolver) Learned() (refs []resolve.Ref, all bool) { return r.cache.takeLearned() }

// Dropped counts ids that were not looked up, because too many were queued.
func (r *Resolver) Dropped() uint64 { return r.dropped.Load() }

// warnOnce warns once for each key.
func (r *Resolver) warnOnce(key, text string) {
	r.warned.Lock()
	done := r.warned.keys[key]
	r.warned.keys[key] = true
	r.warned.Unlock()

	if !done && r.ctx.Err() == nil {
		r.opts.Warn(source.Clip(text, maxWarning))
	}
}

// retryAfter are the times after which an id is looked up again that no file had: the
// kubelet makes a pod's cgroup before the runtime learns of the pod.
var retryAfter = []time.Duration{50 * time.Millisecond, 250 * time.Millisecond, time.Second, 4 * time.Second, 15 * time.Second}

// maxRetries bounds how many ids wait for another look-up.
const maxRetries = 4096

type retry struct {
	ref     resolve.Ref
	attempt int
	due     time.Time
}

// readFiles looks ids up in files, and asks the feeds for better answers.
func (r *Resolver) readFiles() {
	var waiting []retry

	try := func(ref resolve.Ref, attempt int) {
		if r.lookUp(ref, attempt) || attempt == len(retryAfter) {
			return
		}

		if len(waiting) == maxRetries {
			r.dropped.Add(1)
			return
		}
		waiting = append(waiting, retry{ref, attempt + 1, time.Now().Add(retryAfter[attempt])})
	}

	for {
		select {
		case ref := <-r.queue:
			try(ref, 0)
			continue
		default:
		}

		var tick <-chan time.Time // nil: nothing wakes an idle node
		if len(waiting) > 0 {
			tick = time.After(retryAfter[0] / 2)
		}

		select {
		case <-r.ctx.Done():
			return
		case ref := <-r.queue:
			try(ref, 0)
		case ref := <-r.backlog:
			try(ref, 0)
		case now := <-tick:
			due := waiting
			waiting = nil

			for _, w := range due {
				if now.Before(w.due) {
					waiting = append(waiting, w)
				} else {
					try(w.ref, w.attempt)
				}
			}
		}
	}
}

// lookUp reads the files, and asks the feeds that would know better. It reports
// whether there is a name now.
func (r *Resolver) lookUp(ref resolve.Ref, attempt int) bool {
	known := source.Rank(r.cache.SourceOf(ref))
	if known == 0 {
		for _, s := range r.files {
			if w, err := s.Lookup(r.ctx, ref); err == nil {
				r.cache.Put(ref, w)
				known = source.Rank(w.Source)

				break
			}
		}
	}

	r.feeds.Lock()
	defer r.feeds.Unlock()

	for _, feed := range r.feeds.list {
		if known < source.Rank(feed.Name()) && !feed.Ask(ref, attempt) {
			r.dropped.Add(1)
		}
	}

	// A node without pods needs no runtime, and no warning.
	if len(r.feeds.cri) == 0 && ref.PodUID != "" && r.searched.Load() {
		r.warnOnce("sockets", "no CRI socket at the usual paths, names come from files only: set --cri-endpoint if it is elsewhere")
	}

	return known > 0
}

// findSockets starts a feed for each socket as it appears.
func (r *Resolver) findSockets() {
	started := make(map[string]bool)

	for {
		for _, label := range r.opts.Runtimes.Sockets() {
			if socket, err := r.root.Path(label); err == nil && !started[label] && r.root.Exists(label) {
				started[label] = true
				r.startCRI(socket, label)
			}
		}

		r.searched.Store(true)

		select {
		case <-r.ctx.Done():
			return
		case <-time.After(findEvery):
		}
	}
}

func (r *Resolver) startCRI(socket, label string) {
	cri := source.NewCRI(socket, label, r.cache, r.warnOnce)

	r.feeds.Lock()
	r.feeds.cri = append(r.feeds.cri, cri)
	r.feeds.Unlock()

	r.start(cri)
}

func (r *Resolver) start(feed source.Feed) {
	r.feeds.Lock()
	r.feeds.list = append(r.feeds.list, feed)
	r.feeds.Unlock()

	r.work.Go(func() { feed.Run(r.ctx) })
}

// connected returns the runtimes that can be asked.
func (r *Resolver) connected() []*source.CRI {
	r.feeds.Lock()
	defer r.feeds.Unlock()

	var all []*source.CRI

	for _, cri := range r.feeds.cri {
		if cri.Connected() {
			all = append(all, cri)
		}
	}

	return all
}

// Connected reports whether any runtime can be asked.
func (r *Resolver) Connected() bool { return len(r.connected()) > 0 }

// Exit asks the runtimes for the state of a container, then their files. It waits for
// the answers.
//
// Where no runtime has the container any more it returns source.ErrUnknown, and where
// none answered source.ErrNoAnswer, with the exit that an event of the runtime
// reported before; the exit's State is empty if there was no such event.
func (r *Resolver) Exit(ctx context.Context, ref resolve.Ref) (source.Exit, error) {
	all, unknown := r.connected(), 0

	for _, cri := range all {
		switch x, err := cri.Exit(ctx, ref.ContainerID); err {
		case nil:
			return x, nil
		case source.ErrUnknown:
			unknown++
		}
	}

	if x, ok := r.disk.Exit(ref.ContainerID); ok {
		return x, nil
	}

	if len(all) > 0 && unknown == len(all) {
		return r.cache.exitOf(ref.ContainerID), source.ErrUnknown
	}

	return r.cache.exitOf(ref.ContainerID), source.ErrNoAnswer
}
