// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"slices"
	"testing"
	"time"

	"github.com/oomtrace/oomtrace/test/internal/lab"
)

// TestSurvival has small machines run out of memory while tracers watch, of which nobody is
// left that the OOM killer could choose: they must live, report every kill, and have taken
// no page fault.
func TestSurvival(t *testing.T) {
	requireEmulators(t)

	ctx := lab.Context(t)

	var (
		kernels []Kernel
		names   []string
	)

	for _, k := range Kernels {
		if k.Arch == "amd64" && !k.CgroupV1 && !k.LowZone {
			kernels, names = append(kernels, k), append(names, k.ID())
		}
	}

	lab.Select(t, names...)

	for _, k := range kernels {
		t.Run(k.ID(), func(t *testing.T) {
			m, err := machine(k, "no_timer_check log_buf_len=16M lab.survival")
			if err != nil {
				t.Fatal(err)
			}

			m.MemoryMiB, m.TwoNodes = 640, false
			began := time.Now()

			console := ""
			if *keep {
				if console, err = workFile(k.ID() + "-survival.console"); err != nil {
					t.Fatal(err)
				}
			}

			var result Survival
			if err := m.Result(ctx, *bootLimit, console, lab.Logger(t), &result); err != nil {
				t.Fatal(err)
			}

			// Readers were seen to fault in 64 pages in one round of many. The Go runtime maps so many for
			// tables of its own, for each of its processors, in whichever thread needs them
			// (runtime/malloc.go: persistentalloc). It must not happen in two boots.
			if most := result.mostMinor(); most > mostFaults {
				lab.Logf(t, "boot again: a reader had %d minor faults in a round", most)

				result = Survival{}
				if err := m.Result(ctx, *bootLimit, console, lab.Logger(t), &result); err != nil {
					t.Fatal(err)
				}
			}

			lab.Logf(t, "Linux %s: %.0f s, up %.0f s", result.Kernel, time.Since(began).Seconds(), result.UpSeconds)

			if len(result.Rounds) != len(survivalRounds) {
				t.Errorf("got %d rounds, want %d", len(result.Rounds), len(survivalRounds))
			}

			for _, round := range result.Rounds {
				t.Run(round.Name, func(t *testing.T) { checkRound(t, round) })
			}
		})
	}
}

// mostFaults are minor ones, in a round.
const mostFaults = 16

// mostMinor returns the most minor faults of a reader in a round.
func (s Survival) mostMinor() (most uint64) {
	for _, round := range s.Rounds {
		for _, tracer := range round.Tracers {
			most = max(most, tracer.Minor)
		}
	}

	return most
}

func checkRound(t *testing.T, round SurvivalRound) {
	if round.Error != "" {
		t.Errorf("got an error of the guest: %s", round.Error)
	}

	if len(round.Killed) < killsInRound {
		t.Errorf("got %d kills in the kernel's log, want at least %d", len(round.Killed), killsInRound)
	}

	for name := range survivors {
		s := round.Tracers[name]
		lab.Logf(t, "%.1f s, %s: %d kills, %d reported, RSS %d KiB", round.Seconds, name, len(round.Killed), len(s.Reported), s.RSS)

		if s.Ended != "" {
			t.Errorf("%s: it ended: %s", name, s.Ended)
			continue
		}

		if s.ScoreAdj != "-1000" {
			t.Errorf("%s: got oom_score_adj %s, want -1000", name, s.ScoreAdj)
		}

		for _, pid := range round.Killed {
			if !slices.Contains(s.Reported, pid) {
				t.Errorf("%s: got no report of victim %d, which the kernel's log has", name, pid)
			}
		}

		for _, pid := range s.Reported {
			if !slices.Contains(round.Killed, pid) {
				t.Errorf("%s: got a report of victim %d, which the kernel's log does not have", name, pid)
			}
		}

		// The thread that extends the heap may get no time from an emulator for a second, so
		// that the reader faults a few pages in itself. That it takes none in a thousand kills
		// is tested without one.
		if s.Minor > mostFaults || s.Major != 0 {
			t.Errorf("%s: got %d minor and %d major faults of its reader, want at most %d and 0", name, s.Minor, s.Major, mostFaults)
		}
	}
}
