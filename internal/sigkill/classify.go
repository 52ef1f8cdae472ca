// SPDX-License-Identifier: Apache-2.0

package sigkill

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/kernel"
	"github.com/oomtrace/oomtrace/internal/kubelet"
	"github.com/oomtrace/oomtrace/internal/runtimes"
)

var (
	// Agents of Kubernetes stop containers by the runtime, or clear cgroups themselves.
	agentNames  = []string{"kubelet", "hyperkube"}
	cronNames   = []string{"cron", "crond", "anacron", "atd"}
	loginNames  = []string{"sudo", "doas", "su", "sshd", "sshd-session", "login", "mosh-server"}
	memoryPaths = []struct {
		path  string
		names []string
	}{
		{events.PathSystemdOOMD, []string{"systemd-oomd"}}, {events.PathEarlyOOM, []string{"earlyoom"}},
		{events.PathOOMD, []string{"oomd", "oomd_bin"}}, {events.PathNohang, []string{"nohang", "nohang-desktop"}},
	}
)

// Classifier determines who sent a SIGKILL. It knows the processes of a table of
// runtimes, and is safe for concurrent use.
type Classifier struct{ runtimes, shims, clients []string }

// NewClassifier returns a classifier that knows the runtimes of a table.
func NewClassifier(table runtimes.Table) Classifier {
	return Classifier{
		runtimes: append(table.Binaries(), agentNames...), shims: table.Shims(), clients: table.Clients(),
	}
}

// Classify determines the sender. It is a pure function: equal facts give equal
// answers.
func (known Classifier) Classify(f *Facts) *events.Killer {
	o := originOf(f.Kill, f.Stack)
	c := classification{Facts: f, known: known, origin: o, k: &events.Killer{Kind: events.KillerKernel, Path: o.way.path}}

	if o.way.bySender {
		c.describe()
	}

	c.term()
	c.signal()

	if o.way.bySender {
		c.k.Path = c.path()
		c.context()
	}

	return c.k
}

// describe adds what the facts state of the sender without interpretation.
func (c *classification) describe() {
	c.k.Kind = events.KillerUser
	c.k.PID, c.k.Comm, c.k.Exe = int(c.Kill.Current.TGID), c.Kill.Current.LeaderComm, c.Sender.Exe
	c.k.Cgroup, c.k.UID = c.From.Cgroup, &c.Kill.Sender.UID

	for _, a := range c.Ancestors {
		c.k.Ancestry = append(c.k.Ancestry, events.Ancestor{PID: a.PID, Comm: a.Comm, Exe: a.Exe})
	}
}

// classification is the work on one SIGKILL: the facts, and the answer so far.
type classification struct {
	*Facts
	known  Classifier
	origin origin
	k      *events.Killer
}

func (c *classification) evidence(what, value, source string) {
	c.k.Evidence = append(c.k.Evidence, events.Evidence{What: what, Value: value, Source: source})
}

const (
	fromKernel = "kernel"
	fromProc   = "/proc"
)

// term reports an earlier SIGTERM, unless it was sent before the target started.
func (c *classification) term() {
	s := c.Kill.Sender
	if s.TermNS == 0 || s.TermNS > c.Kill.BootNS || s.TermNS < c.Kill.StartBootNS {
		return
	}
	before := c.Kill.BootNS - s.TermNS
	c.k.TermBeforeNS = &before

	text := fmt.Sprintf("%s[%d] sent SIGTERM %s earlier", s.TermSender.Comm, s.TermSender.TGID,
		time.Duration(before).Round(time.Millisecond))
	if s.TermIgnored {
		text += "; it was ignored (SIG_IGN, or PID 1 without a handler)"
	}

	c.evidence("sigterm", text, fromKernel)
}

// signal reports how the signal was sent, unless by kill(2).
func (c *classification) signal() {
	w := c.origin.way
	switch {
	case c.origin.function != "":
		c.evidence("signal", "sent by the kernel function "+c.origin.function+"; on whose behalf is not known", fromKernel)
	case w == byProgram:
		c.program()
	case w.text != "":
		c.evidence("signal", w.text, fromKernel)
	case w == bySystemCall && c.Kill.Code == kernel.CodeThread:
		c.evidence("signal", "tkill(2), to a thread", fromKernel)
	case w == bySystemCall && c.Kill.Code != kernel.CodeUser:
		c.evidence("signal", fmt.Sprintf("sigqueue(3), with code %d", c.Kill.Code), fromKernel)
	}
}

// program reports the BPF program that sent the signal.
func (c *classification) program() {
	c.k.BPFProgram = c.Program

	switch p := c.Program; {
	case c.origin.caller == 0:
		c.evidence("signal", "sent by a BPF program, through an interrupt: which one is not known", fromKernel)
	case p == nil:
		c.evidence("signal", "sent by a BPF program that is no longer loaded, or that the kernel hides", fromKernel)
	default:
		c.evidence("signal", fmt.Sprintf("sent by the BPF program %s (id %d)", cmp.Or(p.Name, "without a name"), p.ID), fromKernel)
	}
}

// cgroupKill reports whether cgroup.kill was written: __cgroup_kill
// (kernel/cgroup/cgroup.c, 5.14) signals each process by its leader thread, without
// siginfo.
func (c *classification) cgroupKill() bool { return c.origin.way == byCgroupKill }

func (c *classification) path() string {
	switch {
	case c.origin.way == byNamespace: // kernel/pid_namespace.c: zap_pid_ns_processes
		c.evidence("pid_namespace", fmt.Sprintf("its PID 1 %s[%d] exited", c.k.Comm, c.k.PID), fromKernel)
		return events.PathPIDNS
	case c.origin.way.path != "":
		return c.origin.way.path
	case c.inside():
		return events.PathSelf
	}

	for _, m := range memoryPaths {
		if c.Sender.is(m.names...) {
			c.k.Reason = events.ReasonMemory
			c.oomdMark()

			return m.path
		}
	}

	switch {
	case c.runtime():
		c.client()
		return events.PathRuntime
	case c.Sender.is("systemd"):
		if c.oomdMark() {
			c.k.Reason = events.ReasonMemory
			return events.PathSystemdOOMD
		}

		c.unitStop()

		return events.PathSystemd
	case c.cron():
		return events.PathCron
	case c.human():
		c.k.Reason = events.ReasonAsked
		return events.PathHuman
	case c.cgroupKill():
		return events.PathCgroupKill
	}

	return events.PathOther
}

// inside reports whether the sender is in the target's container or service.
// Containers of a pod may share their PID namespace.
func (c *classification) inside() bool {
	from, to := c.From.Workload, c.To.Workload
	if c.Kill.Sender.SamePIDNS {
		value := "the sender is in the target's"
		if from != nil && to != nil && from.ContainerID != "" && to.ContainerID != "" && from.ContainerID != to.ContainerID {
			value += ", in another container: " + from.ContainerID
		}

		c.evidence("pid_namespace", value, fromKernel)

		return true
	}

	if from == nil || to == nil || from.ContainerID != to.ContainerID || from.PodUID != to.PodUID {
		return false
	}

	switch {
	case to.ContainerID != "":
		c.evidence("cgroup", "the sender is in the same container", fromKernel)
	case to.Unit != "" && from.Unit == to.Unit && from.SameHolders(to) && strings.HasSuffix(to.Unit, ".service"):
		c.evidence("cgroup", "the sender is in the same service", fromKernel)
	default:
		return false
	}

	return true
}

// runtime reports whether the sender is a runtime, or was started by a shim.
func (c *classification) runtime() bool {
	if c.Sender.is(c.known.runtimes...) {
		return true
	}

	return len(c.Ancestors) > 0 && c.Ancestors[0].is(c.known.shims...)
}

// client reports on whose behalf a runtime acts, as far as this node shows it.
func (c *classification) client() {
	if reason, line := c.kubeletReason(); reason != "" {
		c.k.Reason = reason
		c.evidence("kubelet", line, "kubelet log")

		if reason == events.ReasonEviction {
			c.k.Resource = c.reclaimed()
		}

		return
	}

	switch w := c.To.Workload; {
	case c.Sender.is("kubelet"):
		c.evidence("asked_by", "the kubelet itself, when it cleans up a pod's cgroup", fromKernel)
	case w != nil && w.QoS != "": // a pod of Kubernetes
		value := "the kubelet or another CRI client: the runtime's processes do not show which"
		if t := c.k.TermBeforeNS; t == nil {
			value += "; no grace period (no SIGTERM was observed)"
		} else if grace := time.Duration(*t); grace > 1500*time.Millisecond && grace < 2800*time.Millisecond {
			value += "; the grace period of 2s matches an eviction at a hard threshold"
		}

		c.evidence("asked_by", value, fromKernel)
	case c.find(c.known.clients...) != nil && c.human():
		c.k.Reason = events.ReasonAsked
	}
}

// kubeletReasons maps what the kubelet logged to the reason of a kill, the most specific
// first: an evicted pod is deleted afterwards.
var kubeletReasons = []struct{ what, reason string }{
	{kubelet.FoundEvicted, events.ReasonEviction},
	{kubelet.FoundMustEvict, events.ReasonEviction},
	{kubelet.FoundReclaim, events.ReasonEviction},
	{kubelet.FoundPreempted, events.ReasonPreemption},
	{kubelet.FoundProbe, events.ReasonProbe},
	{kubelet.FoundDeleted, events.ReasonDelete},
}

// kubeletReason returns the reason that the kubelet logged, and the latest line that
// gives it; both are empty if it logged none. A failed readiness probe kills nothing.
func (c *classification) kubeletReason() (reason, line string) {
	for _, r := range kubeletReasons {
		for _, f := range slices.Backward(c.Kubelet) {
			kills := f.What != kubelet.FoundProbe || f.Probe == kubelet.ProbeLiveness || f.Probe == kubelet.ProbeStartup
			if f.What == r.what && kills {
				return r.reason, f.String()
			}
		}
	}

	return "", ""
}

// reclaimed returns the resource that the kubelet had to reclaim, empty if its log does not
// name it.
func (c *classification) reclaimed() string {
	for _, f := range slices.Backward(c.Kubelet) {
		if f.Resource != "" {
			return f.Resource
		}
	}

	return ""
}

// oomdMark reports whether systemd-oomd marked the target's cgroup.
func (c *classification) oomdMark() bool {
	if c.OOMDKills == "" {
		return false
	}

	c.evidence("user.oomd_kill", c.OOMDKills+" processes of this cgroup were killed by systemd-oomd", "xattr of the cgroup")

	return true
}

// unitStop sets the reason of a stop: systemd sends SIGTERM, and SIGKILL to the
// remaining processes, right after the main process exited or when TimeoutStopSec is
// over.
func (c *classification) unitStop() {
	switch t := c.k.TermBeforeNS; {
	case t == nil:
		c.evidence("sigterm", "none was observed: `systemctl kill`, KillSignal=SIGKILL or FinalKillSignal", fromKernel)
	case *t >= 1e9:
		c.k.Reason = events.ReasonTimeout
	default:
		c.k.Reason = events.ReasonUnitStop
	}
}

// cron reports whether the sender is a job of cron or at.
func (c *classification) cron() bool {
	unit := c.cgroup(func(component string) bool {
		return slices.ContainsFunc(cronNames, func(name string) bool { return component == name+".service" })
	})
	if unit != "" {
		c.evidence("cgroup", "the sender runs in "+unit, fromProc)
		return true
	}

	if p := c.find(cronNames...); p != nil {
		c.evidence("ancestor", fmt.Sprintf("%s[%d]", p.Comm, p.PID), fromKernel)
		return true
	}

	return false
}

// human reports whether the sender belongs to a session of logind, to a terminal, or
// to a program that people log in by.
func (c *classification) human() bool {
	if session := c.cgroup(isSession); session != "" {
		c.evidence("cgroup", "the sender runs in "+session, fromProc)
		return true
	}

	for _, p := range c.lineage() {
		if p.TTY != "" {
			c.evidence("tty", fmt.Sprintf("%s[%d] is on %s", p.Comm, p.PID, p.TTY), fromProc)
			return true
		}
	}

	if p := c.find(loginNames...); p != nil {
		c.evidence("ancestor", fmt.Sprintf("%s[%d]", p.Comm, p.PID), fromKernel)
		return true
	}

	return false
}

func isSession(component string) bool {
	return strings.HasPrefix(component, "session-") && strings.HasSuffix(component, ".scope")
}

// calledSudo returns the user whose process called sudo. The child of sudo may exit
// before its environment is read; the caller of sudo waits and can still be read.
func (f *Facts) calledSudo() string {
	within := false

	for _, p := range f.lineage() {
		switch {
		case p.is("sudo"): // twice with a terminal: sudo and its monitor
			within = true
		case within:
			return p.User
		}
	}

	return ""
}

// context adds the login, and the sender's unit and command where the path alone
// explains little.
func (c *classification) context() {
	switch c.k.Path {
	case events.PathHuman, events.PathCgroupKill, events.PathOther, events.PathCron:
	case events.PathRuntime:
		if c.k.Reason == events.ReasonAsked {
			c.k.Login = c.login()
		}

		return
	default:
		return
	}

	c.k.Login = c.login()
	if w := c.From.Workload; c.k.Path != events.PathCron && w != nil && w.Unit != "" && !isSession(w.Unit) {
		c.evidence("cgroup", "the sender runs in "+w.Unit+machine(w), fromKernel)
	}

	for _, p := range c.lineage() {
		if len(p.Command) > 0 {
			c.evidence("command", fmt.Sprintf("%s[%d]: %s", p.Comm, p.PID, strings.Join(p.Command, " ")), fromProc)
			return
		}
	}
}

// machine is the guest that a unit is within, empty for a unit of the host: guests have units
// of the same names.
func machine(w *events.Workload) string {
	for _, h := range slices.Backward(w.Within) {
		if h.Kind == events.HolderGuest {
			return " of guest " + h.Name
		}
	}

	return ""
}

// login returns what is known of the sender's login, nil if nothing is.
func (c *classification) login() *events.Login {
	var l events.Login
	if session := c.cgroup(isSession); session != "" {
		l.Session = strings.TrimSuffix(strings.TrimPrefix(session, "session-"), ".scope")
	}

	for _, p := range c.lineage() {
		if l.TTY == "" {
			l.TTY = p.TTY
		}

		if l.SudoUser == "" {
			l.SudoUser = p.SudoUser
		}
	}

	if l.SudoUser == "" {
		l.SudoUser = c.calledSudo()
	}

	if s := c.Kill.Sender; s.LoginKnown {
		l.User = c.User
		if l.User == "" {
			l.User = strconv.FormatUint(uint64(s.LoginUID), 10)
		}
	}

	if l == (events.Login{}) {
		return nil
	}

	return &l
}
