// SPDX-License-Identifier: Apache-2.0

package sigkill

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/kernel"
)

// The paths of user space.
const (
	PathRuntime     = "runtime"      // a container runtime, for whoever asked it
	PathSystemd     = "systemd"      // a service manager
	PathSystemdOOMD = "systemd-oomd" // these five kill for memory
	PathEarlyOOM    = "earlyoom"
	PathOOMD        = "oomd"
	PathNohang      = "nohang"
	PathSelf        = "self"        // from inside of the same container or service
	PathPIDNS       = "pidns"       // pid 1 of the container ended, and the kernel ended the rest
	PathCgroupKill  = "cgroup_kill" // a write to cgroup.kill by somebody else
	PathHuman       = "human"       // a login session, a terminal
	PathCron        = "cron"
	PathKernel      = "kernel" // ptrace, RLIMIT_CPU, a page that went bad
	PathOther       = "other"
)

// The reasons.
const (
	ReasonEviction   = "eviction"
	ReasonDelete     = "delete"
	ReasonProbe      = "probe"
	ReasonPreemption = "preemption"
	ReasonUnitStop   = "unit_stop"
	ReasonTimeout    = "timeout" // of a stop: SIGTERM was not enough
	ReasonMemory     = "memory_pressure"
	ReasonAsked      = "asked"
)

var (
	runtimeNames = []string{
		"runc", "crun", "youki", "runsc", "kata-runtime", "containerd-shim*", "conmon", "conmonrs", "containerd", "dockerd",
		"docker", "podman", "nerdctl", "crio", "cri-dockerd", "kubelet", "k3s", "k3s-server", "k3s-agent", "rke2", "hyperkube",
	}
	cronNames   = []string{"cron", "crond", "anacron", "atd"}
	loginNames  = []string{"sudo", "doas", "su", "sshd", "sshd-session", "login", "mosh-server"}
	memoryPaths = []struct {
		path  string
		names []string
	}{
		{PathSystemdOOMD, []string{"systemd-oomd"}}, {PathEarlyOOM, []string{"earlyoom"}},
		{PathOOMD, []string{"oomd", "oomd_bin"}}, {PathNohang, []string{"nohang", "nohang-desktop"}},
	}
)

// Classify tells who it was. It is a pure function: the same facts make the same
// verdict.
func Classify(f *Facts) *events.Killer {
	k := describe(f)
	v := verdict{Facts: f, k: k}
	v.term()
	v.way()
	k.Path = v.path()
	v.context()

	return k
}

// describe has what needs no judgement.
func describe(f *Facts) *events.Killer {
	s := f.Kill.Sender

	k := &events.Killer{
		Kind: "user", PID: int(f.Kill.Current.TGID), Comm: f.Kill.Current.LeaderComm, Exe: f.Sender.Exe,
		Cgroup: f.From.Cgroup, UID: &s.UID,
	}
	for _, a := range f.Ancestors {
		k.Ancestry = append(k.Ancestry, events.Ancestor{PID: a.PID, Comm: a.Comm, Exe: a.Exe})
	}

	return k
}

type verdict struct {
	*Facts
	k *events.Killer
}

func (v *verdict) evidence(what, value, source string) {
	v.k.Evidence = append(v.k.Evidence, events.Evidence{What: what, Value: value, Source: source})
}

const (
	fromKernel = "kernel"
	fromProc   = "/proc"
)

// term tells of a SIGTERM before, if the target was there to get it.
func (v *verdict) term() {
	s := v.Kill.Sender
	if s.TermNS == 0 || s.TermNS > v.Kill.BootNS || s.TermNS < v.Kill.StartBootNS {
		return
	}
	before := v.Kill.BootNS - s.TermNS
	v.k.TermBeforeNS = &before

	text := fmt.Sprintf("%s[%d] sent SIGTERM here %s before", s.TermSender.Comm, s.TermSender.TGID,
		time.Duration(before).Round(time.Millisecond))
	if s.TermIgnored {
		text += "; it was ignored: by SIG_IGN, or as pid 1 without a handler"
	}

	v.evidence("sigterm", text, fromKernel)
}

// way tells how the kernel was asked, where that is not kill(2).
func (v *verdict) way() {
	switch s := v.Kill.Sender; {
	case v.cgroupKill():
		v.evidence("signal", "cgroup.kill was written", fromKernel)
	case s.NoInfo:
		v.evidence("signal", "PR_SET_PDEATHSIG: the death of its parent", fromKernel)
	case v.Kill.FromKernel && !v.teardown():
		v.evidence("signal", "sent by the kernel itself: ptrace, RLIMIT_CPU or a page that went bad", fromKernel)
	case v.Kill.Code == kernel.CodeThread:
		v.evidence("signal", "tkill(2), to a thread", fromKernel)
	}
}

// cgroupKill: kernel/cgroup/cgroup.c, __cgroup_kill, signals each process by its
// leader thread and without information.
func (v *verdict) cgroupKill() bool { return v.Kill.Sender.NoInfo && !v.Kill.Group }

func (v *verdict) teardown() bool {
	s := v.Kill.Sender
	return v.Kill.FromKernel && s.NamespaceInit && s.Exiting
}

func (v *verdict) path() string {
	switch {
	case v.teardown():
		v.evidence("pid_namespace", fmt.Sprintf("its init %s[%d] ended", v.k.Comm, v.k.PID), fromKernel)
		return PathPIDNS
	case v.Kill.FromKernel:
		v.k.Kind = "kernel"
		return PathKernel
	case v.inside():
		return PathSelf
	}

	for _, m := range memoryPaths {
		if v.Sender.is(m.names...) {
			v.k.Reason = ReasonMemory
			v.oomd()

			return m.path
		}
	}

	switch {
	case v.runtime():
		v.asked()
		return PathRuntime
	case v.Sender.is("systemd"):
		if v.oomd() {
			v.k.Reason = ReasonMemory
			return PathSystemdOOMD
		}

		v.unitStop()

		return PathSystemd
	case v.cron():
		return PathCron
	case v.human():
		v.k.Reason = ReasonAsked
		return PathHuman
	case v.cgroupKill():
		return PathCgroupKill
	}

	return PathOther
}

// inside tells that the sender is in the target's container, or in its service.
// Containers of a pod may share their pid namespace.
func (v *verdict) inside() bool {
	from, to := v.From.Workload, v.To.Workload
	if v.Kill.Sender.SamePIDNS {
		value := "the sender is in the target's"
		if from != nil && to != nil && from.ContainerID != "" && to.ContainerID != "" && from.ContainerID != to.ContainerID {
			value += ", in another container: " + from.ContainerID
		}

		v.evidence("pid_namespace", value, fromKernel)

		return true
	}

	if from == nil || to == nil || from.ContainerID != to.ContainerID || from.PodUID != to.PodUID {
		return false
	}

	switch {
	case to.ContainerID != "":
		v.evidence("cgroup", "the sender is in the same container", fromKernel)
	case to.Unit != "" && from.Unit == to.Unit && strings.HasSuffix(to.Unit, ".service"):
		v.evidence("cgroup", "the sender is in the same service", fromKernel)
	default:
		return false
	}

	return true
}

// runtime: the sender is one, or was started by a shim or a monitor.
func (v *verdict) runtime() bool {
	if v.Sender.is(runtimeNames...) {
		return true
	}

	return len(v.Ancestors) > 0 && v.Ancestors[0].is("containerd-shim*", "conmon", "conmonrs")
}

// asked tells on whose behalf a runtime acts, as far as the node knows.
func (v *verdict) asked() {
	if reason, line := kubeletReason(v.Kubelet); reason != "" {
		v.k.Reason = reason
		v.evidence("kubelet", line, "kubelet log")

		return
	}

	switch w := v.To.Workload; {
	case v.Sender.is("kubelet"):
		v.evidence("asked_by", "the kubelet itself: it clears a pod's cgroup", fromKernel)
	case w != nil && w.QoS != "": // a pod of Kubernetes
		value := "the kubelet or another client of the CRI: the runtime's processes do not tell which"
		if t := v.k.TermBeforeNS; t == nil {
			value += "; no grace period (no SIGTERM was seen)"
		} else if grace := time.Duration(*t); grace > 1500*time.Millisecond && grace < 2800*time.Millisecond {
			value += "; a grace period of 2s is what an eviction at a hard threshold gives"
		}

		v.evidence("asked_by", value, fromKernel)
	case v.find("podman", "nerdctl", "docker") != nil && v.human():
		v.k.Reason = ReasonAsked
	}
}

// kubeletWords are what the kubelet's lines say, what explains most first: an
// evicted pod is deleted after that.
var kubeletWords = []struct {
	reason string
	words  []string // all of them
}{
	{ReasonEviction, []string{"eviction manager: pod", "evicted successfully"}},
	{ReasonEviction, []string{"eviction manager: must evict"}},
	{ReasonEviction, []string{"eviction manager: attempting to reclaim"}},
	{ReasonPreemption, []string{"preempting pod"}},
	{ReasonProbe, []string{"failed liveness probe"}},
	{ReasonProbe, []string{"failed startup probe"}},
	{ReasonProbe, []string{"probe failed", "liveness"}}, // one that is not ready is not killed
	{ReasonProbe, []string{"probe failed", "startup"}},
	{ReasonDelete, []string{"syncloop delete"}},
	{ReasonDelete, []string{"syncloop remove"}},
}

func kubeletReason(lines []string) (reason, line string) {
	for _, w := range kubeletWords {
		for _, line := range slices.Backward(lines) {
			lower := strings.ToLower(line)

			lacks := func(word string) bool { return !strings.Contains(lower, word) }
			if !slices.ContainsFunc(w.words, lacks) {
				return w.reason, line
			}
		}
	}

	return "", ""
}

// oomd tells of systemd-oomd's mark.
func (v *verdict) oomd() bool {
	if v.OOMDKills == "" {
		return false
	}

	v.evidence("user.oomd_kill", v.OOMDKills+" processes were killed here by systemd-oomd", "xattr of the cgroup")

	return true
}

// unitStop: systemd sends SIGTERM, and SIGKILL to what is left: at once after the
// main process, or when TimeoutStopSec is over.
func (v *verdict) unitStop() {
	switch t := v.k.TermBeforeNS; {
	case t == nil:
		v.evidence("sigterm", "none was seen: `systemctl kill`, KillSignal=SIGKILL or FinalKillSignal", fromKernel)
	case *t >= 1e9:
		v.k.Reason = ReasonTimeout
	default:
		v.k.Reason = ReasonUnitStop
	}
}

func (v *verdict) cron() bool {
	unit := v.cgroup(func(c string) bool {
		return slices.ContainsFunc(cronNames, func(name string) bool { return c == name+".service" })
	})
	if unit != "" {
		v.evidence("cgroup", "the sender runs in "+unit, fromProc)
		return true
	}

	if p := v.find(cronNames...); p != nil {
		v.evidence("ancestor", fmt.Sprintf("%s[%d]", p.Comm, p.PID), fromKernel)
		return true
	}

	return false
}

// human: a session of logind, a terminal, or a program that lets people in.
func (v *verdict) human() bool {
	if session := v.cgroup(isSession); session != "" {
		v.evidence("cgroup", "the sender runs in "+session, fromProc)
		return true
	}

	for _, p := range v.lineage() {
		if p.TTY != "" {
			v.evidence("tty", fmt.Sprintf("%s[%d] is on %s", p.Comm, p.PID, p.TTY), fromProc)
			return true
		}
	}

	if p := v.find(loginNames...); p != nil {
		v.evidence("ancestor", fmt.Sprintf("%s[%d]", p.Comm, p.PID), fromKernel)
		return true
	}

	return false
}

func isSession(component string) bool {
	return strings.HasPrefix(component, "session-") && strings.HasSuffix(component, ".scope")
}

// calledSudo is whose process called sudo: what sudo runs may be gone before its
// environment could be read, who called it waits.
func (f *Facts) calledSudo() string {
	within := false

	for _, p := range f.lineage() {
		switch {
		case p.is("sudo"): // its monitor of the terminal is its child
			within = true
		case within:
			return p.User
		}
	}

	return ""
}

// context adds the login, and where the sender runs if nothing else told.
func (v *verdict) context() {
	switch v.k.Path {
	case PathHuman, PathCgroupKill, PathOther, PathCron:
	case PathRuntime:
		if v.k.Reason == ReasonAsked {
			v.k.Login = v.login()
		}

		return
	default:
		return
	}

	v.k.Login = v.login()
	if w := v.From.Workload; v.k.Path != PathCron && w != nil && w.Unit != "" && !isSession(w.Unit) {
		v.evidence("cgroup", "the sender runs in "+w.Unit, fromKernel)
	}

	for _, p := range v.lineage() {
		if len(p.Command) > 0 {
			v.evidence("command", fmt.Sprintf("%s[%d]: %s", p.Comm, p.PID, strings.Join(p.Command, " ")), fromProc)
			return
		}
	}
}

func (v *verdict) login() *events.Login {
	var l events.Login
	if session := v.cgroup(isSession); session != "" {
		l.Session = strings.TrimSuffix(strings.TrimPrefix(session, "session-"), ".scope")
	}

	for _, p := range v.lineage() {
		if l.TTY == "" {
			l.TTY = p.TTY
		}

		if l.SudoUser == "" {
			l.SudoUser = p.SudoUser
		}
	}

	if l.SudoUser == "" {
		l.SudoUser = v.calledSudo()
	}

	if s := v.Kill.Sender; s.LoginKnown {
		l.User = v.User
		if l.User == "" {
			l.User = strconv.FormatUint(uint64(s.LoginUID), 10)
		}
	}

	if l == (events.Login{}) {
		return nil
	}

	return &l
}
