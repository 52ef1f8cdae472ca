// SPDX-License-Identifier: Apache-2.0

package names

import (
	"cmp"

	"github.com/oomtrace/oomtrace/internal/resolve/source"
	"github.com/oomtrace/oomtrace/internal/runtimes"
)

// Exist reports whether the node has a source of names now: the socket or the files of a runtime,
// or the kubelet's logs; or the options name one.
func Exist(opts Options) bool {
	if cmp.Or(opts.CRIEndpoint, opts.Kubelet.Endpoint) != "" {
		return true
	}

	if opts.Runtimes == nil {
		opts.Runtimes = runtimes.Known()
	}

	return source.Exist(source.Root(opts.HostRoot), opts.Runtimes)
}
