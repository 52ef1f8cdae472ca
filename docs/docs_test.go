// SPDX-License-Identifier: Apache-2.0

package docs

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const root = ".."

// pages returns all Markdown files of the repository, as paths below the root.
func pages(t *testing.T) []string {
	t.Helper()

	var found []string

	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != root && (strings.HasPrefix(d.Name(), ".") || slices.Contains([]string{"bin", "testdata", "vendor"}, d.Name())):
			return fs.SkipDir
		case strings.HasSuffix(path, ".md"):
			name, err := filepath.Rel(root, path)
			found = append(found, name)

			return err
		}

		return nil
	})
	if err != nil {
		t.Fatal(err)
	}

	return found
}

func read(t *testing.T, page string) string {
	t.Helper()

	text, err := os.ReadFile(filepath.Join(root, page))
	if err != nil {
		t.Fatal(err)
	}

	return string(text)
}

// prose returns the lines of a page outside of code blocks; those of code are empty.
func prose(text string) []string {
	lines, code := strings.Split(text, "\n"), false

	for i, line := range lines {
		fence := strings.HasPrefix(strings.TrimSpace(line), "```")
		if fence || code {
			lines[i] = ""
		}

		code = code != fence
	}

	return lines
}

var link = regexp.MustCompile(`\]\(([^)\s]+)\)`)

// links returns the relative targets of a page's links and pictures.
func links(text string) []string {
	var targets []string

	for _, line := range prose(text) {
		for _, m := range link.FindAllStringSubmatch(line, -1) {
			if !strings.Contains(m[1], "://") && !strings.HasPrefix(m[1], "mailto:") {
				targets = append(targets, m[1])
			}
		}
	}

	return targets
}

// anchors returns what the headings of a page can be linked by, as GitHub makes them.
func anchors(text string) map[string]bool {
	found := map[string]bool{}

	for _, line := range prose(text) {
		title := strings.TrimLeft(line, "#")
		if title == line || !strings.HasPrefix(title, " ") {
			continue
		}

		found[Anchor(strings.TrimSpace(title))] = true
	}

	return found
}

// check reports why the target of a link on a page does not exist.
func check(page, target string) error {
	file, fragment, _ := strings.Cut(target, "#")

	path := filepath.Join(root, page)
	if file != "" {
		path = filepath.Join(root, filepath.Dir(page), file)
	}

	if rel, err := filepath.Rel(root, path); err != nil || strings.HasPrefix(rel, "..") {
		return errors.New("it leads out of the repository")
	}

	if _, err := os.Stat(path); err != nil || fragment == "" {
		return err
	}

	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}

	if !anchors(string(text))[fragment] {
		return fmt.Errorf("no heading #%s", fragment)
	}

	return nil
}

func TestLinksResolve(t *testing.T) {
	count := 0

	for _, page := range pages(t) {
		for _, target := range links(read(t, page)) {
			count++

			if err := check(page, target); err != nil {
				t.Errorf("%s: link to %s: %v", page, target, err)
			}
		}
	}

	if count < 20 {
		t.Errorf("got %d relative links, want 20 or more: does the test still find them?", count)
	}
}

// TestBrokenLinksAreFound holds the check to what it must refuse.
func TestBrokenLinksAreFound(t *testing.T) {
	for _, target := range []string{"no-such-page.md", "glossary.md#no-such-heading", "#no-such-heading", "../../elsewhere.md"} {
		if check("docs/README.md", target) == nil {
			t.Errorf("link to %s: got no error, want one", target)
		}
	}

	if got := links("[a](a.md)\n```\n[b](b.md)\n```\n![c](c.png) [d](https://d.example/)"); !slices.Equal(got, []string{"a.md", "c.png"}) {
		t.Errorf("got links %q, want a.md and c.png", got)
	}
}

func TestNamesOfFilesAreFound(t *testing.T) {
	const line = "`svg.go`, `internal/report/web`, `test/NAME.go`, `go`"

	for page, want := range map[string][]string{
		"internal/report/README.md": {"internal/report/web", "internal/report/svg.go"},
		"docs/testing.md":           {"internal/report/web"},
	} {
		if got := namedFiles(page, line); !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", page, got, want)
		}
	}
}

func TestIndexLinksEveryPage(t *testing.T) {
	linked := links(read(t, "docs/README.md"))

	for _, page := range pages(t) {
		name := filepath.Base(page)
		if filepath.Dir(page) == "docs" && name != "README.md" && !slices.Contains(linked, name) {
			t.Errorf("docs/README.md does not link %s", name)
		}
	}
}

// TestReadmeOpensWithOutput: one sentence, real output within the first screen, then
// the two commands, in this order.
func TestReadmeOpensWithOutput(t *testing.T) {
	lines := strings.Split(read(t, "README.md"), "\n")
	at := func(prefix string) int {
		return slices.IndexFunc(lines, func(line string) bool { return strings.HasPrefix(line, prefix) })
	}

	output, demo, test := at("$ sudo oomtrace"), at("sudo make demo"), at("sudo make test")
	if output < 0 || output > 10 {
		t.Errorf("got the output at line %d, want it within the first 10", output+1)
	}

	if demo < output || test != demo+1 || demo > 45 {
		t.Errorf("got `sudo make demo` at line %d and `sudo make test` at line %d, want them together, after the output and before line 45", demo+1, test+1)
	}
}

// maxProse is how long a line may be that is not a row of a table or code.
const maxProse = 120

func TestProseIsWrapped(t *testing.T) {
	for _, page := range pages(t) {
		if page == filepath.Join("docs", "causes.md") { // made from the rules, an item a line
			continue
		}

		for i, line := range prose(read(t, page)) {
			if n := len([]rune(line)); n > maxProse && !strings.HasPrefix(line, "|") {
				t.Errorf("%s:%d: got a line of %d columns, want at most %d", page, i+1, n, maxProse)
			}
		}
	}
}

var sourcePath = regexp.MustCompile("`((?:bpf|cmd|docs|internal|scripts|test)/[A-Za-z0-9_./*-]+)`")

// placeholder stands for any name in a path.
var placeholder = regexp.MustCompile(`\b(NAME|CLASS)\b`)

// goFile is a file that the README of a package names.
var goFile = regexp.MustCompile("`([A-Za-z0-9_]+\\.go)`")

// namedFiles returns the files and packages that a line of a page names, as paths below
// the root: the README of a package also names files beside it.
func namedFiles(page, line string) []string {
	var files []string

	for _, m := range sourcePath.FindAllStringSubmatch(line, -1) {
		if !placeholder.MatchString(m[1]) {
			files = append(files, m[1])
		}
	}

	if strings.HasPrefix(page, "internal/") {
		for _, m := range goFile.FindAllStringSubmatch(line, -1) {
			files = append(files, filepath.Join(filepath.Dir(page), m[1]))
		}
	}

	return files
}

// TestNamedFilesExist holds pages to the files and packages that they name.
func TestNamedFilesExist(t *testing.T) {
	count := 0

	for _, page := range pages(t) {
		for i, line := range prose(read(t, page)) {
			for _, file := range namedFiles(page, line) {
				count++

				if found, err := filepath.Glob(filepath.Join(root, file)); err != nil || len(found) == 0 {
					t.Errorf("%s:%d: %s is named and does not exist", page, i+1, file)
				}
			}
		}
	}

	if count < 20 {
		t.Errorf("got %d named files, want 20 or more: does the test still find them?", count)
	}
}

var testName = regexp.MustCompile("`(?:[a-z/]+\\.)?((?:Test|Fuzz)[A-Z][A-Za-z0-9]+)`")

// A command with the name of a test that was renamed runs nothing, and passes.
func TestNamedTestsExist(t *testing.T) {
	declared := make(map[string]bool)
	declaration := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)

	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && strings.HasPrefix(d.Name(), ".") && path != root:
			return fs.SkipDir
		case !strings.HasSuffix(path, "_test.go"):
			return nil
		}

		source, err := os.ReadFile(path)
		for _, m := range declaration.FindAllSubmatch(source, -1) {
			declared[string(m[1])] = true
		}

		return err
	})
	if err != nil {
		t.Fatal(err)
	}

	for _, page := range pages(t) {
		for i, line := range prose(read(t, page)) {
			for _, m := range testName.FindAllStringSubmatch(line, -1) {
				if !declared[m[1]] {
					t.Errorf("%s:%d: got the test %s, want one that exists", page, i+1, m[1])
				}
			}
		}
	}
}

// TestEventsListEveryLoss: each value of the key `what` of lost records is explained.
func TestEventsListEveryLoss(t *testing.T) {
	page := read(t, "docs/events.md")

	for file, name := range map[string]string{
		"internal/probe/hooks.go":   `bpf\.Kind\w+: +"([^"]+)"`,
		"internal/events/status.go": `\bLost\w+ += "(\w+)"`,
	} {
		names := regexp.MustCompile(name).FindAllStringSubmatch(read(t, file), -1)
		if len(names) == 0 {
			t.Errorf("%s: got no name of a loss, want some", file)
		}

		for _, m := range names {
			if row := regexp.MustCompile("(?m)^\\|[^|]*`" + m[1] + "`"); !row.MatchString(page) {
				t.Errorf("docs/events.md: got no row for `%s` of %s, want one", m[1], file)
			}
		}
	}
}

var update = flag.Bool("update", false, "rewrite the blocks of pages that golden files have")

// shown is a code block of a page below a comment that names the golden file it is taken from,
// with the first and the last line where it is a part.
var shown = regexp.MustCompile("(?ms)^<!-- golden: ([^: ]+)(?::(\\d+)-(\\d+))? -->\n```\n(.*?)^```$")

// TestShownOutputIsThatOfGoldens: what pages show as output is what the tests hold it to.
func TestShownOutputIsThatOfGoldens(t *testing.T) {
	count := 0

	for _, page := range pages(t) {
		text := read(t, page)

		for _, m := range shown.FindAllStringSubmatch(text, -1) {
			count++
			got, want := m[4], goldenLines(t, m[1], m[2], m[3])

			if got == want {
				continue
			}

			if !*update {
				t.Errorf("%s: got a block that is not that of %s: go test ./docs -update\ngot:\n%s\nwant:\n%s", page, m[1], got, want)
				continue
			}

			block := strings.Replace(m[0], "```\n"+got, "```\n"+want, 1)
			text = strings.Replace(text, m[0], block, 1)

			if err := os.WriteFile(filepath.Join(root, page), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}

	if count < 3 {
		t.Errorf("got %d blocks of golden files, want 3 or more: does the test still find them?", count)
	}
}

// goldenLines returns the lines of a file from the first to the last, all without them.
func goldenLines(t *testing.T, file, first, last string) string {
	t.Helper()

	lines := strings.SplitAfter(read(t, file), "\n")
	if first == "" {
		return strings.Join(lines, "")
	}

	from, _ := strconv.Atoi(first) // digits, by the expression
	to, _ := strconv.Atoi(last)

	if from < 1 || to < from || to > len(lines) {
		t.Fatalf("%s: got lines %d to %d of %d, want them in the file", file, from, to, len(lines))
	}

	return strings.Join(lines[from-1:to], "")
}
