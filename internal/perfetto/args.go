// SPDX-License-Identifier: Apache-2.0

package perfetto

import (
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/oomtrace/oomtrace/internal/answer"
	"github.com/oomtrace/oomtrace/internal/events"
)

// args are the debug annotations of a slice. Keys that the event contract has are named as there. What
// is not known is absent.
type args []message

func named(name string) message {
	if name == "" { // a value of an array has no name
		return message{}
	}

	return message{}.text(annotationName, name)
}

func (a args) text(name, s string) args {
	if s == "" {
		return a
	}

	return append(a, named(name).text(annotationText, s))
}

func (a args) uint(name string, v uint64) args { return append(a, named(name).uint(annotationUint, v)) }

func (a args) uintIfKnown(name string, v *uint64) args {
	if v == nil {
		return a
	}

	return a.uint(name, *v)
}

func (a args) int(name string, v int) args {
	return append(a, named(name).int(annotationInt, int64(v)))
}

func (a args) bool(name string, v bool) args { return append(a, named(name).bool(annotationBool, v)) }

func (a args) dict(name string, entries args) args {
	return a.nested(name, annotationEntries, entries)
}

func (a args) array(name string, values args) args {
	return a.nested(name, annotationValues, values)
}

func (a args) nested(name string, field protowire.Number, in args) args {
	if len(in) == 0 {
		return a
	}

	m := named(name)
	for _, sub := range in {
		m = m.message(field, sub)
	}

	return append(a, m)
}

// maxListed is how many values of a list are written. The others are counted.
const maxListed = 32

// list adds an array of objects, and how many of them are left out.
func list[T any](a args, name string, values []T, of func(*T) args) args {
	var all args
	for i := range values[:min(len(values), maxListed)] {
		all = all.dict("", of(&values[i]))
	}

	return a.array(name, all).leftOut(name, len(values))
}

func (a args) texts(name string, values []string) args {
	var all args
	for _, s := range values[:min(len(values), maxListed)] {
		all = all.text("", s)
	}

	return a.array(name, all).leftOut(name, len(values))
}

func (a args) leftOut(name string, of int) args {
	if of <= maxListed {
		return a
	}

	return a.int(name+"_left_out", of-maxListed)
}

func incidentArgs(inc *events.Incident) args {
	a := args{}.text("summary", answer.Summary(inc)).text("id", inc.ID).
		text("scope", string(inc.Scope)).text("outcome", string(inc.Outcome))

	if l := inc.Limiter; l != nil {
		a = a.text("limit", l.Which).uintIfKnown("limit_bytes", l.LimitBytes).uintIfKnown("usage_bytes", l.UsageBytes).
			uintIfKnown("swap_usage_bytes", l.SwapUsageBytes).text("limiter_cgroup", cgroupPath(l.Cgroup))
	}

	if inc.Trigger != nil {
		a = a.dict("trigger", taskArgs(inc.Trigger))
	}

	a = list(a, "victims", inc.Victims, victimArgs).text("killer", answer.Of(inc).Killed)
	a = list(a, "causes", inc.Causes, causeArgs).text("advice", advice(inc))

	if b := inc.Before; b != nil {
		a = list(a, "stalls", b.Stalls, stallSumArgs)
		a = list(a, "stalled_critical_services", b.Guardians, func(g *events.GuardianStall) args {
			return args{}.text("unit", g.Unit).uint("total_ns", g.TotalNS)
		})
	}

	return a.texts("notes", inc.Notes).texts("unknown", inc.Unknown)
}

// advice is the first one of the causes.
func advice(inc *events.Incident) string {
	for i := range inc.Causes {
		for _, a := range inc.Causes[i].Advice {
			return a.Text
		}
	}

	return ""
}

func taskArgs(p *events.Process) args {
	a := args{}.text("comm", p.Comm)
	if p.PID != 0 {
		a = a.int("pid", p.PID)
	}

	if p.TID != 0 {
		a = a.int("tid", p.TID)
	}

	if p.IsKernel {
		a = a.bool("is_kernel", true)
	}

	return a.text("thread", p.Thread).text("cgroup", cgroupPath(p.Cgroup))
}

func victimArgs(v *events.Victim) args {
	return taskArgs(&v.Process).text("role", string(v.Role)).
		uintIfKnown("anon_rss_bytes", v.AnonRSSBytes).uintIfKnown("file_rss_bytes", v.FileRSSBytes).
		uintIfKnown("shmem_rss_bytes", v.ShmemRSSBytes).uintIfKnown("swap_bytes", v.SwapBytes).
		uintIfKnown("exit_after_ns", v.ExitAfterNS).uintIfKnown("released_after_ns", v.ReleasedAfterNS)
}

func causeArgs(c *events.Cause) args {
	return args{}.text("id", c.ID).text("text", c.Text).text("confidence", c.Confidence)
}

func stallSumArgs(s *events.StallSum) args {
	return args{}.text("kind", s.What).uint("count", s.Count).uint("total_ns", s.TotalNS).uint("max_ns", s.MaxNS).
		uint("reclaimed_bytes", s.ReclaimedBytes)
}

func cgroupPath(c *events.Cgroup) string {
	if c == nil {
		return ""
	}

	return c.Path
}
