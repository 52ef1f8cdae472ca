// SPDX-License-Identifier: Apache-2.0

package view

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oomtrace/oomtrace/internal/diagnose"
	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/phrase"
	"github.com/oomtrace/oomtrace/internal/sink"
	"github.com/oomtrace/oomtrace/internal/testenv"
)

// lastOf returns the first incident of a script with all its updates, names and causes.
func lastOf(t *testing.T, feed func(sink.Sink) error) *events.Incident {
	t.Helper()

	var last *events.Incident

	err := feed(sink.Func(func(l events.Line) error {
		switch l := l.(type) {
		case *events.Incident:
			if last == nil {
				last = l
			}
		case *events.Update:
			if l.After.ID == last.ID {
				last = l.After
			}
		}

		return nil
	}))
	if err != nil {
		t.Fatal(err)
	}

	namedLimiter(last.Limiter)

	for i := range last.Victims {
		addNames(last.Victims[i].Workload)
	}

	last.Causes = diagnose.Diagnose(last, nil)

	return last
}

func namedLimiter(l *events.Limiter) {
	if l != nil {
		addNames(l.Workload)
	}
}

// addNames adds the names that the runtime knows.
func addNames(w *events.Workload) {
	if w == nil {
		return
	}

	w.Namespace, w.Pod = "shop", "cart-7d9f8c6b5-x2x8q"

	switch w.ContainerID {
	case containerID:
		w.Container = "app"
	case sidecarID:
		w.Container = "istio-proxy"
	}
}

// The command behind the first advice can be typed as it is, wherever the incident is recorded.
func TestStoryNamesTheCommandForTheRest(t *testing.T) {
	inc := lastOf(t, pod())

	for _, test := range []struct {
		opts TextOptions
		want string
	}{
		{TextOptions{Width: 80}, " More: oomtrace show 18 limits"},
		{TextOptions{Width: 80, Source: "oom.json"}, " More: oomtrace show 18 oom.json limits"},
		{TextOptions{Width: 80, Source: "'a b/" + strings.Repeat("c", 49) + "'"}, "\n  More: oomtrace show 18 'a b/" + strings.Repeat("c", 49) + "'\n  limits"},
		{TextOptions{Width: 40, Source: strings.Repeat("c", 20)}, " More: oomtrace show 18 FILE limits"},
		{TextOptions{Width: 80, Source: "a\x1b[2J"}, ` More: oomtrace show 18 a\x1b[2J limits`},
		{TextOptions{Width: 80, Unkept: true}, " More: --wide limits"},
	} {
		var out bytes.Buffer
		if err := NewText(&out, test.opts).Write(inc); err != nil {
			t.Fatal(err)
		}

		text := out.String()
		if !strings.HasPrefix(test.want, "\n") { // on whatever line
			text = strings.Join(strings.Fields(text), " ")
		}

		if !strings.Contains(text, test.want) {
			t.Errorf("%+v: got no %q, want it:\n%s", test.opts, test.want, out.String())
		}
	}
}

// The first two lines answer whose limit was hit and who died, and no story of a usual kill is
// longer than twelve lines.
func TestStory(t *testing.T) {
	const most = 12

	for title, test := range map[string]struct {
		feed    func(sink.Sink) error
		answers []string // in the headline and the first line below it
	}{
		"kill":         {containerScript(), []string{"OOM KILL", "java[4711]", "Container app of pod", "shop/cart-7d9f8c6b5-x2x8q"}},
		"pod limit":    {pod(), []string{"OOM KILL", "java[4711]", "Pod shop/cart-7d9f8c6b5-x2x8q reached its limit of 600.0 MiB"}},
		"group":        {group3(), []string{"OOM KILL", "java[4711]", "Container app of pod", "shop/cart-7d9f8c6b5-x2x8q"}},
		"global":       {global(), []string{"OOM KILL", "java[4711]", "The node was out of memory"}},
		"user kill":    {userKills(), []string{"KILLED", "java[4711]", "by runc[900]", "The container runtime (runc[900]) killed java[4711]"}},
		"nobody":       {noKillable(), []string{"NO KILLABLE PROCESS", "Container app of pod", "reached its"}},
		"tasks wait":   {oomKillDisabled(), []string{"KILLER DISABLED", "TASKS WAIT", "x2x8q/app"}},
		"without stat": {tracepoints(), []string{"OOM KILL", "java[4711]"}},
	} {
		inc := lastOf(t, test.feed)

		for mode, opts := range map[string]TextOptions{
			"80":       {Width: 80},
			"120":      {Width: 120},
			"80-tty":   {Width: 80, Terminal: true, Color: true},
			"80-ascii": {Width: 80, ASCII: true},
			"80-full":  {Width: 80, Full: true},
		} {
			var out bytes.Buffer

			opts.Location = time.UTC
			opts.Dates = !opts.Terminal

			if err := NewText(&out, opts).Write(inc); err != nil {
				t.Fatal(err)
			}

			testenv.Golden(t, "story-"+strings.ReplaceAll(title, " ", "-")+"."+mode+".golden", out.Bytes(), *rewrite)

			if opts.Full || opts.Color {
				continue
			}

			lines := strings.SplitAfter(out.String(), "\n")
			for _, want := range test.answers {
				if first := strings.Join(lines[:2], ""); !strings.Contains(first, want) {
					t.Errorf("%s, %s: got no %q in the first two lines, want it:\n%s", title, mode, want, first)
				}
			}

			if n := len(lines) - 1; n > most {
				t.Errorf("%s, %s: got %d lines, want at most %d:\n%s", title, mode, n, most, out.String())
			}

			if opts.ASCII && strings.ContainsFunc(out.String(), func(r rune) bool { return r > '~' }) {
				t.Errorf("%s: got a rune that is no ASCII, want none:\n%s", title, out.String())
			}
		}
	}
}

func TestAdviceEndsWithAClause(t *testing.T) {
	for _, c := range []struct {
		text string
		want []string
	}{
		{"Check which cgroups share this limit: set limits on those without one, and move out those that grow.", []string{
			"Check which cgroups share this limit: set limits on those without one.", "Check which cgroups share this limit."}},
		{"If the workload needs this, raise its limit: with the job scheduler, the guest, or the runtime.", []string{
			"If the workload needs this, raise its limit."}},
		{"MySQL: the buffer pool must fit.", nil},
		{"Put a part of the memory online as kernel memory (online_kernel, or auto-movable).", []string{
			"Put a part of the memory online as kernel memory."}},
	} {
		if got, want := firstClauses(c.text, 26), append([]string{c.text}, c.want...); !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestHeadlineIsOneLine(t *testing.T) {
	inc := container()
	inc.Victims[0].Workload.Pod = "checkout-with-a-name-as-long-as-kubernetes-allows-it-to-be-7d9f8c6b5-x2x8q"

	var out bytes.Buffer

	if err := NewText(&out, TextOptions{Width: 80, Location: time.UTC, Dates: true}).Write(inc); err != nil {
		t.Fatal(err)
	}

	line, _, _ := strings.Cut(out.String(), "\n")
	if !strings.HasSuffix(line, "-x2x8q/3f2a91c0…  #17") || !strings.Contains(line, "checkout-") || phrase.Width(line) > 80 {
		t.Errorf("got headline %q, want start and end of the name and the ID within 80 columns", line)
	}
}

// A victim whose anonymous memory is not known did not hold 0 B.
func TestAnUnknownSizeIsNotHeld(t *testing.T) {
	inc := container()
	inc.Candidates = nil

	v := &inc.Victims[0]
	v.AnonRSSBytes, v.FileRSSBytes, v.ShmemRSSBytes = nil, new(uint64(4096)), new(uint64(0))

	if got := newStory(inc, &TextOptions{Width: 80}).holders().items; len(got) > 0 {
		t.Errorf("got %q, want nothing: its anonymous memory is unknown", got)
	}
}
