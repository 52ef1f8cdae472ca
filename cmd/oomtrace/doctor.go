// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/host"
	"github.com/oomtrace/oomtrace/internal/phrase"
	"github.com/oomtrace/oomtrace/internal/probe"
)

func newDoctor(stdout io.Writer) *cobra.Command {
	return &cobra.Command{
		Use:     "doctor",
		Short:   "Check kernel support and privileges",
		Example: `  sudo oomtrace doctor`,
		Long: `doctor checks kernel support and privileges, attaches every hook, and shows what
each missing feature costs. It exits with status 1 if oomtrace cannot trace on
this machine.`,
		Args: noArgs,
		RunE: func(*cobra.Command, []string) error { return doctor(stdout) },
	}
}

// doctor prints the result of every check. It returns the first problem that prevents
// tracing.
func doctor(stdout io.Writer) error {
	c := &checkup{out: stdout}
	c.print("kernel", "%s %s, %d KiB pages", host.KernelRelease(), host.Arch(), host.PageSize()/1024)

	layout, err := host.Cgroups()
	if c.check(err) {
		c.print("cgroups", "%s, memory controller on v%d at %s", layout.Mode, layout.MemoryVersion, layout.MemoryMount)
	}

	c.privileges()
	c.confinement()
	c.symbols()

	if c.err == nil {
		c.hooks(layout)
	}

	if c.err == nil {
		_, c.err = fmt.Fprintln(stdout, "\noomtrace can trace on this machine.")
	}

	return c.err
}

// checkup prints results as lines of a label and a text.
type checkup struct {
	out io.Writer
	err error // the first problem that prevents tracing
	// confined is what may refuse BPF to this process.
	confined host.Confinement
}

func (c *checkup) print(label, format string, args ...any) {
	c.write(fmt.Sprintf("%-11s ", label), fmt.Sprintf(format, args...))
}

// detail prints what belongs to the line before it.
func (c *checkup) detail(format string, args ...any) {
	c.write(strings.Repeat(" ", 14), fmt.Sprintf(format, args...))
}

// write wraps a text after the prefix of its first line.
func (c *checkup) write(prefix, text string) {
	indent := strings.Repeat(" ", len(prefix))
	lines := wrapped(phrase.Sanitize(text), helpColumns-len(prefix))

	if _, err := fmt.Fprintln(c.out, prefix+strings.Join(lines, "\n"+indent)); err != nil && c.err == nil {
		c.err = err
	}
}

// check reports whether err is nil; otherwise it prints and keeps it.
func (c *checkup) check(err error) bool {
	if err == nil {
		return true
	}

	c.print("problem", "%v", err)

	if c.err == nil {
		c.err = err
	}

	return false
}

func (c *checkup) privileges() {
	privileges, err := host.ReadPrivileges()
	if !c.check(err) {
		return
	}

	if len(privileges.Missing) > 0 {
		c.check(fmt.Errorf("missing capabilities: %s: run as root", strings.Join(privileges.Missing, ", ")))
	} else {
		c.print("privileges", "sufficient")
	}

	for _, gap := range privileges.Optional {
		c.detail("%s", gap)
	}
}

func (c *checkup) confinement() {
	c.confined = host.ReadConfinement()

	if mode := c.confined.Lockdown; mode == host.ConfidentialityLockdown {
		c.print("lockdown", "%s", mode)
	} else if mode != "" {
		c.print("lockdown", "%s: tracing is not restricted", mode)
	}

	if hidden := c.confined.Blindness(); hidden != "" {
		c.print("processes", "%s", hidden)
	}
}

// denied prints what may be behind a refusal, if any attempt was refused.
func (c *checkup) denied(refused bool) {
	if !refused {
		return
	}

	for _, reason := range c.confined.Denials() {
		c.print("refused by", "perhaps %s", reason)
	}
}

func (c *checkup) symbols() {
	if _, err := host.LoadKallsyms(); err != nil {
		c.print("symbols", "not readable: %v", err)
		c.detail("not available: the kind of the failed allocation (allocation.class)")

		return
	}

	c.print("symbols", "readable")
}

func (c *checkup) hooks(layout host.Layout) {
	p, err := probe.Open(probe.Options{
		MemoryHierarchy: layout.HierarchyID, PageSize: uint64(host.PageSize()), Stalls: true,
	})
	if !c.check(err) {
		c.denied(errors.Is(err, fs.ErrPermission))
		return
	}
	defer p.Close()

	c.print("BTF", "available")
	c.print("attach mode", "%s", p.Tier())

	if bytes, ok := p.Memory(); ok {
		c.print("memory", "%s of the kernel for maps, ring buffers and programs, charged to the cgroup of oomtrace",
			phrase.Size(bytes))
	}

	if p.MissesUncounted() {
		c.print("kprobes", "the kernel does not publish how often it skips one, as it does since 6.7")
		c.detail("not available: the number of records lost that way")
	}

	if p.RingsSleep() {
		c.print("PREEMPT_RT", "ring buffers of this kernel take a sleeping lock in atomic context (kernel/bpf/ringbuf.c before "+
			"6.12 and its stable updates): a trace may crash it, use a newer kernel")
	}

	c.denied(slices.ContainsFunc(p.Hooks(), func(h events.Hook) bool { return strings.Contains(h.Why, "not permitted") }))

	for _, h := range p.Hooks() {
		mode, reason := string(h.Tier), "no better mode"
		if mode == "" {
			mode, reason = "not attached", "reason"
		}

		c.print("hook", "%s: %s", h.Name, mode)

		if h.Why != "" {
			c.detail("%s: %s", reason, h.Why)
		}

		if lost := probe.Lost(h); lost != "" {
			c.detail("not available: %s", lost)
			c.detail("requires: %s", probe.Remedy(h))
		}
	}
}
