// SPDX-License-Identifier: Apache-2.0

package perfetto

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/phrase"
)

// Bounds of what is kept. Beyond maxTracks all are forgotten and described again when they are used:
// the trace processor merges tracks of the same name or key, so that nothing is lost.
const (
	maxTracks = 1 << 14
	maxLanes  = 32
	// maxName is how much of a name is kept, and distinguishes tracks.
	maxName = 400
)

// tracks are those that were described.
type tracks struct {
	known map[trackKey]*track
	nodes map[nodeKey]uint64 // their process ids
	// epoch counts how often all were forgotten. It distinguishes lanes.
	epoch, overflow uint64
}

type nodeKey struct{ name, boot string }

type trackKey struct {
	parent uint64
	key    string
}

// track is a row of the trace. Its slices may overlap: it has a lane for each that do.
type track struct {
	uuid, parent uint64
	of           trackOf
	lanes        []uint64 // the end of the last slice of each
	rowsUntil    uint64   // counters are written up to here
}

// trackOf describes a track within its parent.
type trackOf struct {
	name        string
	key         string // distinguishes it; empty: the name
	description string
	rank        int // among its siblings
	ordered     bool
	process     message // of a node
	counter     message // of a counter
}

// The order of the tracks of an owner.
const (
	rankUsage = iota + 1
	rankLimit
	rankStall
	rankPressure
	rankStalled
	rankHigh
	rankCount
	rankReclaimed
	rankPSISome
	rankPSIFull
	rankMaxEvents
	rankHighEvents
	rankKswapd
	rankLost
)

// track returns the track below a parent, and writes its descriptor before its first use.
func (w *Writer) track(parent *track, of trackOf) *track {
	of.name, of.key = start(of.name), start(of.key)

	var above uint64
	if parent != nil {
		above = parent.uuid
	}

	key := trackKey{above, cmp.Or(of.key, of.name)}
	if t := w.tracks.known[key]; t != nil {
		return t
	}

	if w.tracks.known == nil || len(w.tracks.known) >= maxTracks {
		w.tracks.known = make(map[trackKey]*track)
		w.tracks.epoch++
	}

	t := &track{uuid: uuid(above, key.key), parent: above, of: of}
	w.tracks.known[key] = t
	w.describe(t, t.uuid)

	return t
}

// start is the part of a name that distinguishes it.
func start(s string) string {
	if len(s) <= maxName {
		return s
	}

	sum := sha256.Sum256([]byte(s))

	return fmt.Sprintf("%s… (%x)", strings.ToValidUTF8(s[:maxName], ""), sum[:4])
}

// uuid identifies a track by its names, so that it is the same in all traces. A hash that can be
// chosen would let a name take over another's track.
func uuid(parent uint64, key string) uint64 {
	sum := sha256.Sum256(append(binary.BigEndian.AppendUint64(nil, parent), key...))
	return binary.BigEndian.Uint64(sum[:8])
}

func (w *Writer) describe(t *track, uuid uint64) {
	d := message{}.uint(trackUUID, uuid)
	if t.parent != 0 {
		d = d.uint(trackParent, t.parent)
	}

	d = d.text(trackName, t.of.name)
	if t.of.process != nil {
		d = d.message(trackProcess, t.of.process)
	}

	if t.of.counter != nil {
		d = d.message(trackCounter, t.of.counter)
	}

	if t.of.ordered {
		d = d.uint(trackChildOrdering, orderExplicit)
	}

	if t.of.rank != 0 {
		d = d.int(trackRank, int64(t.of.rank))
	}

	if t.of.description != "" {
		d = d.text(trackDescription, t.of.description)
	}

	if t.of.key != "" && t.of.process == nil { // processes are not merged
		d = d.uint(trackMergeBehavior, mergeByKey).text(trackMergeKey, t.of.key)
	}

	w.packet(message{}.message(packetTrackDescriptor, d))
}

// lane returns the id of a track that can take a slice: the track itself, or one that is shown together
// with it. Slices may come in any order. A lane is used by those that start after its last one has ended.
func (w *Writer) lane(t *track, begin, end uint64) uint64 {
	for i, until := range t.lanes {
		if begin >= until {
			t.lanes[i] = end
			return w.laneID(t, i)
		}
	}

	if len(t.lanes) >= maxLanes {
		w.tracks.overflow++
		id := uuid(t.uuid, fmt.Sprint("slice ", w.tracks.overflow))
		w.describe(t, id)

		return id
	}

	t.lanes = append(t.lanes, end)

	id := w.laneID(t, len(t.lanes)-1)
	if id != t.uuid {
		w.describe(t, id)
	}

	return id
}

// laneID is the id of a lane. After all tracks were forgotten it is another one: what the former has
// is not known any more.
func (w *Writer) laneID(t *track, i int) uint64 {
	if i == 0 && w.tracks.epoch == 1 {
		return t.uuid
	}

	return uuid(t.uuid, fmt.Sprintf("lane %d of %d", i, w.tracks.epoch))
}

// node is the process that stands for a boot of a node.
func (w *Writer) node(e *events.Envelope) *track {
	key := nodeKey{start(e.Node), start(e.BootID)}

	pid, ok := w.tracks.nodes[key]
	if !ok {
		if w.tracks.nodes == nil || len(w.tracks.nodes) >= maxTracks {
			w.tracks.nodes = make(map[nodeKey]uint64)
		}

		pid = uint64(len(w.tracks.nodes) + 1)
		w.tracks.nodes[key] = pid
	}

	name := cmp.Or(key.name, "node")
	if key.boot != "" {
		name += " (boot " + phrase.ShortID(key.boot) + ")"
	}

	return w.track(nil, trackOf{
		name: name, key: "node " + key.name + "\x00" + key.boot,
		process: message{}.uint(processPID, pid).text(processName, name),
	})
}

// owner is what a track stands for: a limiter, or a workload.
type owner struct {
	name string
	// key distinguishes owners: a pod or a container of a pod by its name, over restarts; all else by
	// the path of the cgroup.
	key  string
	path string
}

// owner is the track of an owner.
func (w *Writer) owner(node *track, o owner) *track {
	return w.track(node, trackOf{name: o.name, key: o.key, description: o.path, ordered: true})
}

// ownerOf is the limiter, or where the victim ran if no limit was hit.
func ownerOf(inc *events.Incident) owner {
	l := inc.Limiter

	switch {
	case l != nil && (l.Cgroup != nil || inc.Scope == events.ScopeMemcg):
		return cgroupOwner(l.Level, l.Workload, l.Cgroup)
	case slices.Contains([]events.Scope{events.ScopeGlobal, events.ScopeCpuset, events.ScopeMempolicy, events.ScopeSysrq}, inc.Scope):
		return nodeOwner(inc)
	case len(inc.Victims) > 0:
		return processOwner(&inc.Victims[0].Process)
	}

	return cgroupOwner("", nil, nil)
}

// nodeOwner is the node, or some of its NUMA nodes.
func nodeOwner(inc *events.Incident) owner {
	name := "the node"
	if inc.Scope == events.ScopeCpuset || inc.Scope == events.ScopeMempolicy {
		name = strings.TrimSuffix(phrase.Shortage(inc.Scope, inc.Limiter), " out of memory")
	}

	return owner{name: name, key: name}
}

func processOwner(p *events.Process) owner { return cgroupOwner("", p.Workload, p.Cgroup) }

// cgroupOwner is a cgroup. The level is empty where the workload is that of a process.
func cgroupOwner(level events.Level, w *events.Workload, c *events.Cgroup) owner {
	o := owner{name: phrase.LimitOwner(&events.Limiter{Level: level, Workload: w, Cgroup: c})}
	if level == "" {
		o.name = cmp.Or(phrase.Place(w, nil), phrase.Cgroup(level, w, c))
	}

	if c != nil {
		o.path = c.Path
	}

	switch {
	case w != nil && w.Pod != "" && podLevel(level, w):
		o.key = "pod " + w.Namespace + "/" + w.Pod
		if level != events.LevelPod {
			o.key += "/" + w.Container
		}
	case o.path != "":
		o.key = o.path
	case c != nil && c.ID != 0:
		o.key = fmt.Sprintf("cgroup %d of %d", c.ID, c.Hierarchy)
	default:
		o.key = o.name
	}

	return o
}

// podLevel reports whether a cgroup is that of a pod or of a container of one, which have names.
func podLevel(level events.Level, w *events.Workload) bool {
	switch level {
	case events.LevelPod:
		return true
	case events.LevelContainer, "":
		return w.Innermost() == events.LevelContainer && w.Container != "" || w.Innermost() == events.LevelPod
	}

	return false
}

// ownersIn are the cgroups that an incident names.
func ownersIn(inc *events.Incident) map[events.Cgroup]owner {
	known := make(map[events.Cgroup]owner)

	processes := []*events.Process{inc.Trigger}
	for i := range inc.Victims {
		processes = append(processes, &inc.Victims[i].Process)
	}

	for i := range inc.Candidates {
		processes = append(processes, &inc.Candidates[i].Process)
	}

	for _, p := range processes {
		if p != nil && p.Cgroup != nil && p.Workload != nil {
			known[*p.Cgroup] = processOwner(p)
		}
	}

	for _, s := range inc.Shares {
		known[s.Cgroup] = cgroupOwner(s.Level, s.Workload, &s.Cgroup)
	}

	for _, r := range inc.Ladder {
		known[r.Cgroup] = cgroupOwner(r.Level, r.Workload, &r.Cgroup)
	}

	if l := inc.Limiter; l != nil && l.Cgroup != nil {
		known[*l.Cgroup] = ownerOf(inc)
	}

	return known
}

// stallOwner is whose limit a stall was for, or else where its task ran. Without known owners, only the
// path is known of an ancestor's limit; that of a pod contains its UID.
func stallOwner(p *events.Process, limiter *events.Cgroup, known map[events.Cgroup]owner) owner {
	c := cmp.Or(limiter, p.Cgroup)
	if c != nil {
		if o, ok := known[*c]; ok {
			return o
		}
	}

	switch {
	case limiter == nil || p.Cgroup.Is(limiter):
		return processOwner(p)
	case isPod(limiter.Path, p.Workload):
		pod := *p.Workload
		pod.Container, pod.ContainerID = "", ""

		return cgroupOwner(events.LevelPod, &pod, limiter)
	}

	return cgroupOwner("", nil, limiter)
}

func isPod(path string, w *events.Workload) bool {
	if w == nil || w.PodUID == "" || w.Pod == "" {
		return false
	}

	name := path[strings.LastIndexByte(path, '/')+1:]

	return strings.Contains(name, w.PodUID) || strings.Contains(name, strings.ReplaceAll(w.PodUID, "-", "_"))
}
