// SPDX-License-Identifier: Apache-2.0

package names

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Sockets are where runtimes listen for CRI, below the host's root.
var Sockets = []string{
	"/run/containerd/containerd.sock",
	"/run/crio/crio.sock",
	"/run/k3s/containerd/containerd.sock", // k3s and RKE2
	"/run/cri-dockerd.sock",
	"/run/k0s/containerd.sock",
	"/var/snap/microk8s/common/run/containerd.sock",
}

const (
	// callTimeout bounds a call; a node that is out of memory is slow.
	callTimeout = 10 * time.Second
	// Between attempts to connect.
	firstBackoff, maxBackoff = 250 * time.Millisecond, 15 * time.Second
	// findEvery is how often sockets are looked for.
	findEvery = 10 * time.Second
	// Everything is listed anew from time to time: often where there are no events,
	// but never for more than a fiftieth of the time.
	listEveryPolling, listEveryStreaming, listShare = 10 * time.Second, 5 * time.Minute, 50
	// lookups is how many ids are asked for at the same time.
	lookups = 4
	// maxMessage bounds an answer: 10 000 containers take some 10 MiB.
	maxMessage = 64 << 20
)

// parseEndpoint gives the path of a unix socket.
func parseEndpoint(endpoint string) (path string, err error) {
	path = strings.TrimPrefix(endpoint, "unix://")
	if path != "" && path[0] != '/' || endpoint != "" && path == "" {
		return "", fmt.Errorf("CRI endpoint %q: it is like unix:///run/containerd/containerd.sock", endpoint)
	}

	return path, nil
}

// endpoint is a CRI socket. It connects by itself, again and again.
type endpoint struct {
	of     *Resolver
	path   string // of the socket, as this process reaches it
	label  string // as people know it
	wanted chan Ref
	now    atomic.Pointer[connection]
	seq    uint64 // of the last list
}

// connection is what there is while connected.
type connection struct {
	client cri.RuntimeServiceClient
	name   string // of the runtime, as events.Workload has it
	// knows tells that a pod need not be asked for; nil: none is known.
	knows func(podUID string) bool
}

// findRuntimes starts a runtime for each socket as it appears.
func (r *Resolver) findRuntimes(endpoint string) {
	if endpoint != "" {
		r.begin(endpoint, endpoint)
		return
	}
	begun := make(map[string]bool)

	for {
		for _, label := range Sockets {
			if socket, err := r.root.path(label); err == nil && !begun[label] && r.root.exists(label) {
				begun[label] = true
				r.begin(socket, label)
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

func (r *Resolver) begin(socket, label string) {
	rt := &endpoint{of: r, path: socket, label: label, wanted: make(chan Ref, queued)}
	r.runtimes.Lock()
	r.runtimes.list = append(r.runtimes.list, rt)
	r.runtimes.Unlock()
	r.work.Go(rt.run)
}

// connected gives the runtimes that can be asked.
func (r *Resolver) connected() []*connection {
	r.runtimes.Lock()
	defer r.runtimes.Unlock()
	var all []*connection

	for _, rt := range r.runtimes.list {
		if c := rt.now.Load(); c != nil {
			all = append(all, c)
		}
	}

	return all
}

// askRuntimes hands an id to all that are connected. Those that are not will have
// it in their first list.
func (r *Resolver) askRuntimes(ref Ref) {
	r.runtimes.Lock()
	defer r.runtimes.Unlock()
	// On a node without pods it is nothing to remark on.
	if len(r.runtimes.list) == 0 && ref.PodUID != "" && r.searched.Load() {
		r.warnOnce("sockets", "no CRI socket at any of the usual places, names come from files only: --cri-endpoint names another")
	}

	for _, rt := range r.runtimes.list {
		if rt.now.Load() == nil {
			continue
		}

		r.enqueue(rt.wanted, ref)
	}
}

func (rt *endpoint) run() {
	backoff := firstBackoff

	for rt.of.ctx.Err() == nil {
		begin := time.Now()
		err := rt.session(rt.of.ctx)
		rt.say(err)

		if time.Since(begin) > maxBackoff {
			backoff = firstBackoff
		}

		select {
		case <-rt.of.ctx.Done():
		case <-time.After(backoff):
		}
		backoff = min(2*backoff, maxBackoff)
	}
}

// say tells, once for each reason, that names come from elsewhere.
func (rt *endpoint) say(err error) {
	const elsewhere = ": names come from files meanwhile"

	reason, text := "lost", fmt.Sprintf("the runtime at %s does not answer: %v%s", rt.label, err, elsewhere)
	switch {
	case err == nil:
		return
	case errors.Is(err, fs.ErrPermission):
		reason, text = "permission", fmt.Sprintf("permission denied for the runtime's socket %s%s: run as root", rt.label, elsewhere)
	case errors.Is(err, fs.ErrNotExist):
		reason, text = "missing", fmt.Sprintf("there is no socket %s%s", rt.label, elsewhere)
	case errors.Is(err, syscall.ECONNREFUSED):
		reason, text = "refused", fmt.Sprintf("nobody listens at %s%s", rt.label, elsewhere)
	case status.Code(err) == codes.Unimplemented:
		reason, text = "no_cri", fmt.Sprintf("%s does not speak CRI v1%s", rt.label, elsewhere)
	}

	rt.of.warnOnce(rt.path+" "+reason, text)
}

// session is one connection, from its begin to its end.
func (rt *endpoint) session(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// gRPC hides why it cannot connect.
	probe, err := (&net.Dialer{Timeout: callTimeout}).DialContext(ctx, "unix", rt.path)
	if err != nil {
		return err
	}

	probe.Close()

	conn, err := grpc.NewClient("passthrough:///cri",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", rt.path)
		}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)))
	if err != nil {
		return err
	}
	defer conn.Close()
	client := cri.NewRuntimeServiceClient(conn)

	version, err := call(ctx, client.Version, &cri.VersionRequest{})
	if err != nil {
		return err
	}

	c := &connection{client: client, name: strings.ToLower(version.RuntimeName), knows: func(uid string) bool {
		return rt.of.cache.rank(Ref{PodUID: uid}) == rank[SourceCRI]
	}}

	var wait sync.WaitGroup
	defer wait.Wait()
	defer cancel()
	ended := make(chan struct{})

	streaming := broadcastsEvents(version)
	if streaming {
		// Before the list, so that nothing falls between.
		wait.Go(func() {
			defer close(ended)

			rt.stream(ctx, c)
		})
	}
	// What is asked for meanwhile is queued.
	rt.now.Store(c)
	defer rt.now.Store(nil)

	for range lookups {
		wait.Go(func() { rt.answer(ctx, c) })
	}

	for lists := 0; ; lists++ {
		begin := time.Now()

		if err := rt.list(ctx, c); err != nil {
			return err
		}

		if lists == 0 {
			// What the list took, a node out of memory can use.
			debug.FreeOSMemory()
		}

		every := listEveryStreaming
		if !streaming {
			every, ended = listEveryPolling, nil
		}

		select {
		case <-ctx.Done():
			return nil
		case <-ended:
			// They are Unimplemented, or turned off, or the runtime is gone: the list will
			// tell.
			streaming = false
		case <-time.After(max(every, listShare*time.Since(begin))):
		}
	}
}

// broadcastsEvents tells whether every reader of GetContainerEvents gets all
// events. Containerd 1.7 hands each event to one reader only (a plain channel in
// pkg/cri/server): reading there would take events away from the kubelet.
func broadcastsEvents(v *cri.VersionResponse) bool {
	return v.RuntimeName != "containerd" || !strings.HasPrefix(strings.TrimPrefix(v.RuntimeVersion, "v"), "1.")
}

// call makes a call that ends in time.
func call[Q, A any](ctx context.Context, method func(context.Context, Q, ...grpc.CallOption) (A, error), question Q) (A, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()

	return method(ctx, question)
}
