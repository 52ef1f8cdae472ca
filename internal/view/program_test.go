// SPDX-License-Identifier: Apache-2.0

package view

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
)

func TestProgramsOfVictimsAreShown(t *testing.T) {
	for name, test := range map[string]struct {
		program *events.Program
		want    string // empty: no such line
	}{
		"with settings": {&events.Program{
			Kind: events.ProgramJVM, Name: "java", By: events.ProgramByExecutable, Settings: []events.Setting{
				{Name: "-Xmx", Value: "512m", Bytes: new(512 * mib), Source: "JAVA_TOOL_OPTIONS"},
				{Name: "-XX:MaxRAMPercentage", Value: "75.0", Source: "command line"},
			},
		}, "program    java[4711] JVM (java), -Xmx 512.0 MiB (JAVA_TOOL_OPTIONS), -XX:MaxRAMPercentage 75.0 (command line)\n"},
		"without settings": {&events.Program{Kind: events.ProgramGo, Name: "server", Settings: []events.Setting{}},
			"program    java[4711] Go (server), no memory settings\n"},
		"of another worker": {&events.Program{
			Kind: events.ProgramGo, Name: "server", Settings: []events.Setting{}, ReadOf: 8,
		}, "program    java[4711] Go (server), no memory settings, read of process 8 of the same name\n"},
		"settings that are not known": {&events.Program{Kind: events.ProgramVM}, "program    java[4711] VM\n"},
		"hostile":                     {&events.Program{Kind: "\x1b[2J", Name: "a\nb"}, `program    java[4711] \x1b[2J (a\x0ab)` + "\n"},
		"another":                     {&events.Program{Kind: events.ProgramOther, Name: "bash"}, ""},
		"unknown":                     {nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			inc := container()
			inc.Victims[0].Program = test.program

			var out bytes.Buffer
			if err := NewText(&out, TextOptions{Location: time.UTC}).Write(inc); err != nil {
				t.Fatal(err)
			}

			if _, got, _ := strings.Cut(out.String(), "  program"); test.want == "" && got != "" ||
				!strings.HasPrefix("program"+got, test.want) {
				t.Errorf("got\n%s, want the line %q", out.String(), test.want)
			}
		})
	}
}
