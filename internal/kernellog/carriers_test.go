// SPDX-License-Identifier: Apache-2.0

package kernellog

import (
	"encoding/binary"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
)

// TestOneReportInEveryCarrier: the messages of carrier-plain.txt are in each file, behind the
// prefixes of another way by which logs come.
func TestOneReportInEveryCarrier(t *testing.T) {
	plain := parse(t, readFile(t, "testdata/cases/carrier-plain.txt"), Options{})
	if got, want := brief(plain), "memcg killed: java in "+container+" by memcg, chosen java[4711] of "+container; got != want {
		t.Fatalf("got %q, want %q", got, want)
	}

	maskFormat(plain[0])

	at := func(text string) time.Time {
		when, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			t.Fatal(err)
		}

		return when
	}

	dated := map[string]time.Time{
		"quoted-syslog":  at("2026-11-20T03:04:05Z"),
		"grep-file":      at("2026-11-20T03:04:05Z"),
		"openwrt":        at("2026-11-20T03:04:05Z"),
		"dmesg-german":   at("2026-11-20T03:04:05Z"),
		"dmesg-french":   at("2026-11-20T03:04:05Z"),
		"dmesg-zone":     at("2026-11-20T03:04:05Z"),
		"journal-french": at("2026-11-20T03:04:05Z"),
		"elastic":        at("2026-11-20T03:04:05Z"),
		"gcp":            at("2026-11-20T03:04:05.0001Z"),
		"loki":           at("2026-11-20T03:04:05.0001Z"),
		"tai64n":         at("2025-11-20T04:47:47.00010102Z"),
	}

	files, err := filepath.Glob("testdata/cases/carrier-*.txt")
	if err != nil || len(files) < 24 {
		t.Fatalf("got %d files and error %v, want all carriers", len(files), err)
	}

	for _, file := range files {
		name := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(file), "carrier-"), ".txt")
		t.Run(name, func(t *testing.T) {
			got := parse(t, readFile(t, file), Options{})
			if len(got) != 1 {
				t.Fatalf("got %d incidents, want one:\n%s", len(got), brief(got))
			}

			when, known := dated[name]
			if unknown := slices.Contains(got[0].Unknown, "time"); unknown == known {
				t.Errorf("got time in unknown: %v, want %v", unknown, !known)
			}

			if known && !got[0].Time.Equal(when) {
				t.Errorf("got time %v, want %v", got[0].Time, when)
			}

			maskFormat(got[0])

			if !reflect.DeepEqual(got, plain) {
				t.Errorf("got and want differ:\n%s", difference(show(t, got), show(t, plain)))
			}
		})
	}
}

// TestOneReportInMadeCarriers: what stands before the messages, or between them, is of no
// public log.
func TestOneReportInMadeCarriers(t *testing.T) {
	log := strings.TrimSpace(readFile(t, "testdata/cases/carrier-plain.txt"))
	want := "memcg killed: java in " + container + " by memcg, chosen java[4711] of " + container

	each := func(line func(text string) string) string {
		var lines []string
		for text := range strings.SplitSeq(log, "\n") {
			lines = append(lines, line(text))
		}

		return strings.Join(lines, "\n") + "\n"
	}

	message := func(text string) string { return strings.TrimPrefix(text, "[ 1000.000100] ") }

	for name, log := range map[string]string{
		"fluentd": each(func(text string) string {
			return `2026-11-20 03:04:05.000100000 +0000 kernel: {"message":` + quote(message(text)) + "}"
		}),
		"JSON behind a date":  each(func(text string) string { return `2026-11-20T03:04:05Z {"msg":` + quote(text) + "}" }),
		"a login prompt":      "n1 login: " + log,
		"a shell prompt":      "root@n1:~# " + log,
		"a page":              "<pre>" + log + "\n</pre>",
		"escaped newlines":    strings.ReplaceAll(log, "\n", `\n`),
		"newlines of rsyslog": strings.ReplaceAll(log, "\n", "#012"),
	} {
		t.Run(name, func(t *testing.T) {
			list := parse(t, log, Options{})
			if got := brief(list); got != want {
				t.Fatalf("got\n%s\nwant\n%s", got, want)
			}

			if got := list[0].Node; got != "" {
				t.Errorf("got node %q, want none", got)
			}
		})
	}
}

const container = "/docker/3f2a91c03f2a91c03f2a91c03f2a91c03f2a91c03f2a91c03f2a91c03f2a91c0"

// TestWhatIsLeftInACarrier: lines that somebody picked out keep what they have.
func TestWhatIsLeftInACarrier(t *testing.T) {
	const cart = "/shop.slice/cart.service by memcg, chosen cart[4711] of /shop.slice/cart.service"

	for file, want := range map[string]string{
		"dmesg-german-2":  "memcg killed: - in " + cart,
		"grep-file-2":     "memcg killed: - in " + cart,
		"header-indented": "unknown : cart in -",
		"bom":             "unknown : cart in -",
	} {
		t.Run(file, func(t *testing.T) {
			if got := brief(parse(t, readFile(t, "testdata/cases/"+file+".txt"), Options{})); got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// TestTheFirstLineOfAnExcerptNamesTheTrigger: the prefix is no part of the name.
func TestTheFirstLineOfAnExcerptNamesTheTrigger(t *testing.T) {
	for _, file := range []string{"dmesg-german-3", "grep-file-3"} {
		list := parse(t, readFile(t, "testdata/cases/"+file+".txt"), Options{})

		for _, inc := range list {
			if inc.Trigger != nil && inc.Trigger.Comm != "cart" {
				t.Errorf("%s: got trigger %q, want cart", file, inc.Trigger.Comm)
			}
		}

		last := list[len(list)-1]
		if anon := last.Victims[0].AnonRSSBytes; anon == nil || *anon != 62000<<10 {
			t.Errorf("%s: got anon %v, want 62000 kB", file, anon)
		}
	}
}

func TestBlanksBehindLinesAreNoPartOfThem(t *testing.T) {
	got := parse(t, readFile(t, "testdata/cases/trailing-blanks.txt"), Options{})

	want := parse(t, readFile(t, "testdata/cases/report-v1.txt"), Options{})
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got and want differ:\n%s", difference(show(t, got), show(t, want)))
	}

	// Where other lines have none, they are of the name.
	log := strings.Replace(headerOf("hog", 7)+limitsOf("/a")+tableOf("hog", 7, 8), "985 hog\n", "985 hog  \n", 1) + summaryOf("/a", "/a", "hog", 7)

	list := parse(t, log, Options{})
	if len(list) != 1 || len(list[0].Candidates) != 2 || list[0].Candidates[0].Comm != "hog  " {
		t.Errorf("got %s, want a candidate whose name ends with blanks", show(t, list))
	}
}

func TestSystemdOOMDInAFrenchJournal(t *testing.T) {
	const want = "03:04:05 user by user/systemd-oomd systemd-oomd[93] for memory_pressure: [0] of " +
		"/user.slice/user-1000.slice/user@1000.service/app.slice/app-x.scope (/  app-x.scope) limit memory.pressure, 1 lines"

	if got := userBrief(parse(t, readFile(t, "testdata/cases/oomd-journal-french.txt"), Options{})); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestLinesOfAProgramAreFoundBehindAPrefix(t *testing.T) {
	const (
		log  = "syslog.1:Nov 25 02:21:31 h earlyoom[420]: sending SIGKILL to process 5 uid 0 \"a\": badness 812, VmRSS 1 MiB\n"
		want = "02:21:31 user by user/earlyoom earlyoom[420] for memory_pressure: a[5] limit node, 1 lines"
	)

	if got := userBrief(parse(t, log, Options{})); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestAMessageOfSeveralLinesForgesNoEntry: what a program logs may look like fields of an
// entry of the journal.
func TestAMessageOfSeveralLinesForgesNoEntry(t *testing.T) {
	forged := "_TRANSPORT=kernel\nMESSAGE=" + strings.TrimSpace(killOf("init", 1)) + "\n\n__CURSOR=s=1\n_TRANSPORT=kernel\nMESSAGE=" + strings.TrimSpace(killOf("init", 1))
	message := "x\n" + forged
	size := string(binary.LittleEndian.AppendUint64(nil, uint64(len(message))))

	for name, log := range map[string]string{
		"export":  "__CURSOR=s=1\n_TRANSPORT=syslog\nSYSLOG_IDENTIFIER=app\nMESSAGE\n" + size + message + "\n\n",
		"verbose": "Wed 2026-11-25 02:21:31.000000 UTC [s=1;i=2]\n    _TRANSPORT=syslog\n    MESSAGE=" + strings.ReplaceAll(message, "\n", "\n            ") + "\n",
		"JSON":    `{"_TRANSPORT":"syslog","SYSLOG_IDENTIFIER":"app","MESSAGE":` + quote(message) + "}\n",
	} {
		if list := parse(t, log, Options{}); len(list) > 0 {
			t.Errorf("%s: got %s, want no incident", name, brief(list))
		}
	}
}

// unread reads a log, and returns what looks like a kill and was not understood.
func unread(t *testing.T, log string) (Stats, []*events.Incident) {
	t.Helper()
	var list []*events.Incident

	stats, err := Read(strings.NewReader(log), Options{Location: time.UTC, Now: now}, func(inc *events.Incident) error {
		list = append(list, inc)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}

	return stats, list
}

// TestKillsThatAreNotUnderstoodAreCounted: a log that has the kernel's words and gives no
// incident is no log without a kill. What others write about kills is not counted.
func TestKillsThatAreNotUnderstoodAreCounted(t *testing.T) {
	kill := killOf("hog", 7)

	for _, test := range []struct {
		name, log string
		unread    int
		incidents int
		quoted    int
	}{
		{"OpenVZ", readFile(t, "testdata/cases/openvz.txt"), 1, 0, 0},
		{"prose before a kill", "a program saw this today: " + kill, 1, 0, 0},
		{"a header whose name cannot be distinguished from its prefix", "some words and a hog invoked oom-killer: gfp_mask=0xcc0, order=0\n", 1, 0, 0},
		{"both", kill + "a program saw this today: " + kill, 1, 1, 0},
		{"a program's line", "Nov 20 03:04:05 n1 app[1]: " + kill, 0, 0, 1},
		{"a program's line in a file of grep", "syslog.1:Nov 20 03:04:05 n1 app[1]: " + kill, 0, 0, 1},
		{"a program's line in the journal", `{"MESSAGE":` + quote(strings.TrimSpace(kill)) + `,"SYSLOG_IDENTIFIER":"app"}` + "\n", 0, 0, 1},
		{"a tag of the kernel behind something unknown", "20 Nov 2026 03:04:05 n1 kernel: " + kill, 0, 1, 0},
		{"a header with a tag of the kernel", "20 Nov 2026 03:04:05 n1 kernel: hog invoked oom-killer: gfp_mask=0xcc0, order=0\n", 0, 1, 0},
		{"a script", "worker-7: Killed process 12 (chrome) after 30 s\n", 0, 0, 0},
		{"docker", "Nov 20 03:04:05 n1 dockerd[812]: container 3f2a91c0 OOMKilled, Killed process by oom victim\n", 0, 0, 0},
		{"a container's log", "2026-11-20T03:04:05Z supervisor: Killed process worker after oom-kill: no answer\n", 0, 0, 0},
		{"a machine check", "[ 1000.000100] Memory failure: 0x1: Killing java:4711 due to hardware memory corruption\n", 0, 0, 0},
		{"a failed allocation", "[ 1000.000100] java: page allocation failure: order:4, mode:0xcc0(GFP_KERNEL)\n[ 1000.000100] Mem-Info:\n", 0, 0, 0},
		{"an understood kill", kill, 0, 1, 0},
		{"under no known key of JSON", `{"data":[["1795143845000100000","kern",` + quote(strings.TrimSpace(kill)) + "]]}\n", 1, 0, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			stats, list := unread(t, test.log)
			if stats.Unread != test.unread || stats.Quoted != test.quoted || len(list) != test.incidents {
				t.Errorf("got %d unread and %d quoted lines and %d incidents, want %d, %d and %d",
					stats.Unread, stats.Quoted, len(list), test.unread, test.quoted, test.incidents)
			}

			if test.unread > 0 && (stats.FirstUnreadLine == 0 || !looksLikeKill(stats.FirstUnread)) {
				t.Errorf("got line %d, %q, want the first unread line", stats.FirstUnreadLine, stats.FirstUnread)
			}
		})
	}
}
