// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/oomtrace/oomtrace/internal/host"
	"github.com/oomtrace/oomtrace/internal/probe"
	"github.com/oomtrace/oomtrace/internal/phrase"
)

func newDoctor(stdout io.Writer) *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Tell what this kernel and these privileges allow, and what is lost by each gap",
		Args:  noArgs,
		RunE:  func(*cobra.Command, []string) error { return doctor(stdout) },
	}
}

// doctor looks at everything, and fails at the end if a trace could not run.
func doctor(stdout io.Writer) error {
	d := &examination{out: stdout}
	d.line("kernel", "%s %s, %d KiB pages", host.KernelRelease(), host.Arch(), host.PageSize()/1024)

	layout, err := host.Cgroups()
	if d.fatal(err) == nil {
		d.line("cgroups", "%s, memory controller on v%d at %s", layout.Mode, layout.MemoryVersion, layout.MemoryMount)
	}

	if privileges, err := host.ReadPrivileges(); d.fatal(err) == nil {
		if len(privileges.Missing) > 0 {
			d.fatal(fmt.Errorf("missing capabilities: %s: run as root", strings.Join(privileges.Missing, ", ")))
		} else {
			d.line("privileges", "sufficient")
		}

		for _, gap := range privileges.Optional {
			d.line("", "%s", gap)
		}
	}

	if _, err := host.LoadKallsyms(); err != nil {
		d.line("symbols", "hidden: %v", err)
		d.line("", "lost: the kind of the allocation (allocation.class)")
	} else {
		d.line("symbols", "readable")
	}

	if d.err == nil {
		d.hooks(layout)
	}

	if d.err == nil {
		_, d.err = fmt.Fprintln(stdout, "\nA trace can run here.")
	}

	return d.err
}

type examination struct {
	out io.Writer
	err error
}

func (d *examination) line(label, format string, args ...any) {
	if _, err := fmt.Fprintf(d.out, "%-11s %s\n", label, phrase.Sanitize(fmt.Sprintf(format, args...))); err != nil && d.err == nil {
		d.err = err
	}
}

// fatal shows what keeps a trace from running, and remembers the first.
func (d *examination) fatal(err error) error {
	if err == nil {
		return nil
	}

	d.line("problem", "%v", err)

	if d.err == nil {
		d.err = err
	}

	return err
}

func (d *examination) hooks(layout host.Layout) {
	p, err := probe.Open(probe.Options{MemoryHierarchy: layout.HierarchyID, PageSize: uint64(host.PageSize()), Stalls: true})
	if d.fatal(err) != nil {
		return
	}
	defer p.Close()

	d.line("BTF", "there")
	d.line("tier", "%s", p.Tier())

	for _, h := range p.Hooks() {
		tier := string(h.Tier)
		if tier == "" {
			tier = "not attached"
		}

		d.line("hook", "%s: %s", h.Name, tier)

		if h.Why != "" {
			d.line("", "  why not better: %s", h.Why)
		}

		if lost := probe.Lost(h); lost != "" {
			d.line("", "  lost: %s", lost)
			d.line("", "  to get it: %s", probe.Remedy(h))
		}
	}
}
