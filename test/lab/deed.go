// SPDX-License-Identifier: Apache-2.0

package lab

// Deeds is the result of a boot of the whole Debian, with one tracer watching.
type Deeds struct {
	Kernel string   `json:"kernel"`
	Deeds  []Deed   `json:"deeds"`
	Lines  []string `json:"lines"` // of the tracer
	Stderr string   `json:"stderr,omitempty"`
	ExitOK bool     `json:"exit_ok"`
}

// Deed is one kill, by whomever.
type Deed struct {
	Name  string `json:"name"`
	Error string `json:"error,omitempty"` // it could not be done
	// PID is the process that was to die, and Unit the service that it was of.
	PID  int    `json:"pid"`
	Unit string `json:"unit"`
	// Killer is the process that did it, where the deed knows.
	Killer int  `json:"killer,omitempty"`
	Killed bool `json:"killed"`
	// Said is what the killer wrote about it, such as its lines in the journal.
	Said []string `json:"said,omitempty"`
}
