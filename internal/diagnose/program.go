// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"fmt"
	"strconv"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/phrase"
	"github.com/oomtrace/oomtrace/internal/program"
)

// programOf returns what a victim ran: as it was read while it lived, else by its name.
func programOf(v *events.Victim) *events.Program {
	switch {
	case v == nil:
		return nil
	case v.Program != nil:
		return v.Program
	}

	return program.ByName(v.Comm)
}

// kind is the kind of program that the victim ran, empty if nothing is known of it.
func (f *facts) kind() events.ProgramKind {
	if f.program == nil {
		return ""
	}

	return f.program.Kind
}

// runs is the condition that the victim ran a kind of program.
func runs(kind events.ProgramKind, words string) *condition {
	return &condition{words, func(f *facts) bool { return f.kind() == kind }}
}

// heapLimit is what bounds most of a program's memory: the heap of a language runtime, or the
// buffers of a database.
type heapLimit struct {
	of     string // what it bounds, in words
	bytes  uint64
	by     string // the setting with its value, in words
	source string
	// preset is true if the program was given no setting, and computes the limit.
	preset bool
}

// heapSettings are the settings that bound the heap of a kind of program, in order of
// precedence.
var heapSettings = map[events.ProgramKind]struct {
	of    string
	names []string
	// presetPercent of the cgroup's limit is what the program takes if it is given none of
	// them; 0: not that simple.
	presetPercent float64
}{
	events.ProgramJVM: {"heap", []string{"-Xmx", "-XX:MaxRAMPercentage"}, 25}, // gc/shared/gc_globals.hpp, MaxRAMPercentage
	events.ProgramGo:  {"heap", []string{"GOMEMLIMIT"}, 0},
	events.ProgramNode: {"heap", []string{
		"--max-old-space-size", "--max-old-space-size-percentage", "--max-heap-size",
	}, 0},
	events.ProgramDotNet: {"heap", []string{"GCHeapHardLimit", "GCHeapHardLimitPercent"}, 75}, // gc/gc.cpp, total_physical_mem
	events.ProgramPHP:    {"memory of one script", []string{"memory_limit"}, 0},
	events.ProgramMySQL:  {"buffer pool", []string{"innodb_buffer_pool_size"}, 0},
}

// heapLimit returns nil where it is not known what bounds the heap, or nothing does.
func (f *facts) heapLimit() *heapLimit {
	known, ok := heapSettings[f.kind()]
	if !ok || !f.is(events.ScopeMemcg) {
		return nil
	}

	if s := f.program.Setting(known.names...); s != nil {
		return f.heapSetting(known.of, s)
	}

	whole := f.ownLimitBytes()
	if f.program.Settings == nil || known.presetPercent == 0 || whole == 0 || f.program.Setting("-XX:UseContainerSupport") != nil {
		return nil
	}

	return &heapLimit{
		of: known.of, bytes: uint64(float64(whole) * known.presetPercent / 100), preset: true,
		by: fmt.Sprintf("%.0f %% of the limit by default", known.presetPercent), source: "the runtime's documentation",
	}
}

// heapSetting is the limit that a setting sets, as a size or as a percentage of the limit.
func (f *facts) heapSetting(of string, s *events.Setting) *heapLimit {
	h := &heapLimit{of: of, by: phrase.ClipName(s.Name), source: settingSource(f.program, s)}

	if s.Bytes != nil {
		h.bytes = *s.Bytes
		return h
	}

	percent, err := strconv.ParseFloat(s.Value, 64)
	if whole := f.ownLimitBytes(); err == nil && percent > 0 && percent <= 100 && whole > 0 {
		h.bytes = uint64(float64(whole) * percent / 100)
		h.by += fmt.Sprintf(" of %g", percent)

		return h
	}

	return nil // a word, such as off
}

// settingSource is where a setting was given, and to whom if that is another process than the victim.
func settingSource(p *events.Program, s *events.Setting) string {
	source := phrase.ClipName(s.Source)
	if p.ReadOf != 0 {
		source += fmt.Sprintf(" of process %d of the same name", p.ReadOf)
	}

	return source
}

// ownLimitBytes is the limit that the victim sees: that which was hit, or a lower one below
// it.
func (f *facts) ownLimitBytes() uint64 {
	least := value(f.limiter.LimitBytes)

	for i := range f.ancestry {
		if r := &f.ancestry[i]; r.Below && r.MaxBytes != nil && *r.MaxBytes < least {
			least = *r.MaxBytes
		}
	}

	return least
}

// heap is the limit in a sentence: "a heap of up to 512.0 MiB (-Xmx)".
func (h *heapLimit) String() string {
	return fmt.Sprintf("a %s of up to %s (%s)", h.of, phrase.Size(h.bytes), h.by)
}

func (h *heapLimit) item() events.Evidence {
	return item("limit of its "+h.of, fmt.Sprintf("%s (%s)", phrase.Size(h.bytes), h.by), h.source)
}
