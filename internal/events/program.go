// SPDX-License-Identifier: Apache-2.0

package events

// ProgramKind is what a process runs, as far as it matters for its memory.
type ProgramKind string

// The kinds of program.
const (
	ProgramJVM        ProgramKind = "jvm"        // a Java virtual machine
	ProgramGo         ProgramKind = "go"         // a program that was built by Go
	ProgramPython     ProgramKind = "python"     // a Python interpreter, or uWSGI
	ProgramNode       ProgramKind = "node"       // Node.js
	ProgramDotNet     ProgramKind = "dotnet"     // .NET
	ProgramRuby       ProgramKind = "ruby"       // a Ruby interpreter
	ProgramPHP        ProgramKind = "php"        // PHP, PHP-FPM, or a web server with PHP in it
	ProgramErlang     ProgramKind = "erlang"     // the virtual machine of Erlang and Elixir
	ProgramPostgreSQL ProgramKind = "postgresql" // a PostgreSQL server
	ProgramMySQL      ProgramKind = "mysql"      // a MySQL or MariaDB server
	ProgramVM         ProgramKind = "vm"         // the process that is a virtual machine, such as QEMU
	ProgramSandbox    ProgramKind = "sandbox"    // the kernel of a sandbox (gVisor)
	ProgramRuncInit   ProgramKind = "runc_init"  // runc in a container whose own program it has not started yet
	ProgramBrowser    ProgramKind = "browser"    // Chromium or Firefox, or a process of theirs
	ProgramOther      ProgramKind = "other"      // none of these: the executable was read and is not known
)

// ProgramBy is the evidence that a program was recognized by.
type ProgramBy string

// What a program can be recognized by, the strongest first.
const (
	ProgramByExecutable ProgramBy = "executable" // the name of its executable file
	ProgramByLibrary    ProgramBy = "library"    // a library that it has mapped
	ProgramByBuildInfo  ProgramBy = "build_info" // the build information that Go writes into each executable
	ProgramByName       ProgramBy = "name"       // the name of the process or of its thread, which any program may have
)

// Program is what a process ran, with the memory settings that it was given. It was read while
// the process lived.
type Program struct {
	// Kind is what it runs.
	Kind ProgramKind `json:"kind"`
	// Name is the file name of its executable; absent if that could not be read.
	Name string `json:"name,omitempty"`
	// By is what it was recognized by.
	By ProgramBy `json:"by"`
	// Settings are the memory settings that it was given; empty: none. Absent: they could not
	// be read, or this kind has none that are known.
	Settings []Setting `json:"settings,omitzero"`
	// ReadOf is the id of the process that this was read of, if it is not the victim: one of the same
	// name in the same cgroup, such as another worker of a server. Its settings need not be the
	// victim's. Absent: it was read of the victim.
	ReadOf int `json:"read_of,omitempty"`
}

// Setting is a memory setting of a program, in force where several sources set it.
type Setting struct {
	// Name is the setting as its program names it, such as -Xmx or GOMEMLIMIT.
	Name string `json:"name"`
	// Value is its value as it was given.
	Value string `json:"value"`
	// Bytes is its value in bytes; absent if it is no size.
	Bytes *uint64 `json:"bytes,omitempty"`
	// Source is where it was given: command line, environment, a variable that holds options,
	// such as JAVA_TOOL_OPTIONS; or mapping: the size of what the process has mapped.
	Source string `json:"source"`
}

// The sources of settings that are not the name of a variable.
const (
	SettingFromCommand     = "command line"
	SettingFromEnvironment = "environment"
	SettingFromMapping     = "mapping"
)

// Setting returns the first of the named settings; nil if the program was given none of them,
// or its settings are unknown.
func (p *Program) Setting(names ...string) *Setting {
	if p == nil {
		return nil
	}

	for _, name := range names {
		for i := range p.Settings {
			if p.Settings[i].Name == name {
				return &p.Settings[i]
			}
		}
	}

	return nil
}
