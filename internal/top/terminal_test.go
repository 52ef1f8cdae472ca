// SPDX-License-Identifier: Apache-2.0

package top

import (
	"context"
	"html"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	uv "github.com/charmbracelet/ultraviolet"
	"github.com/charmbracelet/x/vt"
	"github.com/creack/pty"
)

// terminal is a program on a pseudo-terminal, and the emulator that shows what it draws.
type terminal struct {
	t       *testing.T
	ptmx    *os.File
	screen  *vt.SafeEmulator
	columns int
	rows    int
	ended   chan error

	mu  sync.Mutex
	raw strings.Builder // what the program wrote
}

// start runs the screen on a terminal of this size.
func start(t *testing.T, columns, rows int, opts Options) *terminal {
	t.Helper()

	ptmx, tty, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}

	term := &terminal{
		t: t, ptmx: ptmx, columns: columns, rows: rows, screen: vt.NewSafeEmulator(columns, rows), ended: make(chan error, 1),
	}
	term.resize(columns, rows)

	go term.draw()
	go func() { _, _ = io.Copy(ptmx, term.screen) }() // what a terminal answers

	ctx, cancel := context.WithCancel(t.Context())
	opts.In, opts.Out = tty, tty

	go func() { term.ended <- Run(ctx, opts) }()

	t.Cleanup(func() {
		cancel()
		term.end()
		_ = tty.Close()
		_ = ptmx.Close()
		_ = term.screen.Close()
	})

	return term
}

func (term *terminal) draw() {
	buf := make([]byte, 32<<10)

	for {
		n, err := term.ptmx.Read(buf)
		if err != nil {
			return
		}

		term.mu.Lock()
		term.raw.Write(buf[:n])
		_, _ = term.screen.Write(buf[:n])
		term.mu.Unlock()
	}
}

func (term *terminal) resize(columns, rows int) {
	term.t.Helper()

	term.columns, term.rows = columns, rows
	term.screen.Resize(columns, rows)

	if err := pty.Setsize(term.ptmx, &pty.Winsize{Cols: uint16(columns), Rows: uint16(rows)}); err != nil {
		term.t.Fatal(err)
	}

	// The kernel signals it to the session of the terminal, which the test is not in.
	if err := syscall.Kill(os.Getpid(), syscall.SIGWINCH); err != nil {
		term.t.Fatal(err)
	}
}

// end waits for the program, once.
func (term *terminal) end() {
	term.t.Helper()

	select {
	case err, ok := <-term.ended:
		if ok && err != nil {
			term.t.Error(err)
		}
	case <-time.After(10 * time.Second):
		term.t.Error("got no end of the program within 10 s")
	}
}

func (term *terminal) press(keys string) {
	term.t.Helper()

	if _, err := term.ptmx.WriteString(keys); err != nil {
		term.t.Fatal(err)
	}
}

// change presses keys, and waits until the screen is another.
func (term *terminal) change(keys string) {
	term.t.Helper()

	before := term.text()
	term.press(keys)

	for end := time.Now().Add(20 * time.Second); term.text() == before; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			term.t.Fatalf("got no change of the screen within 20 s after %q:\n%s", keys, before)
		}
	}
}

// text is what is on the screen, without blanks at the ends of lines.
func (term *terminal) text() string {
	term.mu.Lock() // cells are not copied
	defer term.mu.Unlock()

	var b strings.Builder

	for y := range term.rows {
		var line strings.Builder

		for x := 0; x < term.columns; x++ {
			cell := term.screen.CellAt(x, y)
			if cell == nil || cell.Content == "" {
				line.WriteByte(' ')
				continue
			}

			line.WriteString(cell.Content)
			x += max(cell.Width, 1) - 1
		}

		b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}

	return b.String()
}

// markup is the screen as lines of HTML, with the styles of its cells as classes, and without
// blanks at the ends of lines.
func (term *terminal) markup() string {
	term.mu.Lock() // cells are not copied
	defer term.mu.Unlock()

	var lines []string

	for y := range term.rows {
		class := ""

		var b strings.Builder

		for x := 0; x < term.columns; x++ {
			cell := term.screen.CellAt(x, y)
			if cell == nil || cell.Content == "" {
				cell = &uv.Cell{Content: " "}
			}

			if now := classOf(&cell.Style); now != class {
				if class != "" {
					b.WriteString("</b>")
				}

				if now != "" {
					b.WriteString(`<b class="` + now + `">`)
				}
				class = now
			}

			b.WriteString(html.EscapeString(cell.Content))
			x += max(cell.Width, 1) - 1
		}

		if class != "" {
			b.WriteString("</b>")
		}

		lines = append(lines, strings.TrimRight(b.String(), " "))
	}

	return strings.Join(lines, "\n") + "\n"
}

func classOf(s *uv.Style) string {
	var all []string

	for attribute, class := range map[uint8]string{uv.AttrBold: "bold", uv.AttrFaint: "faint", uv.AttrReverse: "reverse"} {
		if s.Attrs&attribute != 0 {
			all = append(all, class)
		}
	}

	if s.Fg != nil { // red and yellow are what the screen has
		class := "red"
		if r, g, _, _ := s.Fg.RGBA(); g > r/2 {
			class = "yellow"
		}

		all = append(all, class)
	}

	slices.Sort(all)

	return strings.Join(all, " ")
}

// written is what the program sent to the terminal.
func (term *terminal) written() string {
	term.mu.Lock()
	defer term.mu.Unlock()

	return term.raw.String()
}

// wait waits until all texts are on the screen, and until it has not changed for a while.
func (term *terminal) wait(texts ...string) string {
	term.t.Helper()

	const still = 250 * time.Millisecond

	deadline := time.Now().Add(20 * time.Second)
	last, since := "", time.Now()

	for time.Now().Before(deadline) {
		now := term.text()
		if now != last {
			last, since = now, time.Now()
		}

		if time.Since(since) > still && containsAll(now, texts) {
			return now
		}

		time.Sleep(10 * time.Millisecond)
	}

	term.t.Fatalf("got no screen with %q within 20 s, but\n%s", texts, last)

	return ""
}

func containsAll(text string, parts []string) bool {
	for _, part := range parts {
		if !strings.Contains(text, part) {
			return false
		}
	}

	return true
}
