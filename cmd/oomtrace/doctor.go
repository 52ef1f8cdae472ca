// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/host"
	"github.com/oomtrace/oomtrace/internal/phrase"
	"github.com/oomtrace/oomtrace/internal/probe"
)

func newDoctor(stdout io.Writer) *cobra.Command {
	var output string
	var wide bool

	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check kernel support and privileges",
		Example: `  sudo oomtrace doctor
  sudo oomtrace doctor --wide         # with every hook
  sudo oomtrace doctor -o json | jq .verdict`,
		Long: `doctor checks kernel support and privileges, attaches every hook, and shows what
each missing feature costs. It exits with status 1 if oomtrace cannot trace on
this machine.`,
		Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			var c checkup

			c.run()

			write := c.text
			if output == "json" {
				write = c.json
			}

			if err := write(stdout, wide); err != nil {
				return err
			}

			return c.err
		},
	}
	addFlags(cmd, headingOutput, func(flags *pflag.FlagSet) {
		flags.VarP(newChoice(&output, "text", "json"), "output", "o", "output format")
		flags.BoolVarP(&wide, "wide", "w", false, "show how each hook is attached")
	})

	return cmd
}

// state is the result of a check.
type state string

const (
	stateOK      state = "ok"
	stateGap     state = "gap"     // a trace runs, and lacks something
	stateProblem state = "problem" // no trace can run
)

// marks of the states, where the terminal has the characters and where it has not.
var marks = map[state]struct{ text, ascii string }{
	stateOK: {"✓", "ok"}, stateGap: {"!", "!!"}, stateProblem: {"✗", "no"},
}

// finding is the result of one check. It is published by -o json, so that keys are only added.
type finding struct {
	Name   string `json:"name"`
	State  state  `json:"state"`
	Text   string `json:"text"`
	Lost   string `json:"lost,omitempty"`   // what a trace lacks
	Remedy string `json:"remedy,omitempty"` // what would avoid that
}

// hookFinding is how a hook is attached, and what is lost without it.
type hookFinding struct {
	events.Hook
	Lost   string `json:"lost,omitempty"`
	Remedy string `json:"remedy,omitempty"`
}

// checkup is what doctor found.
type checkup struct {
	findings []finding
	hooks    []hookFinding
	err      error // the first problem that prevents tracing
	// confined is what may refuse BPF to this process.
	confined host.Confinement
}

// run does every check.
func (c *checkup) run() {
	c.ok("kernel", "%s %s, %d KiB pages", host.KernelRelease(), host.Arch(), host.PageSize()/1024)

	layout, err := host.Cgroups()
	if c.check("cgroups", err) {
		c.ok("cgroups", "%s, memory controller on v%d at %s", layout.Mode, layout.MemoryVersion, layout.MemoryMount)
	}

	c.privileges()
	c.confinement()
	c.symbols()

	if c.err == nil {
		c.attach(layout)
	}

	c.surroundings()
}

func (c *checkup) ok(name, format string, args ...any) {
	c.findings = append(c.findings, finding{Name: name, State: stateOK, Text: fmt.Sprintf(format, args...)})
}

func (c *checkup) gap(name, text, lost, remedy string) {
	c.findings = append(c.findings, finding{Name: name, State: stateGap, Text: text, Lost: lost, Remedy: remedy})
}

// check reports whether err is nil; otherwise it keeps it as a problem.
func (c *checkup) check(name string, err error) bool {
	if err == nil {
		return true
	}

	c.findings = append(c.findings, finding{Name: name, State: stateProblem, Text: oneLine(err.Error())})

	if c.err == nil {
		c.err = err
	}

	return false
}

func (c *checkup) privileges() {
	privileges, err := host.ReadPrivileges()
	if !c.check("privileges", err) {
		return
	}

	if len(privileges.Missing) > 0 {
		c.check("privileges", fmt.Errorf("missing capabilities: %s: run as root", strings.Join(privileges.Missing, ", ")))
	} else {
		c.ok("privileges", "sufficient")
	}

	for _, text := range privileges.Optional { // "no CAP_X: what it costs"
		missing, lost, _ := strings.Cut(text, ": ")
		c.gap("privileges", missing, lost, "run as root, or with "+strings.TrimPrefix(missing, "no "))
	}
}

func (c *checkup) confinement() {
	c.confined = host.ReadConfinement()

	if mode := c.confined.Lockdown; mode == host.ConfidentialityLockdown {
		c.gap("lockdown", string(mode), "", "")
	} else if mode != "" {
		c.ok("lockdown", "%s: tracing is not restricted", mode)
	}

	if hidden := c.confined.Blindness(); hidden != "" {
		c.gap("processes", hidden, "", "")
	}
}

// denied adds what may be behind a refusal, if any attempt was refused.
func (c *checkup) denied(refused bool) {
	if !refused {
		return
	}

	for _, reason := range c.confined.Denials() {
		c.gap("refused by", "perhaps "+reason, "", "")
	}
}

func (c *checkup) symbols() {
	if _, err := host.LoadKallsyms(); err != nil {
		c.gap("symbols", "not readable: "+oneLine(err.Error()), "the kind of the failed allocation (allocation.class)", "")
		return
	}

	c.ok("symbols", "readable")
}

// attach attaches every hook, as a trace would.
func (c *checkup) attach(layout host.Layout) {
	p, err := probe.Open(probe.Options{
		MemoryHierarchy: layout.HierarchyID, PageSize: uint64(host.PageSize()), Stalls: true,
	})
	if !c.check("hooks", err) {
		c.denied(errors.Is(err, fs.ErrPermission))
		return
	}
	defer p.Close()

	c.ok("BTF", "available")
	c.ok("attach mode", "%s", p.Tier())

	if bytes, ok := p.Memory(); ok {
		c.ok("memory", "%s of the kernel for maps, ring buffers and programs, charged to the cgroup of oomtrace",
			phrase.Size(bytes))
	}

	if p.MissesUncounted() {
		c.gap("kprobes", "the kernel does not publish how often it skips one",
			"the number of records lost that way", "a kernel from 6.7 on")
	}

	if p.RingsSleep() {
		c.gap("PREEMPT_RT", "ring buffers of this kernel take a sleeping lock in atomic context (kernel/bpf/ringbuf.c before "+
			"6.12 and its stable updates): a trace may crash it", "", "a newer kernel")
	}

	c.denied(slices.ContainsFunc(p.Hooks(), func(h events.Hook) bool { return strings.Contains(h.Why, "not permitted") }))

	for _, h := range p.Hooks() {
		found := hookFinding{Hook: h, Lost: probe.Lost(h)}
		if found.Lost != "" {
			found.Remedy = probe.Remedy(h)
		}

		c.hooks = append(c.hooks, found)
	}
}

// losses returns what a trace lacks, each once, grouped by what would avoid it: in the order in
// which they were found.
func (c *checkup) losses() (remedies []string, lost map[string][]string) {
	lost = make(map[string][]string)
	add := func(text, remedy string) {
		if text == "" || slices.Contains(lost[remedy], text) {
			return
		}

		if lost[remedy] == nil {
			remedies = append(remedies, remedy)
		}

		lost[remedy] = append(lost[remedy], text)
	}

	for _, f := range c.findings {
		add(f.Lost, f.Remedy)
	}

	for _, h := range c.hooks {
		add(h.Lost, h.Remedy)
	}

	return remedies, lost
}

// verdict is the answer in one sentence.
func (c *checkup) verdict() string {
	if c.err != nil {
		return "oomtrace cannot trace on this machine: " + oneLine(c.err.Error())
	}

	_, lost := c.losses()

	n := 0
	for _, texts := range lost {
		n += len(texts)
	}

	switch n {
	case 0:
		return "oomtrace can trace on this machine, and nothing is lost."
	case 1:
		return "oomtrace can trace on this machine; 1 thing is lost."
	}

	return fmt.Sprintf("oomtrace can trace on this machine; %d things are lost.", n)
}

func (c *checkup) json(out io.Writer, _ bool) error {
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)

	err := encoder.Encode(struct {
		Verdict  string        `json:"verdict"`
		Traces   bool          `json:"traces"`
		Findings []finding     `json:"findings"`
		Hooks    []hookFinding `json:"hooks"`
	}{c.verdict(), c.err == nil, c.findings, append([]hookFinding{}, c.hooks...)})
	if err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}

	return nil
}
