// SPDX-License-Identifier: Apache-2.0

package report

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/phrase"
)

// document is the input of the template.
type document struct {
	Title, Made     string
	Policy          string
	Head            []fact
	Summary         *summaryPage // nil: a single incident needs none
	Incidents       func(yield func(*incidentPage) bool)
	None            bool
	Warnings, Notes []string
}

// incidentPage is the part of the document about one incident. All its texts are safe.
type incidentPage struct {
	*row
	At, On, Shortage string  // On: the node, if there are several
	Full             *detail // nil: in short
}

// detail is an incident in full.
type detail struct {
	*events.Incident
	Remarks  []string // what makes the rest less certain
	Causes   []causePart
	Cards    []card
	Split    *split
	Limits   []limitRow
	Charts   *charts
	Stalls   []string // sentences about the stalls, beside the tables
	Tables   []dataTable
	Node     *nodePage
	Eviction []fact
	Notes    []fact
	Raw      string
}

// causePart is a cause with the advice that no cause before it has.
type causePart struct {
	events.Cause
	Advice []events.Advice
}

func newIncidentPage(e *entry, severalNodes bool, o *Options) *incidentPage {
	p := &incidentPage{row: &e.row, At: clock(e.Time, o)}
	if severalNodes {
		p.On = e.Node
	}

	inc := e.incident()
	if inc == nil {
		return p
	}

	rawText := ""

	if o.Raw {
		rawText, _ = raw(inc) // encoding it cannot fail: the selection did so before
	}

	sanitize(inc)

	if inc.Scope != events.ScopeUser { // else nothing was short
		p.Shortage = phrase.Shortage(inc.Scope, inc.Limiter)
	}

	p.Full = &detail{
		Incident: inc, Remarks: remarks(inc), Causes: causeParts(inc), Cards: cards(inc, o),
		Split: chargeSplit(inc), Limits: limits(inc), Charts: newCharts(inc), Stalls: stallSentences(inc), Tables: tables(inc),
		Node: newNodePage(inc), Eviction: evictionFacts(inc.Eviction), Notes: notes(inc), Raw: rawText,
	}

	return p
}

func causeParts(inc *events.Incident) []causePart {
	var all []causePart

	seen := map[string]bool{}

	for _, c := range inc.Causes {
		part := causePart{Cause: c}

		for _, a := range c.Advice {
			if !seen[a.Text] {
				seen[a.Text] = true
				part.Advice = append(part.Advice, a)
			}
		}

		all = append(all, part)
	}

	return all
}

func isAlarm(inc *events.Incident) bool {
	switch inc.Outcome {
	case events.OutcomeKilled, events.OutcomePanic, events.OutcomeNoKillable, events.OutcomeOOMKillDisabled:
		return true
	}

	return false
}

func outcomeWord(inc *events.Incident) string {
	if inc.Scope == events.ScopeUser && inc.Killer != nil && inc.Killer.Kind == events.KillerUser {
		return "KILLED FROM USER SPACE"
	}

	return phrase.Outcome(inc.Scope, inc.Outcome)
}

// where is the place of a process, without the pod if that is the limiter's.
func where(inc *events.Incident, p *events.Process) string {
	return cmp.Or(phrase.Place(p.Workload, inc.LimiterWorkload()), path(p.Cgroup))
}

func remarks(inc *events.Incident) []string {
	var all []string

	if a := inc.Audit; a != nil && !a.Explained {
		all = append(all, "Counters of the kernel differ: "+a.Text)
	}

	if p := inc.Passes; p != nil && p.NoKillable+p.Waiting > 1 && len(inc.Victims) == 0 {
		all = append(all, fmt.Sprintf("%d OOM invocations without a kill.", p.NoKillable+p.Waiting))
	}

	return all
}

// notes are where an incident is from, and what is not known of it.
func notes(inc *events.Incident) []fact {
	audit, passes, log := "", "", ""

	if a := inc.Audit; a != nil {
		audit = cmp.Or(a.Text, fmt.Sprintf("%s; %d kernel kills", phrase.Plural(a.Victims, "victim"), a.KernelKills))
		if !a.Explained {
			audit = "MISMATCH: " + audit
		}
	}

	if p := inc.Passes; p != nil && p.Killed+p.NoKillable+p.Waiting+p.AlreadyExiting+p.Skipped+p.Suspending > 1 {
		count := func(n uint64, outcome string) string {
			if n == 0 {
				return ""
			}

			return fmt.Sprintf("%d %s", n, outcome)
		}
		passes = phrase.Join(", ", count(p.Killed, "killed"), count(p.NoKillable, "found no killable process"),
			count(p.Waiting, "waited for an earlier victim"), count(p.AlreadyExiting, "chose a task that was already exiting"),
			count(p.Skipped, "skipped the selection"), count(p.Suspending, "found the OOM killer turned off"))
	}

	if l := inc.Log; l != nil {
		log = fmt.Sprintf("lines %d to %d", l.FirstLine, l.LastLine)
		if l.Truncated {
			log += ", with gaps"
		}
	}

	all := facts("audit", audit, "OOM invocations", passes, "source", phrase.Spaced(string(inc.Tier)), "kernel log", log)

	for _, c := range inc.CompletedFrom {
		from := phrase.Spaced(c.Source)
		if c.Source == events.SourceKernelLog {
			from = "the kernel's log"
		}

		if c.AfterNS != nil {
			from += " " + phrase.Duration(*c.AfterNS) + " after the kill"
		}

		all = append(all, fact{Name: "completed", Value: strings.Join(c.Keys, ", ") + " from " + from})
	}

	for _, n := range inc.Notes {
		all = append(all, fact{Name: "note", Value: n})
	}

	return append(all, facts("not known", strings.Join(inc.Unknown, ", "))...)
}

func evictionFacts(e *events.Eviction) []fact {
	if e == nil {
		return nil
	}

	all := facts("verdict", e.Text, "memory.available", size(e.AvailableBytes), "MemAvailable of the kernel", size(e.MemAvailableBytes),
		"hard threshold", size(e.HardBytes), "below it for", span(e.HardSinceNS),
		"soft threshold", size(e.SoftBytes), "below it for", span(e.SoftSinceNS))

	var signals []string
	for name, value := range e.Signals {
		signals = append(signals, name+" "+value)
	}

	slices.Sort(signals)

	return append(all, facts("thresholds", strings.Join(signals, ", "), "from", e.Source, "kubelet log", strings.Join(e.Log, "\n"))...)
}

// raw is the event as -o json has it, indented.
func raw(inc *events.Incident) (string, error) {
	line, err := events.Marshal(inc)
	if err != nil {
		return "", err
	}

	var out strings.Builder
	if err := indentJSON(&out, line); err != nil {
		return "", fmt.Errorf("indent incident %s: %w", inc.ID, err)
	}

	return out.String(), nil
}

func indentJSON(out *strings.Builder, line []byte) error {
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")

	return enc.Encode(json.RawMessage(line))
}

func clock(at time.Time, o *Options) string {
	return phrase.When(at, "2006-01-02 15:04:05.000 MST", o.location())
}
