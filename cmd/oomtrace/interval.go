// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/pflag"
)

// leastInterval is the shortest interval of a live table.
const leastInterval = 100 * time.Millisecond

// interval is a duration, or a number of seconds, as top and vmstat take it.
type interval time.Duration

func (i interval) String() string { return time.Duration(i).String() }
func (i interval) Type() string   { return "duration" }

func (i *interval) Set(text string) error {
	if seconds, err := strconv.ParseFloat(text, 64); err == nil {
		text = fmt.Sprintf("%gs", seconds)
	}

	d, err := time.ParseDuration(text)
	if err != nil {
		return fmt.Errorf("%q is not a time: write 2s, 500ms, or a number of seconds", text)
	}
	*i = interval(d)

	return nil
}

// addInterval adds --interval; the default is a second.
func addInterval(flags *pflag.FlagSet, d *time.Duration, usage string) {
	*d = time.Second
	flags.Var((*interval)(d), "interval", usage)
}

func checkInterval(d time.Duration) error {
	if d < leastInterval {
		return usagef("--interval %s: must be at least %s", d, leastInterval)
	}

	return nil
}
