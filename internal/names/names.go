// SPDX-License-Identifier: Apache-2.0

// Package names tells the names of pods and containers whose ids are known, from
// what is on the node: no credentials of a cluster are needed.
//
// A Resolver learns in goroutines of its own. Who traces hands it ids as cgroups
// are made (Seen) and takes names (Fill) without ever waiting for a look-up.
//
// Where several sources know a container, the better one's answer stays; it is
// in Workload.Source. From the best to the last:
//
//	cri      the runtime's CRI socket: its event stream, else lists of it
//	kubelet  the kubelet's list of pods, where it is asked for
//	disk     files that the runtimes keep: they vanish with the container
//	log_dir  names of directories and links below /var/log
//
// All are asked at once, not one after the other: the runtime's files are gone
// some 30 ms after a kill, and a socket may take seconds to answer.
package names

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
)

// Sources of names, as Workload.Source has them.
const (
	SourceCRI     = "cri"
	SourceKubelet = "kubelet"
	SourceDisk    = "disk"
	SourceLogDir  = "log_dir"
)

// rank orders the sources, the best highest.
var rank = map[string]int{SourceLogDir: 1, SourceDisk: 2, SourceKubelet: 3, SourceCRI: 4}

// Ref names a container or a pod by its ids; one of the two ids may be empty.
type Ref struct {
	ContainerID string // 64 hexadecimal digits; a sandbox's id is one as well
	PodUID      string
	Runtime     string // as resolve.ParsePath names it; empty: not known
}

// RefOf gives the ids of what a cgroup's path names. It is not ok for what is no
// container or pod of this node's own: names below a container are chosen by
// who may write there, and could pose as another's.
func RefOf(w *events.Workload) (ref Ref, ok bool) {
	if w == nil || w.NodeContainerID != "" || w.ContainerID == "" && w.PodUID == "" {
		return Ref{}, false
	}

	return Ref{ContainerID: w.ContainerID, PodUID: w.PodUID, Runtime: w.Runtime}, true
}

// source answers for one container or pod.
type source interface {
	// lookup returns errUnknown for what the source does not have.
	lookup(ctx context.Context, ref Ref) (events.Workload, error)
}

var errUnknown = errors.New("not known here")

// Options sets up a Resolver. The zero value looks for everything itself.
type Options struct {
	// HostRoot is where the node's file system is seen; empty is "/".
	HostRoot string
	// CRIEndpoint is the only socket to ask, as unix:///path or a path, not below
	// HostRoot; empty: those that are found at the usual places.
	CRIEndpoint string
	// Kubelet is asked where an endpoint is given.
	Kubelet KubeletOptions
	// Remember is how many removed containers are remembered, the oldest forgotten
	// first; 0 is DefaultRemembered.
	Remember int
	// Warn takes remarks for people, each once. It is called from several
	// goroutines; nil drops them.
	Warn func(text string)
}

// DefaultRemembered is how many removed containers a Resolver remembers.
const DefaultRemembered = 8192

// queued bounds how many ids wait for a look-up.
const queued = 32768

// Resolver knows names. Its methods may be called from any goroutine, and none
// but Close waits for a look-up.
type Resolver struct {
	opts  Options
	root  hostRoot
	cache *cache
	local []source // answered by reading files, quickly
	// What was just made goes before what was there already: its files may be gone
	// in a moment.
	queue, backlog chan Ref
	// runtimes are the sockets that were found.
	runtimes struct {
		sync.Mutex
		list []*endpoint
	}
	searched atomic.Bool // sockets were looked for once
	kubelet  chan Ref    // nil: it is not asked
	checks   chan Check
	done     reports

	dropped atomic.Uint64
	said    struct {
		sync.Mutex
		texts map[string]bool
	}

	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup
}

// New starts to learn. It fails only where an option is wrong.
func New(opts Options) (*Resolver, error) {
	if opts.Warn == nil {
		opts.Warn = func(string) {}
	}
	root := hostRoot(opts.HostRoot)
	r := &Resolver{
		opts: opts, root: root, cache: newCache(opts.Remember),
		local: []source{newDisk(root), newLogDir(root)},
		queue: make(chan Ref, queued), backlog: make(chan Ref, queued), checks: make(chan Check, maxChecks),
	}
	r.said.texts = make(map[string]bool)
	r.ctx, r.cancel = context.WithCancel(context.Background())

	endpoint, err := parseEndpoint(opts.CRIEndpoint)
	if err != nil {
		return nil, err
	}

	if opts.Kubelet.Endpoint != "" {
		k, err := newKubelet(opts.Kubelet)
		if err != nil {
			return nil, err
		}
		r.kubelet = make(chan Ref, queued)
		r.work.Go(func() { r.askKubelet(k) })
	}

	r.work.Go(r.readFiles)
	r.work.Go(func() { r.findRuntimes(endpoint) })
	r.work.Go(r.runChecks)

	return r, nil
}

// Close ends what is under way, and returns once nothing runs any more. What was
// learnt stays.
func (r *Resolver) Close() {
	r.cancel()
	r.work.Wait()
}

// Seen tells of a container or pod that was just made, and whose names may be
// wanted. It returns at once; if too many wait already, it is dropped and counted.
func (r *Resolver) Seen(ref Ref) { r.enqueue(r.queue, ref) }

// Found tells of one that was there already. It is like Seen, with less hurry.
func (r *Resolver) Found(ref Ref) { r.enqueue(r.backlog, ref) }

func (r *Resolver) enqueue(queue chan<- Ref, ref Ref) {
	select {
	case queue <- ref:
	default:
		r.dropped.Add(1)
	}
}

// Gone tells that a container's or pod's cgroup was removed. Its names are
// remembered for as long as there is room.
func (r *Resolver) Gone(ref Ref) { r.cache.gone(ref) }

// Fill returns w with all names that are known by now. It does not change w; where
// there is nothing to add it returns w itself.
func (r *Resolver) Fill(w *events.Workload) *events.Workload {
	if _, ok := RefOf(w); !ok {
		return w
	}

	return r.cache.fill(w)
}

// Version changes whenever names were learnt.
func (r *Resolver) Version() uint64 { return r.cache.version.Load() }

// Dropped counts ids that were not looked up, because too many waited.
func (r *Resolver) Dropped() uint64 { return r.dropped.Load() }

// maxRemark bounds a remark: a runtime's own words may be in it.
const maxRemark = 400

// warnOnce says a text at most once for each key.
func (r *Resolver) warnOnce(key, text string) {
	r.said.Lock()
	said := r.said.texts[key]
	r.said.texts[key] = true
	r.said.Unlock()

	if !said && r.ctx.Err() == nil {
		r.opts.Warn(clip(text, maxRemark))
	}
}

// retryAfter is when an id that no file knew is looked up again: the kubelet makes
// a pod's cgroup before the runtime has heard of the pod.
var retryAfter = []time.Duration{50 * time.Millisecond, 250 * time.Millisecond, time.Second, 4 * time.Second, 15 * time.Second}

// maxRetries bounds how many ids wait for another look-up.
const maxRetries = 4096

type retry struct {
	ref     Ref
	attempt int
	due     time.Time
}

// readFiles looks ids up in files, and hands on to the others what the files do
// not tell.
func (r *Resolver) readFiles() {
	var waiting []retry
	try := func(ref Ref, attempt int) {
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

		var tick <-chan time.Time // on a quiet node nothing wakes
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

// lookUp asks the files at once, and gives the id to those that answer slower. It
// tells whether something is known now.
func (r *Resolver) lookUp(ref Ref, attempt int) bool {
	known := r.cache.rank(ref)
	if known == 0 {
		for _, s := range r.local {
			if w, err := s.lookup(r.ctx, ref); err == nil {
				r.cache.put(ref, w)
				known = rank[w.Source]

				break
			}
		}
	}
	// The kubelet makes a pod's cgroup before the runtime hears of the pod, and its
	// first container tells of it: a pod is asked for only if none came.
	if known < rank[SourceCRI] && attempt < 4 && (ref.ContainerID != "" || attempt > 1) {
		r.askRuntimes(ref)
	}

	if known < rank[SourceKubelet] && r.kubelet != nil {
		r.enqueue(r.kubelet, ref)
	}

	return known > 0
}
