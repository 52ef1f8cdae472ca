// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

var rewrite = flag.Bool("update", false, "rewrite docs/causes.md and the golden files")

const page = "../../docs/causes.md"

// headings are in the order of the rules' classes.
var headings = []struct {
	class class
	title string
}{
	{classAction, "External actions"},
	{classResource, "Resources"},
	{classPlacement, "Limit placement"},
	{classReached, "Limit reached"},
	{classContributing, "Contributing factors"},
	{classHint, "Hints"},
}

func document() string {
	var b strings.Builder
	b.WriteString(intro)

	samples := briefs()

	for _, h := range headings {
		fmt.Fprintf(&b, "\n## %s\n", h.title)

		for _, r := range rules {
			if r.class != h.class {
				continue
			}

			fmt.Fprintf(&b, "\n### %s\n\n%s\n\n- In brief: %s\n- Evidence: %s.\n", r.id, r.means, samples[r.id], r.needs)

			for _, a := range r.advice {
				when := ""
				if a.when != nil {
					when = ", " + a.when.words
				}

				fmt.Fprintf(&b, "- Advice (%s%s): %s\n", a.layer, when, a.text)
			}

			fmt.Fprintf(&b, "- Reference: %s\n", r.reference)
		}
	}

	return b.String()
}

// briefs has the brief of each rule's first case.
func briefs() map[string]string {
	samples := map[string]string{}

	for _, tt := range cases() {
		if samples[tt.rule] != "" {
			continue
		}

		if c := find(Diagnose(tt.make(), tt.history), tt.rule); c != nil {
			samples[tt.rule] = c.Brief
		}
	}

	return samples
}

const intro = `# Causes

The causes that the rules of ` + "`internal/diagnose`" + ` can find for an incident, in the key ` + "`causes`" + `. A rule reports its cause
only if it has the evidence, and reports the evidence with its sources. Otherwise it reports nothing: a missing cause is
not ruled out. The rules use only the incident and earlier kills, so a kernel log gives the same causes as a live trace,
as far as it has the evidence.

The best explanation comes first: causes that explain the kill by themselves, in the order of the sections below, then
contributing factors, then causes that are only possible. Within a section, the better supported cause comes first
(` + "`certain`, `likely`, `possible`" + `), then the one that explains more of the memory. A cause of section "Resources"
counts as a contributing factor if its share is too small to explain the kill.

A cause has a ` + "`text`" + ` of one to three sentences, and a ` + "`brief`" + `: a clause of a few words for a summary or a column.
"In brief" is an example of it.

"The limit" is the limit that was hit; if the node ran out of memory, it is the node's memory. Paths that start with
Documentation/ or mm/ refer to the kernel source.

Advice of the layer kubernetes is given where it can help: for the limit of a cgroup only if the limiter or the victim
belongs to a pod that the kubelet of this node runs, or to the kubelet itself; otherwise only on a node with a kubelet.
Pods of a node container (kind) or of a guest (LXC) are not of this node.

This page is generated from the rules: ` + "`go test ./internal/diagnose -update`" + `.
`

// TestDocumentHasEachRule: docs/causes.md is generated from the rules.
func TestDocumentHasEachRule(t *testing.T) {
	want := document()
	if *rewrite {
		if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}

	got, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}

	if string(got) != want {
		t.Error("got a docs/causes.md that differs from the rules, want it as go test ./internal/diagnose -update writes it")
	}

	described := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^### (\S+)$`).FindAllStringSubmatch(string(got), -1) {
		described[m[1]] = true
	}

	for _, r := range rules {
		if !described[r.id] {
			t.Errorf("got no section on %s, want one", r.id)
		}
	}

	if len(described) != len(rules) {
		t.Errorf("got %d sections, want one for each of %d rules", len(described), len(rules))
	}
}

func TestRulesAreComplete(t *testing.T) {
	snake, seen := regexp.MustCompile(`^[a-z0-9]+(_[a-z0-9]+)*$`), map[string]bool{}
	for _, r := range rules {
		if !snake.MatchString(r.id) || seen[r.id] {
			t.Errorf("got id %q, want a new one in snake case", r.id)
		}

		seen[r.id] = true
		if r.means == "" || r.needs == "" || r.reference == "" || r.match == nil || len(r.advice) == 0 {
			t.Errorf("%s: got an incomplete rule, want means, needs, a reference, match and advice", r.id)
		}

		for _, a := range r.advice {
			if a.layer == "" || !strings.HasSuffix(a.text, ".") {
				t.Errorf("%s: got advice %q for layer %q, want a layer and a sentence", r.id, a.text, a.layer)
			}
		}
	}
}
