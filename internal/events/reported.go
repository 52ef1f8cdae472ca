// SPDX-License-Identifier: Apache-2.0

package events

// Reported is the container runtime's report of the end of a container, compared with the kernel's
// kill.
type Reported struct {
	// ContainerID is the id of the container.
	ContainerID string `json:"container_id"`
	// Container is its name.
	Container string `json:"container,omitempty"`
	// State is running, exited; or unknown: the runtime did not answer, or no longer knows the
	// container.
	State string `json:"state"`
	// Reason is the reason as the runtime has it, such as OOMKilled.
	Reason string `json:"reason,omitempty"`
	// ExitCode is the exit code as the runtime has it, such as 137.
	ExitCode *int `json:"exit_code,omitempty"`
	// Source is cri, or disk (files of Docker).
	Source string `json:"source"`
	// Agrees is true if the report matches what the kernel did.
	Agrees bool `json:"agrees"`
	// Text describes both in a sentence for users.
	Text string `json:"text"`
}
