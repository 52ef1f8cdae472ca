// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/oomtrace/oomtrace/bpf"
	"github.com/oomtrace/oomtrace/internal/events"
)

// attach attaches each hook in the best mode that this kernel supports. A forced mode
// is the best that may be used anywhere, and the one that the OOM invocation must have.
func (p *Probe) attach(opts Options) error {
	forced := opts.Tier

	for i := range hooks {
		h := &hooks[i]
		if !p.wanted(h, opts) {
			continue
		}

		best := forced
		if h.name == choiceHook {
			best = p.tier // without an OOM invocation it has no use
		}

		state, err := p.attachHook(h, best)
		if err != nil {
			return err
		}

		if h.name == invocationHook {
			if err := p.setAttachMode(state, forced); err != nil {
				return err
			}
		}

		p.hooks = append(p.hooks, state)
	}

	return p.loader.complete()
}

// setAttachMode gives the programs that follow the attach mode of the OOM invocation.
func (p *Probe) setAttachMode(state events.Hook, forced events.Tier) error {
	p.tier = cmp.Or(state.Tier, events.TierTracepoint)
	if forced != "" && p.tier != forced {
		return unavailable(forced, state.Why)
	}

	return p.loader.constant("attach_mode", uint32(attachModes[p.tier]))
}

// unavailable is the error of a forced mode that did not attach, with the reasons of all modes
// that were tried.
func unavailable(forced events.Tier, why string) error {
	for _, one := range strings.Split(why, "; ") {
		if reason, ok := strings.CutPrefix(one, string(forced)+": "); ok {
			why = reason
			break
		}
	}

	does := fmt.Sprintf("does not offer %s (%s)", forced, why)
	if why == refusal {
		does = fmt.Sprintf("refuses %s (EPERM)", forced)
	}

	return fmt.Errorf("--tier %s: this kernel %s: leave the flag out to use the best mode that works", forced, does)
}

func (p *Probe) wanted(h *hook, opts Options) bool {
	switch h.when {
	case withStalls:
		return opts.Stalls
	case onV1:
		return opts.MemoryHierarchy != 0
	case onV2:
		return opts.MemoryHierarchy == 0
	case withoutFentry:
		return p.tier != events.TierFentry
	}

	return true
}

var attachModes = map[events.Tier]bpf.AttachMode{
	events.TierFentry:     bpf.AttachModeFentry,
	events.TierKprobe:     bpf.AttachModeKprobe,
	events.TierTracepoint: bpf.AttachModeTracepoint,
}

// attachHook tries the modes of a hook. One is supported only if its programs load and
// attach: on some kernels fentry does the first and not the second.
func (p *Probe) attachHook(h *hook, forced events.Tier) (events.Hook, error) {
	var why []string

	for _, m := range h.modes {
		if forced != "" && better(m.tier, forced) {
			continue
		}

		err := p.loader.attach(m)
		if err == nil {
			return events.Hook{Name: h.name, Tier: m.tier, Why: strings.Join(whyNotBetter(why, m.tier), "; ")}, nil
		}

		if h.required {
			return events.Hook{}, fmt.Errorf("attach %s (without it, %s): %w: %s", h.name, h.without, err, advice(err))
		}

		// Two functions may be tried in one mode, and fail for one reason.
		if text := fmt.Sprintf("%s: %s", m.tier, reason(err)); !slices.Contains(why, text) {
			why = append(why, text)
		}
	}

	return events.Hook{Name: h.name, Why: strings.Join(why, "; ")}, nil
}

// whyNotBetter leaves out attempts in the mode that was attached, by another function.
func whyNotBetter(why []string, attached events.Tier) []string {
	return slices.DeleteFunc(why, func(w string) bool { return strings.HasPrefix(w, string(attached)+": ") })
}

var rank = map[events.Tier]int{events.TierFentry: 0, events.TierKprobe: 1, events.TierTracepoint: 2}

func better(a, b events.Tier) bool { return rank[a] < rank[b] }

// attach loads and attaches the programs of a mode, all or none.
func (l *loader) attach(m mode) error {
	if len(m.programs) == 0 {
		return nil
	}

	c, err := l.load(m.function, m.programs...)
	if err != nil {
		return err
	}

	var links []attached

	for _, name := range m.programs {
		_, spec := l.program(name)

		spec = spec.Copy()
		if m.function != "" {
			spec.AttachTo = m.function
		}

		to, err := attachProgram(c.Programs[name], spec)
		if err != nil {
			for _, earlier := range links {
				earlier.Close()
			}

			return fmt.Errorf("attach %s: %w", name, err)
		}

		links = append(links, attached{to, name})
	}

	l.links = append(l.links, links...)

	return nil
}

func attachProgram(program *ebpf.Program, spec *ebpf.ProgramSpec) (link.Link, error) {
	switch spec.Type {
	case ebpf.Tracing:
		return link.AttachTracing(link.TracingOptions{Program: program})
	case ebpf.RawTracepoint:
		return link.AttachRawTracepoint(link.RawTracepointOptions{Name: spec.AttachTo, Program: program})
	case ebpf.Kprobe:
		if _, err := os.Stat("/sys/bus/event_source/devices/kprobe"); errors.Is(err, os.ErrNotExist) {
			return nil, errNoKprobes
		}

		if strings.HasPrefix(spec.SectionName, "kretprobe/") {
			return link.Kretprobe(spec.AttachTo, program, nil)
		}

		return link.Kprobe(spec.AttachTo, program, nil)
	}

	return nil, fmt.Errorf("program type %s: %w", spec.Type, errors.ErrUnsupported)
}

var errNoKprobes = errors.New("this kernel has no kprobes (CONFIG_KPROBE_EVENTS)")

// refusal is the reason of a mode that the kernel does not permit, whatever the privileges.
const refusal = "not permitted by the kernel (EPERM)"

// reason is an attach error in a few words. EPERM may also mean that the kernel has
// function tracing and does not permit it to anybody.
func reason(err error) string {
	var verifier *ebpf.VerifierError

	switch {
	case errors.As(err, &verifier):
		return "the verifier rejected the program: " + lastLine(verifier)
	case errors.Is(err, unix.EPERM):
		return refusal
	case errors.Is(err, errNoKprobes):
		return errNoKprobes.Error()
	case errors.Is(err, ebpf.ErrNotSupported):
		return "not supported by this kernel"
	}

	text, _, _ := strings.Cut(err.Error(), "\n")

	return text
}

func lastLine(err *ebpf.VerifierError) string {
	for _, line := range slices.Backward(err.Log) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "processed ") {
			return err.Cause.Error() + ": " + line
		}
	}

	return err.Error()
}

func advice(err error) string {
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		return "run as root or with CAP_BPF and CAP_PERFMON; in a container, run it privileged"
	}

	return "see `oomtrace doctor`"
}
