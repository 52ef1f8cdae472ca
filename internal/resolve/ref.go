// SPDX-License-Identifier: Apache-2.0

package resolve

import "github.com/oomtrace/oomtrace/internal/events"

// Ref identifies a container or a pod by its ids; one of the two may be empty.
type Ref struct {
	ContainerID string // 64 hexadecimal digits; a sandbox's id is one as well
	PodUID      string
	Runtime     string // a name of package runtimes; empty: unknown
}

// RefOf returns the ids in a workload that a cgroup's path names. It is not ok for a
// workload that is no container or pod of this node's own runtime: names below a
// container or a guest are chosen by whoever may write there, and can imitate another pod's.
func RefOf(w *events.Workload) (ref Ref, ok bool) {
	if w == nil || w.Nested() {
		return Ref{}, false
	}

	ref = Ref{PodUID: w.PodUID, Runtime: w.Runtime}
	if IsContainerID(w.ContainerID) { // that of Fargate is none of a runtime
		ref.ContainerID = w.ContainerID
	}

	return ref, ref.ContainerID != "" || ref.PodUID != ""
}

// IsHex reports whether s has nothing but lower case hexadecimal digits.
func IsHex(s string) bool {
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}

	return true
}
