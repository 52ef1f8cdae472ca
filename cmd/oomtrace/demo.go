// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/host"
	"github.com/oomtrace/oomtrace/internal/sink"
	"github.com/oomtrace/oomtrace/internal/tracer"
	"github.com/oomtrace/oomtrace/internal/view"
)

const (
	demoLimitBytes = 64 << 20
	// demoWantBytes is what the child tries to allocate. It exits by itself if it succeeds.
	demoWantBytes = 4 * demoLimitBytes
	demoTimeout   = 15 * time.Second
	// demoName is the name of the child, so that nobody takes it for the tracer.
	demoName = "demo-hog"
)

type demoFlags struct {
	formatFlags
	tier string
}

func newDemo(stdout, stderr io.Writer) *cobra.Command {
	var f demoFlags
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Trigger a harmless OOM kill and explain it",
		Example: `  sudo oomtrace demo
  sudo oomtrace demo -o json | jq .`,
		Long: `demo creates a cgroup with a small limit, starts a child process that exceeds
it, prints the incident, checks it, and cleans up. It exits with status 0 only
if the incident was correct.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return demo(cmd.Context(), &f, stdout, stderr)
		},
	}
	addFlags(cmd, headingOutput, func(flags *pflag.FlagSet) { f.formatFlags.add(flags, "text", "json") })
	addFlags(cmd, headingTuning, func(flags *pflag.FlagSet) { addTier(flags, &f.tier) })

	return cmd
}

// demo triggers an OOM kill, prints its incident, and compares it with what was done.
func demo(ctx context.Context, f *demoFlags, stdout, stderr io.Writer) error {
	scratch, err := host.NewScratch(fmt.Sprintf("oomtrace-demo-%d", os.Getpid()), demoLimitBytes)
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w: run as root", err)
	}

	if err != nil {
		return err
	}

	defer scratch.Close()

	child, err := startAllocator(demoWantBytes)
	if err != nil {
		return err
	}
	defer child.end()

	if err := scratch.Add(child.pid()); err != nil {
		return err
	}

	progress, shown := stdout, sink.Sink(sink.Discard)
	if f.output == "json" {
		progress = stderr
	} else {
		layout := f.textOptions(stdout)
		layout.Unkept = true
		shown = sink.NewWhole(view.NewText(stdout, layout))
	}

	observed := &demoSink{shown: shown, pid: child.pid(), done: make(chan struct{})}

	ended, err := traceDemo(ctx, attachMode(f.tier), child, observed, progress)
	if err != nil {
		return err
	}

	if observed.incident == nil {
		return errors.New("demo: the kill was not observed: run `oomtrace doctor` to check this kernel")
	}

	if f.output == "json" {
		if err := view.NewJSON(stdout).Write(observed.incident); err != nil {
			return err
		}
	}

	wrong := append(differences(observed.incident, child.pid(), scratch.Path()), survival(ended)...)
	if len(wrong) > 0 {
		return fmt.Errorf("demo: incorrect: %s", strings.Join(wrong, "; "))
	}

	fmt.Fprintln(progress, "\ndemo: correct: limiter, trigger, victim, killer and kernel counters are as expected")

	return nil
}

// traceDemo traces while the child allocates memory, until its incident is complete. The
// channel receives the result of waiting for the child.
func traceDemo(
	ctx context.Context, tier events.Tier, child *allocator, observed *demoSink, progress io.Writer,
) (<-chan error, error) {
	t, err := tracer.Open(tracer.Options{Tier: tier, Sink: observed, Stalls: true, MinStall: 10 * time.Millisecond})
	if err != nil {
		return nil, err
	}
	defer t.Close()

	status := t.Status("start")
	fmt.Fprintf(progress, "demo: kernel %s, cgroup %s, attach mode %s\n", status.KernelRelease, status.CgroupMode, status.Tier)
	fmt.Fprintf(progress, "demo: %s[%d] allocates up to %d MiB in a cgroup with a limit of %d MiB\n\n",
		demoName, child.pid(), demoWantBytes>>20, demoLimitBytes>>20)

	ctx, cancel := context.WithTimeout(ctx, demoTimeout)
	defer cancel()

	go func() {
		select {
		case <-observed.done:
			cancel()
		case <-ctx.Done():
		}
	}()

	ended := make(chan error, 1)
	err = t.Run(ctx, func() error {
		go func() { ended <- child.run() }()
		return nil
	})

	return ended, err
}

// survival returns a difference if the child was not killed.
func survival(ended <-chan error) []string {
	select {
	case err := <-ended:
		if !killedBySIGKILL(err) {
			return []string{fmt.Sprintf("the child was not killed: %v", err)}
		}
	case <-time.After(time.Second):
		return []string{"the child is still running"}
	}

	return nil
}

// demoSink passes on the lines of the child's incident.
type demoSink struct {
	shown    sink.Sink
	pid      int
	incident *events.Incident // with its updates; nil if it was not reported yet
	done     chan struct{}    // closed when the incident is final
}

func (s *demoSink) Write(l events.Line) error {
	switch l := l.(type) {
	case *events.Headline:
		if l.PID != s.pid {
			return nil
		}
	case *events.Incident:
		if s.incident != nil || !slices.ContainsFunc(l.Victims, func(v events.Victim) bool { return v.PID == s.pid }) {
			return nil
		}
		s.incident = l
	case *events.Update:
		if s.incident == nil || l.After == nil || l.After.ID != s.incident.ID {
			return nil
		}
		s.incident = l.After
	case *events.Explained:
		if s.incident == nil || l.Incident.ID != s.incident.ID {
			return nil
		}
	case *events.Final:
		if s.incident == nil || l.ID != s.incident.ID {
			return nil
		}

		close(s.done) // there is one
	default:
		return nil
	}

	return s.shown.Write(l)
}

// differences compares the child's incident with what was done.
func differences(inc *events.Incident, pid int, path string) []string {
	var wrong []string
	expect := func(what string, got, want any) {
		if got != want {
			wrong = append(wrong, fmt.Sprintf("%s is %v, expected %v", what, got, want))
		}
	}
	expect("the scope", inc.Scope, events.ScopeMemcg)
	expect("the outcome", inc.Outcome, events.OutcomeKilled)

	if l := inc.Limiter; l == nil || l.Cgroup == nil || l.LimitBytes == nil {
		wrong = append(wrong, "the limiter is unknown")
	} else {
		expect("the limiter", l.Cgroup.Path, path)
		expect("the limit", *l.LimitBytes, uint64(demoLimitBytes))
	}

	if inc.Trigger == nil {
		wrong = append(wrong, "the trigger is unknown")
	} else {
		expect("the trigger", inc.Trigger.PID, pid)
	}

	expect("the number of victims", len(inc.Victims), 1)
	expect("the victim", inc.Victims[0].PID, pid)
	// Memory that it had before it entered the cgroup is charged elsewhere.
	if rss := inc.Victims[0].AnonRSSBytes; rss == nil || *rss < demoLimitBytes/2 || *rss > 2*demoLimitBytes {
		wrong = append(wrong, "the victim's memory is not close to the limit")
	}

	if inc.Killer == nil {
		wrong = append(wrong, "the killer is unknown")
	} else {
		expect("the killer", inc.Killer.Kind+" "+inc.Killer.Path, "kernel memcg")
	}

	if inc.Audit == nil || !inc.Audit.Explained {
		wrong = append(wrong, "the kernel's counters do not match the incident")
	}

	return wrong
}

// allocator is a child process that waits, and then allocates memory until it is killed.
type allocator struct {
	cmd *exec.Cmd
	in  io.WriteCloser
}

// newAllocate returns the command that the child runs.
func newAllocate() *cobra.Command {
	var bytes int
	cmd := &cobra.Command{
		Use: "allocate", Hidden: true, Args: noArgs,
		RunE: func(*cobra.Command, []string) error { return allocate(bytes) },
	}
	cmd.Flags().IntVar(&bytes, "bytes", demoWantBytes, "number of bytes to allocate")

	return cmd
}

// allocate waits for a byte on stdin, and then touches memory page by page.
func allocate(bytes int) error {
	if err := unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(unsafe.StringData(demoName+"\x00"))), 0, 0, 0); err != nil {
		return fmt.Errorf("set the name of the process: %w", err)
	}

	if _, err := os.Stdin.Read(make([]byte, 1)); err != nil {
		return fmt.Errorf("wait for the start: %w", err)
	}

	memory, err := unix.Mmap(-1, 0, bytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return fmt.Errorf("allocate %d bytes: %w", bytes, err)
	}

	for i := 0; i < len(memory); i += os.Getpagesize() {
		memory[i] = 1
	}

	return errors.New("not killed")
}

func startAllocator(bytes int) (*allocator, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find the executable of oomtrace: %w", err)
	}
	cmd := exec.Command(self, "allocate", fmt.Sprintf("--bytes=%d", bytes))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}

	in, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}

	if err != nil {
		return nil, fmt.Errorf("start the child: %w", err)
	}

	return &allocator{cmd, in}, nil
}

func (a *allocator) pid() int { return a.cmd.Process.Pid }

// run lets the child allocate, and waits for its end.
func (a *allocator) run() error {
	if _, err := a.in.Write([]byte{1}); err != nil {
		return err
	}

	return a.cmd.Wait()
}

func (a *allocator) end() {
	a.in.Close()
	a.cmd.Process.Kill()
}

func killedBySIGKILL(err error) bool {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return false
	}
	status, ok := exit.Sys().(syscall.WaitStatus)

	return ok && status.Signaled() && status.Signal() == syscall.SIGKILL
}
