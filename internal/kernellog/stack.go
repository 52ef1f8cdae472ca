// SPDX-License-Identifier: Apache-2.0

package kernellog

import (
	"slices"
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/oom"
)

// stack is the stack of the task whose allocation failed, as far as the log has it.
type stack struct {
	frames []string // reliable ones, innermost first
	// headed is true if its first line is in the log: no frame before these was lost with it.
	headed bool
	// whole is true if its end is known.
	whole bool
	// ofAnother is true if the last task line was of another task: the stack behind it is too.
	ofAnother bool
}

// traceHead takes in "Call Trace:".
func (r *report) traceHead(rec record) bool {
	if r.header == nil || r.at > inTask || r.stack.ofAnother {
		return false
	}

	r.stack.headed = true
	r.advance(rec, inTrace)

	return true
}

// frameLine reads a frame of the stack: "func+0x1/0x2", after its address in old kernels.
// Frames with a question mark are not reliable and left out.
func (r *report) frameLine(rec record, text string) bool {
	if r.stack.ofAnother {
		return false
	}

	if strings.HasPrefix(text, "[<") {
		_, rest, found := strings.Cut(text, ">]")
		if !found {
			return false
		}
		text = strings.TrimLeft(rest, " ")
	}

	switch text {
	case "<TASK>", "<IRQ>", "</IRQ>", "<EOI>":
		r.advance(rec, inTrace)
		return true
	case "</TASK>":
		r.advance(rec, inTrace)
		r.stack.whole = true

		return true
	}

	text = strings.TrimPrefix(strings.TrimPrefix(text, "<EOI>"), " ")
	name, unsure := strings.CutPrefix(text, "? ")

	function, offset, found := strings.Cut(name, "+0x")
	if !found || strings.ContainsAny(function, " :") || !strings.Contains(offset, "/0x") {
		return false
	}

	if !unsure && len(r.stack.frames) < maxFrames && len(function) < 128 {
		r.stack.frames = append(r.stack.frames, function)
	}

	r.advance(rec, inTrace)

	return true
}

// lack names what the log lacks of a stack that is not whole.
func (s *stack) lack() string {
	if len(s.frames) > 0 {
		return "the end of the stack trace"
	}

	return "the stack trace"
}

// memcgFrames are functions on the stack of a cgroup's limit alone, of which compilers inline
// some (mm/memcontrol.c; 3.7 to 7.x).
var memcgFrames = []string{"mem_cgroup_out_of_memory", "mem_cgroup_oom_synchronize", "mem_cgroup_oom", "mem_cgroup_handle_oom"}

// sysrqFrames are functions on the stack of sysrq-f alone (drivers/tty/sysrq.c).
var sysrqFrames = []string{"moom_callback", "sysrq_handle_moom"}

// scope returns what ran out, as far as the stack shows it.
func (s *stack) scope() events.Scope {
	switch {
	case s.has(memcgFrames):
		return events.ScopeMemcg
	case s.has(sysrqFrames):
		return events.ScopeSysrq
	}

	return events.ScopeUnknown
}

// ofNode reports whether the whole stack is known, and the page allocator ran out and no cgroup. A
// charge fails within an allocation as well (__memcg_kmem_charge_page), and the frame of
// mem_cgroup_out_of_memory is missing where a BPF trampoline stands in its place.
func (s *stack) ofNode() bool {
	charges := func(frame string) bool { return strings.Contains(frame, "charge") }

	return s.headed && s.whole && s.scope() == events.ScopeUnknown && !slices.ContainsFunc(s.frames, charges) &&
		slices.ContainsFunc(s.frames, func(frame string) bool { return strings.HasPrefix(frame, "__alloc_pages") })
}

func (s *stack) has(functions []string) bool {
	return slices.ContainsFunc(s.frames, func(frame string) bool {
		name, _, _ := strings.Cut(frame, ".") // .isra.0, .cold
		return slices.Contains(functions, name)
	})
}

// class returns the purpose of the allocation, "" if the stack does not show it. Without its
// end only a function that names a purpose counts, as the innermost of them decides.
func (s *stack) class() string {
	if !s.headed {
		return ""
	}

	class := oom.Class(slices.Values(s.frames))
	if !s.whole && (class == "anon_fault" || class == "other") {
		return ""
	}

	return class
}
