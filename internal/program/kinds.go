// SPDX-License-Identifier: Apache-2.0

package program

import (
	"path"
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
)

// maxComm is the length of a process's name (include/linux/sched.h: TASK_COMM_LEN).
const maxComm = 15

// executables are the file names of executables without a version at their end. A pattern
// matches as path.Match does.
var executables = []struct {
	kind  events.ProgramKind
	names []string
}{
	{events.ProgramJVM, []string{"java", "javac", "jsvc"}},
	{events.ProgramPython, []string{"python", "pypy", "uwsgi", "uwsgi-core"}},
	{events.ProgramNode, []string{"node", "nodejs"}},
	{events.ProgramDotNet, []string{"dotnet"}},
	{events.ProgramRuby, []string{"ruby"}},
	{events.ProgramPHP, []string{"php", "php-fpm", "php-cgi"}},
	{events.ProgramErlang, []string{"beam.smp", "beam"}},
	{events.ProgramPostgreSQL, []string{"postgres", "postmaster"}},
	{events.ProgramMySQL, []string{"mysqld", "mariadbd"}},
	{events.ProgramVM, []string{
		"qemu-system-*", "qemu-kvm", "kvm", "cloud-hypervisor", "firecracker", "crosvm", "stratovirt", "VBoxHeadless", "VirtualBoxVM",
		"vmware-vmx",
	}},
	{events.ProgramSandbox, []string{"runsc", "runsc-sandbox"}},
	{events.ProgramBrowser, []string{
		"chrome", "chromium", "chromium-browser", "headless_shell", "firefox", "firefox-bin", "firefox-esr",
	}},
}

// libraries decide where an executable has a name of its own. Those of Python, Ruby and
// Node.js are missing: many programs use one of these for their plugins.
var libraries = []library{
	{events.ProgramJVM, "libjvm.so"},
	{events.ProgramDotNet, "libcoreclr.so"},
	{events.ProgramPHP, "libphp.so"},
	{events.ProgramPHP, "libphp[5-9]*.so"},
}

type library struct {
	kind    events.ProgramKind
	pattern string
}

func (l library) is(file string) bool {
	ok, _ := path.Match(l.pattern, file)
	return ok
}

// embedders load one of the libraries for a part of what they do.
var embedders = []string{"soffice.bin", "impalad", "R"}

// commKinds are names of processes and threads that are not those of an executable.
var commKinds = []commKind{
	{events.ProgramPython, []string{"gunicorn*", "celery"}}, // scripts, which give their names to the interpreter
	{events.ProgramVM, []string{"CPU [0-9]*/KVM", "CPU [0-9]*/TCG", "fc_vcpu [0-9]*", "crosvm_vcpu[0-9]*"}},
	{events.ProgramRuncInit, []string{runcInit}},
	{events.ProgramBrowser, []string{"Web Content", "Isolated Web Co", "WebExtensions", "GeckoMain"}},
}

// runcInit is what the stages of runc init call themselves (libcontainer/nsenter/nsexec.c).
const runcInit = `runc:\[[0-9]:*\]`

func isRuncInit(comm string) bool {
	ok, _ := path.Match(runcInit, comm)
	return ok
}

type commKind struct {
	kind     events.ProgramKind
	patterns []string
}

func (k commKind) matches(comm string) bool {
	comm = strings.ReplaceAll(comm, "/", "\x00") // of path.Match, * stops at a slash

	for _, p := range k.patterns {
		if ok, _ := path.Match(strings.ReplaceAll(p, "/", "\x00"), comm); ok {
			return true
		}
	}

	return false
}

// kindOf returns the kind of an executable by its file name, empty if it is not known.
func kindOf(name string) events.ProgramKind {
	bare := unversioned(name)

	for _, e := range executables {
		for _, pattern := range e.names {
			if ok, _ := path.Match(pattern, name); ok || pattern == bare {
				return e.kind
			}
		}
	}

	return ""
}

// kindOfCut returns the kind by a name of which only the first bytes are known.
func kindOfCut(start string) events.ProgramKind {
	for _, e := range executables {
		for _, name := range e.names {
			if len(name) > len(start) && strings.HasPrefix(name, start) {
				return e.kind
			}
		}
	}

	return ""
}

// unversioned is a name without the version at its end: python3.12, php-fpm8.2, pypy3.
func unversioned(name string) string { return strings.TrimRight(name, "0123456789.") }
