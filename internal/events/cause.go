// SPDX-License-Identifier: Apache-2.0

package events

// The confidence in a cause, as Cause.Confidence has it.
const (
	ConfidenceCertain  = "certain"  // the evidence leaves nothing else
	ConfidenceLikely   = "likely"   // the evidence fits, and that of another cause could look the same
	ConfidencePossible = "possible" // worth checking
)

// Evidence is one fact and its source.
type Evidence struct {
	// What is the name of the fact.
	What string `json:"what"`
	// Value is its value, as text for users.
	Value string `json:"value"`
	// Source is the file or record that it was read from.
	Source string `json:"source"`
}

// Cause is a reason for the kill: a rule that found its evidence.
type Cause struct {
	// ID is the id of the rule.
	ID string `json:"id"`
	// Text is the cause in a sentence.
	Text string `json:"text"`
	// Brief is the cause as a clause of a few words: files in tmpfs hold 95 % of the limit. Whose limit that
	// is and who was killed is not repeated. Recordings of earlier versions lack it.
	Brief string `json:"brief,omitempty"`
	// Confidence is certain, likely, possible.
	Confidence string `json:"confidence"`
	// Evidence supports the cause.
	Evidence []Evidence `json:"evidence"`
	// Advice lists possible remedies.
	Advice []Advice `json:"advice,omitempty"`
	// Reference is a document about it.
	Reference string `json:"reference,omitempty"`
}

// Advice is a remedy for a cause.
type Advice struct {
	// Layer is the layer to change: kubernetes, cgroup, kernel, application.
	Layer string `json:"layer"`
	// Text is the advice.
	Text string `json:"text"`
}
