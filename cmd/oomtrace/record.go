// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/host"
	"github.com/oomtrace/oomtrace/internal/record"
	"github.com/oomtrace/oomtrace/internal/sink"
)

// recordFlags configure a recording.
type recordFlags struct {
	dir         string // empty: no recording
	segmentSize byteSize
	segmentAge  time.Duration
	totalSize   byteSize
}

func (f *recordFlags) add(flags *pflag.FlagSet) {
	f.segmentSize, f.totalSize = record.DefaultSegmentBytes, record.DefaultTotalBytes
	flags.Var(&f.segmentSize, "segment-size", "start a new segment of the recording at this size")
	flags.DurationVar(&f.segmentAge, "segment-age", record.DefaultSegmentAge,
		"start a new segment after this time")
	flags.Var(&f.totalSize, "total-size", "remove the oldest segments when all together exceed this size")
}

func (f *recordFlags) check() error {
	if f.dir == "" {
		return nil
	}

	switch {
	case f.segmentSize <= 0:
		return usagef("--segment-size %s: must be larger than 0", f.segmentSize)
	case f.segmentAge < time.Second:
		return usagef("--segment-age %s: must be at least 1s", f.segmentAge)
	case f.totalSize/2 < f.segmentSize:
		return usagef("--total-size %s: must hold two segments (--segment-size %s)", f.totalSize, f.segmentSize)
	}

	return nil
}

func newRecord(stderr io.Writer) *cobra.Command {
	var f traceFlags
	cmd := &cobra.Command{
		Use:   "record [DIR]",
		Short: "Record every OOM kill to disk",
		Example: `  sudo oomtrace record                    # into /var/log/oomtrace
  sudo oomtrace record --stalls --total-size 4GiB /srv/oomtrace
  sudo oomtrace replay --since 1h`,
		Long: `record writes the lines of "trace -o json" into segments in DIR, and prints
nothing but where it records to. DIR is /var/log/oomtrace if it is not given; it
is created, and its parents. Incidents are written to disk at once, all other lines within a second.
Finished segments are compressed; "zstd -dcf DIR/*.jsonl*" prints all lines.
If the disk is full, tracing continues, and the recording notes how many lines
were dropped. Only one process at a time can write to DIR.`,
		Args: optionalArg("the directory to record into"),
		RunE: func(cmd *cobra.Command, args []string) error {
			f.record.dir, f.output = defaultRecording, "json"
			if len(args) > 0 {
				f.record.dir = args[0]
			}

			f.started = func(tier events.Tier) {
				warnings(stderr)(fmt.Sprintf("recording into %s, attach mode %s, PID %d", f.record.dir, tier, os.Getpid()))
			}

			if err := f.check(); err != nil {
				return err
			}

			return f.run(cmd.Context(), sink.Discard, stderr)
		},
	}
	f.addSource(cmd)
	addFlags(cmd, headingRecording, f.record.add)

	return cmd
}

// defaultRecording is where a recording is if no argument names it.
var defaultRecording = "/var/log/oomtrace"

// recordingOf returns the recording that an argument names, or the default one if it exists.
func recordingOf(args []string) (name string, ok bool) {
	if len(args) > 0 {
		return args[0], true
	}

	_, err := os.Stat(defaultRecording)

	return defaultRecording, !errors.Is(err, fs.ErrNotExist)
}

// keeps reports whether incidents are recorded: by this process, or by a recorder that has its
// default directory here.
func (f *recordFlags) keeps() bool {
	_, ok := recordingOf(nil)

	return ok || f.dir != ""
}

// recordingArg accepts at most one argument, which must not be empty, and none only if the default
// recording exists.
func recordingArg(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if _, ok := recordingOf(args); !ok {
			return usagef("%s takes one argument: %s; %s, which is read without it, does not exist", cmd.Name(), what, defaultRecording)
		}

		return optionalArg(what)(cmd, args)
	}
}

// optionalArg accepts at most one argument, which must not be empty.
func optionalArg(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > 1 || len(args) == 1 && args[0] == "" {
			return usagef("%s takes one argument: %s", cmd.Name(), what)
		}

		return nil
	}
}

// oneArg accepts exactly one argument, which must not be empty.
func oneArg(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 || args[0] == "" {
			return usagef("%s takes one argument: %s", cmd.Name(), what)
		}

		return nil
	}
}

// open opens the recording for writing.
func (f *recordFlags) open(stderr io.Writer) (*record.Writer, error) {
	return record.Create(f.dir, record.Options{
		SegmentBytes: int64(f.segmentSize), SegmentAge: f.segmentAge, TotalBytes: int64(f.totalSize),
		BootID: host.BootID(), Node: host.Hostname(),
		Warn: warnings(stderr),
	})
}
