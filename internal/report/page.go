// SPDX-License-Identifier: Apache-2.0

package report

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/phrase"
)

// maxRows is how many rows of a table HTML shows; the raw event has all.
const maxRows = 100

// document is the input of the template.
type document struct {
	Title, Made string
	Policy      string
	Summary     *summaryPage // nil: a single incident needs none
	Incidents   func(yield func(*incidentPage) bool)
	None        bool
	Warnings    []string
}

// incidentPage is the part of the document about one incident. All its texts are safe.
type incidentPage struct {
	*events.Incident
	Anchor, At, Outcome, Shortage string
	Alarm                         bool
	Sentence                      string
	Cards                         []card
	Panels                        []Panel
	Ladder                        []ancestorRow
	Split                         *split
	Shares                        []shareRow
	SharesMore                    int
	Victims                       []victimRow
	VictimsMore                   int
	Candidates                    []candidateRow
	CandidatesMore                int
	// Whether any row has the value of a column.
	LadderHigh, LadderSwap, Resident, Badness bool
	Node                                      *nodePage
	Raw                                       string
}

// victimRow and candidateRow are a process and its place.
type (
	victimRow struct {
		events.Victim
		Where string
	}
	candidateRow struct {
		events.Candidate
		Where string
	}
)

// where is the place of a process, without the pod if that is the limiter's.
func where(inc *events.Incident, p *events.Process) string {
	return cmp.Or(phrase.Place(p.Workload, limiterWorkload(inc)), path(p.Cgroup))
}

func anchor(seq int) string { return fmt.Sprintf("incident-%d", seq) }

// newIncidentPage sanitizes the incident in place and keeps it.
func newIncidentPage(inc *events.Incident, seq int, o *Options) (*incidentPage, error) {
	raw, err := raw(inc)
	if err != nil {
		return nil, err
	}

	sanitize(inc)

	p := &incidentPage{
		Incident: inc, Anchor: anchor(seq), At: clock(inc.Time, o), Raw: raw,
		Outcome: outcomeWord(inc), Shortage: phrase.Shortage(inc.Scope, inc.Limiter), Alarm: isAlarm(inc), Sentence: sentence(inc),
		Cards: cards(inc, o), Panels: panels(inc), Ladder: ancestry(inc), Split: chargeSplit(inc), Node: newNodePage(inc.NodeState),
	}
	for _, r := range p.Ladder {
		p.LadderHigh = p.LadderHigh || r.HighBytes != nil
		p.LadderSwap = p.LadderSwap || r.SwapUsageBytes != nil
	}

	if inc.Scope == events.ScopeUser {
		p.Shortage = "" // nothing was short
	}

	victims, more := head(inc.Victims)
	for _, v := range victims {
		p.Victims = append(p.Victims, victimRow{v, where(inc, &v.Process)})
		p.Badness = p.Badness || v.Points != nil
	}
	p.VictimsMore = more

	candidates, more := head(inc.Candidates)
	for _, c := range candidates {
		p.Candidates = append(p.Candidates, candidateRow{c, where(inc, &c.Process)})
		p.Resident = p.Resident || c.RSSBytes != nil
	}
	p.CandidatesMore = more
	p.Shares, p.SharesMore = shareRows(inc.Shares, limiterWorkload(inc))

	return p, nil
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

// raw is the event as -o json has it, indented.
func raw(inc *events.Incident) (string, error) {
	line, err := events.Marshal(inc)
	if err != nil {
		return "", err
	}

	var out strings.Builder
	if err := indent(&out, line); err != nil {
		return "", fmt.Errorf("indent incident %s: %w", inc.ID, err)
	}

	return out.String(), nil
}

func indent(out *strings.Builder, line []byte) error {
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")

	return enc.Encode(json.RawMessage(line))
}

func clock(at time.Time, o *Options) string {
	return phrase.When(at, "2006-01-02 15:04:05.000 MST", o.location())
}

// head is as many rows as a table shows, and the number of the others.
func head[T any](all []T) (first []T, more int) {
	if len(all) > maxRows {
		return all[:maxRows], len(all) - maxRows
	}

	return all, 0
}

func size(bytes *uint64) string {
	if bytes == nil {
		return ""
	}

	return phrase.Size(*bytes)
}

func span(ns *uint64) string {
	if ns == nil {
		return ""
	}

	return phrase.Duration(*ns)
}
