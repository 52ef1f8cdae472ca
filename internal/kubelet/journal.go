// SPDX-License-Identifier: Apache-2.0

package kubelet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// JournalOptions say what to read of the journal.
type JournalOptions struct {
	Root         string // where the node's /var is; empty is "/"
	Unit         string // empty: kubelet
	Since, Until time.Time
}

// The bounds of a look into the journal.
const (
	journalTimeout  = 5 * time.Second
	journalBytes    = 8 << 20
	journalFindings = 1000
)

// Journal asks journalctl for what the kubelet wrote in a span of time. It takes
// five seconds and 8 MiB at most; whole is false if there was more.
func Journal(ctx context.Context, o JournalOptions) (found []Finding, whole bool, err error) {
	unit := o.Unit
	if unit == "" {
		unit = "kubelet"
	}

	args := []string{"--unit=" + unit, "--output=short-unix", "--no-pager", "--quiet", "--all"}
	if o.Root != "" && o.Root != "/" {
		args = append(args, "--directory="+filepath.Join(o.Root, "var/log/journal"))
	}

	for name, t := range map[string]time.Time{"since": o.Since, "until": o.Until} {
		if !t.IsZero() {
			args = append(args, fmt.Sprintf("--%s=@%d.%06d", name, t.Unix(), t.Nanosecond()/1000))
		}
	}

	ctx, cancel := context.WithTimeout(ctx, journalTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "journalctl", args...)
	cmd.WaitDelay = time.Second // children of it may hold its pipes open
	var stderr bytes.Buffer
	cmd.Stderr = &limitedBuffer{buf: &stderr, left: 4096}

	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, false, fmt.Errorf("reading the kubelet's journal: %w", err)
	}

	if err := cmd.Start(); err != nil {
		return nil, false, fmt.Errorf("reading the kubelet's journal: %w: give the kubelet's log as a file", err)
	}
	limited := &io.LimitedReader{R: out, N: journalBytes}
	found, _, err = Read(limited, time.Now(), journalFindings)

	full := limited.N == 0 || len(found) == journalFindings
	if full {
		cancel() // it need not write the rest
	}
	_ = out.Close()

	waited := cmd.Wait()
	switch {
	case err != nil:
		return found, false, err
	case full:
		return found, false, nil
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return found, false, nil
	case waited != nil:
		return found, false, fmt.Errorf("reading the kubelet's journal: %w: %s", waited, strings.TrimSpace(stderr.String()))
	}

	return found, true, nil
}

// limitedBuffer keeps the begin of what is written.
type limitedBuffer struct {
	buf  *bytes.Buffer
	left int
}

func (b *limitedBuffer) Write(p []byte) (int, error) {
	n := min(len(p), b.left)
	b.buf.Write(p[:n])
	b.left -= n

	return len(p), nil
}
