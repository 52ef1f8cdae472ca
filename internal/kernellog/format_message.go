// SPDX-License-Identifier: Apache-2.0

package kernellog

import "strings"

// kind is a line of an OOM report that its own words identify, wherever it starts.
type kind int

const (
	isNone kind = iota
	isHeader
	isCpuset
	isSummary
	isKill
	isChoice
	isReaper
	isGroup
	isTaskIn
	isStats
	isLimits
	isTask
	isCounters
	isNodeMemory
	isTable
	isColumns
	isSlabs
	isHardware
	isPanic
	isSysrq
	isNoKillable
)

// message is what find found in a line.
type message struct {
	kind kind
	// at is where the message starts. For a named message, which starts with the name of a
	// task, it is where the name ends.
	at    int
	named bool
}

// certain reports whether the start of the message is known from its own words.
func (m message) certain() bool { return m.kind != isNone && !m.named }

// A messageShape is how a message starts: literal words and, behind them, what else the line must
// have. Together they are longer than the 15 bytes of a task's name, so that no name has the
// shape of a message.
type messageShape struct {
	start string
	kind  kind
	more  func(rest string) bool
}

// shapes are the lines of OOM reports from Linux 2.6.32 to 7.x whose start is literal
// (mm/oom_kill.c, mm/memcontrol.c, mm/show_mem.c, lib/dump_stack.c). Rows of tables, frames
// of the stack and counters have too few words of their own: where they start follows from
// the prefix of their neighbours.
var shapes = []messageShape{
	{"oom-kill:constraint=", isSummary, nil},
	{"Memory cgroup out of memory: ", isKill, aboutProcess},
	{"Memory cgroup out of memory and no killable processes", isNoKillable, nil},
	{"Out of memory and no killable processes", isNoKillable, nil},
	{"Out of memory: ", isKill, aboutProcess},
	{"Out of memory (oom_kill_allocating_task): ", isKill, nil},
	{"Out of memory in UB ", isKill, nil},
	{"Killed process ", isKill, killedWithSizes},
	{"Kill process ", isChoice, processOf(" (")},
	{"OOM victim ", isKill, with(") is already exiting")},
	{"oom_reaper: reaped process ", isReaper, nil},
	{"oom_reaper: unable to reap pid:", isReaper, nil},
	{"Tasks in /", isGroup, with(" are going to be killed due to memory.oom.group set")},
	{"Task in /", isTaskIn, with(" killed as a result of limit of ")},
	{"Memory cgroup stats for ", isStats, nil},
	{"Memory cgroup min protection ", isLimits, nil},
	{"memory: usage ", isLimits, with("kB, limit ")},
	{"memory+swap: usage ", isLimits, with("kB, limit ")},
	{"swap: usage ", isLimits, with("kB, limit ")},
	{"kmem: usage ", isLimits, with("kB, limit ")},
	{"CPU: ", isTask, with(" Comm: ")},
	{"Pid: ", isTask, with(", comm: ")},
	{"active_anon:", isCounters, with(" inactive_anon:")},
	{"Node ", isNodeMemory, ofNode},
	{"Tasks state (memory values in pages):", isTable, nil},
	{"[", isColumns, ofColumns},
	{"Unreclaimable slab info:", isSlabs, nil},
	{"Hardware name: ", isHardware, func(rest string) bool { return len(rest) > 1 }},
	{"Kernel panic - not syncing: ", isPanic, nil},
	{"sysrq: Manual OOM execution", isSysrq, nothing},
	{"SysRq : Manual OOM execution", isSysrq, nothing},
}

const (
	invokedWords = " invoked oom-killer: "
	headerWords  = invokedWords + "gfp_mask="
	cpusetWords  = " cpuset="
)

func with(words string) func(string) bool {
	return func(rest string) bool { return strings.Contains(rest, words) }
}

func nothing(rest string) bool { return strings.Trim(rest, " \"'") == "" }

// aboutProcess accepts what the kernel prints behind "out of memory: ".
func aboutProcess(rest string) bool {
	for _, verb := range []string{"Killed process ", "Kill process ", "kill process ", "OOM victim "} {
		if after, found := strings.CutPrefix(rest, verb); found {
			return after != "" && isDigits(after[:1])
		}
	}

	return false
}

// processOf accepts the number of a process and one of the separators behind it.
func processOf(separators ...string) func(string) bool {
	return func(rest string) bool {
		after := strings.TrimLeft(rest, "0123456789")
		if after == rest {
			return false
		}

		for _, separator := range separators {
			if strings.HasPrefix(after, separator) {
				return true
			}
		}

		return false
	}
}

// killedWithSizes accepts a process with the sizes that the kernel prints of it: programs
// log that they killed a process, too.
func killedWithSizes(rest string) bool {
	sizes := strings.Contains(rest, ") total-vm:") || strings.Contains(rest, ") vsz:") || strings.Contains(rest, "), UID ")
	return sizes && processOf(" (", ", UID ")(rest)
}

// ofNode accepts the memory of a NUMA node or of one of its zones.
func ofNode(rest string) bool {
	after := strings.TrimLeft(rest, "0123456789")

	return after != rest && (strings.HasPrefix(after, " active_anon:") || strings.HasPrefix(after, " hugepages_total=") ||
		strings.Contains(after, " free:") && strings.Contains(after, " min:"))
}

// ofColumns accepts the head of the task table.
func ofColumns(rest string) bool {
	after, found := strings.CutPrefix(strings.TrimLeft(rest, " "), "pid")
	return found && strings.Contains(after, " tgid ") && strings.Contains(after, " name")
}

// find returns the first message in text. What stands behind it belongs to it: a name or a
// path may look like another message.
func find(text string) message {
	first := message{at: len(text)}

	for i := range shapes {
		if at := shapes[i].index(text, first.at); at >= 0 {
			first = message{kind: shapes[i].kind, at: at}
		}
	}

	if i := strings.Index(text, headerWords); i >= 0 && i < first.at {
		first = message{kind: isHeader, at: i, named: true}
	}

	if i := strings.Index(text[:first.at], cpusetWords); i >= 0 && strings.Contains(text[i:], " mems_allowed=") {
		first = message{kind: isCpuset, at: i, named: true}
	}

	return first
}

// index returns the first place before the limit where the shape is, -1 if there is none.
func (s *messageShape) index(text string, limit int) int {
	for from := 0; from < limit; {
		i := strings.Index(text[from:min(len(text), limit+len(s.start)-1)], s.start)
		if i < 0 {
			return -1
		}

		if s.more == nil || s.more(text[from+i+len(s.start):]) {
			return from + i
		}
		from += i + len(s.start)
	}

	return -1
}

// killWords are what a kernel, of any version and vendor, prints about a kill.
var killWords = []string{
	headerWords, "oom-kill:constraint=", "OOM killed process ",
	"Memory cgroup out of memory: ", "Out of memory: Kill", "Out of memory: kill",
}

// looksLikeKill reports whether a line has the words of the kernel about a kill.
func looksLikeKill(text string) bool {
	for _, words := range killWords {
		if strings.Contains(text, words) {
			return true
		}
	}

	_, rest, found := strings.Cut(text, "Killed process ")

	return found && killedWithSizes(rest)
}
