// SPDX-License-Identifier: Apache-2.0

package kernellog

import (
	"strconv"
	"strings"
)

// number reads a whole decimal number.
func number(s string) (uint64, bool) {
	n, err := strconv.ParseUint(s, 10, 64)
	return n, err == nil
}

// kib reads "123kB" or "123KB" as bytes.
func kib(s string) (bytes uint64, ok bool) {
	if len(s) < 3 || !strings.EqualFold(s[len(s)-2:], "kb") {
		return 0, false
	}

	n, ok := number(s[:len(s)-2])
	if !ok || n > 1<<54 {
		return 0, false
	}

	return n << 10, true
}

// after returns the word behind key, up to a space or comma. It is not valid if it is the
// last one of a torn line.
func after(rec record, text, key string) (string, bool) {
	_, rest, found := strings.Cut(text, key)
	if !found {
		return "", false
	}

	end := strings.IndexAny(rest, " ,")
	if end < 0 {
		// A size ends with its unit.
		return rest, rest != "" && (!rec.torn || strings.HasSuffix(rest, "kB") || strings.HasSuffix(rest, "KB"))
	}

	return rest[:end], end > 0
}

// pidAndComm reads "123 (comm)" before suffix. A name may contain parentheses: the last
// suffix counts.
func pidAndComm(s, suffix string) (pid int, comm, rest string, ok bool) {
	digits, named, found := strings.Cut(s, " (")
	if !found || !isDigits(digits) {
		return 0, "", "", false
	}

	end := strings.LastIndex(named, suffix)
	if end < 0 || end > maxComm {
		return 0, "", "", false
	}
	pid, err := strconv.Atoi(digits)

	return pid, named[:end], named[end+len(suffix):], err == nil && pid > 0
}

// maxPath bounds a cgroup's path; the kernel's lines end at 1024 bytes.
const maxPath = 4096

// maxComm bounds the name of a task. It has 15 bytes in the kernel; names of workers are
// longer, and bytes may be escaped.
const maxComm = 64
