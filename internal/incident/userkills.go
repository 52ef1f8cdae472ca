// SPDX-License-Identifier: Apache-2.0

package incident

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/kernel"
	"github.com/oomtrace/oomtrace/internal/oom"
	"github.com/oomtrace/oomtrace/internal/phrase"
	"github.com/oomtrace/oomtrace/internal/resolve"
)

const (
	// userQuietNS ends an incident of scope user: whoever stops a container sends its
	// signals within milliseconds, and the end of a pid namespace follows.
	userQuietNS = 1e9
	// userLongestNS ends one that never gets quiet: SIGKILLs that go on do not hold back the
	// first.
	userLongestNS = 1200e6
	// cleanupNS is how long after an OOM kill of a container's init, or in a service, its
	// runtime or systemd may kill the rest.
	cleanupNS = 10e9
	// maxUserGroups and maxUserVictims bound what is kept in a flood.
	maxUserGroups  = 1024
	maxUserVictims = 1000
	// ancestryNS is how long an ancestry applies to SIGKILLs: the kernel side sends one a
	// second for each cgroup.
	ancestryNS = 1500e6
)

// userKills groups SIGKILLs that the OOM killer did not send by workload. A group is an
// incident of scope user, or a note on the OOM kill that explains it.
type userKills struct {
	cfg    *Config
	report *reporter
	groups map[oom.Instance]*userGroup
	// fromKernel has the groups with a SIGKILL that may be the OOM killer's.
	fromKernel map[signal]*userGroup
	ancestries map[events.CgroupKey]*kernel.TargetAncestry
	newestNS   uint64 // of the ancestries
}

// signal is a SIGKILL by its threads. The OOM killer marks its victim in the same thread.
type signal struct{ sender, target uint32 }

// userGroup is a pending incident of scope user.
type userGroup struct {
	key      oom.Instance
	quiet    quiet
	kills    []kernel.Kill   // at most maxUserVictims
	marked   map[uint32]bool // targets that were marked as victims of the OOM killer, by thread
	targets  map[uint32]bool // all, by pid
	from, to events.Process  // of the first kill
	ancestry *kernel.TargetAncestry
	waits    bool // its first kills wait for their marks: it is as old as those, and ends when they are reported
}

func newUserKills(cfg *Config, report *reporter) userKills {
	return userKills{
		cfg: cfg, report: report,
		groups:     make(map[oom.Instance]*userGroup),
		fromKernel: make(map[signal]*userGroup),
		ancestries: make(map[events.CgroupKey]*kernel.TargetAncestry),
	}
}

// targetAncestry keeps the limits above a target for its kills, which follow.
func (u *userKills) targetAncestry(r *kernel.TargetAncestry) {
	if len(u.ancestries) >= maxUserGroups {
		clear(u.ancestries)
	}
	u.ancestries[r.Target] = r
	u.newestNS = max(u.newestNS, r.BootNS)
}

// selects reports whether a SIGKILL in a cgroup becomes an incident.
func (mode UserKills) selects(place resolve.Place, path string) bool {
	if mode != UserKillsOfWorkloads {
		return mode == UserKillsAll
	}

	w := place.Workload
	switch {
	case w == nil:
		return false
	case w.ContainerID != "", w.PodUID != "", w.Guest != nil, w.Job != nil:
		return true
	case strings.HasSuffix(w.Unit, ".service"), w.Service != "":
		return true
	}

	return strings.HasSuffix(w.Unit, ".scope") && !strings.Contains(path, "/user.slice/")
}

// kill takes in a SIGKILL that the OOM killer did not send.
func (u *userKills) kill(k kernel.Kill) error {
	if u.cfg.UserKills == UserKillsNone {
		return nil
	}

	if u.report.followUp.isVictim(k) {
		return nil
	}

	place, path, _ := u.cfg.Cgroups.Place(k.Target.Cgroup)
	if !u.cfg.UserKills.selects(place, path) {
		return nil
	}

	g, err := u.group(oom.InstanceOf(place.Workload, &events.Cgroup{CgroupKey: k.Target.Cgroup, Path: path}), k)
	if err != nil {
		return err
	}

	u.add(g, k)

	return nil
}

// group returns the group of a kill.
func (u *userKills) group(key oom.Instance, k kernel.Kill) (*userGroup, error) {
	g := u.groups[key]
	if g != nil && (g.waits || g.ageNS(k.BootNS) <= userLongestNS) {
		return g, nil
	}

	if g != nil {
		if err := u.finish(g, k.BootNS); err != nil {
			return nil, err
		}

		if g = u.groups[key]; g != nil {
			return g, nil // the last ones of the group still wait for their marks
		}
	}

	if len(u.groups) >= maxUserGroups {
		if err := u.finish(u.oldest(), math.MaxUint64); err != nil {
			return nil, err
		}
	}

	g = u.newGroup(key, k)
	if a := u.ancestries[k.Target.Cgroup]; a != nil && k.BootNS-min(a.BootNS, k.BootNS) < ancestryNS {
		g.ancestry = a
	}

	return g, nil
}

// newGroup starts the group of a kill, which is yet to be added.
func (u *userKills) newGroup(key oom.Instance, k kernel.Kill) *userGroup {
	g := &userGroup{
		key: key, targets: make(map[uint32]bool), marked: make(map[uint32]bool),
		from: u.report.build.process(k.Current), to: u.report.build.process(k.Target),
	}
	u.groups[key] = g

	return g
}

// wait starts a group with what is left of an older one: SIGKILLs that still wait for their
// marks.
func (u *userKills) wait(old *userGroup, kills []kernel.Kill) {
	g := u.newGroup(old.key, kills[0])
	g.ancestry, g.marked, g.kills, g.waits = old.ancestry, old.marked, kills, true

	for _, k := range kills {
		g.targets[k.Target.TGID] = true
		u.fromKernel[signal{k.Current.TID, k.Target.TID}] = g
	}
}

func (u *userKills) oldest() *userGroup {
	var oldest *userGroup
	for _, g := range u.groups {
		if oldest == nil || byTime(g, oldest) < 0 {
			oldest = g
		}
	}

	return oldest
}

func byTime(a, b *userGroup) int { return cmp.Compare(a.kills[0].BootNS, b.kills[0].BootNS) }

func (g *userGroup) ageNS(now uint64) uint64 { return now - min(g.kills[0].BootNS, now) }

// add adds a kill to a group. Its sender is looked up if the kill may become the first of
// the group: those before it may turn out to be the OOM killer's.
func (u *userKills) add(g *userGroup, k kernel.Kill) {
	g.quiet = 0

	if g.targets[k.Target.TGID] {
		return
	}

	g.targets[k.Target.TGID] = true
	if len(g.kills) == maxUserVictims {
		return
	}

	if u.cfg.Killers != nil {
		n := len(g.kills)
		if n == 0 || g.kills[n-1].FromKernel && g.kills[n-1].Current.TGID != k.Current.TGID {
			u.cfg.Killers.Saw(k, u.report.build.process(k.Current), u.report.build.process(k.Target))
		}
	}

	g.kills = append(g.kills, k)
	if k.FromKernel {
		u.fromKernel[signal{k.Current.TID, k.Target.TID}] = g
	}
}

// remove takes SIGKILLs out of a group. It reports whether some are left.
func (u *userKills) remove(g *userGroup, match func(kernel.Kill) bool) bool {
	before := len(g.kills)

	g.kills = slices.DeleteFunc(g.kills, func(k kernel.Kill) bool {
		if !match(k) {
			return false
		}

		delete(g.targets, k.Target.TGID)

		return true
	})
	if len(g.kills) > 0 && len(g.kills) < before {
		g.from, g.to = u.report.build.process(g.kills[0].Current), u.report.build.process(g.kills[0].Target)
	}

	return len(g.kills) > 0
}

// mark notes that the OOM killer may have sent a SIGKILL after all: where its invocations
// are not seen, or where the kernel skipped the program on the entry of this one.
func (u *userKills) mark(r kernel.Mark) {
	if g := u.fromKernel[signal{r.Current.TID, r.PID}]; g != nil {
		g.marked[r.PID] = true
	}
}

// byOOMKiller reports whether the OOM killer sent a SIGKILL. The mark alone does not show
// it where the kernel stack of the signal is known: a thread that is killed otherwise, and
// fails an allocation while it exits, marks itself (mm/oom_kill.c: out_of_memory).
func (u *userKills) byOOMKiller(g *userGroup, k kernel.Kill) bool {
	if !k.FromKernel {
		return false
	}

	if u.cfg.Symbol == nil || len(k.Sender.Stack) == 0 {
		return g.marked[k.Target.TID]
	}

	return slices.ContainsFunc(k.Sender.Stack, func(address uint64) bool {
		name, _ := u.cfg.Symbol(address)
		return name == "__oom_kill_process" || name == "oom_kill_process" || name == "oom_kill_memcg_member"
	})
}

// lateMarkNS is how long a SIGKILL by the OOM killer waits for its mark, which follows at once
// unless its CPU stalls, as that of a guest may. Reported before, it would be reported twice.
const lateMarkNS = 25e8

// awaitsMark reports whether the OOM killer sent one of the SIGKILLs, of which no incident is known.
func (u *userKills) awaitsMark(g *userGroup) bool {
	return slices.ContainsFunc(g.kills, func(k kernel.Kill) bool {
		return u.byOOMKiller(g, k) && !u.report.followUp.isVictim(k)
	})
}

// overdue reports what has been quiet for long enough; with all, everything.
func (u *userKills) overdue(now uint64, all bool) error {
	if len(u.groups) == 0 {
		if now-min(u.newestNS, now) > ancestryNS {
			clear(u.ancestries)
		}

		return nil
	}

	if all {
		now = math.MaxUint64 // no mark comes any more
	}

	for _, g := range slices.SortedFunc(maps.Values(u.groups), byTime) {
		quiet, longest := uint64(userQuietNS), uint64(userLongestNS)
		if u.awaitsMark(g) {
			quiet, longest = lateMarkNS, lateMarkNS
		}

		if all || g.quiet.forNS(now, quiet) || g.ageNS(now) > longest {
			if err := u.finish(g, now); err != nil {
				return err
			}
		}
	}

	return nil
}

// finish emits the incident of a group, or adds the group to the OOM kill that explains
// it. SIGKILLs of the OOM killer that may still be marked stay in a group of their own.
func (u *userKills) finish(g *userGroup, now uint64) error {
	delete(u.groups, g.key)

	for _, k := range g.kills {
		if id := (signal{k.Current.TID, k.Target.TID}); u.fromKernel[id] == g {
			delete(u.fromKernel, id)
		}
	}

	var unmarked, waiting []kernel.Kill

	left := u.remove(g, func(k kernel.Kill) bool {
		if u.report.followUp.isVictim(k) {
			return true
		}

		switch {
		case !u.byOOMKiller(g, k):
			return false
		case now-min(k.BootNS, now) < lateMarkNS:
			waiting = append(waiting, k)
		default:
			unmarked = append(unmarked, k)
		}

		return true
	})

	if len(waiting) > 0 {
		u.wait(g, waiting)
	}

	for _, k := range unmarked {
		if err := u.report.unmarked(k); err != nil {
			return err
		}
	}

	if !left {
		return nil
	}
	killer := u.killer(g)

	oomKill, explains := u.oomKillBefore(g, killer)
	if explains {
		u.report.followUp.followed(oomKill, g.cleanup(oomKill, killer))
		return nil
	}

	if u.cfg.UserKills == UserKillsOfWorkloads && killer.Path == events.PathRuntime && g.isSandbox() {
		return nil // every pod ends like this
	}

	inc := u.report.build.userIncident(g.kills, g.ancestry, killer)
	inc.Notes = g.notes(killer)

	if oomKill != nil {
		inc.Notes = append(inc.Notes, g.oomKillNote(oomKill, killer)...)
	}

	return u.report.emit(inc, len(g.targets))
}

func (u *userKills) killer(g *userGroup) *events.Killer {
	first := g.kills[0]

	switch {
	case u.cfg.Killers != nil:
		return u.cfg.Killers.Killer(g.terminated(), g.from, g.to)
	case first.FromKernel && !first.Sender.NamespaceInit, first.Code > kernel.CodeUser:
		return &events.Killer{Kind: events.KillerKernel, Path: events.PathKernel}
	}

	path := events.PathOther
	if first.FromKernel {
		path = events.PathPIDNS
	}

	return &events.Killer{
		Kind: events.KillerUser, Path: path, PID: g.from.PID, Comm: g.from.Comm, UID: new(first.Sender.UID),
		Cgroup: g.from.Cgroup,
	}
}

// terminated returns the first kill of a process that had been sent SIGTERM, by the sender of the
// first kill; that one if there is none. Processes that were started since show no SIGTERM.
func (g *userGroup) terminated() kernel.Kill {
	first := g.kills[0]

	for _, k := range g.kills {
		s := k.Sender
		if s == nil || s.TermNS == 0 || k.Current.TGID != first.Current.TGID {
			continue
		}

		if s.TermNS >= k.StartBootNS && s.TermNS <= k.BootNS {
			return k
		}
	}

	return first
}

// isSandbox reports whether only the process that holds a pod's namespaces was killed.
func (g *userGroup) isSandbox() bool {
	return !slices.ContainsFunc(g.kills, func(k kernel.Kill) bool { return k.Target.LeaderComm != "pause" || !k.ContainerInit })
}

// notes describe the kills that differ from the first.
func (g *userGroup) notes(killer *events.Killer) (notes []string) {
	first, byInit, byOthers := g.kills[0], 0, 0
	for _, k := range g.kills {
		switch {
		case killer.PID != 0 && k.Current.TGID == first.Current.TGID:
		case killer.PID == 0 && k.FromKernel == first.FromKernel && k.Code == first.Code: // whoever was running
		case k.FromKernel && k.Sender.NamespaceInit:
			byInit++
		default:
			byOthers++
		}
	}

	if byInit > 0 {
		notes = append(notes, fmt.Sprintf("%s killed by the kernel when PID 1 of the PID namespace exited", were(byInit)))
	}

	if byOthers > 0 {
		notes = append(notes, fmt.Sprintf("%s not killed by the sender of the first SIGKILL", were(byOthers)))
	}

	if more := len(g.targets) - len(g.kills); more > 0 {
		notes = append(notes, fmt.Sprintf("%d more victims are not listed", more))
	}

	return notes
}

func were(n int) string {
	if n == 1 {
		return "1 victim was"
	}

	return fmt.Sprintf("%d victims were", n)
}

// oomKillBefore returns the last OOM kill in the same workload, nil if there is none, and
// whether it explains the group.
func (u *userKills) oomKillBefore(g *userGroup, killer *events.Killer) (r *reported, explains bool) {
	r = u.report.followUp.last(func(r *reported) (related bool) {
		related, explains = g.follows(r, killer)
		return related
	})

	return r, explains
}

// follows reports whether an OOM kill came before the group in the same workload. It
// explains the group if the sender is its victim, which is exiting, or if it killed the
// whole workload: then the runtime, or systemd, cleans up the rest.
func (g *userGroup) follows(r *reported, killer *events.Killer) (related, explains bool) {
	first := g.kills[0]
	if r.outcome != events.OutcomeKilled || first.BootNS < r.timeNS {
		return false, false
	}

	for _, v := range r.victims {
		if v.process.PID == killer.PID {
			return true, true
		}

		same := v.process.Cgroup != nil && oom.InstanceOf(v.process.Workload, v.process.Cgroup) == g.key
		if same || sameContainer(v.process.Workload, g.to.Workload) {
			whole := v.init || r.group || same && !g.key.IsContainer()
			return true, whole && cleansUp(killer) && first.BootNS-r.lastNS <= cleanupNS
		}
	}

	return false, false
}

// sameContainer reports whether both are in one container, in whichever of its units.
func sameContainer(a, b *events.Workload) bool {
	return a != nil && b != nil && a.ContainerID != "" && a.ContainerID == b.ContainerID && a.NodeContainerID == b.NodeContainerID
}

// cleansUp reports whether a killer may be whoever ends what is left of a workload. The others
// have reasons of their own.
func cleansUp(killer *events.Killer) bool {
	switch killer.Path {
	case events.PathRuntime, events.PathSystemd, events.PathPIDNS, events.PathCgroupKill, events.PathSelf, events.PathOther:
		return true
	}

	return false
}

// oomKillNote names the OOM kill before in the same workload, unless this kill follows from it,
// which whoever has all earlier kills finds (events.Follows).
func (g *userGroup) oomKillNote(oomKill *reported, killer *events.Killer) []string {
	after := g.after(oomKill)
	if oom.Follows(killer, after) != nil {
		return nil
	}

	return []string{fmt.Sprintf("%s earlier, the OOM killer killed in the same workload: incident %s", milliseconds(after), oomKill.id)}
}

// after is the time since the first victim of an OOM kill.
func (g *userGroup) after(oomKill *reported) uint64 {
	first := g.kills[0].BootNS
	return first - min(oomKill.timeNS, first)
}

// cleanup describes the group as what came of an OOM kill.
func (g *userGroup) cleanup(oomKill *reported, killer *events.Killer) events.Consequence {
	kind, by := events.AfterCleanup, fmt.Sprintf("%s[%d] killed", killer.Comm, killer.PID)

	switch {
	case killer.Path == events.PathPIDNS:
		kind, by = events.AfterPIDNS, "PID 1 of the PID namespace exited and the kernel killed"
	case killer.PID == 0:
		by = phrase.UserKiller(killer) + " killed"
	case killer.Path == events.PathSystemd:
		kind = events.AfterUnitStop
	}

	var names []string
	for _, k := range g.kills[:min(len(g.kills), 5)] {
		names = append(names, fmt.Sprintf("%s[%d]", k.Target.LeaderComm, k.Target.TGID))
	}

	if more := len(g.targets) - len(names); more > 0 {
		names = append(names, fmt.Sprintf("and %d more", more))
	}

	return events.Consequence{Kind: kind, AfterNS: new(g.after(oomKill)), Text: by + " " + strings.Join(names, ", "), Source: "kernel"}
}
