// SPDX-License-Identifier: Apache-2.0

package resolve

import (
	"strings"

	"github.com/oomtrace/oomtrace/internal/runtimes"
)

const idLen = 64

// IsContainerID reports whether s is 64 lower case hexadecimal digits.
func IsContainerID(s string) bool { return len(s) == idLen && IsHex(s) }

// kataPrefix precedes the id in the cgroup of a Kata sandbox, so that cAdvisor does not take
// it for a container (virtcontainers: cgroupKataPrefix).
const kataPrefix = "kata_"

// containers recognizes the cgroup of a container by the id at the end of its name.
func (w *walk) containers(name string) bool {
	if slice, prefix, id, ok := cutColons(name); ok {
		return w.slicePrefixID(slice, prefix, id)
	}

	name = strings.TrimSuffix(name, ".scope")
	if len(name) < idLen || !IsContainerID(name[len(name)-idLen:]) {
		return false
	}
	prefix, id := name[:len(name)-idLen], name[len(name)-idLen:]

	prefix, kata := strings.CutSuffix(prefix, kataPrefix)
	if prefix == "" {
		return w.container(w.table.ByCgroupParent(w.parent), id, kata)
	}

	runtime := w.table.ByCgroupPrefix(strings.TrimSuffix(prefix, "-"))
	if runtime == nil || prefix[len(prefix)-1] != '-' {
		return false
	}

	return w.container(runtime, id, kata)
}

// cutColons splits "slice:prefix:id", which a runtime with the cgroupfs driver takes for a
// directory's name where the kubelet, or dockerd, has the systemd driver.
func cutColons(name string) (slice, prefix, id string, ok bool) {
	slice, rest, _ := strings.Cut(name, ":")
	prefix, id, ok = strings.Cut(rest, ":")

	return slice, prefix, id, ok && strings.HasSuffix(slice, ".slice")
}

func (w *walk) slicePrefixID(slice, prefix, id string) bool {
	id, kata := strings.CutPrefix(id, kataPrefix)
	if !IsContainerID(id) || strings.HasSuffix(prefix, "conmon") { // of a container's monitor
		return false
	}

	w.kubeSlice(slice)

	return w.container(w.table.ByCgroupPrefix(prefix), id, kata)
}

// container enters a container. A nil runtime is unknown.
func (w *walk) container(runtime *runtimes.Runtime, id string, kata bool) bool {
	l := level{kind: kindContainer, name: id}
	if runtime != nil {
		l.system, l.inner = runtime.Name, runtime.InnerCgroup
	}

	if kata {
		l.sandbox = "kata"
	}

	return w.enter(l)
}
