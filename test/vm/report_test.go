// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/oomtrace/oomtrace/test/internal/lab"
)

// report is what the check of one boot found.
type report struct {
	general []string            // problems of no case
	cases   map[string]*outcome // by name; of those that ran
}

// outcome is what the check of a case found, or of one tier in it.
type outcome struct {
	problems []string
	notes    []string
	tiers    map[string]*outcome // of a case; kernelLog, too
}

func (r *report) errorf(format string, args ...any) {
	r.general = append(r.general, fmt.Sprintf(format, args...))
}

func (o *outcome) errorf(format string, args ...any) {
	o.problems = append(o.problems, fmt.Sprintf(format, args...))
}

// failed reports whether there is a problem with a case or one of its tiers.
func (o *outcome) failed() bool {
	if len(o.problems) > 0 {
		return true
	}

	for _, tier := range o.tiers {
		if tier.failed() {
			return true
		}
	}

	return false
}

// report reports an outcome, but for its tiers.
func (o *outcome) report(t *testing.T) {
	for _, note := range o.notes {
		lab.Logf(t, "%s", note)
	}

	for _, problem := range o.problems {
		t.Error(problem)
	}
}

// maxRetries is how many cases of a boot may be checked again: one of ten. More do not fail
// by chance.
const maxRetries = 4

// retry returns the cases that failed, if they are few and everything else is right.
func (r *report) retry() (names []string) {
	for name, o := range r.cases {
		if o.failed() {
			names = append(names, name)
		}
	}

	if len(names) > maxRetries || len(r.general) > 0 {
		return nil
	}

	slices.Sort(names)

	return names
}

// replace takes the cases of a second boot. If that is right as a whole, the problems of
// the first one are noted; otherwise all problems are reported.
func (r *report) replace(second *report) {
	r.general = append(r.general, second.general...)
	again := len(second.general) == 0 && len(second.retry()) == 0

	for name, o := range second.cases {
		first := r.cases[name]
		r.cases[name] = o.after(first, again)

		for tier := range o.tiers {
			o.tiers[tier] = o.tiers[tier].after(first.tiers[tier], again)
		}
	}
}

// after adds what was found the first time.
func (o *outcome) after(first *outcome, right bool) *outcome {
	for _, problem := range first.problems {
		if right {
			o.notes = append(o.notes, "seen once, and not again: "+problem)
		} else {
			o.problems = append(o.problems, "the first time: "+problem)
		}
	}

	return o
}

func reportOf(failing ...string) *report {
	r := &report{cases: map[string]*outcome{}}
	for _, name := range append([]string{"tmpfs"}, failing...) {
		r.cases[name] = &outcome{tiers: map[string]*outcome{tierFentry: {}, tierKprobe: {}}}
	}

	for _, name := range failing {
		r.cases[name].tiers[tierFentry].errorf("limiter: got none")
	}

	return r
}

func TestRetrySelectsFewFailingCases(t *testing.T) {
	general := reportOf("burst")
	general.errorf("fentry: oomtrace failed")

	for _, test := range []struct {
		name string
		r    *report
		want []string
	}{
		{"nothing wrong", reportOf(), nil},
		{"one case", reportOf("burst"), []string{"burst"}},
		{"two cases", reportOf("burst", "global"), []string{"burst", "global"}},
		{"four cases", reportOf("burst", "cpuset", "global", "slab"), []string{"burst", "cpuset", "global", "slab"}},
		{"too many", reportOf("burst", "cpuset", "global", "mempolicy", "slab"), nil},
		{"a problem of no case", general, nil},
	} {
		if got := test.r.retry(); !slices.Equal(got, test.want) {
			t.Errorf("%s: got %q, want %q", test.name, got, test.want)
		}
	}
}

func TestReplaceKeepsWhatWasSeenOnce(t *testing.T) {
	second := func(failing ...string) *report {
		r := reportOf(failing...)
		delete(r.cases, "tmpfs") // it is not in the second boot

		return r
	}

	right := second("burst")
	right.cases["burst"].tiers[tierFentry].problems = nil

	r := reportOf("burst")
	r.replace(right)

	if o := r.cases["burst"]; o.failed() || len(o.tiers[tierFentry].notes) != 1 {
		t.Errorf("right the second time: got %+v, want a note and no problem", o.tiers[tierFentry])
	}

	r = reportOf("burst")
	r.replace(second("burst"))

	if got := r.cases["burst"].tiers[tierFentry].problems; len(got) != 2 {
		t.Errorf("wrong twice: got problems %q, want both", got)
	}

	r = reportOf("burst", "global")
	right = second("burst", "global")
	right.cases["burst"].tiers[tierFentry].problems = nil
	r.replace(right)

	if !r.cases["burst"].failed() || !r.cases["global"].failed() {
		t.Errorf("one of two is right the second time: got failures %q, want both", r.retry())
	}

	broken := &report{general: []string{"boot: no result"}}
	r = reportOf("burst")
	r.replace(broken)

	if !r.cases["burst"].failed() || len(r.general) != 1 {
		t.Errorf("no second result: got %+v, want the first problem and the general one", r)
	}
}

func TestDifferenceIsShort(t *testing.T) {
	long := strings.Repeat("line\n", 100)

	for _, test := range []struct{ want, got, difference string }{
		{"a\nb\n", "a\nb\n", ""},
		{"a\nb\n", "a\nc\n", "-b\n+c\n"},
		{"a\n", "a\nb\n", "-\n+b\n+\n"},
		{long, "", "-line\n+\n" + strings.Repeat("-line\n", maxDifferences-1) + "and 81 more lines\n"},
	} {
		if got := difference(test.want, test.got); got != test.difference {
			t.Errorf("difference of %.20q and %.20q: got %q, want %q", test.want, test.got, got, test.difference)
		}
	}
}
