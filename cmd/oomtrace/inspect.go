// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/host"
	"github.com/oomtrace/oomtrace/internal/inspect"
	"github.com/oomtrace/oomtrace/internal/kubelet"
	"github.com/oomtrace/oomtrace/internal/resolve"
	"github.com/oomtrace/oomtrace/internal/view"
)

type inspectFlags struct {
	formatFlags
	names nameFlags
	most  int
}

func newInspect(stdout, stderr io.Writer) *cobra.Command {
	var f inspectFlags
	cmd := &cobra.Command{
		Use:   "inspect [pod|container|unit|cgroup|pid]",
		Short: "Show the nearest memory limits and the most likely victim",
		Example: `  oomtrace inspect                    # the node
  oomtrace inspect shop/checkout/app  # a container; or a pod, without /app
  oomtrace inspect 4711               # the cgroup of a process
  oomtrace inspect 8f14e45fceea       # a prefix of a container ID, or a pod UID
  oomtrace inspect kubelet.service    # a systemd unit
  oomtrace inspect /kubepods/burstable`,
		Long: `inspect shows the limit that a running pod, container or cgroup would hit first,
and which process the OOM killer would most likely choose there, and why.
Without an argument it shows the node: the limits with the least headroom, among
them the node's own memory. It reads files and asks the container runtime for
names: it needs no BPF, and root only for some values. Values that cannot be
read are listed as unknown.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usagef("%q: inspect takes one argument", args[1])
			}

			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.most < 1 {
				return usagef("--number %d: must be at least 1", f.most)
			}

			i, err := inspection(cmd, f, args, stderr)
			if err != nil {
				return err
			}

			if err := f.name(cmd.Context(), i); err != nil {
				return err
			}

			return f.show(stdout, i)
		},
	}
	addFlags(cmd, headingOutput, func(flags *pflag.FlagSet) {
		f.formatFlags.add(flags, "text", "json")
		flags.IntVar(&f.most, "number", 10, "how many processes and cgroups to list")
		metavar(flags, "n", "number")
	})
	addFlags(cmd, headingSources, f.names.add)

	return cmd
}

// name adds names. That a source of them is missing needs no warning: the ids are shown.
func (f *inspectFlags) name(ctx context.Context, i *events.Inspection) error {
	resolver, err := f.names.open(func(string) {})
	if err != nil || resolver == nil {
		return err
	}
	defer resolver.Close()

	nameWorkloads(ctx, i, resolver)

	return nil
}

// inspection inspects the cgroup that args name, or the node.
func inspection(cmd *cobra.Command, f inspectFlags, args []string, stderr io.Writer) (*events.Inspection, error) {
	warn := func(err error) { warnings(stderr)(err.Error()) }

	layout, err := host.Cgroups()
	if err != nil && len(args) > 0 {
		return nil, err
	}

	if err != nil {
		warn(err)
	}
	o := inspect.Options{
		Reader: host.Reader{Layout: layout, Place: resolve.Placer(nil)}, Most: f.most,
		Envelope: events.Envelope{Time: time.Now(), BootID: host.BootID(), Node: host.Hostname()},
	}

	if confined := host.ReadConfinement(); confined.PIDNamespace {
		o.ProcessesHidden = true

		warn(errors.New(confined.Blindness()))
	}

	config, err := kubelet.Find("/")
	if err != nil {
		warn(err)
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

	if path == "/" { // its only limit is the node's memory
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

	return view.Inspection(stdout, i, f.textOptions(stdout))
}
