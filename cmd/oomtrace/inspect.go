// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/host"
	"github.com/oomtrace/oomtrace/internal/inspect"
	"github.com/oomtrace/oomtrace/internal/kubelet"
	"github.com/oomtrace/oomtrace/internal/resolve"
	"github.com/oomtrace/oomtrace/internal/phrase"
	"github.com/oomtrace/oomtrace/internal/view"
)

type inspectFlags struct {
	output string
	most   int
	wide   bool
	utc    bool
}

// rules find the causes that a kill would have now.
type rules func(*events.Inspection) []events.Cause

func newInspect(stdout, stderr io.Writer, diagnose rules) *cobra.Command {
	var f inspectFlags
	cmd := &cobra.Command{
		Use:   "inspect [pod|container|cgroup|pid]",
		Short: "Tell of the living: the nearest limit, and who would die if it came to a kill now",
		Long: `  oomtrace inspect                    # the node
  oomtrace inspect shop/checkout/app  # a container; or a pod without /app
  oomtrace inspect 4711               # the cgroup of a process
  oomtrace inspect 8f14e45fceea       # the begin of a container's id, or a pod's UID
  oomtrace inspect kubelet.service    # a unit of systemd
  oomtrace inspect /kubepods/burstable

inspect reads files alone: it needs no BPF, and no root for most. What it may not
read it names as unknown.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usagef("%q: inspect takes one argument", args[1])
			}

			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case f.output != "text" && f.output != "json":
				return usagef("--output %q: it is one of text, json", f.output)
			case f.most < 1:
				return usagef("--number %d: it is at least 1", f.most)
			}

			i, err := look(cmd, f, args, stderr, diagnose)
			if err != nil {
				return err
			}

			return f.show(stdout, i)
		},
	}
	cmd.Flags().StringVarP(&f.output, "output", "o", "text", "`format`: text, json")
	cmd.Flags().IntVar(&f.most, "number", 10, "how `many` processes and cgroups to list")
	cmd.Flags().BoolVarP(&f.wide, "wide", "w", false, "whole ids and paths, no limit of columns")
	cmd.Flags().BoolVar(&f.utc, "utc", false, "show times in UTC")

	return cmd
}

func look(cmd *cobra.Command, f inspectFlags, args []string, stderr io.Writer, diagnose rules) (*events.Inspection, error) {
	layout, err := host.Cgroups()
	if err != nil && len(args) > 0 {
		return nil, err
	}

	if err != nil {
		remark(stderr, err)
	}
	o := inspect.Options{
		Reader: host.Reader{Layout: layout, Place: func(path string) (events.Level, *events.Workload) {
			place := resolve.ParsePath(path)
			return place.Level, place.Workload
		}},
		Rules: diagnose, Most: f.most,
		Envelope: events.Envelope{Time: time.Now(), BootID: host.BootID(), Node: host.Hostname()},
	}

	config, err := kubelet.Find("/")
	if err != nil {
		remark(stderr, err)
	}

	o.Kubelet = kubelet.NewEvictionTracker(config, o.Reader)
	if len(args) == 0 {
		return inspect.Node(cmd.Context(), o), nil
	}
	path, err := inspect.Find(o.Reader, args[0])

	var ambiguous *inspect.AmbiguousError
	switch {
	case errors.As(err, &ambiguous):
		return nil, usageError{err}
	case err != nil:
		return nil, err
	}

	if path == "/" { // it has no limit but the node
		return inspect.Node(cmd.Context(), o), nil
	}

	return inspect.Cgroup(cmd.Context(), o, path), nil
}

func (f inspectFlags) show(stdout io.Writer, i *events.Inspection) error {
	if f.output == "json" {
		line, err := events.MarshalInspection(i)
		if err != nil {
			return err
		}
		_, err = stdout.Write(line)

		return err
	}

	width, color := terminal(stdout)
	if f.wide {
		width = 0
	}

	loc := time.Local
	if f.utc {
		loc = time.UTC
	}

	return view.Inspection(stdout, i, view.TextOptions{Width: width, Color: color, Location: loc})
}

// remark tells of what is missing without ending for it.
func remark(stderr io.Writer, err error) {
	fmt.Fprintf(stderr, "oomtrace: %s\n", phrase.Sanitize(oneLine(err)))
}
