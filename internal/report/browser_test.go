// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
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
	"github.com/chromedp/cdproto/performance"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

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

// tooWide lists elements that overflow the page or their cell, and tables that are cut: a wide one is in a
// box that scrolls, and on a phone has a word about it.
const tooWide = `(() => {
	const wrong = [];
	if (document.documentElement.scrollWidth > innerWidth) wrong.push("page " + document.documentElement.scrollWidth);
	for (const el of document.querySelectorAll("td, th, dd, dt, li, h1, h2, h3, p, figcaption, .badge, .card, section, figure, .answer")) {
		if (el.scrollWidth > el.clientWidth + 1 && getComputedStyle(el).display !== "inline" && el.offsetParent && !el.closest("pre"))
			wrong.push(el.tagName + "." + el.className + " " + el.scrollWidth + ">" + el.clientWidth + ": " + el.textContent.trim().slice(0, 60));
	}
	for (const table of document.querySelectorAll("table")) {
		const box = table.closest(".scroll");
		if (table.closest("details:not([open])") || table.offsetWidth <= box.clientWidth + 1) continue;
		const hint = box.previousElementSibling;
		if (getComputedStyle(box).overflowX !== "auto") wrong.push("cut table: " + table.textContent.slice(0, 60));
		if (innerWidth < 500 && !(hint && hint.offsetHeight > 0)) wrong.push("table without a hint: " + table.textContent.slice(0, 60));
	}
	return wrong;
})()`

func TestBrowser(t *testing.T) {
	html := makeHTML(t, Options{}, "pod-limit", "node", "user-kill")

	for _, scheme := range []string{"light", "dark"} {
		for _, width := range []int64{390, 1400} {
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

	text := evaluate[string](t, p, `[...document.querySelectorAll(".top, .summary, article")].filter(e => !e.hidden).map(e => e.textContent).join()`)
	for _, words := range []string{
		"reached its limit of 600.0 MiB", "envoy[5120]", "The limit that was hit is the pod's", "Raise the limit of the pod",
		"kmalloc-4k", "below min", "ffmpeg[30811]", "runc[52210]", "evicting pod", "3 incidents on node worker-3", "at most 13.7 s",
	} {
		if !strings.Contains(text, words) {
			t.Errorf("got a page without %q, want it", words)
		}
	}

	if n := evaluate[int](t, p, `document.querySelectorAll("canvas").length`); n != 0 {
		t.Fatalf("got %d canvases, want none without scripts", n)
	}
	const shown = `Array.from(document.querySelectorAll("figure.chart svg.static")).map(s => s.getBoundingClientRect().height)`

	heights := evaluate[[]float64](t, p, shown) // of the first chart of each incident
	if len(heights) != 3 {
		t.Errorf("got %d pictures, want 3", len(heights))
	}

	for i, h := range heights {
		if h < 50 {
			t.Errorf("picture %d: got a height of %v, want at least 50", i, h)
		}
	}

	p.quiet(t)
}

// pages prints to PDF and returns the number of pages.
func (p *tab) pages(t *testing.T, options ...chromedp.PDFOption) int {
	t.Helper()

	pdf, err := chromedp.Run(p, chromedp.PrintToPDF(append(options, chromedp.PDFPrintBackground())...))
	if err != nil || !bytes.HasPrefix(pdf, []byte("%PDF")) {
		t.Fatalf("got error %v and %d bytes, want a PDF", err, len(pdf))
	}

	if dir := os.Getenv("OOMTRACE_PDF"); dir != "" { // to look at
		if err := os.WriteFile(filepath.Join(dir, strings.ReplaceAll(t.Name(), "/", "-")+".pdf"), pdf, 0o600); err != nil {
			t.Fatal(err)
		}
	}

	return len(regexp.MustCompile(`/Type\s*/Page\b`).FindAll(pdf, -1))
}

// TestBrowserPrint: a page with the list, and one for each incident, in light colours.
func TestBrowserPrint(t *testing.T) {
	for name, test := range map[string]struct {
		html  []byte
		pages int
	}{
		"fixtures": {makeHTML(t, Options{}, "pod-limit", "node", "user-kill"), 1 + 3},
		"one":      {makeHTML(t, Options{}, "node"), 1},
		"night":    {renderHTML(t, night(t), Options{}), 1 + 21},
	} {
		for size, paper := range map[string]chromedp.PaperSize{"A4": chromedp.PaperA4, "letter": chromedp.PaperLetter} {
			t.Run(name+"-"+size, func(t *testing.T) {
				p := browse(t, test.html, dressed("dark", 1200, 900)...)
				evaluate[[]int](t, p, drawSome)

				if got := p.pages(t, chromedp.PDFPaper(paper)); got != test.pages {
					t.Errorf("got %d pages, want %d", got, test.pages)
				}

				p.do(t, media("print", "dark"))

				if got := evaluate[string](t, p, `getComputedStyle(document.body).backgroundColor`); got != "rgb(255, 255, 255)" {
					t.Errorf("got background %s in print, want white", got)
				}

				const shown = `[...document.querySelectorAll("figure.chart.first")].every(f => f.querySelector("svg.static").getBoundingClientRect().height > 50 && f.querySelector(".live").offsetHeight === 0)`
				if !evaluate[bool](t, p, shown) {
					t.Error("got the canvas in print, want the picture")
				}

				p.quiet(t)
			})
		}
	}
}

// drawSome draws the charts that are in sight.
const drawSome = `(async () => { await new Promise(r => setTimeout(r, 100)); return []; })()`

// rows are the ids of the rows that are shown.
const rowsShown = `[...document.querySelectorAll(".index tbody tr")].filter(r => r.offsetParent && r.querySelector("a")).map(r => r.querySelector("a").textContent)`

// TestBrowserList: search, filters, order, folded repeats and keys.
func TestBrowserList(t *testing.T) {
	p := browse(t, renderHTML(t, night(t), Options{}), dressed("light", 1300, 1000)...)

	count := func(what string, want int) {
		t.Helper()

		if got := evaluate[[]string](t, p, rowsShown); len(got) != want {
			t.Errorf("%s: got %d rows %q, want %d", what, len(got), got, want)
		}
	}
	search := func(words string) {
		t.Helper()
		evaluate[bool](t, p, fmt.Sprintf(`(() => { const i = document.querySelector(".tools input"); i.value = %q; i.dispatchEvent(new Event("input")); return true; })()`, words))
	}
	click := func(selector string) {
		t.Helper()
		evaluate[bool](t, p, fmt.Sprintf(`(() => { document.querySelector(%q).click(); return true; })()`, selector))
	}
	texts := func(js, want string) { // events may come later
		t.Helper()

		got := evaluate[string](t, p, js)
		for deadline := time.Now().Add(10 * time.Second); got != want && time.Now().Before(deadline); {
			got = evaluate[string](t, p, js)
		}

		if got != want {
			t.Errorf("%s: got %q, want %q", js, got, want)
		}
	}

	const articles = `String([...document.querySelectorAll("article")].filter(a => a.offsetParent).length)`

	count("17 are folded in two groups", 4)
	click(".fold input")
	count("one group is open", 4+13)
	click(".fold input")
	search("python3")
	count("a word", 14)
	texts(articles, "14")
	search("PYTHON3 anonymous")
	count("all words, in any case", 13)
	search("istio-proxy")
	count("a word of the sentence alone", 1)
	search("nowhere")
	count("no match", 0)
	texts(`document.querySelector(".summary .none").offsetHeight > 0 ? "shown" : "hidden"`, "shown")
	search("")
	count("again", 4)

	click(".tally button[data-w]") // the first workload
	count("a workload", 13)
	texts(`document.querySelector(".tools output").textContent`, "13 of 21")
	search("nowhere")
	count("filter and search", 0)
	search("")
	click(".chips button")
	count("without the filter", 4)
	click(`.tally button[data-c="1"]`)
	count("a cause", 5)
	p.do(t, chromedp.KeyEvent(kb.Escape))
	count("after Escape", 4)

	click(".index th:nth-child(5)")
	count("sorted, unfolded", 21)
	texts(`document.querySelector(".index tbody:last-child tr td:nth-child(5)").textContent`, "31.3Gi node")
	click(".index th:nth-child(5)")
	count("the other way round", 21)
	click(".index th:nth-child(5)")
	count("in the first order again", 4)

	evaluate[bool](t, p, `(() => { document.querySelector(".index th:nth-child(3)").focus(); return true; })()`)
	p.do(t, chromedp.KeyEvent(kb.Enter))
	texts(`document.querySelector(".index th:nth-child(3)").ariaSort`, "ascending")
	p.do(t, chromedp.KeyEvent(kb.Enter), chromedp.KeyEvent(kb.Enter))
	count("sorted by keys, and no more", 4)

	p.do(t, chromedp.KeyEvent("j"))
	texts(`location.hash === "#" + document.querySelector("article").id ? "first" : location.hash`, "first")
	texts(`document.querySelector(".fold input").checked ? "unfolded" : "folded"`, "unfolded")
	p.do(t, chromedp.KeyEvent("jjk"))
	texts(`location.hash === "#" + document.querySelectorAll("article")[1].id ? "second" : location.hash`, "second")
	texts(`"#" + document.querySelector(".index tr.here a").hash.slice(1) === location.hash ? "here" : "elsewhere"`, "here")
	texts(`Math.abs(document.querySelector(":target").getBoundingClientRect().top) < 60 ? "in sight" : "out of sight"`, "in sight")
	p.do(t, chromedp.KeyEvent("/"))
	texts(`document.activeElement.type`, "search")
	p.quiet(t)
}

// TestBrowserRows: what is small stands side by side, and a row of the list begins with one line on a phone.
func TestBrowserRows(t *testing.T) {
	const lines = `(selector) => new Set([...document.querySelectorAll(selector)].map(e => Math.round(e.getBoundingClientRect().top))).size`

	p := browse(t, makeHTML(t, Options{}, "pod-limit", "node"), dressed("light", 1280, 900)...)

	for selector, want := range map[string]int{
		"article:nth-of-type(1) .chart:not(.first)": 2, "article:nth-of-type(2) .chart:not(.first)": 1,
		"article:nth-of-type(1) .tables > section:not(.whole)": 1,
	} {
		if got := evaluate[int](t, p, fmt.Sprintf(`(%s)(%q)`, lines, selector)); got != want {
			t.Errorf("%s: got %d rows, want %d", selector, got, want)
		}
	}

	p = browse(t, renderHTML(t, night(t), Options{}), dressed("light", 390, 900)...)

	const beginnings = `[...document.querySelectorAll(".index tbody tr")].filter(r => r.offsetParent).map(r => new Set([0, 1, 4].map(i => r.cells[i].offsetTop)).size)`
	if got := evaluate[[]int](t, p, beginnings); !slices.Equal(got, []int{1, 1, 1, 1, 1, 1}) {
		t.Errorf("got the id, time and limit of the rows on %v lines, want each on one", got)
	}
}

// TestBrowserCards: the answer is at the top of a card, and one cursor reads all charts.
func TestBrowserCards(t *testing.T) {
	p := browse(t, makeHTML(t, Options{}, "pod-limit"), dressed("light", 1300, 1000)...)
	evaluate[[]int](t, p, drawAll)

	heads := evaluate[[]string](t, p, `[...document.querySelectorAll("article h2, article .why, article .cards, article .split, article .limits, article .charts, article .node")].sort((a, b) => a.getBoundingClientRect().top - b.getBoundingClientRect().top || a.getBoundingClientRect().left - b.getBoundingClientRect().left).map(e => e.getAttribute("class") || e.localName)`)
	if want := []string{"h2", "why", "cards", "split", "limits", "charts"}; !slices.Equal(heads, want) {
		t.Errorf("got parts in the order %q, want %q", heads, want)
	}

	// What the limit was used for is stacked, along the limit and in the chart.
	if parts := evaluate[[]float64](t, p, `[...document.querySelectorAll(".split rect")].map(r => Math.round(r.getBoundingClientRect().right))`); len(parts) < 4 || !slices.IsSorted(parts) {
		t.Errorf("got parts that end at %v, want at least four beside each other", parts)
	}

	if parts := evaluate[int](t, p, `document.querySelector(".charts").charts.panels[0].parts.length`); parts < 4 {
		t.Errorf("got %d parts in the chart, want at least 4", parts)
	}

	const colours = `(() => {
		const u = document.querySelector("figure.chart.first").plot, ratio = devicePixelRatio;
		const x = Math.round(u.valToPos(document.querySelector(".charts").charts.end * 0.6, "x", true));
		const data = u.ctx.getImageData(x, 0, 1, u.ctx.canvas.height).data;
		const seen = new Set();
		for (let i = 0; i < data.length; i += 4) if (data[i + 3] === 255) seen.add(data.slice(i, i + 3).join());
		return seen.size;
	})()`
	if n := evaluate[int](t, p, colours); n < 4 {
		t.Errorf("got %d colours in the column at the kill, want at least 4", n)
	}

	// All charts read the same second.
	const cursor = `(() => {
		const plots = [...document.querySelectorAll("figure.chart")].map(f => f.plot);
		const box = plots[1].over.getBoundingClientRect();
		plots[1].over.dispatchEvent(new MouseEvent("mousemove", {clientX: box.left + plots[1].valToPos(-10, "x"), clientY: box.top + 20, bubbles: true}));
		return plots.map(u => String(u.cursor.idx == null ? "none" : u.data[0][u.cursor.idx]));
	})()`

	at := evaluate[[]string](t, p, cursor)
	if len(at) != 5 || len(slices.Compact(slices.Clone(at))) != 1 || at[0] == "none" {
		t.Errorf("got the cursors of the charts at %q, want all at one second", at)
	}

	p.quiet(t)
}

// TestBrowserOpens: hundreds of incidents are there at once. What counts is the time of the browser's
// thread, since other tests may have the processors.
func TestBrowserOpens(t *testing.T) {
	p := browse(t, renderHTML(t, many(t, 300), Options{}),
		append(dressed("light", 1300, 1000), command(performance.Enable, performance.EnableParams{}))...)

	var metrics performance.GetMetricsResult

	p.do(t, chromedp.Func(func(ctx context.Context, target *chromedp.Target) (err error) {
		metrics, err = cdp.Call(ctx, target, performance.GetMetrics, cdp.Empty{})
		return err
	}))

	loaded := evaluate[float64](t, p, `performance.getEntriesByType("navigation")[0].domContentLoadedEventEnd`)

	for _, m := range metrics.Metrics {
		if m.Name != "ThreadTime" {
			continue
		}

		t.Logf("ready after %.0f ms, with %.1f s of work", loaded, m.Value)

		if m.Value > 3 {
			t.Errorf("got a page that takes %.1f s of work to open, want at most 3 s", m.Value)
		}
	}

	if n := evaluate[int](t, p, `document.querySelectorAll("article").length`); n != 300 {
		t.Errorf("got %d incidents, want 300", n)
	}

	p.quiet(t)
}

func TestBrowserHostile(t *testing.T) {
	src := hostileSource()
	p := browse(t, renderHTML(t, src, Options{}), dressed("light", 390, 900)...)
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

// TestScreenshots bounds the size of the documentation's pictures; -update makes them anew, as make
// pictures does.
func TestScreenshots(t *testing.T) {
	for _, pic := range []struct {
		name, scheme  string
		width, height int64
		source        func() []byte
	}{
		{"top", "dark", 940, 524, func() []byte { return terminalPage(t, "../top/testdata/picture.html") }},
		{"report-list", "light", 1280, 940, func() []byte { return renderHTML(t, night(t), Options{}) }},
		{"report-pod-limit", "light", 1280, 1960, func() []byte { return renderHTML(t, night(t), Options{ID: "51300412"}) }},
		{"report-node", "dark", 1280, 2000, func() []byte { return renderHTML(t, night(t), Options{ID: "100560020"}) }},
		{"report-user-kill", "light", 1280, 1100, func() []byte { return renderHTML(t, night(t), Options{ID: "145320731"}) }},
	} {
		file := filepath.Join("..", "..", "docs", pic.name+".png")
		if *update {
			p := browse(t, pic.source(), dressed(pic.scheme, pic.width, pic.height)...)
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

// terminalPage is a screen of a terminal as a page: its lines, with the classes of their colours.
func terminalPage(t *testing.T, file string) []byte {
	t.Helper()

	screen, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}

	const head = `<!DOCTYPE html><meta charset="utf-8"><style>
body { margin: 0; background: #14181e; color: #d5dae1; }
pre { margin: 22px 20px; font: 15px/20px "DejaVu Sans Mono", "Cascadia Mono", Menlo, Consolas, monospace; }
b { font-weight: normal; } .bold { font-weight: bold; } .faint { color: #8b95a3; } .red { color: #ff7b72; } .yellow { color: #e3b341; }
.reverse { background: #d5dae1; color: #14181e; }
footer { height: 1px; }
</style><pre>`

	return append(append([]byte(head), screen...), "</pre><footer></footer>"...)
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
