// SPDX-License-Identifier: Apache-2.0

// Package source finds the names of pods and containers by their ids, in what is on
// the node; no credentials of a cluster are needed.
//
// A Source reads files and answers at once. A Feed asks somebody else, in goroutines
// of its own, and puts what it learns into a Store whenever the answer comes. From
// the best to the last:
//
//	cri      the runtime's CRI socket: its event stream, else lists
//	kubelet  the kubelet's list of pods, where an endpoint is given
//	disk     files of the runtimes, which are removed with the container
//	log_dir  names of directories and links below /var/log
//
// Text is returned as the source has it, whatever bytes it holds; the store bounds
// its length.
package source

import (
	"context"
	"errors"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/resolve"
)

// Names of the sources, as Workload.Source publishes them.
const (
	NameCRI     = "cri"
	NameKubelet = "kubelet"
	NameDisk    = "disk"
	NameLogDir  = "log_dir"
)

// Rank orders sources by their names, the best highest; 0 for any other name.
func Rank(name string) int {
	switch name {
	case NameCRI:
		return 4
	case NameKubelet:
		return 3
	case NameDisk:
		return 2
	case NameLogDir:
		return 1
	}

	return 0
}

// Source looks names up in files. It is safe for concurrent use.
type Source interface {
	// Lookup returns ErrUnknown for a container or pod that the source does not have.
	Lookup(ctx context.Context, ref resolve.Ref) (events.Workload, error)
}

// Feed learns names from a service, on its own goroutines. Its methods are safe for
// concurrent use.
type Feed interface {
	// Name returns the name of the source.
	Name() string
	// Run puts into the store what the service has, until the context ends. It
	// returns once all goroutines of the feed have ended.
	Run(ctx context.Context)
	// Ask asks for a container or pod without waiting; the answer goes to the store.
	// The attempt counts from 0. It returns false if too many are waiting.
	Ask(ref resolve.Ref, attempt int) bool
}

// Store takes what a feed learns. It is safe for concurrent use, and does not wait.
type Store interface {
	// Put takes an answer about a container or a pod.
	Put(ref resolve.Ref, w events.Workload)
	// Listed takes the complete list of what a feed has; what it had in its last list
	// and has no more is gone.
	Listed(feed string, present []resolve.Ref)
	// Gone marks a container or pod as removed.
	Gone(ref resolve.Ref)
	// Exited takes the state of a container that has exited.
	Exited(containerID string, x Exit)
	// SourceOf returns the name of the source that a name is from, empty if there is
	// no name yet.
	SourceOf(ref resolve.Ref) string
}

// States of a container.
const (
	StateRunning = "running"
	StateExited  = "exited"
	StateUnknown = "unknown"
)

// ReasonOOMKilled is the reason with which runtimes report an OOM kill.
const ReasonOOMKilled = "OOMKilled"

// Exit is the state of a container, as a runtime reports it.
type Exit struct {
	State, Reason string
	Code          *int // nil: unknown
	Source        string
}

var (
	// ErrUnknown is returned where a source does not have a container or pod.
	ErrUnknown = errors.New("unknown container or pod")
	// ErrNoAnswer is returned where no runtime could be asked.
	ErrNoAnswer = errors.New("no runtime answered")
)

// queued bounds how many ids wait for an answer of a feed.
const queued = 32768
