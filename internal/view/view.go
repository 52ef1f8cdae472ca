// SPDX-License-Identifier: Apache-2.0

// Package view formats the lines of a trace: for people as text, as a table or as
// bcc's oomkill prints them, for machines as JSON. Each format is a sink.Sink.
//
// No sink is safe for concurrent use. A write error is returned with its cause
// (errors.Is finds EPIPE or ENOSPC); from then on a sink writes nothing and returns
// the same error, since a line that was torn cannot be continued.
//
// Text from the kernel, a process or a path is hostile. None of it reaches a terminal
// except through Sanitize, or as an escape of JSON.
package view

import (
	"fmt"
	"io"
	"time"
)

// output hands whole lines to a writer, each by one Write, until one fails.
type output struct {
	w    io.Writer
	what string
	err  error
}

func (o *output) write(lines []byte) error {
	if o.err != nil || len(lines) == 0 {
		return o.err
	}

	n, err := o.w.Write(lines)
	if err == nil && n < len(lines) {
		err = io.ErrShortWrite
	}

	if err != nil {
		o.err = fmt.Errorf("write %s: %w", o.what, err)
	}

	return o.err
}

// zone is the location to show times in.
func zone(l *time.Location) *time.Location {
	if l == nil {
		return time.Local
	}

	return l
}
