// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/host"
	"github.com/oomtrace/oomtrace/internal/phrase"
	"github.com/oomtrace/oomtrace/internal/record"
	"github.com/oomtrace/oomtrace/internal/resolve"
)

const (
	// completionTime bounds the search for values: somebody waits for them.
	completionTime = 500 * time.Millisecond
	// maxCompletions is how many values are offered.
	maxCompletions = 1000
)

// complete lets the shell complete the values of a command's flags and arguments. What cannot be
// found in time is not offered.
func complete(cmd *cobra.Command) {
	values := map[string]cobra.CompletionFunc{
		"namespace": nodeValues(func(n *nodeNames) set { return n.namespaces }),
		"pod":       nodeValues(func(n *nodeNames) set { return n.pods }),
		"container": nodeValues(func(n *nodeNames) set { return n.containers }),
		"cgroup":    nodeValues(func(n *nodeNames) set { return n.cgroups }),
		"unit":      nodeValues(func(n *nodeNames) set { return n.units }),
		"id":        recordedIDs,
	}

	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		complete := values[f.Name]
		if c, ok := f.Value.(*choice); ok {
			complete = cobra.FixedCompletions(c.of, cobra.ShellCompDirectiveNoFileComp)
		}

		if complete != nil {
			_ = cmd.RegisterFlagCompletionFunc(f.Name, complete) // fails if it has one: the root shares those of trace
		}
	})

	if cmd.Name() == "inspect" {
		cmd.ValidArgsFunction = inspectTargets
	}
}

// inspectTargets completes the argument of inspect.
func inspectTargets(cmd *cobra.Command, args []string, start string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}

	return nodeValues(func(n *nodeNames) set {
		if strings.HasPrefix(start, "/") {
			return n.cgroups
		}

		all := maps.Clone(n.pods)
		maps.Copy(all, n.units)

		return all
	})(cmd, args, start)
}

// nodeValues completes with names of the node.
func nodeValues(of func(*nodeNames) set) cobra.CompletionFunc {
	return func(cmd *cobra.Command, _ []string, start string) ([]string, cobra.ShellCompDirective) {
		root := "/"
		if f := cmd.Flags().Lookup("host-root"); f != nil {
			root = f.Value.String()
		}

		layout, err := host.Cgroups()
		if err != nil {
			layout = host.Layout{} // the logs of pods have names still
		}

		return offered(slices.Collect(maps.Keys(of(findNames(cmd.Context(), root, layout)))), start), cobra.ShellCompDirectiveNoFileComp
	}
}

// recordedIDs completes with the ids of the recording that is the argument.
func recordedIDs(cmd *cobra.Command, args []string, start string) ([]string, cobra.ShellCompDirective) {
	name, ok := recordingOf(args)
	if !ok || name == "-" {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}

	r, err := record.Open(name)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	defer r.Close()

	until := time.Now().Add(completionTime)
	ids := make(set)

	for line, err := range r.Lines() {
		if err != nil || time.Now().After(until) {
			break
		}

		if line.Kind != events.KindIncident {
			continue
		}

		if short := events.ShortID(line.ID); strings.HasPrefix(short, start) {
			ids[short] = true
		} else {
			ids[line.ID] = true
		}
	}

	return offered(slices.Collect(maps.Keys(ids)), start), cobra.ShellCompDirectiveNoFileComp
}

// offered returns the values that start as typed, in order. Names are foreign text that the shell
// prints: one that would have to be escaped is not offered.
func offered(values []string, start string) []string {
	values = slices.DeleteFunc(values, func(value string) bool {
		return !strings.HasPrefix(value, start) || phrase.Sanitize(value) != value || strings.ContainsAny(value, " \t")
	})
	slices.Sort(values)

	return values[:min(len(values), maxCompletions)]
}

type set map[string]bool

func (s set) add(values ...string) {
	for _, value := range values {
		if value != "" {
			s[value] = true
		}
	}
}

// nodeNames are names that exist on the node.
type nodeNames struct{ namespaces, pods, containers, cgroups, units set }

// findNames reads them from the names of directories: those of cgroups, and the kubelet's logs
// below root. It does not ask a runtime, which may not answer.
func findNames(ctx context.Context, root string, layout host.Layout) *nodeNames {
	if ctx == nil {
		ctx = context.Background()
	}

	ctx, cancel := context.WithTimeout(ctx, completionTime)
	defer cancel()

	n := &nodeNames{namespaces: set{}, pods: set{}, containers: set{}, cgroups: set{}, units: set{}}
	n.readLogs(root)

	if layout.MemoryMount == "" {
		return n
	}

	place := resolve.Placer(nil)

	_ = filepath.WalkDir(layout.MemoryMount, func(dir string, entry fs.DirEntry, err error) error {
		switch {
		case ctx.Err() != nil:
			return fs.SkipAll
		case err != nil || !entry.IsDir(): // removed meanwhile
			return nil
		}

		at := path.Join("/", layout.MountRoot, strings.TrimPrefix(dir, layout.MemoryMount))
		n.cgroups.add(at)

		if _, w := place(at); w != nil {
			n.units.add(w.Unit)
			n.containers.add(w.ContainerID)
		}

		return nil
	})

	return n
}

// readLogs reads the names of the kubelet's logs: <namespace>_<pod>_<uid>, and
// <pod>_<namespace>_<container>-<id>.log.
func (n *nodeNames) readLogs(root string) {
	for _, entry := range entries(filepath.Join(root, "var/log/pods")) {
		if parts := strings.Split(entry, "_"); len(parts) == 3 {
			n.namespaces.add(parts[0])
			n.pods.add(parts[0] + "/" + parts[1])
		}
	}

	for _, entry := range entries(filepath.Join(root, "var/log/containers")) {
		parts := strings.Split(entry, "_")
		if dash := strings.LastIndex(entry, "-"); len(parts) == 3 && dash > 0 {
			n.containers.add(strings.TrimPrefix(entry[:dash], parts[0]+"_"+parts[1]+"_"))
		}
	}
}

func entries(dir string) []string {
	list, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}

	var names []string
	for _, entry := range list {
		names = append(names, entry.Name())
	}

	return names
}
