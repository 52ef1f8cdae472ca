// SPDX-License-Identifier: Apache-2.0

package probe

import (
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

// way is one way to attach a hook: all of its programs, or none.
type way struct {
	tier     events.Tier
	programs []string
	function string // to attach to, where the program's own name for it may not be there
}

// hook is a place in the kernel, with the ways to it, best first.
type hook struct {
	name     string
	ways     []way
	required bool
}

// The decision is seen in one piece: the bracket of out_of_memory gives each
// pass its number, and without it oom_kill_process says less than it seems to.
var decision = hook{
	name: "oom_kill_process",
	ways: []way{
		{tier: events.TierFentry, programs: []string{"fentry_out_of_memory", "fexit_out_of_memory", "fentry_oom_kill_process"}},
		{tier: events.TierKprobe, programs: []string{"kprobe_out_of_memory", "kretprobe_out_of_memory", "kprobe_oom_kill_process"}},
		{tier: events.TierTracepoint}, // mark_victim takes its place
	},
	required: true,
}

func tracepoint(name string, required bool, programs ...string) hook {
	return hook{name, []way{{tier: events.TierTracepoint, programs: programs}}, required}
}

var hooks = []hook{
	tracepoint("signal:signal_generate", true, "signal_generate"),
	tracepoint("signal:signal_generate, of users", false, "user_signal"),
	tracepoint("oom:mark_victim", true, "mark_victim"),
	tracepoint("cgroup:cgroup_mkdir", false, "cgroup_mkdir"),
	tracepoint("cgroup:cgroup_rmdir", false, "cgroup_rmdir"),
	tracepoint("cgroup:cgroup_rename", false, "cgroup_rename"),
	tracepoint("sched:sched_process_exit", false, "sched_process_exit"),
	{"exit_mmap", []way{
		{tier: events.TierFentry, programs: []string{"fexit_exit_mmap"}},
		{tier: events.TierKprobe, programs: []string{"kprobe_exit_mmap", "kretprobe_exit_mmap"}},
	}, false},
}

// Only a thread's last reclaim tells a node's shortage from sysrq-f where
// out_of_memory cannot be seen, or a kprobe at it was skipped.
var reclaimHooks = []hook{
	tracepoint("vmscan:mm_vmscan_memcg_reclaim_begin", false, "memcg_reclaim_begin"),
	tracepoint("vmscan:mm_vmscan_direct_reclaim_begin", false, "direct_reclaim_begin"),
}

// stallHooks are where tasks stall. From 6.18 on, memory.high is dealt with in a
// function with two underscores, and the other is inlined.
var stallHooks = []hook{
	tracepoint("vmscan:mm_vmscan_memcg_reclaim", false, "stall_memcg_begin", "stall_memcg_end"),
	tracepoint("vmscan:mm_vmscan_direct_reclaim", false, "stall_direct_begin", "stall_direct_end"),
	tracepoint("vmscan:mm_vmscan_node_reclaim", false, "stall_node_begin", "stall_node_end"),
	tracepoint("vmscan:mm_vmscan_throttled", false, "stall_throttled"),
	tracepoint("vmscan:mm_vmscan_kswapd", false, "stall_kswapd_wake", "stall_kswapd_sleep"),
	tracepoint("compaction:mm_compaction", false, "stall_compaction_begin", "stall_compaction_end"),
	tracepoint("oom:reclaim_retry_zone", false, "retry_reclaim"),
	tracepoint("oom:compact_retry", false, "retry_compact"),
	{"memory.high", []way{
		{tier: events.TierFentry, programs: []string{"fentry_high", "fexit_high"}, function: "__mem_cgroup_handle_over_high"},
		{tier: events.TierFentry, programs: []string{"fentry_high", "fexit_high"}},
		{tier: events.TierKprobe, programs: []string{"kprobe_high", "kretprobe_high"}, function: "__mem_cgroup_handle_over_high"},
		{tier: events.TierKprobe, programs: []string{"kprobe_high", "kretprobe_high"}},
	}, false},
}

// gaveUpHook tells why the allocator gave up. It comes before the hook of the
// mark, and needs no other wakeup.
var gaveUpHook = tracepoint("oom:mark_victim, evidence", false, "gave_up")

// ownerHook tells whose limit a task reclaims for, where the event does not.
var ownerHook = hook{"try_to_free_mem_cgroup_pages", []way{
	{tier: events.TierFentry, programs: []string{"fentry_owner"}},
	{tier: events.TierKprobe, programs: []string{"kprobe_owner"}},
}, false}

var wireTier = map[events.Tier]bpf.AttachMode{
	events.TierFentry:     bpf.AttachModeFentry,
	events.TierKprobe:     bpf.AttachModeKprobe,
	events.TierTracepoint: bpf.AttachModeTracepoint,
}

// attach takes for each hook the best way there is. The decision's comes first:
// the other programs are told of it when they are loaded. A forced tier is the
// best that may be taken anywhere.
func (p *Probe) attach(forced events.Tier, stalls bool) error {
	taken, err := p.attachHook(decision, forced)
	if err != nil {
		return err
	}

	if forced != "" && taken.Tier != forced {
		return fmt.Errorf("tier %s is not to be had here: %s; see `oomtrace doctor`", forced, taken.Why)
	}

	p.tier = taken.Tier
	if err := p.loader.constant("attach_mode", uint32(wireTier[p.tier])); err != nil {
		return err
	}
	bracket := taken

	bracket.Name = "out_of_memory"
	if p.tier == events.TierTracepoint {
		bracket.Tier = "" // nothing takes the place of the bracket
	}
	p.hooks = append(p.hooks, bracket, taken)

	var rest []hook
	if stalls {
		rest = append(rest, gaveUpHook)
	}

	rest = append(rest, hooks...)
	if p.tier != events.TierFentry {
		rest = append(rest, reclaimHooks...)
	}

	if stalls {
		rest = append(rest, stallHooks...)
		if !p.loader.beginHasMemcg() {
			rest = append(rest, ownerHook)
		}
	}

	for _, h := range rest {
		taken, err := p.attachHook(h, forced)
		if err != nil {
			return err
		}

		p.hooks = append(p.hooks, taken)
	}

	return nil
}

// because leaves out ways of the same tier: a function has another name elsewhere.
func because(why []string, taken events.Tier) []string {
	return slices.DeleteFunc(why, func(w string) bool { return strings.HasPrefix(w, string(taken)+": ") })
}

// attachHook tries the ways of a hook. A way is there only if it loads and
// attaches: on some kernels fentry does one and not the other.
func (p *Probe) attachHook(h hook, forced events.Tier) (events.Hook, error) {
	var why []string

	for _, w := range h.ways {
		if forced != "" && better(w.tier, forced) {
			continue
		}

		err := p.loader.attach(w)
		if err == nil {
			return events.Hook{Name: h.name, Tier: w.tier, Why: strings.Join(because(why, w.tier), "; ")}, nil
		}

		if h.required && len(h.ways) == 1 {
			return events.Hook{}, fmt.Errorf("attaching %s, without which no kill is seen: %w: %s", h.name, err, advice(err))
		}
		// A function may be tried by two names, and fail for one reason.
		if text := fmt.Sprintf("%s: %s", w.tier, reason(err)); !slices.Contains(why, text) {
			why = append(why, text)
		}
	}

	return events.Hook{Name: h.name, Why: strings.Join(why, "; ")}, nil
}

var rank = map[events.Tier]int{events.TierFentry: 0, events.TierKprobe: 1, events.TierTracepoint: 2}

func better(a, b events.Tier) bool { return rank[a] < rank[b] }

// attach loads and attaches programs, all or none.
func (l *loader) attach(w way) error {
	if len(w.programs) == 0 {
		return nil
	}

	c, err := l.load(w.function, w.programs...)
	if err != nil {
		return err
	}
	var links []link.Link

	for _, name := range w.programs {
		_, spec := l.program(name)

		spec = spec.Copy()
		if w.function != "" {
			spec.AttachTo = w.function
		}

		k, err := attachProgram(c.Programs[name], spec)
		if err != nil {
			for _, k := range links {
				k.Close()
			}

			return fmt.Errorf("attaching %s: %w", name, err)
		}

		links = append(links, k)
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

// reason is an attach error in few words. EPERM is also what a kernel says that
// has function tracing but gives it to nobody.
func reason(err error) string {
	var verifier *ebpf.VerifierError
	switch {
	case errors.As(err, &verifier):
		return "the verifier refuses the program: " + strings.TrimSpace(lastLine(verifier))
	case errors.Is(err, unix.EPERM):
		return "refused by the kernel (EPERM)"
	case errors.Is(err, errNoKprobes):
		return errNoKprobes.Error()
	case errors.Is(err, ebpf.ErrNotSupported):
		return "not supported by this kernel"
	}
	text, _, _ := strings.Cut(err.Error(), "\n")

	return text
}

func lastLine(err *ebpf.VerifierError) string {
	if len(err.Log) == 0 {
		return err.Error()
	}

	return err.Cause.Error() + ": " + err.Log[len(err.Log)-1]
}

func advice(err error) string {
	switch {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return "run as root, or with CAP_BPF and CAP_PERFMON; in a container, as a privileged one"
	}

	return "`oomtrace doctor` tells what this kernel offers"
}
