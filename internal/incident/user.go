// SPDX-License-Identifier: Apache-2.0

package incident

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/kernel"
	"github.com/oomtrace/oomtrace/internal/resolve"
)

// UserKills says which SIGKILLs from user space become incidents.
type UserKills uint8

// The choices. A service is one of systemd, or a scope outside of login sessions.
const (
	UserKillsOfWorkloads UserKills = iota // of containers, pods and services
	UserKillsAll
	UserKillsNone
)

// Killers knows who sends SIGKILLs. Neither method may wait.
type Killers interface {
	// Saw comes with the record, so that the sender can be looked at while it is
	// there.
	Saw(k kernel.Kill, from, to events.Process)
	// Killer comes about a second later.
	Killer(k kernel.Kill, from, to events.Process) *events.Killer
}

const (
	// userQuietNS ends an incident of scope user: a stop sends its signals within
	// milliseconds, and a pid namespace's end follows.
	userQuietNS = 1e9
	// userLongestNS ends one that never gets quiet.
	userLongestNS = 10e9
	// aftermathNS is how long after an OOM kill of a container's init, or in a
	// service, the rest of it may be cleared away.
	aftermathNS = 10e9
	// maxUserGroups and maxUserVictims bound what is kept in a flood.
	maxUserGroups  = 1024
	maxUserVictims = 1000
	// ladderNS is how old a ladder may be to be of a kill: the kernel side sends
	// one a second.
	ladderNS = 1500e6
)

// userKey is what SIGKILLs are put together by: the container, else the pod, else
// the service, else the cgroup.
type userKey struct {
	container, pod, unit string
	cgroup               events.CgroupKey
}

func keyOf(key events.CgroupKey, w *events.Workload, path string) userKey {
	switch {
	case w == nil:
	case w.ContainerID != "":
		return userKey{container: w.ContainerID}
	case w.PodUID != "":
		return userKey{pod: w.PodUID}
	case w.Unit != "":
		// Each user's manager may have a unit of the same name.
		if at := strings.LastIndex(path, w.Unit); at >= 0 {
			path = path[:at]
		}

		return userKey{unit: path + w.Unit}
	}

	return userKey{cgroup: key}
}

// userGroup is an incident of scope user in the making.
type userGroup struct {
	key      userKey
	quiet    quiet
	lastNS   uint64
	kills    []kernel.Kill // at most maxUserVictims
	targets  map[uint32]bool
	from, to events.Process // of the first
	ladder   *kernel.TargetAncestry
}

// users holds SIGKILLs that the OOM killer did not send, until they are told.
type users struct {
	groups  map[userKey]*userGroup
	ladders map[events.CgroupKey]*kernel.TargetAncestry
	newest  uint64 // of the ladders
}

func newUsers() users {
	return users{groups: make(map[userKey]*userGroup), ladders: make(map[events.CgroupKey]*kernel.TargetAncestry)}
}

func (u *users) ladder(r kernel.TargetAncestry) {
	if len(u.ladders) >= maxUserGroups {
		clear(u.ladders)
	}
	u.ladders[r.Target] = &r
	u.newest = max(u.newest, r.BootNS)
}

// wantsUser tells whether a SIGKILL in a cgroup is to be an incident.
func (c *Correlator) wantsUser(place resolve.Place, path string) bool {
	if c.cfg.UserKills != UserKillsOfWorkloads {
		return c.cfg.UserKills == UserKillsAll
	}

	w := place.Workload
	switch {
	case w == nil:
		return false
	case w.ContainerID != "", w.PodUID != "":
		return true
	case strings.HasSuffix(w.Unit, ".service"):
		return true
	}

	return strings.HasSuffix(w.Unit, ".scope") && !strings.HasPrefix(path, "/user.slice/")
}

// userKill takes in a SIGKILL that is not the OOM killer's.
func (c *Correlator) userKill(k kernel.Kill) error {
	if c.cfg.UserKills == UserKillsNone || k.Sender.TargetGone ||
		k.Result == kernel.ResultIgnored || k.Result == kernel.ResultPending {
		return nil // nobody dies of it
	}

	if c.diesOfOOM(k) {
		return nil
	}

	place, path, _ := c.cfg.Cgroups.Place(k.Target.Cgroup)
	if !c.wantsUser(place, path) {
		return nil
	}
	key := keyOf(k.Target.Cgroup, place.Workload, path)

	g := c.users.groups[key]
	if g != nil && k.BootNS-min(g.kills[0].BootNS, k.BootNS) > userLongestNS {
		if err := c.reportUser(g); err != nil {
			return err
		}
		g = nil
	}

	if g == nil {
		if err := c.roomForUser(); err != nil {
			return err
		}

		g = &userGroup{key: key, targets: make(map[uint32]bool), from: c.process(k.Current), to: c.process(k.Target)}
		if l := c.users.ladders[k.Target.Cgroup]; l != nil && k.BootNS-min(l.BootNS, k.BootNS) < ladderNS {
			g.ladder = l
		}

		c.users.groups[key] = g
		if c.cfg.Killers != nil {
			c.cfg.Killers.Saw(k, g.from, g.to)
		}
	}

	g.lastNS, g.quiet = max(g.lastNS, k.BootNS), 0
	if g.targets[k.Target.TGID] {
		return nil
	}

	g.targets[k.Target.TGID] = true
	if len(g.kills) < maxUserVictims {
		g.kills = append(g.kills, k)
	}

	return nil
}

// diesOfOOM tells that the target is a victim of the OOM killer already.
func (c *Correlator) diesOfOOM(k kernel.Kill) bool {
	d, ok := c.reports.dying[k.Target.TGID]
	return ok && k.StartBootNS <= d.victim.killNS // not another process with its pid
}

// without takes SIGKILLs out of a group. It tells whether some are left.
func (c *Correlator) without(g *userGroup, not func(kernel.Kill) bool) bool {
	before := len(g.kills)

	g.kills = slices.DeleteFunc(g.kills, func(k kernel.Kill) bool {
		if !not(k) {
			return false
		}

		delete(g.targets, k.Target.TGID)

		return true
	})
	if len(g.kills) > 0 && len(g.kills) < before {
		g.from, g.to = c.process(g.kills[0].Current), c.process(g.kills[0].Target)
	}

	return len(g.kills) > 0
}

// roomForUser reports the oldest where there are too many at once.
func (c *Correlator) roomForUser() error {
	if len(c.users.groups) < maxUserGroups {
		return nil
	}

	var oldest *userGroup
	for _, g := range c.users.groups {
		if oldest == nil || byTime(g, oldest) < 0 {
			oldest = g
		}
	}

	return c.reportUser(oldest)
}

func byTime(a, b *userGroup) int { return cmp.Compare(a.kills[0].BootNS, b.kills[0].BootNS) }

// markedUser takes back a SIGKILL that the OOM killer sent after all: the kernel
// skipped the program that would have told of the pass.
func (c *Correlator) markedUser(r kernel.Mark) {
	for key, g := range c.users.groups {
		if !c.without(g, func(k kernel.Kill) bool { return k.FromKernel && k.Target.TID == r.PID }) {
			delete(c.users.groups, key)
		}
	}
}

// overdueUsers reports what has been quiet for long enough; with all, everything.
func (c *Correlator) overdueUsers(now uint64, all bool) error {
	if u := &c.users; len(u.groups) == 0 {
		if now-min(u.newest, now) > ladderNS {
			clear(u.ladders) // of SIGKILLs that nobody asks about
		}

		return nil
	}

	for _, g := range slices.SortedFunc(maps.Values(c.users.groups), byTime) {
		if all || g.quiet.forNS(now, userQuietNS) {
			if err := c.reportUser(g); err != nil {
				return err
			}
		}
	}

	return nil
}

// reportUser gives out a group, or adds it to the OOM incident that explains it.
func (c *Correlator) reportUser(g *userGroup) error {
	delete(c.users.groups, g.key)

	if !c.without(g, c.diesOfOOM) { // it was told meanwhile
		return nil
	}

	oom, explains := c.oomBefore(g)
	if explains {
		c.aftermath(oom, g)
		return nil
	}
	first := g.kills[0]

	inc := &events.Incident{
		Envelope: c.envelope(events.KindIncident, first.BootNS), ID: fmt.Sprintf("%.8s-%d", c.cfg.BootID, first.BootNS),
		Scope: events.ScopeUser, Outcome: events.OutcomeKilled, Tier: c.cfg.Tier, Killer: c.userKiller(g),
	}
	if c.cfg.UserKills == UserKillsOfWorkloads && inc.Killer.Path == "runtime" && g.sandbox() {
		return nil // each pod ends like this
	}
	unknown := &unknowns{}

	e := &episode{verdict: lostVerdict}
	if g.ladder != nil {
		e.decision = &kernel.VictimChosen{Ancestry: g.ladder.Ancestry, AncestryCut: g.ladder.AncestryCut}
	}

	c.ladder(inc, e, unknown)

	for _, k := range g.kills {
		inc.Victims = append(inc.Victims, c.victim(victim{kill: k}, unknown))
	}
	inc.Unknown = unknown.names

	inc.Notes = g.notes()
	if oom != nil {
		inc.Notes = append(inc.Notes, fmt.Sprintf("%s before, the OOM killer killed here: incident %s",
			milliseconds(first.BootNS-min(oom.timeNS, first.BootNS)), oom.id))
	}

	c.incidents++
	c.victims += uint64(len(g.targets))

	return c.out.Incident(inc)
}

func (c *Correlator) userKiller(g *userGroup) *events.Killer {
	first := g.kills[0]
	if c.cfg.Killers != nil {
		return c.cfg.Killers.Killer(first, g.from, g.to)
	}

	return &events.Killer{Kind: "user", Path: "other", PID: g.from.PID, Comm: g.from.Comm, UID: pointer(first.Sender.UID), Cgroup: g.from.Cgroup}
}

// sandbox tells that nobody died but the process that holds a pod's namespaces.
func (g *userGroup) sandbox() bool {
	return !slices.ContainsFunc(g.kills, func(k kernel.Kill) bool { return k.Target.LeaderComm != "pause" || !k.ContainerInit })
}

// notes tell of what is unlike the first SIGKILL.
func (g *userGroup) notes() (notes []string) {
	first, ended, others := g.kills[0], 0, 0
	for _, k := range g.kills {
		switch {
		case k.Current.TGID == first.Current.TGID:
		case k.FromKernel && k.Sender.NamespaceInit:
			ended++
		default:
			others++
		}
	}

	if ended > 0 {
		notes = append(notes, fmt.Sprintf("%s killed by the kernel, as the init of the pid namespace ended", were(ended)))
	}

	if others > 0 {
		notes = append(notes, fmt.Sprintf("%s killed by another process than the first", were(others)))
	}

	if more := len(g.targets) - len(g.kills); more > 0 {
		notes = append(notes, fmt.Sprintf("%d more were killed that are not listed", more))
	}

	return notes
}

func were(n int) string {
	if n == 1 {
		return "1 of the victims was"
	}

	return fmt.Sprintf("%d of the victims were", n)
}

// oomBefore finds the last OOM kill in the same container or service. It explains
// what follows if the sender is its victim on the way out, or if what was killed
// was all of it: the runtime, or systemd, clears the rest away.
func (c *Correlator) oomBefore(g *userGroup) (r *reported, explains bool) {
	first := g.kills[0]
	for _, r := range slices.Backward(c.reports.recent) {
		if r.outcome != events.OutcomeKilled || first.BootNS < r.timeNS {
			continue
		}

		for _, v := range r.victims {
			if v.process.PID == int(first.Current.TGID) {
				return r, true
			}

			if v.process.Cgroup == nil || keyOf(v.process.Cgroup.CgroupKey, v.process.Workload, v.process.Cgroup.Path) != g.key {
				continue
			}
			all := v.init || r.group || g.key.container == ""

			return r, all && first.BootNS-r.lastNS <= aftermathNS
		}
	}

	return nil, false
}

// aftermath notes with an OOM kill what was killed for it.
func (c *Correlator) aftermath(r *reported, g *userGroup) {
	by := fmt.Sprintf("%s[%d] killed", g.from.Comm, g.from.PID)
	if first := g.kills[0]; first.FromKernel && first.Sender.NamespaceInit {
		by = "as the init of the pid namespace ended, the kernel killed"
	}

	var names []string
	for _, k := range g.kills[:min(len(g.kills), 5)] {
		names = append(names, fmt.Sprintf("%s[%d]", k.Target.LeaderComm, k.Target.TGID))
	}

	if more := len(g.targets) - len(names); more > 0 {
		names = append(names, fmt.Sprintf("and %d more", more))
	}
	later := g.kills[0].BootNS - min(r.timeNS, g.kills[0].BootNS)
	r.notes = append(slices.Clone(r.notes), fmt.Sprintf("%s after the first victim, %s %s", milliseconds(later), by, strings.Join(names, ", ")))
	c.newsOf(r).Notes = r.notes
}
