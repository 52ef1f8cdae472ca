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

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/host"
	"github.com/oomtrace/oomtrace/internal/sink"
	"github.com/oomtrace/oomtrace/internal/tracer"
	"github.com/oomtrace/oomtrace/internal/view"
)

const (
	demoLimitBytes = 64 << 20
	// What the child tries to take; it ends by itself if nothing stops it.
	demoWantBytes = 4 * demoLimitBytes
	demoPatience  = 15 * time.Second
)

func newDemo(stdout, stderr io.Writer) *cobra.Command {
	var f traceFlags
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Provoke a harmless OOM kill in a cgroup of its own, and explain it",
		Long: `  sudo oomtrace demo
  sudo oomtrace demo -o json | jq .

demo makes a cgroup with a small limit, lets a child of its own go over it,
prints the incident, compares it with what it did, and cleans up. It ends with
status 0 only if every answer was right.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.check(); err != nil {
				return err
			}

			if f.output != "text" && f.output != "json" {
				return usagef("--output %q: demo has text and json", f.output)
			}

			return demo(cmd.Context(), &f, stdout, stderr)
		},
	}
	cmd.Flags().StringVarP(&f.output, "output", "o", "text", "`format`: text, json")
	cmd.Flags().BoolVarP(&f.wide, "wide", "w", false, "leave nothing out")
	cmd.Flags().BoolVar(&f.utc, "utc", false, "show times in UTC")
	cmd.Flags().StringVar(&f.tier, "tier", "auto", "`way` to attach: "+strings.Join(tiers, ", "))

	return cmd
}

func demo(ctx context.Context, f *traceFlags, stdout, stderr io.Writer) error {
	scratch, err := host.NewScratch(fmt.Sprintf("oomtrace-demo-%d", os.Getpid()), demoLimitBytes)
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w: run as root", err)
	}

	if err != nil {
		return err
	}

	defer scratch.Close()

	child, err := startHog(demoWantBytes)
	if err != nil {
		return err
	}
	defer child.end()

	if err := scratch.Add(child.pid()); err != nil {
		return err
	}

	say := stdout
	if f.output == "json" {
		say = stderr
	}
	d := &demonstration{shown: sink.Discard, pid: child.pid(), done: make(chan struct{})}

	if f.output == "text" {
		width, color := terminal(stdout)
		if f.wide {
			width = 0
		}

		loc := time.Local
		if f.utc {
			loc = time.UTC
		}
		d.shown = view.NewText(stdout, view.TextOptions{Width: width, Color: color, Location: loc})
	}

	t, err := tracer.Open(tracer.Options{Tier: f.forcedTier(), Sink: d, Stalls: true, MinStall: 10 * time.Millisecond})
	if err != nil {
		return err
	}
	defer t.Close()
	status := t.Status("start")
	fmt.Fprintf(say, "demo: kernel %s, cgroup %s, tier %s\n", status.KernelRelease, status.CgroupMode, status.Tier)
	fmt.Fprintf(say, "demo: oomtrace[%d] takes up to %d MiB in a cgroup with a limit of %d MiB\n\n",
		child.pid(), demoWantBytes>>20, demoLimitBytes>>20)

	ctx, cancel := context.WithTimeout(ctx, demoPatience)
	defer cancel()
	ended := make(chan error, 1)

	go func() {
		<-d.done
		cancel()
	}()

	if err := t.Run(ctx, func() error {
		go func() { ended <- child.run() }()
		return nil
	}); err != nil {
		return err
	}

	if d.incident == nil {
		return errors.New("demo: the child's death was not seen: `oomtrace doctor` tells what this kernel offers")
	}

	if f.output == "json" {
		line, err := events.Marshal(d.incident)
		if err != nil {
			return err
		}

		if _, err := stdout.Write(line); err != nil {
			return err
		}
	}
	wrong := d.wrong(scratch.Path())

	select {
	case err := <-ended:
		if !killedBySIGKILL(err) {
			wrong = append(wrong, fmt.Sprintf("the child was not killed: %v", err))
		}
	case <-time.After(time.Second):
		wrong = append(wrong, "the child is still there")
	}

	if len(wrong) > 0 {
		return fmt.Errorf("demo: wrong: %s", strings.Join(wrong, "; "))
	}

	fmt.Fprintln(say, "\ndemo: right: limiter, trigger, victim, killer and the kernel's counters are as they were made")

	return nil
}

// demonstration is the sink that picks the child's incident, and shows it.
type demonstration struct {
	shown    sink.Sink
	pid      int
	incident *events.Incident // as it is by now; nil: not seen yet
	done     chan struct{}    // closed once nothing more is awaited
	closed   bool
}

func (d *demonstration) Write(l events.Line) error {
	switch l := l.(type) {
	case *events.Headline:
		if l.PID != d.pid {
			return nil
		}
	case *events.Incident:
		if d.incident != nil || !slices.ContainsFunc(l.Victims, func(v events.Victim) bool { return v.PID == d.pid }) {
			return nil
		}
		d.incident = l
	case *events.Update:
		if d.incident == nil || l.After == nil || l.After.ID != d.incident.ID {
			return nil
		}
		d.incident = l.After

		if !d.closed && d.incident.Audit != nil && d.incident.Victims[0].ExitAfterNS != nil {
			d.closed = true
			close(d.done)
		}
	default:
		return nil
	}

	return d.shown.Write(l)
}

// wrong compares the incident with what was done.
func (d *demonstration) wrong(path string) []string {
	inc := d.incident
	var wrong []string
	expect := func(what string, got, want any) {
		if got != want {
			wrong = append(wrong, fmt.Sprintf("%s is %v, not %v", what, got, want))
		}
	}
	expect("the scope", inc.Scope, events.ScopeMemcg)
	expect("the outcome", inc.Outcome, events.OutcomeKilled)

	if l := inc.Limiter; l == nil || l.Cgroup == nil || l.LimitBytes == nil {
		wrong = append(wrong, "the limiter is not known")
	} else {
		expect("the limiter", l.Cgroup.Path, path)
		expect("the limit", *l.LimitBytes, uint64(demoLimitBytes))
	}

	if inc.Trigger == nil {
		wrong = append(wrong, "the trigger is not known")
	} else {
		expect("the trigger", inc.Trigger.PID, d.pid)
	}

	expect("the number of victims", len(inc.Victims), 1)
	expect("the victim", inc.Victims[0].PID, d.pid)
	// What it had before it came into the cgroup is charged elsewhere.
	if rss := inc.Victims[0].AnonRSSBytes; rss == nil || *rss < demoLimitBytes/2 || *rss > 2*demoLimitBytes {
		wrong = append(wrong, "the victim's memory is not near the limit")
	}

	if inc.Killer == nil {
		wrong = append(wrong, "the killer is not known")
	} else {
		expect("the killer", inc.Killer.Kind+" "+inc.Killer.Path, "kernel memcg")
	}

	if inc.Audit == nil || !inc.Audit.Explained {
		wrong = append(wrong, "the kernel's counters were not explained")
	}

	return wrong
}

// hog is a child that waits, and then takes memory until it is stopped.
type hog struct {
	cmd *exec.Cmd
	in  io.WriteCloser
}

func newHog() *cobra.Command {
	var bytes int
	cmd := &cobra.Command{
		Use: "hog", Hidden: true, Args: noArgs,
		RunE: func(*cobra.Command, []string) error { return takeMemory(bytes) },
	}
	cmd.Flags().IntVar(&bytes, "bytes", demoWantBytes, "how much to take")

	return cmd
}

// takeMemory waits for a byte on stdin, and then touches memory page by page.
func takeMemory(bytes int) error {
	if _, err := os.Stdin.Read(make([]byte, 1)); err != nil {
		return fmt.Errorf("waiting to begin: %w", err)
	}

	memory, err := unix.Mmap(-1, 0, bytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return fmt.Errorf("taking %d bytes: %w", bytes, err)
	}

	for i := 0; i < len(memory); i += os.Getpagesize() {
		memory[i] = 1
	}

	return errors.New("nothing stopped it")
}

func startHog(bytes int) (*hog, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("finding oomtrace itself: %w", err)
	}
	cmd := exec.Command(self, "hog", fmt.Sprintf("--bytes=%d", bytes))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}

	in, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}

	if err != nil {
		return nil, fmt.Errorf("starting the child: %w", err)
	}

	return &hog{cmd, in}, nil
}

func (h *hog) pid() int { return h.cmd.Process.Pid }

func (h *hog) run() error {
	if _, err := h.in.Write([]byte{1}); err != nil {
		return err
	}

	return h.cmd.Wait()
}

func (h *hog) end() {
	h.in.Close()
	h.cmd.Process.Kill()
}

func killedBySIGKILL(err error) bool {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return false
	}
	status, ok := exit.Sys().(syscall.WaitStatus)

	return ok && status.Signaled() && status.Signal() == syscall.SIGKILL
}
