// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/oomtrace/oomtrace/internal/host"
	"github.com/oomtrace/oomtrace/internal/resolve/names"
)

// unmatched returns warnings about a live trace that can print nothing as the node is now.
func (f *filter) unmatched(ctx context.Context, options names.Options) []string {
	var warnings []string

	if flags := f.podNames(); flags != "" && !names.Exist(options) {
		warnings = append(warnings, fmt.Sprintf(
			"%s can match nothing: no container runtime or kubelet was found that knows names: set --cri-endpoint or --host-root",
			flags))
	}

	if f.cgroup == "" {
		return warnings
	}

	layout, err := host.Cgroups()
	if err != nil {
		return warnings // opening the trace reports it
	}

	if found, complete := f.cgroup.exists(ctx, layout); !found && complete {
		warnings = append(warnings, fmt.Sprintf("--cgroup %s matches no cgroup that exists now", f.cgroup))
	}

	return warnings
}

// cgroupSearch bounds the search for a cgroup at the start of a trace.
const cgroupSearch = 500 * time.Millisecond

// exists reports whether a cgroup matches, and whether all could be looked at.
func (g cgroupGlob) exists(ctx context.Context, layout host.Layout) (found, complete bool) {
	ctx, cancel := context.WithTimeout(ctx, cgroupSearch)
	defer cancel()

	err := filepath.WalkDir(layout.MemoryMount, func(dir string, entry fs.DirEntry, err error) error {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			return nil // removed meanwhile
		case !entry.IsDir():
			return nil
		}

		at := path.Join("/", layout.MountRoot, strings.TrimPrefix(dir, layout.MemoryMount))
		if found = g.contains(at); found {
			return fs.SkipAll
		}

		return nil
	})

	return found, err == nil
}
