// SPDX-License-Identifier: Apache-2.0

// Command matrix boots real kernels, provokes OOMs in them with a tracer for
// each tier watching, and compares what the tracers said with the kernel's own
// report, its counters, and what was done.
package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"github.com/oomtrace/oomtrace/test/lab"
)

type options struct {
	cases, tiers []string
	keep, update bool
	times        bool
	work         string        // the directory of what is built and kept
	console      string        // of an earlier boot
	patience     time.Duration // with one boot
	kills        int           // of a recorder, in one boot; 0: the usual
}

var tiers = []string{"fentry", "kprobe", "tracepoint"}

func main() {
	err := run()

	var usage usageError
	switch {
	case err == nil:
	case errors.As(err, &usage):
		fmt.Fprintf(os.Stderr, "vm-test: %v\n", err)
		os.Exit(2)
	default:
		fmt.Fprintf(os.Stderr, "vm-test: %v\n", err)
		os.Exit(1)
	}
}

type usageError struct{ error }

func run() error {
	var arch, kernelName, caseName, tier string
	o := options{patience: 9 * time.Minute}
	flags := pflag.NewFlagSet("vm-test", pflag.ContinueOnError)
	flags.StringVar(&arch, "arch", "", "only this architecture: amd64, arm64")
	flags.StringVar(&kernelName, "kernel", "", "only this kernel, such as 6.12 or 5.10-v1")
	flags.StringVar(&caseName, "case", "", "only this case, or several with commas")
	flags.StringVar(&tier, "tier", "", "only this tier: "+strings.Join(tiers, ", "))
	flags.BoolVar(&o.keep, "keep", false, "keep the consoles in the work directory")
	flags.StringVar(&o.console, "console", "", "judge this kept console of the one --kernel and --arch, and boot nothing")
	flags.StringVar(&o.work, "work", filepath.Join(cache, "lab"), "directory of what is built and kept; two runs at once need two")
	flags.BoolVar(&o.update, "update", false, "write the golden files anew")
	flags.IntVar(&o.kills, "recorder-kills", 0, "kill the recorder of record-killed so often, not 4 times")
	cuts := flags.Int("power-cuts", 0, "cut the power of the one --kernel and --arch so often while it records, and do nothing else")
	flags.BoolVar(&o.times, "times", false, "tell how long each case took: the deed, and the wait for the tracers")

	list := flags.Bool("list", false, "print the kernels and cases")
	if err := flags.Parse(os.Args[1:]); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			return nil
		}

		return usageError{err}
	}

	if *list {
		for _, k := range kernels {
			fmt.Println(k.id())
		}

		for _, e := range expectations {
			fmt.Println(" ", e.name)
		}

		return nil
	}

	if caseName != "" {
		o.cases = strings.Split(caseName, ",")
		for _, name := range o.cases {
			if expectationOf(name) == nil {
				return usageError{fmt.Errorf("no case %q; --list prints them", name)}
			}
		}
	}

	if tier != "" {
		if !slices.Contains(tiers, tier) {
			return usageError{fmt.Errorf("no tier %q; there are: %s", tier, strings.Join(tiers, ", "))}
		}
		o.tiers = []string{tier}
	}
	o.patience += time.Duration(o.kills) * 20 * time.Second
	var chosen []kernel

	for _, k := range kernels {
		if (arch == "" || k.arch == arch) && (kernelName == "" || k.name == kernelName) {
			chosen = append(chosen, k)
		}
	}

	if len(chosen) == 0 {
		return usageError{fmt.Errorf("no kernel %q of architecture %q; --list prints them", kernelName, arch)}
	}

	switch {
	case (o.console != "" || *cuts > 0) && len(chosen) != 1:
		return usageError{errors.New("--console and --power-cuts need --arch and --kernel to name one kernel")}
	case *cuts > 0:
		return powerCuts(chosen[0], *cuts, o)
	}

	return matrix(chosen, o)
}

// problemsAtOnce are printed of a kernel as soon as it is through; all are at the end.
const problemsAtOnce = 20

// matrix boots the kernels, two at a time, and judges them.
func matrix(chosen []kernel, o options) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	for _, arch := range []string{"amd64", "arm64"} {
		if o.console == "" && slices.ContainsFunc(chosen, func(k kernel) bool { return k.arch == arch }) {
			if err := build(arch, o); err != nil {
				return err
			}
		}
	}

	if _, err := readSchema(); err != nil {
		return err
	}
	verdicts := make([]verdict, len(chosen))
	var all sync.WaitGroup
	two := make(chan struct{}, 2) // more are slower, and crash more

	for i, k := range chosen {
		all.Add(1)
		go func() {
			defer all.Done()

			two <- struct{}{}
			defer func() { <-two }()
			began := time.Now()
			result, err := boot(ctx, k, o)

			verdicts[i] = judge(k, result, err, o)
			if cases := doubtful(verdicts[i]); o.console == "" && ctx.Err() == nil && len(cases) > 0 {
				again := o
				again.cases, again.update = cases, false
				second, err := boot(ctx, k, again)
				verdicts[i].again(judge(k, second, err, again))
			}

			fmt.Fprintf(os.Stderr, "%s: %s, %d problems\n", k.id(), time.Since(began).Round(time.Second), len(verdicts[i].problems))

			if o.times && err == nil {
				printTimes(k, result)
			}

			for _, p := range verdicts[i].problems[:min(len(verdicts[i].problems), problemsAtOnce)] {
				fmt.Fprintf(os.Stderr, "%s: %s\n", k.id(), p)
			}
		}()
	}

	all.Wait()

	if ctx.Err() != nil {
		return ctx.Err()
	}
	problems := 0

	printTable(verdicts, o)

	for _, v := range verdicts {
		for _, p := range v.once {
			fmt.Printf("%s: seen once, and not again: %s\n", v.kernel.id(), p)
		}

		for _, p := range v.problems {
			fmt.Printf("%s: %s\n", v.kernel.id(), p)

			problems++
		}
	}

	if problems > 0 {
		return fmt.Errorf("%d problems", problems)
	}

	return nil
}

// printTimes tells where a boot's time went.
func printTimes(k kernel, r *lab.Result) {
	fmt.Printf("%s: up %.0f s, tracers ready after %.1f s", k.id(), r.UpSeconds, r.StartSeconds)

	for _, c := range r.Cases {
		fmt.Printf("; %s %.1f+%.1f", c.Name, c.Seconds[0], c.Seconds[1])
	}

	fmt.Println()
}

// mostDoubtful is how many cases of a boot may be played again. More are no chance.
const mostDoubtful = 2

// doubtful are the cases of a boot that went wrong, if they are few and all else went
// well: time in an emulator stands still now and then, in the kernel or in us. They are
// played once more, in a machine of their own, and what was seen the first time is shown.
func doubtful(v verdict) []string {
	var cases []string
	ofCases := 0

	for _, e := range expectations {
		if slices.Contains(slices.Collect(maps.Values(v.cells[e.name])), "FAIL") {
			cases = append(cases, e.name)
		}
	}

	for _, p := range v.problems {
		if name, _, ok := strings.Cut(p, " "); ok && slices.Contains(cases, strings.TrimSuffix(name, ":")) {
			ofCases++
		}
	}

	if len(cases) > mostDoubtful || ofCases < len(v.problems) {
		return nil
	}

	return cases
}

// playedAgain marks a case that went well the second time.
const playedAgain = "again"

// again takes in the verdict on cases that were played once more.
func (v *verdict) again(second verdict) {
	if len(second.problems) > 0 {
		v.problems = append(v.problems, second.problems...)
		return
	}
	v.once, v.problems = v.problems, nil

	for name, cells := range second.cells {
		for tier, cell := range cells {
			if v.cells[name][tier] == "FAIL" {
				v.cells[name][tier] = playedAgain
			} else if cell != "ok" {
				v.cells[name][tier] = cell
			}
		}
	}
}
