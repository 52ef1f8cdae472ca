// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"fmt"
	"testing"
	"time"
)

// 200 kills that waited for one sample do not each take another: reading a node takes
// milliseconds, and in a burst it would slow down what is sampled.
func TestKillsBeforeASampleShareIt(t *testing.T) {
	var s samples[int]
	reads := 0
	read := func() int { reads++; return reads }
	began := time.Now()

	for i := range 200 {
		if got, _ := s.after(began.Add(-time.Duration(i)*time.Millisecond), "/a", read); got != 1 {
			t.Fatalf("got sample %d for a kill before the first, want the first", got)
		}
	}

	if got, _ := s.after(began, "/b", read); got != 2 {
		t.Errorf("got sample %d for another cgroup, want one of its own", got)
	}

	if got, _ := s.after(time.Now(), "/a", read); got != 3 {
		t.Errorf("got sample %d for a kill after the first, want a new one", got)
	}

	for i := range 10 * maxKeptSamples {
		s.after(began, fmt.Sprint(i), read)
	}

	if got := len(s.last); got > maxKeptSamples {
		t.Errorf("got %d kept samples, want at most %d", got, maxKeptSamples)
	}
}
