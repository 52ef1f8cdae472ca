// SPDX-License-Identifier: Apache-2.0

// Command oomtrace explains every OOM kill as it happens: whose limit was hit, which
// allocation triggered it, which process died, and who sent the signal.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/oomtrace/oomtrace/internal/survive"
)

// Exit statuses.
const (
	exitOK       = 0
	exitError    = 1
	exitUsage    = 2
	exitTooLarge = survive.ExitTooLarge
)

// usageError is a mistake in the command line.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// init keeps the main goroutine on the main thread. It is the one that reads the kernel's
// records, so that the tracer's pid is the id of that thread, too: for chrt, taskset and
// /proc/PID/task/PID/stat.
func init() { runtime.LockOSThread() }

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
		return exitOK // the reader of a pipe has closed it
	case errors.As(err, &usage):
		name := strings.TrimSuffix(cmd.CommandPath(), " help")
		fmt.Fprintf(stderr, "oomtrace: %s; see `%s --help`\n", oneLine(err.Error()), name)

		return exitUsage
	case errors.Is(err, syscall.ENOSPC):
		fmt.Fprintf(stderr, "oomtrace: %s: free up space, or write elsewhere\n", oneLine(err.Error()))
		return exitError
	}

	if _, ok := errors.AsType[*survive.TooLargeError](err); ok {
		fmt.Fprintln(stderr, "oomtrace:", err)
		return exitTooLarge
	}

	fmt.Fprintf(stderr, "oomtrace: %s\n", oneLine(err.Error()))

	return exitError
}

// writer keeps the first error of writing the help, which cobra ignores.
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

// oneLine joins the lines of a message: wrapped errors may have several.
func oneLine(text string) string {
	return strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
}

// interruptible returns a context that the first SIGINT or SIGTERM cancels, so that open
// incidents are still reported. A second one that comes later than sameSignal ends the process.
func interruptible() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	// Writing to a closed stdout returns an error then; it does not kill the process.
	signal.Ignore(syscall.SIGPIPE)

	go func() {
		<-signals
		cancel()
		awaitSecond(signals, time.Now)
		fmt.Fprintln(os.Stderr, "oomtrace: interrupted twice, exiting immediately")
		os.Exit(exitError)
	}()

	return ctx, cancel
}

// sameSignal is how long after the first signal others count as the same: timeout(1) signals its
// child, and then the process group that the child is in.
const sameSignal = time.Second

// awaitSecond returns at the second signal; the first has just come.
func awaitSecond(signals <-chan os.Signal, now func() time.Time) {
	first := now()

	for range signals {
		if now().Sub(first) > sameSignal {
			return
		}
	}
}

func newRoot(stdout, stderr io.Writer) *cobra.Command {
	trace := newTrace(stdout, stderr)
	root := &cobra.Command{
		Use:   "oomtrace",
		Short: "Explain every OOM kill as it happens",
		Example: `  sudo oomtrace                 # explain every OOM kill on this node, live
  sudo oomtrace demo            # trigger a harmless one, and explain it
  sudo oomtrace -o json | jq .  # one JSON object per line, for programs`,
		Long: `oomtrace watches the kernel's OOM killer and explains every kill as it happens:
whose limit was hit, which allocation triggered it, which process died, and who
sent the signal. Without a command it runs "oomtrace trace".`,
		Args:          noArgs,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE:          trace.RunE,
	}
	root.Flags().SortFlags = false
	root.Flags().AddFlagSet(trace.Flags())
	root.SetHelpFunc(printHelp)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usageError{suggestFlag(cmd, err)} })
	addVersion(root)
	root.AddCommand(
		trace, newTop(stdout, stderr), newReclaim(stdout, stderr), newInspect(stdout, stderr),
		newRecord(stderr), newReplay(stdout, stderr), newReport(stdout, stderr),
		newList(stdout, stderr), newShow(stdout, stderr),
		newDemo(stdout, stderr), newAllocate(), newDoctor(stdout), newVersion(stdout), newMan(),
	)

	for _, cmd := range root.Commands() {
		complete(cmd)
	}

	strictHelp(root)
	group(root)

	return root
}

// strictHelp makes help for an unknown command a usage error.
func strictHelp(root *cobra.Command) {
	root.InitDefaultHelpCmd()

	for _, cmd := range root.Commands() {
		if cmd.Name() != "help" {
			continue
		}
		cmd.Args = func(_ *cobra.Command, args []string) error {
			if _, rest, err := root.Find(args); err != nil || len(rest) > 0 {
				return unknownCommand(root, strings.Join(args, " "))
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
		return unknownCommand(cmd, args[0])
	}

	return usagef("%q: %s takes no arguments", args[0], cmd.Name())
}
