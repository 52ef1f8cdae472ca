// SPDX-License-Identifier: Apache-2.0

// Command machine boots a whole Debian in an emulator, lets everybody who kills on a
// node kill a service there, and compares what oomtrace said of each with what was
// done. Or it plays there what happens to pods.
package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/test/lab"
)

// cache has what scripts/machine.sh made.
const cache = ".cache/machine"

// options are those of the command line.
type options struct {
	cases    []string
	pods     string // driver
	work     string // directory
	keep     bool
	patience time.Duration
}

// file names one of the work directory.
func (o options) file(name string) string { return filepath.Join(o.work, name) }

// bootTries is how often a boot may fail, see test/matrix.
const bootTries = 3

func main() {
	var o options
	pflag.StringSliceVar(&o.cases, "case", nil, "only these deeds")
	pflag.StringVar(&o.pods, "pods", "", "play what happens to pods instead, with this cgroup `driver`: cgroupfs or systemd")
	pflag.Lookup("pods").NoOptDefVal = "cgroupfs"

	pflag.StringVar(&o.work, "work", "", "`directory` for the second disk, and what is kept; without it one below "+cache)
	pflag.BoolVar(&o.keep, "keep", false, "keep the console and the tracer's lines")
	pflag.DurationVar(&o.patience, "patience", 10*time.Minute, "with one boot")
	pflag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	play := deeds
	if o.pods != "" {
		play = pods
	}

	if o.work == "" {
		o.work = filepath.Join(cache, "work", cmp.Or(o.pods, "deeds")) // both may run at once
	}

	if err := play(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "machine:", err)
		os.Exit(1)
	}
}

func deeds(ctx context.Context, o options) error {
	for _, name := range o.cases {
		if expectationOf(name) == nil {
			return fmt.Errorf("no deed %q", name)
		}
	}

	disk, err := o.pack(map[string]string{"guest": "./test/machine/guest", "oomtrace": "./cmd/oomtrace"})
	if err != nil {
		return err
	}

	var result lab.Deeds
	if err := o.result(ctx, disk, "", &result); err != nil {
		return err
	}

	if o.keep {
		_ = os.WriteFile(o.file("trace.jsonl"), []byte(strings.Join(result.Lines, "\n")+"\n"), 0o644)
	}

	return judge(&result, o.cases)
}

// result boots until one boot comes to its end.
func (o options) result(ctx context.Context, disk, words string, result any) error {
	for try := 1; ; try++ {
		console, runErr := o.boot(ctx, disk, words, try)

		err := lab.Receive(console, result)
		if err == nil {
			return nil
		}

		if try == bootTries || ctx.Err() != nil {
			return fmt.Errorf("%d boots without a result: %w", try, errors.Join(err, runErr))
		}
	}
}

// pack makes the second disk: the guest's programs, by name and package.
func (o options) pack(programs map[string]string) (string, error) {
	dir, err := os.MkdirTemp("", "oomtrace-machine-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)

	for name, source := range programs {
		cmd := exec.Command("go", "build", "-o", filepath.Join(dir, name), source)

		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if text, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("building %s: %w\n%s", source, err, text)
		}
	}

	if err := os.MkdirAll(o.work, 0o755); err != nil {
		return "", err
	}
	disk := o.file("lab.ext4")
	os.Remove(disk)

	if text, err := exec.Command("mke2fs", "-q", "-t", "ext4", "-m", "0", "-d", dir, disk, "160M").CombinedOutput(); err != nil {
		return "", fmt.Errorf("making a disk: %w\n%s", err, text)
	}

	return disk, nil
}

// boot boots once, with words for the guest. What is kept of the console is written
// as it comes, so that it can be looked at when nothing comes any more.
func (o options) boot(ctx context.Context, disk, words string, try int) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, o.patience)
	defer cancel()
	// The check of the timer gives up where the emulator gets no time.
	line := "console=ttyS0 quiet panic=-1 no_timer_check psi=1 root=/dev/vda rw systemd.show_status=0 " + words
	if len(o.cases) > 0 {
		line += " lab.cases=" + strings.Join(o.cases, ",")
	}
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "2048",
		"-nographic", "-no-reboot", "-kernel", filepath.Join(cache, "vmlinuz"), "-initrd", filepath.Join(cache, "initrd"), "-append", line,
		"-drive", "file="+filepath.Join(cache, "root.ext4")+",if=virtio,format=raw,snapshot=on",
		"-drive", "file="+disk+",if=virtio,format=raw,snapshot=on")
	var out bytes.Buffer
	var console io.Writer = &out

	if o.keep {
		file, err := os.Create(o.file(fmt.Sprintf("console.%d", try)))
		if err != nil {
			return nil, err
		}
		defer file.Close()
		console = io.MultiWriter(&out, file)
	}
	cmd.Stdout, cmd.Stderr = console, console
	err := cmd.Run()

	return out.Bytes(), err
}

// judge compares each deed with the incident of its victim.
func judge(result *lab.Deeds, wanted []string) error {
	incidents, err := merged(result.Lines)
	if err != nil {
		return err
	}
	problems := 0

	problem := func(deed, format string, args ...any) {
		fmt.Printf("%-14s %s\n", deed, fmt.Sprintf(format, args...))

		problems++
	}
	if !result.ExitOK || result.Stderr != "" {
		problem("(tracer)", "exit ok %v, stderr %q", result.ExitOK, result.Stderr)
	}

	seen := map[string]bool{}
	for _, d := range result.Deeds {
		seen[d.Name] = true
		before := problems

		switch {
		case d.Error != "":
			problem(d.Name, "it could not be done: %s", d.Error)
		case !d.Killed:
			problem(d.Name, "nobody died; %q", d.Said)
		default:
			expectationOf(d.Name).compare(d, of(incidents, d.PID), func(format string, args ...any) { problem(d.Name, format, args...) })
		}

		if problems == before {
			fmt.Printf("%-14s ok\n", d.Name)
		}
	}

	for _, e := range expectations {
		if len(wanted) == 0 && !seen[e.name] {
			problem(e.name, "it was not played")
		}
	}

	if problems > 0 {
		return fmt.Errorf("%d problems", problems)
	}

	return nil
}

// merged are the incidents with what was learnt later.
func merged(lines []string) ([]*events.Incident, error) {
	var all []*events.Incident
	byID := map[string]*events.Incident{}

	for _, line := range lines {
		var inc events.Incident
		if err := json.Unmarshal([]byte(line), &inc); err != nil {
			return nil, fmt.Errorf("%.100q: %w", line, err)
		}

		switch {
		case inc.Kind == events.KindIncident:
			all = append(all, &inc)
			byID[inc.ID] = &inc
		case inc.Kind == events.KindIncidentUpdate && byID[inc.ID] != nil:
			events.Merge(byID[inc.ID], &inc)
		}
	}

	return all, nil
}

// of finds the incidents in which a process died.
func of(incidents []*events.Incident, pid int) []*events.Incident {
	var found []*events.Incident

	for _, inc := range incidents {
		for _, v := range inc.Victims {
			if v.PID == pid {
				found = append(found, inc)
				break
			}
		}
	}

	return found
}
