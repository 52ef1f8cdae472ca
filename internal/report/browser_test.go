// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/oomtrace/oomtrace/internal/testenv"
)

// tab is a page in a browser of its own, with the requests and errors that it caused.
type tab struct {
	context.Context
	mu       sync.Mutex
	trouble  []string
	requests []string
}

// setting is a step before the page is opened, or on it.
type setting = chromedp.Action[chromedp.Void]

func command[P any](cmd cdp.Command[P, cdp.Empty], params P) setting {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, cmd, params)
		return err
	})
}

// browse opens HTML as a file, as users do.
func browse(t *testing.T, html []byte, before ...setting) *tab {
	t.Helper()

	testenv.Slow(t, "each browser takes seconds to start")

	file := filepath.Join(t.TempDir(), "report.html")
	if err := os.WriteFile(file, html, 0o600); err != nil {
		t.Fatal(err)
	}

	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.NoSandbox, // which root cannot have
		chromedp.ExecPath(testenv.Program(t, "chromium", "chromium-browser", "google-chrome")))
	ctx, stop := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(stop)
	ctx, stop = chromedp.NewContext(ctx)
	t.Cleanup(stop)

	p := &tab{Context: ctx}
	if err := chromedp.Listen(ctx, p.listen); err != nil {
		t.Fatal(err)
	}
	steps := []setting{command(network.Enable, network.EnableParams{}), command(log.Enable, cdp.Empty{}),
		command(runtime.Enable, cdp.Empty{})}
	p.do(t, append(append(steps, before...), chromedp.Navigate("file://"+file), chromedp.WaitReady("footer"))...)

	return p
}

// patience ends the test of a browser that hangs.
const patience = 2 * time.Minute

func (p *tab) do(t *testing.T, steps ...setting) {
	t.Helper()

	ctx, stop := context.WithTimeout(p, patience)
	defer stop()

	if err := chromedp.Do(ctx, steps...); err != nil {
		t.Fatal(err)
	}
}

func (p *tab) listen(event any) {
	p.mu.Lock()
	defer p.mu.Unlock()

	switch e := event.(type) {
	case *network.EventRequestWillBeSent:
		p.requests = append(p.requests, e.Request.URL)
	case *log.EventEntryAdded: // violations of the policy, among others
		p.trouble = append(p.trouble, fmt.Sprintf("%s: %s", e.Entry.Level, e.Entry.Text))
	case *runtime.EventConsoleAPICalled:
		p.trouble = append(p.trouble, fmt.Sprintf("console: %s", e.Type))
	case *runtime.EventExceptionThrown:
		p.trouble = append(p.trouble, "exception: "+e.ExceptionDetails.Text)
	case *page.EventJavascriptDialogOpening:
		p.trouble = append(p.trouble, "dialog: "+e.Message)
	}
}

// quiet fails the test if the page made any request but for itself, or logged an error.
func (p *tab) quiet(t *testing.T) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()

	if len(p.requests) != 1 {
		t.Errorf("got requests %q, want one for the page", p.requests)
	}

	for _, trouble := range p.trouble {
		t.Errorf("got an error of the page: %s", trouble)
	}
}

func evaluate[T any](t *testing.T, p *tab, js string) T {
	t.Helper()

	ctx, stop := context.WithTimeout(p, patience)
	defer stop()

	result, err := chromedp.Run(ctx, chromedp.Evaluate[T](js, chromedp.EvalAwaitPromise))
	if err != nil {
		t.Fatalf("%v: %s", err, js)
	}

	return result
}

func media(medium, scheme string) setting {
	return command(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Media: medium, Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
	})
}

func dressed(scheme string, width, height int64) []setting {
	size := emulation.SetDeviceMetricsOverrideParams{Width: width, Height: height, DeviceScaleFactor: 1}
	return []setting{command(emulation.SetDeviceMetricsOverride, size), media("", scheme)}
}

// drawAll scrolls to each chart, and returns the number of painted pixels of each canvas.
const drawAll = `(async () => {
	const painted = [];
	for (const figure of document.querySelectorAll("figure.chart")) {
		figure.scrollIntoView({behavior: "instant"});
		for (let i = 0; i < 200 && !figure.querySelector("canvas"); i++) await new Promise(r => setTimeout(r, 20));
		await new Promise(r => setTimeout(r, 50));
		const canvas = figure.querySelector("canvas");
		if (!canvas) { painted.push(0); continue; }
		const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", {willReadFrequently: true});
		copy.drawImage(canvas, 0, 0);
		const data = copy.getImageData(0, 0, canvas.width, canvas.height).data;
		let n = 0;
		for (let i = 3; i < data.length; i += 4) if (data[i] > 0) n++;
		painted.push(n);
	}
	window.scrollTo({top: 0, behavior: "instant"});
	return painted;
})()`

// tooWide lists elements that overflow the page or their cell.
const tooWide = `(() => {
	const wrong = [];
	if (document.documentElement.scrollWidth > innerWidth) wrong.push("page " + document.documentElement.scrollWidth);
	for (const el of document.querySelectorAll("td, th, dd, dt, li, h1, h2, h3, p, figcaption, .badge, .card, section, figure")) {
		if (el.scrollWidth > el.clientWidth + 1 && getComputedStyle(el).display !== "inline" && !el.closest("table.small, pre"))
			wrong.push(el.tagName + "." + el.className + " " + el.scrollWidth + ">" + el.clientWidth + ": " + el.textContent.trim().slice(0, 60));
	}
	return wrong;
})()`

func TestBrowser(t *testing.T) {
	html := makeHTML(t, Options{}, "pod-limit", "node", "user-kill")

	for _, scheme := range []string{"light", "dark"} {
		for _, width := range []int64{360, 1400} {
			t.Run(fmt.Sprintf("%s-%d", scheme, width), func(t *testing.T) {
				p := browse(t, html, dressed(scheme, width, 900)...)

				painted := evaluate[[]int](t, p, drawAll)
				if len(painted) != 5+4+2 {
					t.Errorf("got %d charts, want %d", len(painted), 5+4+2)
				}

				for i, n := range painted {
					if n < 500 {
						t.Errorf("chart %d: got %d painted pixels, want at least 500", i, n)
					}
				}

				for _, wrong := range evaluate[[]string](t, p, tooWide) {
					t.Errorf("got an overflowing element: %s", wrong)
				}

				p.quiet(t)
			})
		}
	}
}

func TestBrowserChangesColours(t *testing.T) {
	p := browse(t, makeHTML(t, Options{}, "pod-limit"), dressed("light", 1200, 900)...)
	evaluate[[]int](t, p, drawAll)
	const picture = `document.querySelector("canvas").toDataURL()`
	light := evaluate[string](t, p, picture)
	p.do(t, dressed("dark", 900, 900)...)
	evaluate[[]int](t, p, drawAll)

	if dark := evaluate[string](t, p, picture); dark == light {
		t.Error("got the same chart in light and dark, want it redrawn")
	}

	if wrong := evaluate[[]string](t, p, tooWide); len(wrong) > 0 {
		t.Errorf("got overflowing elements in a narrower window: %q", wrong)
	}

	p.quiet(t)
}

func TestBrowserWithoutJavaScript(t *testing.T) {
	html := makeHTML(t, Options{}, "pod-limit", "node", "user-kill")
	p := browse(t, html, append(dressed("light", 1200, 900),
		command(emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true}))...)

	text := evaluate[string](t, p, `document.body.innerText`)
	for _, words := range []string{
		"reached its memory.max of 600.0 MiB", "envoy[5120]", "The limit that was hit is the pod's", "Raise the limit of the pod",
		"kmalloc-4k", "below min", "ffmpeg[30811]", "runc[52210]", "evicting pod", "3 incidents, 6 victims",
	} {
		if !strings.Contains(text, words) {
			t.Errorf("got a page without %q, want it", words)
		}
	}

	if n := evaluate[int](t, p, `document.querySelectorAll("canvas").length`); n != 0 {
		t.Fatalf("got %d canvases, want none without scripts", n)
	}
	const shown = `Array.from(document.querySelectorAll("figure.chart svg.static")).map(s => s.getBoundingClientRect().height)`

	heights := evaluate[[]float64](t, p, shown)
	if len(heights) != 11 {
		t.Errorf("got %d pictures, want 11", len(heights))
	}

	for i, h := range heights {
		if h < 50 {
			t.Errorf("picture %d: got a height of %v, want at least 50", i, h)
		}
	}

	p.quiet(t)
}

func TestBrowserPrint(t *testing.T) {
	p := browse(t, makeHTML(t, Options{}, "node"), dressed("dark", 1200, 900)...)
	evaluate[[]int](t, p, drawAll)
	p.do(t, media("print", "dark"))

	if got := evaluate[string](t, p, `getComputedStyle(document.body).backgroundColor`); got != "rgb(255, 255, 255)" {
		t.Errorf("got background %s in print, want white", got)
	}

	const shown = `[...document.querySelectorAll("figure.chart")].every(f => f.querySelector("svg.static").getBoundingClientRect().height > 50 && f.querySelector(".live").offsetHeight === 0)`
	if !evaluate[bool](t, p, shown) {
		t.Error("got the canvas in print, want the picture")
	}

	pdf, err := chromedp.Run(p, chromedp.PrintToPDF(chromedp.PDFPrintBackground()))
	if err != nil || !bytes.HasPrefix(pdf, []byte("%PDF")) {
		t.Errorf("got error %v and %d bytes, want a PDF", err, len(pdf))
	}

	p.quiet(t)
}

func TestBrowserHostile(t *testing.T) {
	src := hostileSource()
	p := browse(t, renderHTML(t, src, Options{}), dressed("light", 360, 900)...)
	evaluate[[]int](t, p, drawAll)

	const injected = `document.querySelectorAll("img, iframe, object, embed, form, base, link, a[onclick], [onerror], [onload], script[src]").length`
	if n := evaluate[int](t, p, injected); n != 0 {
		t.Errorf("got %d elements injected by names, want none", n)
	}

	if n := evaluate[int](t, p, `[...document.scripts].filter(s => s.type !== "application/json").length`); n != 1 {
		t.Errorf("got %d scripts, want 1", n)
	}

	text := evaluate[string](t, p, `document.body.innerText`)
	if !strings.Contains(text, injection) {
		t.Errorf("got a page without the text %q, want it", injection)
	}

	for _, r := range text {
		if strings.ContainsRune("\u202e\u2066\u200b\x1b\x00", r) {
			t.Errorf("got unescaped %U on the page", r)
		}
	}

	for _, wrong := range evaluate[[]string](t, p, tooWide) {
		t.Errorf("got an overflowing element: %s", wrong)
	}

	p.quiet(t)
}

// TestScreenshots bounds the size of the documentation's pictures; -update makes them anew.
func TestScreenshots(t *testing.T) {
	pictures := []struct {
		name, scheme string
		height       int64
	}{{"pod-limit", "light", 1720}, {"node", "dark", 4200}, {"user-kill", "light", 1500}}
	for _, pic := range pictures {
		file := filepath.Join("..", "..", "docs", "report-"+pic.name+".png")
		if *update {
			p := browse(t, makeHTML(t, Options{}, pic.name), dressed(pic.scheme, 1280, pic.height)...)
			evaluate[[]int](t, p, drawAll)

			png, err := chromedp.Run(p, chromedp.CaptureScreenshot())
			if err != nil {
				t.Fatal(err)
			}

			squeeze(t, file, png)
		}

		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}

		if info.Size() > 300<<10 {
			t.Errorf("%s: got %d bytes, want at most 300 KiB", file, info.Size())
		}
	}
}

func squeeze(t *testing.T, file string, png []byte) {
	t.Helper()
	cmd := exec.Command(testenv.Program(t, "pngquant"), "--speed", "1", "--strip", "-")
	cmd.Stdin = bytes.NewReader(png)

	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("pngquant: %v", err)
	}

	if err := os.WriteFile(file, out, 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestBrowserReportsViolations: the other tests could fail, and the policy stops what
// escaping would miss.
func TestBrowserReportsViolations(t *testing.T) {
	html := makeHTML(t, Options{}, "user-kill")
	bad := bytes.Replace(html, []byte("<footer>"), []byte(`<script>alert(1)</script><img src="http://127.0.0.1:9/x" onerror="alert(2)"><p style="color:red">x</p><footer>`), 1)
	p := browse(t, bad, dressed("light", 1200, 900)...)
	evaluate[[]int](t, p, drawAll)
	p.mu.Lock()
	defer p.mu.Unlock()

	for _, directive := range []string{"script-src", "img-src", "style-src"} {
		if !slices.ContainsFunc(p.trouble, func(s string) bool { return strings.Contains(s, directive) }) {
			t.Errorf("want a violation of %s, got %q", directive, p.trouble)
		}
	}

	if slices.ContainsFunc(p.trouble, func(s string) bool { return strings.HasPrefix(s, "dialog") }) {
		t.Errorf("got a dialog, want no script to run: %q", p.trouble)
	}
}
