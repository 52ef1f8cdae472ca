// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/oomtrace/oomtrace/internal/events"
)

// Trace is what one oomtrace reported: incidents in their order, with their updates
// merged. An incident is replaced, not changed, by an update.
type Trace struct {
	Incidents []*events.Incident
	Named     map[string]bool // ids of incidents whose first line had the name of a pod
	Problems  []string        // lines that are no JSON or out of place, and those about lost records

	index map[string]int  // in Incidents, by id
	final map[string]bool // ids of incidents with a final line
}

// Add adds lines.
func (t *Trace) Add(lines ...string) {
	for _, line := range lines {
		if err := t.add(line); err != nil {
			t.Problems = append(t.Problems, fmt.Sprintf("%v: %.300s", err, line))
		}
	}
}

func (t *Trace) add(line string) error {
	if t.index == nil {
		t.index, t.Named, t.final = map[string]int{}, map[string]bool{}, map[string]bool{}
	}

	kind, err := Kind(line)
	switch {
	case err != nil:
		return err
	case kind == events.KindLost:
		return errors.New("records were lost")
	case kind != events.KindIncident && kind != events.KindIncidentUpdate && kind != events.KindIncidentFinal:
		return nil
	}

	inc := new(events.Incident)
	if err := json.Unmarshal([]byte(line), inc); err != nil {
		return err
	}

	unescape(inc)

	i, known := t.index[inc.ID]
	switch {
	case kind == events.KindIncident && known:
		return fmt.Errorf("incident %s came twice", inc.ID)
	case kind == events.KindIncident:
		t.index[inc.ID] = len(t.Incidents)
		t.Incidents = append(t.Incidents, inc)
		t.Named[inc.ID] = len(inc.Victims) > 0 && inc.Victims[0].Workload != nil && inc.Victims[0].Workload.Pod != ""
	case !known:
		return fmt.Errorf("%s of incident %s, which was not reported", kind, inc.ID)
	case kind == events.KindIncidentFinal:
		return t.addFinal(inc, t.Incidents[i])
	default:
		merged := *t.Incidents[i]
		events.Merge(&merged, inc)
		t.Incidents[i] = &merged
	}

	return nil
}

// addFinal compares a final line with the incident and its updates before it: it repeats all of it.
func (t *Trace) addFinal(inc, merged *events.Incident) error {
	if t.final[inc.ID] {
		return fmt.Errorf("the final line of incident %s came twice", inc.ID)
	}
	t.final[inc.ID] = true

	want := *merged
	want.Envelope = inc.Envelope

	got, err := json.Marshal(inc)
	if err != nil {
		return err
	}

	wanted, err := json.Marshal(&want)
	if err != nil {
		return err
	}

	if !bytes.Equal(got, wanted) {
		return fmt.Errorf("final line: got %s, want the incident with its updates, %s", got, wanted)
	}

	return nil
}

// WithoutFinal returns the ids of incidents that have no final line.
func (t *Trace) WithoutFinal() (ids []string) {
	for _, inc := range t.Incidents {
		if !t.final[inc.ID] {
			ids = append(ids, inc.ID)
		}
	}

	return ids
}

// Incident returns the incident with an id, or nil.
func (t *Trace) Incident(id string) *events.Incident {
	if i, ok := t.index[id]; ok {
		return t.Incidents[i]
	}

	return nil
}

// Of returns the incidents with a victim of that pid.
func (t *Trace) Of(pid int) (found []*events.Incident) {
	for _, inc := range t.Incidents {
		if slices.ContainsFunc(inc.Victims, func(v events.Victim) bool { return v.PID == pid }) {
			found = append(found, inc)
		}
	}

	return found
}

// Header is what lines start with, and the id of an incident.
type Header struct {
	events.Envelope
	ID string `json:"id"`
}

// Head returns the header of a line.
func Head(line string) (head Header, err error) {
	err = json.Unmarshal([]byte(line), &head)
	return head, err
}

// Kind returns the kind of a line.
func Kind(line string) (string, error) {
	head, err := Head(line)
	return head.Kind, err
}

// IsIncident reports whether a line is a new incident.
func IsIncident(line string) bool {
	kind, err := Kind(line)
	return err == nil && kind == events.KindIncident
}

func unescape(inc *events.Incident) {
	for i := range inc.Victims {
		inc.Victims[i].Comm = events.UnescapeText(inc.Victims[i].Comm)
	}

	if inc.Trigger != nil {
		inc.Trigger.Comm = events.UnescapeText(inc.Trigger.Comm)
	}

	if inc.Limiter != nil && inc.Limiter.Cgroup != nil {
		inc.Limiter.Cgroup.Path = events.UnescapeText(inc.Limiter.Cgroup.Path)
	}
}
