// SPDX-License-Identifier: Apache-2.0

package survive

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// ExitTooLarge is the exit status of a process that ends itself at its bound of memory.
const ExitTooLarge = 3

// TooLargeError reports that this process has more memory than it may.
type TooLargeError struct{ Bytes, MaxBytes uint64 }

func (e *TooLargeError) Error() string {
	return fmt.Sprintf("oomtrace ends itself: it uses %d MiB of memory, and may use %d MiB: the OOM killer "+
		"does not choose it, so a leak would cost the node; if the node has very many cgroups and pods, raise the bound (--max-memory), "+
		"else please report this", e.Bytes>>20, e.MaxBytes>>20)
}

const (
	watchEvery = 250 * time.Millisecond
	// endWithin is how long the process has to end by itself.
	endWithin = 5 * time.Second
)

// dataLimit is the soft limit of RLIMIT_DATA before Bound, 0 if it was not changed.
var dataLimit atomic.Uint64

// Bound has the kernel refuse this process more private memory than it has now plus
// maxBytes. A leak that is faster than the readings of Watch ends there: the Go runtime
// ends the process with status 2 if it gets no memory.
func Bound(maxBytes uint64) error {
	r, err := newUsageReader()
	if err != nil {
		return err
	}
	defer r.close()

	now, err := r.read()
	if err != nil {
		return err
	}

	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_DATA, &limit); err != nil {
		return fmt.Errorf("read RLIMIT_DATA: %w", err)
	}

	dataLimit.CompareAndSwap(0, limit.Cur)

	return setDataLimit(min(limit.Cur, now.data+maxBytes))
}

// Watch reads four times a second how much memory this process has, until ctx is done. Above
// maxBytes resident it calls over, once. If ctx is not done some seconds later it ends the
// process with status ExitTooLarge. Heap is what Lock returned: more of it is made resident
// before it is needed, so that no other thread waits for that. What fails is tried again the
// next time, since it fails when it matters most, and is passed to warn once. Only an error
// at the start is returned.
func Watch(ctx context.Context, heap *Heap, maxBytes uint64, warn func(error), over func(*TooLargeError)) error {
	r, err := newUsageReader()
	if err != nil {
		return err
	}
	defer r.close()

	every := time.NewTicker(watchEvery)
	defer every.Stop()

	warned := false

	for {
		select {
		case <-ctx.Done():
			return nil
		case <-every.C:
		}

		now, err := r.read()
		if err == nil && now.resident > maxBytes {
			return end(ctx, &TooLargeError{now.resident, maxBytes}, over)
		}

		if heap != nil {
			if locked := heap.extend(); locked != nil {
				err = errors.Join(err, fmt.Errorf("lock the heap: %w", locked))
			}
		}

		if err != nil && !warned {
			warned = true

			warn(err)
		}
	}
}

func end(ctx context.Context, large *TooLargeError, over func(*TooLargeError)) error {
	over(large)

	select {
	case <-ctx.Done():
		return nil
	case <-time.After(endWithin):
	}

	fmt.Fprintln(os.Stderr, "oomtrace:", large)
	os.Exit(ExitTooLarge)

	return nil
}
