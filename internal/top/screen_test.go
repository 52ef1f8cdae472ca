// SPDX-License-Identifier: Apache-2.0

package top

import (
	"flag"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/testenv"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestMain(m *testing.M) {
	flag.Parse()
	m.Run()
}

// TestScreens draws each screen on an emulated terminal.
func TestScreens(t *testing.T) {
	const down, pageDown = "\x1b[B", "\x1b[6~"

	for _, test := range []struct {
		name          string
		columns, rows int
		set           func(*Options)
		keys          []string // pressed one after the other, each once the screen is still
		wait          []string
	}{
		{name: "80x24", columns: 80, rows: 24},
		{name: "120x40", columns: 120, rows: 40},
		{name: "60x20", columns: 60, rows: 20},
		{name: "40x8", columns: 40, rows: 8},
		{name: "small", columns: 30, rows: 6, wait: []string{"too small"}},
		{name: "tree", columns: 80, rows: 24, keys: []string{"t"}},
		{name: "tree-filter", columns: 80, rows: 24, keys: []string{"t", "/", "cart", "\r"}, wait: []string{"hides"}},
		{name: "filter", columns: 80, rows: 24, keys: []string{"/", "SHOP"}, wait: []string{"/SHOP"}},
		{name: "filter-none", columns: 80, rows: 24, keys: []string{"/", "nobody", "\r"}, wait: []string{"no cgroup matches"}},
		{name: "pods", columns: 80, rows: 24, keys: []string{"p", "p"}, wait: []string{"POD"}},
		{name: "containers", columns: 100, rows: 24, keys: []string{"p"}, wait: []string{"CONTAINER"}},
		{name: "by-stall", columns: 80, rows: 24, keys: []string{"s"}, wait: []string{"STALL↓"}},
		{name: "by-name", columns: 80, rows: 24, keys: []string{"S"}, wait: []string{"CGROUP↓"}},
		{name: "scrolled", columns: 80, rows: 24, keys: []string{pageDown, down, "j"}},
		{name: "help", columns: 80, rows: 24, keys: []string{"?"}, wait: []string{"Esc back"}},
		{name: "help-narrow", columns: 48, rows: 40, keys: []string{"?"}, wait: []string{"Esc back"}},
		{name: "cgroup", columns: 80, rows: 24, keys: []string{"/", "sidecar", "\r", "\r"}, wait: []string{"headroom"}},
		{name: "kill", columns: 80, rows: 24, keys: []string{"\t", down, down, "\r"}, wait: []string{"block of b-1"}},
		{name: "paused", columns: 80, rows: 24, keys: []string{" "}, wait: []string{"PAUSED"}},
		{name: "ascii", columns: 80, rows: 24, set: func(o *Options) { o.ASCII = true }},
		{name: "cgroup-v1", columns: 120, rows: 24, set: func(o *Options) {
			s := busyNode()
			s.Version, s.TracedHigh = 1, false
			o.Source = fixed{s}
		}},
		{name: "untraced", columns: 80, rows: 24, wait: []string{"not traced"}, set: func(o *Options) {
			s := busyNode()
			s.Traced, s.TracedHigh = false, false
			o.Source, o.Untraced = fixed{s}, "missing CAP_BPF and CAP_PERFMON: run as root (sudo oomtrace)"
		}},
		{name: "untraced-help", columns: 80, rows: 40, keys: []string{"?"}, wait: []string{"(sudo oomtrace)"}, set: func(o *Options) {
			s := busyNode()
			s.Traced, s.TracedHigh = false, false
			o.Source, o.Untraced = fixed{s}, "missing CAP_BPF and CAP_PERFMON: run as root (sudo oomtrace)"
		}},
		{name: "thinned", columns: 80, rows: 24, wait: []string{"read"}, set: func(o *Options) {
			s := busyNode()
			s.Read, s.LeftOut = 7, 2
			o.Source = fixed{s}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()

			opts := options()
			if test.set != nil {
				test.set(&opts)
			}

			if opts.Untraced == "" {
				for _, l := range killLines() {
					_ = opts.Feed.Write(l)
				}
			}

			term := start(t, test.columns, test.rows, opts)

			if opts.Untraced == "" && test.name != "small" {
				term.wait("USED", "3 OOM kills")
			}

			for _, key := range test.keys {
				term.wait("USED")
				term.change(key)
			}

			wait := test.wait
			if len(wait) == 0 {
				wait = []string{"USED"}
			}

			screen := term.wait(wait...)
			testenv.Golden(t, test.name+".txt", []byte(screen), *update)

			if strings.Contains(term.written(), "\x1b[2Jthon") || strings.Contains(term.written(), "\x1b[31mname") {
				t.Error("got a name's escape sequence on the terminal, want it sanitized")
			}

			if test.name == "ascii" && strings.ContainsFunc(screen, func(r rune) bool { return r > 0x7e }) {
				t.Error("got characters beyond ASCII")
			}

			if test.name == "filter" { // where q is text
				term.change("\x1b")
			}

			term.press("\x03")
			term.end()
			close(term.ended)
		})
	}
}

// TestPicture writes the screen that docs/top.png shows, with its colours; make pictures draws it.
func TestPicture(t *testing.T) {
	opts := options()

	for _, l := range killLines() {
		if inc, ok := l.(*events.Incident); ok && inc.ID == "b-2" {
			inc.Victims[0].Comm = "python3"
			inc.Causes = []events.Cause{{ID: "tmpfs", Brief: "files in tmpfs hold 62 %", Confidence: events.ConfidenceCertain}}
		}

		_ = opts.Feed.Write(l)
	}

	term := start(t, 100, 24, opts)
	term.wait("USED", "3 OOM kills", "tmpfs")
	testenv.Golden(t, "picture.html", []byte(term.markup()), *update)
	term.press("q")
	term.end()
	close(term.ended)
}

func TestResizeDrawsTheNewSize(t *testing.T) {
	term := start(t, 120, 40, options())
	term.wait("REFLT/s")
	term.resize(60, 20)

	if screen := term.wait("no kill since"); strings.Contains(screen, "GROWTH") {
		t.Errorf("got columns that do not fit:\n%s", screen)
	}

	term.press("q")
	term.end()
	close(term.ended)
}

func TestColours(t *testing.T) {
	colour := regexp.MustCompile(`\x1b\[[0-9;]*3[0-7]m`)

	for _, test := range []struct {
		env  []string
		want bool
	}{
		{[]string{"TERM=xterm-256color"}, true},
		{[]string{"TERM=xterm-256color", "NO_COLOR=1"}, false},
	} {
		opts := options()
		opts.Env = test.env
		term := start(t, 80, 24, opts)
		term.wait("web.service")

		if got := colour.MatchString(term.written()); got != test.want {
			t.Errorf("%q: got colours %v, want %v", test.env, got, test.want)
		}

		term.press("q")
		term.end()
		close(term.ended)

		for i := 0; i < 100 && !strings.Contains(term.written(), "\x1b[?1049l"); i++ {
			time.Sleep(10 * time.Millisecond) // the emulator reads it
		}

		if !strings.Contains(term.written(), "\x1b[?1049l") {
			t.Error("got no end of the alternate screen: the terminal was not given back")
		}
	}
}
