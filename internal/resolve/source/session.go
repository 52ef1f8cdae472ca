// SPDX-License-Identifier: Apache-2.0

package source

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/oomtrace/oomtrace/internal/resolve"
	"github.com/oomtrace/oomtrace/internal/runtimes"
)

const (
	// callTimeout bounds a call; a node that is out of memory is slow.
	callTimeout = 10 * time.Second
	// Between attempts to connect.
	firstBackoff, maxBackoff = 250 * time.Millisecond, 15 * time.Second
	// Everything is listed again from time to time: often where there are no events,
	// but never for more than a fiftieth of the time.
	listEveryPolling, listEveryStreaming, listShare = 10 * time.Second, 5 * time.Minute, 50
	// lookups is how many ids are asked for at the same time.
	lookups = 4
	// maxMessage bounds an answer in bytes: 10 000 containers take some 10 MiB.
	maxMessage = 64 << 20
)

// Run implements Feed: it connects until the context ends.
func (r *CRI) Run(ctx context.Context) {
	backoff := firstBackoff

	for ctx.Err() == nil {
		start := time.Now()

		r.warnOf(r.session(ctx))

		if time.Since(start) > maxBackoff {
			backoff = firstBackoff
		}

		select {
		case <-ctx.Done():
		case <-time.After(backoff):
		}
		backoff = min(2*backoff, maxBackoff)
	}
}

// warnOf warns that names come from other sources, with a key for each reason.
func (r *CRI) warnOf(err error) {
	const elsewhere = ": names come from files for now"

	reason, text := "lost", fmt.Sprintf("the runtime at %s does not answer: %v%s", r.label, err, elsewhere)
	switch {
	case err == nil:
		return
	case errors.Is(err, fs.ErrPermission):
		reason, text = "permission", fmt.Sprintf("permission denied for the runtime's socket %s%s: run as root", r.label, elsewhere)
	case errors.Is(err, fs.ErrNotExist):
		reason, text = "missing", fmt.Sprintf("no socket at %s%s", r.label, elsewhere)
	case errors.Is(err, syscall.ECONNREFUSED):
		reason, text = "refused", fmt.Sprintf("nothing listens at %s%s", r.label, elsewhere)
	case status.Code(err) == codes.Unimplemented:
		reason, text = "no_cri", fmt.Sprintf("%s does not support CRI v1%s", r.label, elsewhere)
	}

	r.warn(r.socket+" "+reason, text)
}

// session is one connection, until it is lost.
func (r *CRI) session(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	conn, err := dial(ctx, r.socket)
	if err != nil {
		return err
	}
	defer conn.Close()

	client := cri.NewRuntimeServiceClient(conn)

	version, err := call(ctx, client.Version, &cri.VersionRequest{})
	if err != nil {
		return err
	}

	c := &connection{client: client, runtime: strings.ToLower(version.RuntimeName), named: func(uid string) bool {
		return r.store.SourceOf(resolve.Ref{PodUID: uid}) == NameCRI
	}}

	var work sync.WaitGroup
	defer work.Wait()
	defer cancel()

	ended := make(chan struct{})

	streaming := broadcastsEvents(version)
	if streaming {
		// Before the list, so that nothing is missed in between.
		work.Go(func() {
			defer close(ended)

			r.stream(ctx, c)
		})
	}

	// Questions that come before the list are queued.
	r.now.Store(c)
	defer r.now.Store(nil)

	for range lookups {
		work.Go(func() { r.answer(ctx, c) })
	}

	for lists := 0; ; lists++ {
		start := time.Now()

		if err := r.list(ctx, c); err != nil {
			return err
		}

		if lists == 0 {
			// A node that is out of memory can use what the list took.
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
			// Events are not implemented, or switched off, or the runtime has ended: the
			// next list decides.
			streaming = false
		case <-time.After(max(every, listShare*time.Since(start))):
		}
	}
}

// dial connects to a unix socket.
func dial(ctx context.Context, socket string) (*grpc.ClientConn, error) {
	// gRPC hides why it cannot connect.
	probe, err := (&net.Dialer{Timeout: callTimeout}).DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, err
	}

	probe.Close()

	return grpc.NewClient("passthrough:///cri",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)))
}

// broadcastsEvents reports whether every reader of GetContainerEvents gets all events.
// Containerd 1.7 hands each event to one reader only (a plain channel in
// pkg/cri/server): reading there would take events away from the kubelet.
func broadcastsEvents(v *cri.VersionResponse) bool {
	return v.RuntimeName != runtimes.Containerd || !strings.HasPrefix(strings.TrimPrefix(v.RuntimeVersion, "v"), "1.")
}

// call makes a call with a deadline.
func call[Q, A any](ctx context.Context, method func(context.Context, Q, ...grpc.CallOption) (A, error), question Q) (A, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()

	return method(ctx, question)
}
