// SPDX-License-Identifier: Apache-2.0

package view

import (
	"fmt"

	"github.com/oomtrace/oomtrace/internal/phrase"
)

// bar draws a share of a whole.
func bar(part, whole uint64, columns int) string {
	return phrase.Bar(float64(part)/float64(max(whole, 1)), columns)
}

// percent is a share of a whole.
func percent(part, whole uint64) string {
	if whole == 0 {
		return ""
	}

	return fmt.Sprintf("%.0f %%", 100*float64(part)/float64(whole))
}
