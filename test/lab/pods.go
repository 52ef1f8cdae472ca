// SPDX-License-Identifier: Apache-2.0

package lab

// Pods is the result of a boot with pods on a real containerd, which are judged
// inside.
type Pods struct {
	Kernel string `json:"kernel"`
	Output string `json:"output"` // of test/cri
	Passed bool   `json:"passed"`
	Trace  string `json:"trace"` // what the tracer with the runtime's socket said
}
