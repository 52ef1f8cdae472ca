// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"crypto/sha256"
	"encoding/hex"
)

// MarkPrinted goes before the [LineSum] of an incident's line that was printed, in a
// machine whose power will be cut.
const MarkPrinted = "@@LAB-PRINTED@@"

// ReadBack is what such a machine finds on its disk when it starts, before it records
// again.
type ReadBack struct {
	Error     string   `json:"error,omitempty"` // it does not read back
	Incidents []string `json:"incidents"`       // [LineSum] of each
	Lines     int      `json:"lines"`           // of any kind
	Packed    int      `json:"packed"`          // compressed segments
	Remarks   []string `json:"remarks"`         // of the replay
}

// LineSum stands for a line: long ones get lost on the console.
func LineSum(line []byte) string {
	sum := sha256.Sum256(line)
	return hex.EncodeToString(sum[:16])
}
