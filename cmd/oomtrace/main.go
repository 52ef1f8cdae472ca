// SPDX-License-Identifier: Apache-2.0

// Command oomtrace tells live, for every death by memory: who limited, who
// triggered, who died, who killed.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/oomtrace/oomtrace/internal/diagnose"
)

// Exit statuses.
const (
	exitOK    = 0
	exitError = 1
	exitUsage = 2
)

// usageError is a mistake in the command line.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

func run(args []string, stdout, stderr io.Writer) int {
	ctx, stop := interruptible()
	defer stop()
	root := newRoot(stdout, stderr)
	root.SetArgs(args)
	help := &writer{out: stdout}
	root.SetOut(help)
	root.SetErr(stderr)

	cmd, err := root.ExecuteContextC(ctx)
	if err == nil && help.err != nil {
		err = fmt.Errorf("write the help: %w", help.err)
	}

	var usage usageError
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, syscall.EPIPE):
		return exitOK // the reader has seen enough
	case errors.As(err, &usage):
		fmt.Fprintf(stderr, "oomtrace: %s; see `%s --help`\n", oneLine(err), strings.TrimSuffix(cmd.CommandPath(), " help"))
		return exitUsage
	case errors.Is(err, syscall.ENOSPC):
		fmt.Fprintf(stderr, "oomtrace: %s: make room, or write elsewhere\n", oneLine(err))
		return exitError
	}

	fmt.Fprintf(stderr, "oomtrace: %s\n", oneLine(err))

	return exitError
}

// writer remembers an error that cobra, which writes the help, does not look at.
type writer struct {
	out io.Writer
	err error
}

func (w *writer) Write(p []byte) (int, error) {
	n, err := w.out.Write(p)
	if w.err == nil {
		w.err = err
	}

	return n, err
}

// oneLine keeps a message to one line: causes from below may have more.
func oneLine(err error) string {
	return strings.Join(strings.FieldsFunc(err.Error(), func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
}

// interruptible ends the context at the first SIGINT or SIGTERM, so that what is
// open is still reported, and the process at the second.
func interruptible() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	// A closed stdout is an error of the write, not a death.
	signal.Ignore(syscall.SIGPIPE)

	go func() {
		<-signals
		cancel()
		<-signals
		fmt.Fprintln(os.Stderr, "oomtrace: interrupted twice, ending at once")
		os.Exit(exitError)
	}()

	return ctx, cancel
}

func newRoot(stdout, stderr io.Writer) *cobra.Command {
	trace := newTrace(stdout, stderr)
	root := &cobra.Command{
		Use:   "oomtrace",
		Short: "Explain every OOM kill, live: who limited, who triggered, who died, who killed",
		Long: `  sudo oomtrace                 # explain every OOM kill on this node, live
  sudo oomtrace demo            # make a harmless one, and explain it
  sudo oomtrace -o json | jq .  # for programs: one JSON object a line

oomtrace watches the kernel's OOM path and tells for every death by memory who
limited, who triggered, who died and who killed. Without a command it traces.`,
		Args:          noArgs,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE:          trace.RunE,
	}
	root.Flags().AddFlagSet(trace.Flags())
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(
		trace, newReclaim(stdout, stderr), newInspect(stdout, stderr, diagnose.Prospect),
		newRecord(stderr), newReplay(stdout, stderr), newReport(stdout, stderr),
		newDemo(stdout, stderr), newHog(), newDoctor(stdout), newVersion(stdout),
	)
	root.CompletionOptions.HiddenDefaultCmd = true
	strictHelp(root)

	return root
}

// strictHelp makes help for a command that is not there wrong usage.
func strictHelp(root *cobra.Command) {
	root.InitDefaultHelpCmd()

	for _, cmd := range root.Commands() {
		if cmd.Name() != "help" {
			continue
		}
		cmd.Args = func(_ *cobra.Command, args []string) error {
			if _, rest, err := root.Find(args); err != nil || len(rest) > 0 {
				return usagef("unknown command %q", strings.Join(args, " "))
			}

			return nil
		}
	}
}

func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}

	if cmd.HasSubCommands() {
		return usagef("unknown command %q", args[0])
	}

	return usagef("%q: %s takes no arguments", args[0], cmd.Name())
}
