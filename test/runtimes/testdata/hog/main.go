// SPDX-License-Identifier: Apache-2.0

// Command hog fills memory slowly, after it has lived for a while.
package main

import "time"

func main() {
	time.Sleep(9 * time.Second)

	var kept [][]byte

	for {
		piece := make([]byte, 1<<20)
		for i := range piece {
			piece[i] = 1
		}

		kept = append(kept, piece)

		time.Sleep(10 * time.Millisecond)
	}
}
