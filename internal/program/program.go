// SPDX-License-Identifier: Apache-2.0

// Package program recognizes what a process runs, such as a Java virtual machine or a
// database, and the memory settings that it was given.
//
// Identify is pure. Reader collects what it needs from /proc, within bounds: whatever a
// process calls itself, its command line and its environment are hostile text. Of these
// only values that parse as a size, a percentage or a number are kept, since the rest may
// hold secrets.
package program

import (
	"slices"
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
)

// Traits are what a process is recognized by. What could not be read is nil, or empty.
type Traits struct {
	// Comm is the name of the process.
	Comm string
	// Executable is the path of its executable file.
	Executable string
	// Libraries are the file names of what it has mapped, without directories.
	Libraries []string
	// BuiltByGo is true if the executable has the build information that Go writes.
	BuiltByGo bool
	// Args is its command line. A process may replace it by a title.
	Args []string
	// StarterArgs is the command line of its parent, if that has the same executable: a
	// worker that replaced its own still has the options of the process that forked it.
	StarterArgs []string
	// Env has the variables of its environment that hold memory settings.
	Env map[string]string
	// Partly is true if the command line is longer than Args.
	Partly bool
	// SharedBytes is the size of its largest shared mapping without a file.
	SharedBytes uint64
}

// maxName bounds the name of an executable in bytes.
const maxName = 64

// Identify returns what a process runs. It is ProgramOther if the traits show none of the
// known kinds, and nil if the executable is not known.
func Identify(t Traits) *events.Program {
	name := fileName(t.Executable)
	if name == "" {
		return nil
	}

	p := &events.Program{Name: name[:min(len(name), maxName)]}
	p.Kind, p.By = identify(name, &t)
	p.Settings = settings(p, &t)

	return p
}

func identify(name string, t *Traits) (events.ProgramKind, events.ProgramBy) {
	if isRuncInit(t.Comm) { // its executable is a copy of runc under some name
		return events.ProgramRuncInit, events.ProgramByName
	}

	if k := kindOf(name); k != "" {
		return k, events.ProgramByExecutable
	}

	if !slices.Contains(embedders, name) {
		for _, l := range libraries {
			if slices.ContainsFunc(t.Libraries, l.is) {
				return l.kind, events.ProgramByLibrary
			}
		}
	}

	if t.BuiltByGo {
		return events.ProgramGo, events.ProgramByBuildInfo
	}

	return events.ProgramOther, events.ProgramByExecutable
}

// fileName is the file name of an executable, as /proc/PID/exe has it. runc starts a copy
// of itself in memory, or a file that is deleted by then.
func fileName(path string) string {
	path = strings.TrimSuffix(path, " (deleted)")
	name := path[strings.LastIndexByte(path, '/')+1:]

	return strings.ToValidUTF8(name, "")
}

// ByName returns what a process seems to run by its name alone, nil if that is none of the
// known. The kernel cuts names to 15 bytes (TASK_COMM_LEN), and any program may have any.
func ByName(comm string) *events.Program {
	kind := kindOf(comm)

	for _, k := range commKinds {
		if kind == "" && k.matches(comm) {
			kind = k.kind
		}
	}

	if kind == "" && len(comm) == maxComm {
		kind = kindOfCut(comm)
	}

	if kind == "" {
		return nil
	}

	return &events.Program{Kind: kind, By: events.ProgramByName}
}
