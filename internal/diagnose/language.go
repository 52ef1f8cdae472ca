// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"slices"
	"strings"
)

// language is a language runtime that is known by the names of its processes.
type language struct {
	name  string
	comms []string
	// heap is what bounds the heap; empty: nothing does.
	heap   string
	advice []advice
}

var languages = []language{
	{
		name: "java", comms: []string{"java", "javac", "jsvc"}, heap: "-Xmx, a quarter of the limit by default",
		advice: []advice{
			{layer: application, text: "JVM: set -Xmx and -XX:MaxDirectMemorySize so that heap " +
				"and direct buffers fit into the limit together with metaspace, code cache and " +
				"thread stacks. Check the split with Native Memory Tracking (jcmd VM.native_memory)."},
		},
	},
	{
		name: "node", comms: []string{"node", "nodejs"}, heap: "--max-old-space-size",
		advice: []advice{
			{layer: application, text: "Node.js: set --max-old-space-size below the limit, " +
				"with room for Buffers and native addons."},
		},
	},
	{
		name: "dotnet", comms: []string{"dotnet"}, heap: "GCHeapHardLimit, three quarters of the limit by default",
		advice: []advice{
			{layer: application, text: ".NET: set DOTNET_GCHeapHardLimitPercent so that native memory and thread " +
				"stacks fit beside the heap."},
		},
	},
	{
		name: "python", comms: []string{"python", "python2", "python3", "gunicorn", "uwsgi", "celery"},
		advice: []advice{
			{layer: application, text: "Python: limit the number of workers and recycle them " +
				"(max-requests). Check the memory of C extensions, because tracemalloc does not trace it."},
		},
	},
}

// runtime is the language runtime of the victim; nil if the process's name does not show
// it, as with Go programs.
func (f *facts) runtime() *language {
	if f.victim == nil {
		return nil
	}

	return languageOf(f.victim.Comm)
}

func languageOf(comm string) *language {
	for i := range languages {
		if slices.Contains(languages[i].comms, comm) {
			return &languages[i]
		}
	}

	if strings.HasPrefix(comm, "python3.") { // python3.12
		return languageOf("python3")
	}

	return nil
}

// runtimeAdvice is the advice on the victim's runtime.
var runtimeAdvice = func() []advice {
	var all []advice

	for i := range languages {
		l := &languages[i]
		for _, a := range l.advice {
			a.when = &condition{l.name, func(f *facts) bool { return f.runtime() == l }}
			all = append(all, a)
		}
	}

	return append(all, advice{
		layer: application, text: "Profile memory growth with the heap profiler of the " +
			"language runtime. For a Go program, set GOMEMLIMIT below the limit and use pprof.",
		when: &condition{"no language runtime recognized by the process name", func(f *facts) bool { return f.runtime() == nil }},
	})
}()
