// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/oomtrace/oomtrace/internal/host"
	"github.com/oomtrace/oomtrace/internal/record"
	"github.com/oomtrace/oomtrace/internal/sink"
)

// recordFlags say where and how to record.
type recordFlags struct {
	dir         string // empty: no recording
	segmentSize byteSize
	segmentAge  time.Duration
	totalSize   byteSize
}

func (f *recordFlags) add(flags *pflag.FlagSet) {
	f.segmentSize, f.totalSize = record.DefaultSegmentBytes, record.DefaultTotalBytes
	flags.Var(&f.segmentSize, "segment-size", "begin another segment of the recording at this `size`")
	flags.DurationVar(&f.segmentAge, "segment-age", record.DefaultSegmentAge, "begin another segment at this `age`")
	flags.Var(&f.totalSize, "total-size", "remove the oldest segments beyond this `size` of all")
}

func (f *recordFlags) check() error {
	if f.dir == "" {
		return nil
	}

	switch {
	case f.segmentSize <= 0:
		return usagef("--segment-size %s: it must be larger than 0", f.segmentSize)
	case f.segmentAge < time.Second:
		return usagef("--segment-age %s: the shortest is 1s", f.segmentAge)
	case f.totalSize/2 < f.segmentSize:
		return usagef("--total-size %s: it must hold two segments of --segment-size %s", f.totalSize, f.segmentSize)
	}

	return nil
}

// byteSize is a flag's number of bytes, with a unit of 1024: 512KiB, 16MiB, 1g.
type byteSize int64

func (b byteSize) String() string { return units.BytesSize(float64(b)) }
func (b byteSize) Type() string   { return "size" }

func (b *byteSize) Set(text string) error {
	n, err := units.RAMInBytes(text)
	if err != nil {
		return fmt.Errorf("%q is no size: write 512KiB, 16MiB or 1GiB", text)
	}
	*b = byteSize(n)

	return nil
}

func newRecord(stderr io.Writer) *cobra.Command {
	var f traceFlags
	cmd := &cobra.Command{
		Use:   "record DIR",
		Short: "Record every OOM kill to disk, for later",
		Long: `  sudo oomtrace record /var/log/oomtrace
  sudo oomtrace record --stalls --total-size 4GiB /var/log/oomtrace
  sudo oomtrace replay /var/log/oomtrace --since "1h ago"

record writes what trace -o json would print into segments in DIR, and prints
nothing. Each incident is on disk at once, everything else within a second. A
segment that is full or old is compressed; ` + "`zstd -dcf DIR/*.jsonl*`" + ` gives all
lines. If the disk is full the trace goes on, and how many lines are missing
stands in the recording. DIR belongs to one writer at a time.`,
		Args: oneArg("DIR, the directory to record into"),
		RunE: func(cmd *cobra.Command, args []string) error {
			f.record.dir, f.output = args[0], "json"
			if err := f.check(); err != nil {
				return err
			}

			return f.run(cmd.Context(), sink.Discard, stderr)
		},
	}
	f.addSource(cmd.Flags())
	f.record.add(cmd.Flags())

	return cmd
}

// oneArg wants one argument that is not empty.
func oneArg(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 || args[0] == "" {
			return usagef("%s takes one argument: %s", cmd.Name(), what)
		}

		return nil
	}
}

// open starts a recording.
func (f *recordFlags) open(stderr io.Writer) (*record.Writer, error) {
	return record.Create(f.dir, record.Options{
		SegmentBytes: int64(f.segmentSize), SegmentAge: f.segmentAge, TotalBytes: int64(f.totalSize),
		BootID: host.BootID(), Node: host.Hostname(),
		Warn: func(text string) { fmt.Fprintln(stderr, "oomtrace:", text) },
	})
}
