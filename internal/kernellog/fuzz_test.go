// SPDX-License-Identifier: Apache-2.0

package kernellog

import (
	"bytes"
	"path/filepath"
	"testing"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
)

// FuzzRead reads any bytes: nothing panics, the incidents can be encoded and keep the rules of
// the contract, and the same bytes result in the same incidents.
func FuzzRead(f *testing.F) {
	files, err := filepath.Glob("testdata/*/*.txt")
	if err != nil {
		f.Fatal(err)
	}

	for _, file := range files {
		f.Add([]byte(readFile(f, file)))
	}

	for _, c := range formats {
		var log bytes.Buffer
		for i, l := range records(dmesgLines(f, "testdata/dmesg/7.3.4-memcg-oom-group.txt")) {
			log.WriteString(c.write(i, l) + "\n")
		}

		f.Add(log.Bytes())
	}

	f.Fuzz(func(t *testing.T, log []byte) {
		read := func() (text []byte) {
			opt := Options{Location: time.UTC, Now: now}

			stats, err := Read(bytes.NewReader(log), opt, func(inc *events.Incident) error {
				if inc.ID == "" || inc.Scope == "" || inc.Tier != events.TierKernelLog || inc.Log == nil ||
					inc.Log.FirstLine > inc.Log.LastLine {
					t.Errorf("got %+v, want an incident with its required keys", inc)
				}

				if inc.Time.Year() > 9999 || inc.Time.Year() < 0 {
					t.Errorf("got time %v, want a year that JSON can encode", inc.Time)
				}
				line, err := events.Marshal(inc)
				text = append(text, line...)

				return err
			})
			if err != nil {
				t.Fatal(err)
			}

			if stats.Lines > bytes.Count(log, []byte("\n"))+1 {
				t.Errorf("got %d lines, want as many as the input has", stats.Lines)
			}

			return text
		}
		if first, second := read(), read(); !bytes.Equal(first, second) {
			t.Errorf("second read: got\n%s\nwant\n%s", second, first)
		}
	})
}
