// SPDX-License-Identifier: Apache-2.0

package kernellog

import (
	"fmt"
	"strings"
	"testing"

	"github.com/oomtrace/oomtrace/internal/events"
)

// followedBrief returns a line for each incident, with what followed.
func followedBrief(list []*events.Incident) string {
	var out []string

	for _, inc := range list {
		who, by := "nobody", "?"

		if len(inc.Victims) > 0 {
			v := &inc.Victims[0]
			if who = fmt.Sprintf("%s[%d]", v.Comm, v.PID); v.PID == 0 && v.Workload != nil {
				who = v.Workload.Unit
			}
		}

		if inc.Killer != nil {
			by = inc.Killer.Path
		}

		line := fmt.Sprintf("%s %s by %s", inc.Scope, who, by)

		for _, c := range inc.Followed {
			after := "?"
			if c.AfterNS != nil {
				after = fmt.Sprint(*c.AfterNS / 1e9)
			}

			line += fmt.Sprintf("; +%s %s %s", after, c.Kind, c.Text)
		}

		out = append(out, line)
	}

	return strings.Join(out, "\n")
}

// at returns lines of a syslog; each starts with its second, up to 99 minutes of it, and its
// program.
func syslogOf(lines ...string) string {
	var b strings.Builder

	for _, line := range lines {
		seconds, rest, _ := strings.Cut(line, " ")

		var n int
		fmt.Sscan(seconds, &n)
		fmt.Fprintf(&b, "Nov 20 %02d:%02d:%02d %s\n", 3+n/3600, n/60%60, n%60, rest)
	}

	return b.String()
}

const (
	webKill = "0 n1 kernel: oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/system.slice/web.service," +
		"task_memcg=/system.slice/web.service,task=worker,pid=4711,uid=1000"
	webKilled = "0 n1 kernel: Memory cgroup out of memory: Killed process 4711 (worker) total-vm:900000kB, anon-rss:480000kB, file-rss:2000kB, " +
		"shmem-rss:0kB, UID:1000 pgtables:2000kB oom_score_adj:0"
	webMark    = "0 n1 systemd[1]: web.service: A process of this unit has been killed by the OOM killer."
	webStop    = "90 n1 systemd[1]: web.service: State 'stop-sigterm' timed out. Killing."
	webRest    = "90 n1 systemd[1]: web.service: Killing process 4700 (gunicorn) with signal SIGKILL."
	webResult  = "90 n1 systemd[1]: web.service: Failed with result 'oom-kill'."
	webRestart = "95 n1 systemd[1]: web.service: Scheduled restart job, restart counter is at 1."

	stopped = "; +90 unit_stop systemd had stopped web.service, whose processes did not end in time"
	killed  = "; +90 killed systemd killed gunicorn[4700] of web.service"
	failed  = "; +90 unit_failed web.service failed with result 'oom-kill'"
	restart = "; +95 restart systemd restarts web.service"
)

func TestWhatSystemdLoggedFollowsTheKillInItsUnit(t *testing.T) {
	const worker = "memcg worker[4711] by memcg"

	for _, test := range []struct {
		name  string
		lines []string
		want  string
	}{
		{"the rest of the unit is stopped", []string{webKill, webKilled, webMark, webStop, webRest, webResult, webRestart},
			worker + stopped + killed + failed + restart},
		{"systemd is first", []string{webMark, webKill, webKilled, webRest}, worker + killed},
		{"the mark is not in the log", []string{webKill, webKilled, webRest, webResult}, worker + killed + failed},
		{"v256", []string{webKill, webKilled, "0 n1 systemd[1]: web.service: The kernel OOM killer killed some processes in this unit.", webResult}, worker + failed},
		{"a scope", []string{
			strings.ReplaceAll(webKill, "web.service", "a.scope"), webKilled,
			"90 n1 systemd[9]: a.scope: Stopping timed out. Killing.",
		}, worker + "; +90 unit_stop systemd had stopped a.scope, whose processes did not end in time"},
		{"another unit", []string{webKill, webKilled, strings.ReplaceAll(webRest, "web.service", "db.service")}, worker},
		{"a unit of that name in a container", []string{strings.ReplaceAll(webKill, "=/system.slice", "=/lxc/202/system.slice"), webKilled, webRest}, worker},
		{"below the unit", []string{strings.ReplaceAll(webKill, "web.service,", "web.service/worker,"), webKilled, webRest}, worker + killed},
		{"another host", []string{webKill, webKilled, strings.ReplaceAll(webRest, " n1 ", " n2 ")}, worker},
		{"too long after", []string{webKill, webKilled, strings.Replace(webRest, "90", "700", 1)}, worker},
		{"the unit, and those that contain it", []string{
			webKill, webKilled, webMark, strings.ReplaceAll(webMark, "web.service", "system.slice"),
			"0 n1 systemd[1]: other.slice: A process of this unit has been killed by the OOM killer.",
		}, worker},
		{"two kills, each with its own", []string{
			webKill, webKilled, webMark, strings.Replace(webRestart, "95", "5", 1), strings.Replace(webKill, "0", "60", 1),
			strings.Replace(strings.Replace(webKilled, "0", "60", 1), "4711", "4711", 1), strings.Replace(webMark, "0", "60", 1),
			strings.Replace(webRest, "90", "61", 1),
		}, worker + "; +5 restart systemd restarts web.service\n" + worker + "; +1 killed systemd killed gunicorn[4700] of web.service"},
		{"two kills, without marks", []string{
			webKill, webKilled, strings.Replace(webResult, "90", "1", 1), strings.Replace(webRestart, "95", "5", 1),
			strings.Replace(webKill, "0", "60", 1), strings.Replace(webKilled, "0", "60", 1), strings.Replace(webResult, "90", "62", 1),
		}, worker + "; +1 unit_failed web.service failed with result 'oom-kill'; +5 restart systemd restarts web.service\n" +
			worker + "; +2 unit_failed web.service failed with result 'oom-kill'"},
		{"a kill without its cgroup", []string{webKilled, webMark, webRest}, worker + killed},
		{"two kills without their cgroups", []string{webKilled, strings.ReplaceAll(webKilled, "4711", "4712"), webMark, webRest},
			"memcg worker[4711] by memcg\nmemcg worker[4712] by memcg"},
		{"a stop without an OOM kill", []string{webStop, webRest, webRestart}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := followedBrief(parse(t, syslogOf(test.lines...), Options{})); got != test.want {
				t.Errorf("got\n%s\nwant\n%s", got, test.want)
			}
		})
	}
}

// TestUnitWithoutTheKernelsReport: systemd's lines alone show that there was a kill, and little of it.
func TestUnitWithoutTheKernelsReport(t *testing.T) {
	for _, test := range []struct {
		name  string
		lines []string
		want  string
	}{
		{"the mark and the result", []string{webMark, "0 n1 systemd[1]: web.service: Main process exited, code=killed, status=9/KILL", webRest, webResult},
			"unknown web.service by unknown" + killed + failed},
		{"the result alone, which systemd-oomd may have caused", []string{webResult},
			"unknown web.service by ?; +? unit_failed web.service failed with result 'oom-kill'"},
		{"each kill once", []string{webMark, strings.Replace(webMark, "0", "60", 1)}, "unknown web.service by unknown\nunknown web.service by unknown"},
		{"the units that contain it", []string{
			webMark, strings.ReplaceAll(webMark, "web.service", "app.slice"), strings.ReplaceAll(webMark, "web.service", "user@1000.service"),
		}, "unknown web.service by unknown"},
		{"a slice alone", []string{strings.ReplaceAll(webMark, "web.service", "app.slice")}, "unknown app.slice by unknown"},
		{"after systemd-oomd", []string{
			"0 n1 systemd-oomd[8]: Killed /system.slice/web.service due to memory pressure for /system.slice being 63.21% > 50.00% for > 20s with reclaim activity",
			"0 n1 systemd[1]: web.service: systemd-oomd killed 12 process(es) in this unit.", "1 n1 systemd[1]: web.service: Failed with result 'oom-kill'.",
		}, "user web.service by systemd-oomd; +1 unit_failed web.service failed with result 'oom-kill'"},
		{"other results", []string{"0 n1 systemd[1]: web.service: Failed with result 'timeout'."}, ""},
		{"a quote of it", []string{"0 n1 web[9]: web.service: Failed with result 'oom-kill'."}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := followedBrief(parse(t, syslogOf(test.lines...), Options{})); got != test.want {
				t.Errorf("got\n%s\nwant\n%s", got, test.want)
			}
		})
	}
}

func TestWhatTheKubeletLoggedFollowsTheKillInItsContainer(t *testing.T) {
	const (
		uid  = "6ba0af16-7d2c-4f1e-9b3a-0c5d8e2f1a47"
		pod  = "/kubepods/burstable/pod" + uid
		klog = "n1 kubelet[900]: I1120 03:04:05.000152    900 prober.go:107] "
	)
	id := strings.Repeat("3f2a91c0", 8)
	kill := "0 n1 kernel: oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=" + pod + "/" + id +
		",task_memcg=" + pod + "/" + id + ",task=worker,pid=4711,uid=1000"
	probe := `20 ` + klog + `"Probe failed" probeType="Liveness" pod="shop/cart-1" podUID="` + uid + `" containerName="cart" probeResult="failure"`
	stop := `40 ` + klog + `"Killing container with a grace period" pod="shop/cart-1" podUID="` + uid + `" containerName="cart" containerID="containerd://` + id + `" gracePeriod=30`
	start := `75 ` + klog + `"SyncLoop (PLEG): event for pod" pod="shop/cart-1" event={"ID":"` + uid + `","Type":"ContainerStarted","Data":"4a"}`

	const worker = "memcg worker[4711] by memcg"

	for _, test := range []struct {
		name  string
		lines []string
		want  string
	}{
		{"a probe failed, and the container is restarted", []string{kill, webKilled, probe, stop, start},
			worker + "; +20 probe liveness probe of container cart failed; +40 killed the kubelet stopped container cart; " +
				"+75 restart the kubelet started a container of the pod"},
		{"a readiness probe", []string{kill, webKilled, strings.Replace(probe, "Liveness", "Readiness", 1)}, worker},
		{"another container of the pod", []string{kill, webKilled, strings.Replace(stop, id, strings.Repeat("4a", 32), 1)}, worker},
		{"another pod", []string{kill, webKilled, strings.Replace(probe, "6ba0af16", "7ba0af16", 1)}, worker},
		{"no kill", []string{probe, stop, start}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := followedBrief(parse(t, syslogOf(test.lines...), Options{})); got != test.want {
				t.Errorf("got\n%s\nwant\n%s", got, test.want)
			}
		})
	}
}

// TestStopOfAUnitInAJournal is the whole case.
func TestStopOfAUnitInAJournal(t *testing.T) {
	got := followedBrief(parse(t, readFile(t, "testdata/cases/systemd-stop-journal.txt"), Options{}))
	if want := "memcg worker[4711] by memcg" + stopped + killed + failed; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestManyKillsKeepWhatFollowedEach: sequels wait for their kill in bounded memory.
func TestManyKillsKeepWhatFollowedEach(t *testing.T) {
	var lines []string

	for i := range 300 {
		unit, second := fmt.Sprintf("u%d.service", i), fmt.Sprint(i*5)
		one := func(line string) string {
			return strings.Replace(strings.ReplaceAll(line, "web.service", unit), line[:strings.Index(line, " ")], second, 1)
		}
		lines = append(lines, one(webKill), one(webKilled), one(webMark), one(webRest))
	}

	list := parse(t, syslogOf(lines...), Options{})
	if len(list) != 300 {
		t.Fatalf("got %d incidents, want 300", len(list))
	}

	for i, inc := range list {
		if want := fmt.Sprintf("systemd killed gunicorn[4700] of u%d.service", i); len(inc.Followed) != 1 || inc.Followed[0].Text != want {
			t.Fatalf("incident %d: got %+v, want %q", i, inc.Followed, want)
		}
	}
}
