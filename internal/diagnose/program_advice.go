// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"fmt"
	"slices"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/phrase"
)

// heapPart of a limit is left to a heap as a rule, goPart to all that Go's runtime counts.
const (
	heapPart = 0.75
	goPart   = 0.90
)

// programText is advice for a kind of program: text in general, with in terms of the
// incident's numbers, as of advice.
type programText struct {
	kind        events.ProgramKind // empty: what the victim ran is not known
	words, text string
	with        func(*facts) string
}

var programTexts = []programText{
	{
		kind: events.ProgramJVM, words: "JVM", with: jvmAdvice,
		text: "JVM: set -Xmx (or -XX:MaxRAMPercentage) and -XX:MaxDirectMemorySize so that heap and direct buffers fit into the " +
			"limit together with metaspace, code cache and thread stacks. Check the split with Native Memory Tracking " +
			"(jcmd VM.native_memory).",
	},
	{
		kind: events.ProgramGo, words: "Go", with: goAdvice,
		text: "Go: set GOMEMLIMIT to about 90 % of the limit so that the garbage collector knows it, and find what grows in the " +
			"heap profile (pprof).",
	},
	{
		kind: events.ProgramNode, words: "Node.js", with: nodeAdvice,
		text: "Node.js: set --max-old-space-size below the limit, with room for Buffers and native addons.",
	},
	{
		kind: events.ProgramDotNet, words: ".NET", with: dotnetAdvice,
		text: ".NET: set DOTNET_GCHeapHardLimitPercent so that native memory and thread stacks fit beside the heap.",
	},
	{
		kind: events.ProgramPython, words: "Python", with: pythonAdvice,
		text: "Python has no setting that bounds its memory: limit the number of workers and recycle them (max-requests). Check " +
			"the memory of C extensions, because tracemalloc does not trace it.",
	},
	{
		kind: events.ProgramRuby, words: "Ruby", with: rubyAdvice,
		text: "Ruby has no setting that bounds its memory: limit workers and threads, recycle workers, and keep freed memory out " +
			"of arenas with MALLOC_ARENA_MAX=2 or jemalloc.",
	},
	{
		kind: events.ProgramPHP, words: "PHP", with: phpAdvice,
		text: "PHP: memory_limit times the number of processes (pm.max_children of PHP-FPM) must fit into the limit.",
	},
	{
		kind: events.ProgramErlang, words: "Erlang",
		text: "Erlang: look at erlang:memory() for what grows (processes, binaries, ETS tables), and bound single processes with " +
			"+hmax. RabbitMQ: set vm_memory_high_watermark in relation to the limit.",
	},
	{kind: events.ProgramPostgreSQL, words: "PostgreSQL", with: postgresAdvice, text: postgresText},
	{
		kind: events.ProgramMySQL, words: "MySQL", with: mysqlAdvice,
		text: "MySQL: innodb_buffer_pool_size plus the buffers of each connection times max_connections must fit into the limit: " +
			"a buffer pool of half of it is a start.",
	},
	{kind: events.ProgramSandbox, words: "a sandbox", text: sandboxText},
	{
		kind: events.ProgramBrowser, words: "a browser",
		text: "Browser: open fewer pages at a time and close them, limit the processes (--renderer-process-limit), and start it " +
			"again from time to time. Its shared memory (/dev/shm) counts as well.",
	},
	{
		kind: events.ProgramOther, words: "another program, which was recognized as none of these",
		text: "Find what grows with the heap profiler of the program's allocator (jemalloc, tcmalloc), or with heaptrack.",
	},
	{
		words: "what it ran is not known",
		text:  "Profile memory growth with the heap profiler of the program's language or allocator.",
	},
}

// programAdvice is the advice for whatever the victim ran.
var programAdvice = adviceFor()

// adviceFor is the advice for some kinds of programs, or for all.
func adviceFor(kinds ...events.ProgramKind) []advice {
	var list []advice

	for _, p := range programTexts {
		if len(kinds) == 0 || slices.Contains(kinds, p.kind) {
			list = append(list, advice{layer: application, text: p.text, with: p.with, when: runs(p.kind, p.words)})
		}
	}

	return list
}

const (
	postgresText = "PostgreSQL: shared_buffers, plus work_mem for each sort or hash of each connection, must fit into the limit. " +
		"A quarter of it is usual for shared_buffers; limit the connections with a pooler, and lower work_mem."
	sandboxText = "Sandbox: the memory is that of the application inside. Look for what grows there, and set the limit for the " +
		"application plus the sandbox itself."
)

// given is a setting of the victim in a sentence: "-Xmx is 512.0 MiB of a limit of 512.0 MiB
// (JAVA_TOOL_OPTIONS)". It is empty where the limit or its size is not known.
func (f *facts) given(h *heapLimit) string {
	limit := value(f.limiter.LimitBytes)
	if h == nil || limit == 0 {
		return ""
	}

	from := ""
	if !h.preset {
		from = " (" + h.source + ")"
	}

	if h.bytes > limit {
		return fmt.Sprintf("%s is %s%s, more than the limit of %s", h.by, phrase.Size(h.bytes), from, phrase.Size(limit))
	}

	return fmt.Sprintf("%s is %s of a limit of %s%s", h.by, phrase.Size(h.bytes), phrase.Size(limit), from)
}

// partOfLimit is a part of the limit as a size.
func (f *facts) partOfLimit(part float64) string {
	return phrase.Size(uint64(float64(value(f.limiter.LimitBytes)) * part))
}

// nearLimit reports whether a heap may fill the limit but for what must be left free.
func (f *facts) nearLimit(h *heapLimit, part float64) bool {
	return float64(h.bytes) > part*float64(value(f.limiter.LimitBytes))
}

func jvmAdvice(f *facts) string {
	h := f.heapLimit()
	given := f.given(h)

	switch {
	case given == "":
		return ""
	case h.preset:
		return fmt.Sprintf("JVM: it has neither -Xmx nor -XX:MaxRAMPercentage, so its heap is a quarter of the limit at most "+
			"(%s of %s), if its version knows limits of cgroups. Set -XX:MaxRAMPercentage to give the heap more, up to 75, and "+
			"bound what is outside of it (-XX:MaxDirectMemorySize, -XX:MaxMetaspaceSize, threads).",
			phrase.Size(h.bytes), phrase.Size(value(f.limiter.LimitBytes)))
	case f.nearLimit(h, heapPart):
		return fmt.Sprintf("JVM: %s. Leave 25 %% or more to metaspace, code cache, thread stacks and direct buffers: lower it to %s, "+
			"or raise the limit.", given, f.partOfLimit(heapPart))
	}

	return fmt.Sprintf("JVM: %s, so much of the rest is outside the heap. Bound -XX:MaxDirectMemorySize and "+
		"-XX:MaxMetaspaceSize, and check the split with Native Memory Tracking (jcmd VM.native_memory).", given)
}

func goAdvice(f *facts) string {
	h := f.heapLimit()

	given := f.given(h)
	if h == nil && f.program.Settings != nil && value(f.limiter.LimitBytes) > 0 {
		off := ""
		if gogc := f.program.Setting("GOGC"); gogc != nil && gogc.Value == "off" {
			off = " GOGC=off turns the garbage collector off until then."
		}

		return fmt.Sprintf("Go: GOMEMLIMIT is not set, so the garbage collector does not know the limit of %s, unless the program sets "+
			"it itself.%s Set it to about 90 %% (%s), and find what grows in the heap profile (pprof).",
			phrase.Size(*f.limiter.LimitBytes), off, f.partOfLimit(goPart))
	}

	switch {
	case given == "":
		return ""
	case f.nearLimit(h, goPart):
		return fmt.Sprintf("Go: %s. Lower it to about 90 %% of the limit (%s), since Go does not count all memory, or raise the limit.",
			given, f.partOfLimit(goPart))
	}

	return fmt.Sprintf("Go: %s. It is no hard limit: live objects need more than that, or memory grows that Go does not count "+
		"(cgo, mapped files). Compare the heap profile (pprof) with runtime/metrics.", given)
}

func nodeAdvice(f *facts) string {
	h := f.heapLimit()
	given := f.given(h)

	switch {
	case h == nil && f.program.Settings != nil && value(f.limiter.LimitBytes) > 0:
		return fmt.Sprintf("Node.js: it has no --max-old-space-size, so V8 computes a limit of its heap, which may not fit. Set it to "+
			"about 75 %% of the limit (%s), with room for Buffers and native addons.", f.partOfLimit(heapPart))
	case given == "":
		return ""
	case f.nearLimit(h, heapPart):
		return fmt.Sprintf("Node.js: %s. Lower it to about 75 %% of the limit (%s), with room for Buffers and native addons, or raise "+
			"the limit.", given, f.partOfLimit(heapPart))
	}

	return fmt.Sprintf("Node.js: %s, so much of the rest is outside of that heap: Buffers, native addons, the heap of each worker "+
		"thread. process.memoryUsage() has them apart (external, arrayBuffers).", given)
}

func dotnetAdvice(f *facts) string {
	h := f.heapLimit()

	given := f.given(h)
	if given == "" {
		return ""
	}

	if h.preset {
		return fmt.Sprintf(".NET: its heap may use %s of the limit of %s, 75 %% by default. Set DOTNET_GCHeapHardLimitPercent lower if "+
			"native memory and thread stacks need more; dotnet-gcdump has what is in the heap.",
			phrase.Size(h.bytes), phrase.Size(value(f.limiter.LimitBytes)))
	}

	if f.nearLimit(h, heapPart) {
		return fmt.Sprintf(".NET: %s. Lower it to about 75 %% of the limit (%s), with room for native memory and thread stacks, or raise "+
			"the limit.", given, f.partOfLimit(heapPart))
	}

	return fmt.Sprintf(".NET: %s, so much of the rest is outside the heap: native memory, thread stacks. dotnet-counters has the "+
		"size of the heap beside the working set.", given)
}

func pythonAdvice(f *facts) string {
	if f.program.Settings == nil || f.program.Setting("MALLOC_ARENA_MAX") != nil {
		return ""
	}

	return "Python has no setting that bounds its memory: limit the number of workers and recycle them (max-requests). Check " +
		"the memory of C extensions, because tracemalloc does not trace it. With many threads, set MALLOC_ARENA_MAX=2, so that " +
		"less freed memory stays with malloc."
}

func rubyAdvice(f *facts) string {
	s := f.program.Setting("MALLOC_ARENA_MAX")
	if s == nil {
		return ""
	}

	return fmt.Sprintf("Ruby has no setting that bounds its memory: limit workers and threads, and recycle workers. "+
		"MALLOC_ARENA_MAX is %s; jemalloc keeps less freed memory.", phrase.ClipName(s.Value))
}

func phpAdvice(f *facts) string {
	h, limit := f.heapLimit(), value(f.limiter.LimitBytes)
	if h == nil || h.bytes == 0 || limit == 0 {
		return ""
	}

	many := ""
	if n := f.sameName(); n > 1 {
		many = fmt.Sprintf(" %d processes named %s were there.", n, phrase.ClipName(f.victim.Comm))
	}

	return fmt.Sprintf("PHP: memory_limit is %s (%s) for each process, and the limit of all is %s: no more than %d can have as "+
		"much.%s Lower it, or the number of processes (pm.max_children of PHP-FPM).",
		phrase.Size(h.bytes), h.source, phrase.Size(limit), limit/h.bytes, many)
}

// sameName is how many processes with the victim's name are known.
func (f *facts) sameName() int {
	n := 0

	for _, p := range f.processes() {
		if p.name == f.victim.Comm {
			n++
		}
	}

	return n
}

func postgresAdvice(f *facts) string {
	s, limit := f.program.Setting("shared_buffers", "shared memory"), value(f.limiter.LimitBytes)
	if s == nil || s.Bytes == nil || limit == 0 {
		return ""
	}

	work := "work_mem"
	if w := f.program.Setting("work_mem"); w != nil && w.Bytes != nil {
		work += " (" + phrase.Size(*w.Bytes) + ")"
	}

	backends := ""
	if n := f.sameName(); n > 1 {
		backends = fmt.Sprintf(" %d processes or more were there.", n)
	}

	return fmt.Sprintf("PostgreSQL: %s is %s (%s), and %s for each sort or hash of each connection comes on top: together they "+
		"must fit into the limit of %s. A quarter of it (%s) is usual for shared_buffers.%s Limit the connections with a pooler, "+
		"and lower work_mem.",
		s.Name, phrase.Size(*s.Bytes), s.Source, work, phrase.Size(limit), f.partOfLimit(0.25), backends)
}

func mysqlAdvice(f *facts) string {
	h := f.heapLimit()
	if given := f.given(h); given != "" {
		return fmt.Sprintf("MySQL: %s. The buffers of each connection times max_connections come on top: lower the buffer pool to "+
			"about half of the limit (%s), or raise the limit.", given, f.partOfLimit(0.5))
	}

	return ""
}
