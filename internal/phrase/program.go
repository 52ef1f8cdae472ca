// SPDX-License-Identifier: Apache-2.0

package phrase

import "github.com/oomtrace/oomtrace/internal/events"

var programs = map[events.ProgramKind]string{
	events.ProgramJVM: "JVM", events.ProgramGo: "Go", events.ProgramPython: "Python", events.ProgramNode: "Node.js",
	events.ProgramDotNet: ".NET", events.ProgramRuby: "Ruby", events.ProgramPHP: "PHP", events.ProgramErlang: "Erlang",
	events.ProgramPostgreSQL: "PostgreSQL", events.ProgramMySQL: "MySQL", events.ProgramVM: "VM", events.ProgramSandbox: "sandbox",
	events.ProgramRuncInit: "runc init", events.ProgramBrowser: "browser",
}

// Program is what a process ran, with the name of its executable: "JVM (java)".
func Program(p *events.Program) string {
	kind := programs[p.Kind]
	if kind == "" {
		kind = Spaced(string(p.Kind))
	}

	if p.Name == "" {
		return kind
	}

	return kind + " (" + p.Name + ")"
}
