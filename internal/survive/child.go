// SPDX-License-Identifier: Apache-2.0

package survive

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// childName is the name by which this program starts itself to become a child that is not
// exempt. Arguments follow: oom_score_adj, the limit of RLIMIT_DATA, the path of the
// program, and its arguments from the name on.
const childName = "oomtrace-child"

// Command is exec.CommandContext for a program that does not inherit what this package set:
// it has the oom_score_adj that this process had before Exempt. A child inherits the score
// in fork (kernel/fork.c: copy_signal), and so do its own children. Setting it from here
// comes too late for what it does first, so this program is started in between, which sets
// its own score and then becomes the other.
func Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)

	score := former.Load()
	if score == nil || cmd.Err != nil {
		return cmd
	}

	cmd.Args = append([]string{childName, *score, strconv.FormatUint(dataLimit.Load(), 10), cmd.Path}, cmd.Args...)
	cmd.Path = "/proc/self/exe"

	return cmd
}

// init becomes the program of a Command, before anything else of this program runs.
func init() {
	if len(os.Args) < 5 || os.Args[0] != childName {
		return
	}

	fmt.Fprintf(os.Stderr, "oomtrace: start %s: %v\n", os.Args[3], becomeChild(os.Args[1], os.Args[2], os.Args[3], os.Args[4:]))
	os.Exit(127) // as shells do for a program that cannot be started
}

func becomeChild(score, data, path string, args []string) error {
	if err := os.WriteFile(scoreFile, []byte(score), 0); err != nil {
		return fmt.Errorf("set oom_score_adj: %w", err)
	}

	if limit, err := strconv.ParseUint(data, 10, 64); err == nil && limit > 0 {
		if err := setDataLimit(limit); err != nil {
			return err
		}
	}

	return syscall.Exec(path, args, os.Environ())
}

// setDataLimit sets the soft limit of RLIMIT_DATA.
func setDataLimit(bytes uint64) error {
	var limit unix.Rlimit

	err := unix.Getrlimit(unix.RLIMIT_DATA, &limit)
	if err == nil {
		limit.Cur = min(bytes, limit.Max)
		err = unix.Setrlimit(unix.RLIMIT_DATA, &limit)
	}

	if err != nil {
		return fmt.Errorf("set RLIMIT_DATA: %w", err)
	}

	return nil
}
