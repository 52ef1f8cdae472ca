// SPDX-License-Identifier: Apache-2.0

package kernellog

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/oomtrace/oomtrace/internal/unpack"
)

// maxFiles bounds the files of a directory that are read.
const maxFiles = 4096

// logNames are the files in which syslog daemons keep what the kernel logs, the one with
// the least else in it first. One of them is read: their lines are the same.
var logNames = []string{"kern.log", "messages", "syslog", "dmesg"}

// ErrNoLogs means that a directory has no file that OpenDir reads.
var ErrNoLogs = errors.New(
	"the directory has neither kernel logs (kern.log, messages, syslog, dmesg), nor journal files, nor records of pstore")

// OpenDir returns the logs in a directory, from the oldest to the newest, decompressed: the
// records of pstore (/var/lib/systemd/pstore, /sys/fs/pstore), the files of a journal, or
// those of a syslog daemon. journalctl is killed when ctx is done. Without any of them the
// error is ErrNoLogs.
func OpenDir(ctx context.Context, dir string) (io.ReadCloser, error) {
	names, err := filesBelow(dir)
	if err != nil {
		return nil, fmt.Errorf("read the directory of logs: %w", err)
	}

	if dumps := pstoreFiles(names); len(dumps) > 0 {
		return openPstore(dir, dumps)
	}

	if slices.ContainsFunc(names, isJournalFile) {
		return OpenJournalFile(ctx, dir)
	}

	for _, base := range logNames {
		if logs := rotated(names, base); len(logs) > 0 {
			return &files{dir: dir, names: logs}, nil
		}
	}

	return nil, ErrNoLogs
}

// isJournalFile reports whether a file is of a journal, in its directory or in that of a
// machine below it.
func isJournalFile(name string) bool {
	return strings.HasSuffix(name, ".journal") && strings.Count(name, string(filepath.Separator)) <= 1
}

// filesBelow returns the regular files in a directory and in two levels below it: as
// systemd-pstore has them.
func filesBelow(dir string) (names []string, err error) {
	err = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case path == dir:
			return err
		case err != nil:
			return fs.SkipDir
		}

		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}

		if entry.IsDir() {
			if strings.Count(name, string(filepath.Separator)) > 1 {
				return fs.SkipDir
			}

			return nil
		}

		if entry.Type().IsRegular() && len(names) < maxFiles {
			names = append(names, name)
		}

		return nil
	})

	return names, err
}

// rotated returns the files of a log from the oldest on: by date, by falling number, and
// last the one that is written to.
func rotated(names []string, base string) []string {
	var logs []string

	for _, name := range names {
		rest, found := strings.CutPrefix(name, base)
		if found && (rest == "" || len(rest) > 1 && strings.IndexByte(".-", rest[0]) >= 0 && rest[1] >= '0' && rest[1] <= '9') {
			logs = append(logs, name)
		}
	}

	age := func(name string) int { // -YYYYMMDD is older than .N
		rest := strings.TrimPrefix(name, base)
		if rest == "" {
			return 0
		}

		digits, _, _ := strings.Cut(rest[1:], ".")
		n, _ := strconv.Atoi(strings.ReplaceAll(digits, "-", ""))

		if rest[0] == '-' {
			return 1<<40 - n
		}

		return n
	}

	slices.SortFunc(logs, func(a, b string) int { return cmp.Compare(age(b), age(a)) })

	return logs
}

// files is the content of files, one after the other. Each is opened when the one before is
// at its end.
type files struct {
	dir   string
	names []string
	// skip is what the files start with that is not of the log.
	skip *regexp.Regexp
	file *os.File
	in   *bufio.Reader
}

func (f *files) Read(p []byte) (int, error) {
	for {
		if f.in == nil {
			if len(f.names) == 0 {
				return 0, io.EOF
			}

			if err := f.open(); err != nil {
				return 0, err
			}
		}

		n, err := f.in.Read(p)
		if !errors.Is(err, io.EOF) {
			return n, err
		}

		f.file.Close()
		f.in = nil

		if n == 0 && len(p) > 0 { // a file may lack its last newline
			p[0] = '\n'
			n = 1
		}

		return n, nil
	}
}

func (f *files) open() error {
	path := filepath.Join(f.dir, f.names[0])
	f.names = f.names[1:]

	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open the kernel log: %w", err)
	}

	in, _, err := unpack.NewReader(file)
	if err != nil {
		file.Close()
		return fmt.Errorf("read %s: %w", path, err)
	}

	if f.skip != nil {
		if start, _ := in.Peek(128); f.skip.Match(start) {
			in.Discard(len(f.skip.Find(start)))
		}
	}
	f.file, f.in = file, in

	return nil
}

func (f *files) Close() error {
	if f.in == nil {
		return nil
	}

	return f.file.Close()
}

// pstoreHead is the first line of a record: which dump, and which part of it, counted from
// the end of the log (fs/pstore/platform.c: pstore_dump).
var pstoreHead = regexp.MustCompile(`^[A-Za-z ]+#([0-9]+) Part([0-9]+)\n`)

// pstoreFiles returns the records of the kernel's log in pstore, or what systemd-pstore
// joined of them.
func pstoreFiles(names []string) []string {
	var dumps []string

	for _, name := range names {
		if base := filepath.Base(name); strings.HasPrefix(base, "dmesg-") && !isRotated(base) || base == "dmesg.txt" {
			dumps = append(dumps, name)
		}
	}

	return slices.DeleteFunc(dumps, func(name string) bool { // its parts are in the whole
		return filepath.Base(name) != "dmesg.txt" && slices.Contains(dumps, filepath.Join(filepath.Dir(name), "dmesg.txt"))
	})
}

// isRotated reports whether a file is a log named after its date: dmesg-20261125.
func isRotated(base string) bool {
	rest := strings.TrimPrefix(base, "dmesg-")
	return rest != "" && rest[0] >= '0' && rest[0] <= '9'
}

// openPstore returns the records in the order in which they were logged.
func openPstore(dir string, names []string) (io.ReadCloser, error) {
	type dump struct {
		name       string
		dump, part int
	}

	var dumps []dump

	for _, name := range names {
		one := dump{name: name}

		if match := pstoreHead.FindStringSubmatch(startOf(filepath.Join(dir, name))); match != nil {
			one.dump, _ = strconv.Atoi(match[1])
			one.part, _ = strconv.Atoi(match[2])
		}

		if !strings.HasSuffix(name, ".enc.z") {
			dumps = append(dumps, one)
		}
	}

	if len(dumps) == 0 {
		return nil, fmt.Errorf("read %s: the kernel could not decompress its records in pstore (%s): "+
			"load the module of their compression and mount pstore again", dir, names[0])
	}

	slices.SortFunc(dumps, func(a, b dump) int {
		return cmp.Or(strings.Compare(filepath.Dir(a.name), filepath.Dir(b.name)), a.dump-b.dump, b.part-a.part,
			strings.Compare(a.name, b.name))
	})

	sorted := &files{dir: dir, skip: pstoreHead}
	for _, one := range dumps {
		sorted.names = append(sorted.names, one.name)
	}

	return sorted, nil
}

// startOf returns the first bytes of a file, "" if it cannot be read.
func startOf(path string) string {
	file, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer file.Close()

	start := make([]byte, 128)
	n, _ := io.ReadFull(file, start)

	return string(start[:n])
}
