// SPDX-License-Identifier: Apache-2.0

package kernellog

import (
	"fmt"
	"strings"
	"testing"

	"github.com/oomtrace/oomtrace/internal/events"
)

func userBrief(list []*events.Incident) string {
	var out []string

	for _, inc := range list {
		k := inc.Killer

		line := fmt.Sprintf("%s %s by %s/%s %s[%d] for %s:", inc.Time.Format("15:04:05"), inc.Scope, k.Kind, k.Path, k.Comm, k.PID, k.Reason)
		for _, v := range inc.Victims {
			line += fmt.Sprintf(" %s[%d]", v.Comm, v.PID)
			if v.Cgroup != nil {
				line += " of " + v.Cgroup.Path
			}

			if w := v.Workload; w != nil {
				line += fmt.Sprintf(" (%s/%s %s %s)", w.Namespace, w.Pod, w.PodUID, w.Unit)
			}
		}

		if inc.Limiter != nil {
			line += " limit " + inc.Limiter.Which
		}

		if k.Processes != nil {
			line += fmt.Sprintf(", %d processes", *k.Processes)
		}

		lines := 0

		for _, e := range k.Evidence {
			if e.What == "log_line" {
				lines++
			}
		}

		line += fmt.Sprintf(", %d lines", lines)
		out = append(out, line)
	}

	return strings.Join(out, "\n")
}

func TestKillersInUserSpaceAreRecognized(t *testing.T) {
	const uid = "6ba0af16-1c3e-4d5f-8a9b-0c1d2e3f4a5b"
	for _, test := range []struct{ name, log, want string }{
		{
			"systemd-oomd, pressure",
			"Nov 25 02:21:31 h systemd-oomd[811]: Killed /user.slice/user-1000.slice/user@1000.service/app.slice/app-x.scope due to memory pressure for " +
				"/user.slice/user-1000.slice/user@1000.service being 63.21% > 50.00% for > 20s with reclaim activity\n" +
				"Nov 25 02:21:31 h systemd[1]: app-x.scope: systemd-oomd killed 12 process(es) in this unit.\n",
			"02:21:31 user by user/systemd-oomd systemd-oomd[811] for memory_pressure: [0] of /user.slice/user-1000.slice/user@1000.service/app.slice/app-x.scope " +
				"(/  app-x.scope) limit memory.pressure, 12 processes, 2 lines",
		},
		{
			"systemd-oomd, swap; systemd's line first",
			"Nov 25 02:21:31 h systemd[1]: batch.service: systemd-oomd killed 3 process(es) in this unit.\n" +
				"Nov 25 02:21:32 h systemd-oomd[811]: Killed /system.slice/batch.service due to memory used (16000000000) / total (16500000000) and swap used " +
				"(8000000000) / total (8100000000) being more than 90.00%\n",
			"02:21:31 user by user/systemd-oomd systemd-oomd[0] for swap: [0] of /system.slice/batch.service (/  batch.service) limit node, 3 processes, 2 lines",
		},
		{
			"systemd-oomd 248, swap alone",
			"Nov 25 02:21:32 h systemd-oomd[811]: Killed /a.slice/b.scope due to swap used (8000000000) / total (8100000000) being more than 90.00%\n",
			"02:21:32 user by user/systemd-oomd systemd-oomd[811] for swap: [0] of /a.slice/b.scope (/  b.scope) limit node, 1 lines",
		},
		{
			"systemd-oomd 260, with a hook before the kill",
			"Nov 25 02:21:30 h systemd-oomd[811]: Invoking oomd prekill hook profile for cgroup /system.slice/nix-daemon.service\n" +
				"Nov 25 02:21:30 h systemd-oomd[811]: Marked /system.slice/nix-daemon.service for killing due to memory pressure for /system.slice " +
				"being 65.15% > 50.00% for > 20s with reclaim activity\n" +
				"Nov 25 02:21:32 h systemd-oomd[811]: oomd prekill hook finished for cgroup /system.slice/nix-daemon.service\n" +
				"Nov 25 02:21:32 h systemd[1]: nix-daemon.service: systemd-oomd killed 20 process(es) in this unit.\n",
			"02:21:30 user by user/systemd-oomd systemd-oomd[811] for memory_pressure: [0] of /system.slice/nix-daemon.service (/  nix-daemon.service) " +
				"limit memory.pressure, 20 processes, 4 lines",
		},
		{
			"systemd-oomd 261, a rule",
			"Jul 22 08:34:22 h systemd-oomd[62078]: Rule 'low_memory' conditions met for cgroup /user.slice/app.slice (lasting 1s), taking action kill-by-swap\n" +
				"Jul 22 08:34:22 h systemd-oomd[62078]: Considered 31 cgroups for killing, top candidates were:\n" +
				"Jul 22 08:34:23 h systemd[1]: run-p63341.service: systemd-oomd killed 3 process(es) in this unit.\n",
			"08:34:23 user by user/systemd-oomd systemd-oomd[0] for rule: [0] (/  run-p63341.service), 3 processes, 2 lines",
		},
		{
			"systemd-oomd 261, a rule after which nothing dies",
			"Jul 22 08:34:22 h systemd-oomd[62078]: Rule 'a' conditions met for cgroup /user.slice/app.slice for 30s, taking action kill-all\n", "",
		},
		{
			"systemd-oomd, a rule of another cgroup",
			"Jul 22 08:34:22 h systemd-oomd[8]: Rule 'a' conditions met for cgroup /b.slice for 30s, taking action kill-all\n" +
				"Jul 22 08:34:22 h systemd-oomd[8]: Killed /a.slice/b.scope due to memory pressure for /a.slice being 65.15% > 50.00% for > 20s with reclaim activity\n",
			"08:34:22 user by user/systemd-oomd systemd-oomd[8] for memory_pressure: [0] of /a.slice/b.scope (/  b.scope) limit memory.pressure, 1 lines",
		},
		{
			"systemd-oomd, its reason in another log",
			"Nov 25 02:21:31 h systemd[1]: batch.service: systemd-oomd killed some process(es) in this unit.\n",
			"02:21:31 user by user/systemd-oomd systemd-oomd[0] for : [0] (/  batch.service), 1 lines",
		},
		{
			"systemd-oomd, a dry run",
			"Nov 25 02:21:31 h systemd-oomd[1]: oomd dry-run: Would have tried to kill /sys/fs/cgroup/a.slice and all its descendants\n", "",
		},
		{
			"earlyoom, escalated",
			"Nov 25 02:21:30 h earlyoom[420]: low memory! at or below SIGTERM limits: mem 10.00%, swap 10.00%\n" +
				"Nov 25 02:21:31 h earlyoom[420]: sending SIGTERM to process 4711 uid 1000 \"web \"x\" ct\": oom_score 812, oom_score_adj 300, VmRSS 2245 MiB, cmdline \"/usr/bin/x\"\n" +
				"Nov 25 02:21:34 h earlyoom[420]: sending SIGKILL to process 4711 uid 1000 \"web \"x\" ct\": badness 812, VmRSS 2245 MiB\n",
			"02:21:31 user by user/earlyoom earlyoom[420] for memory_pressure: web \"x\" ct[4711] limit node, 3 lines",
		},
		{
			"earlyoom without a prefix", "sending SIGKILL to process 5 uid 0 \"a\": badness 812, VmRSS 1 MiB\n",
			"00:00:00 user by user/earlyoom earlyoom[0] for memory_pressure: a[5] limit node, 1 lines",
		},
		{
			"earlyoom 1.9, with what was left",
			"Nov 25 02:21:30 h earlyoom[420]: mem avail:   381 of  7857 MiB ( 4.86%), swap free:    1 of 2047 MiB ( 0.10%)\n" +
				"Nov 25 02:21:30 h earlyoom[420]: low memory! at or below SIGTERM limits: mem 10.00%, swap 10.00%\n" +
				"Nov 25 02:21:30 h earlyoom[420]: sending SIGTERM to process 7 uid 1000 \"web\": oom_score 812, oom_score_adj 300, VmRSS 2245 MiB, cmdline \"web\"\n" +
				"Nov 25 02:21:31 h earlyoom[420]: escalating to SIGKILL after 0.512 seconds\n",
			"02:21:30 user by user/earlyoom earlyoom[420] for memory_pressure: web[7] limit node, 4 lines",
		},
		{
			"earlyoom 1.3, without uid", "Nov 25 02:21:31 h earlyoom[420]: sending SIGTERM to process 5 \"a\": badness 812, VmRSS 1 MiB\n",
			"02:21:31 user by user/earlyoom earlyoom[420] for memory_pressure: a[5] limit node, 1 lines",
		},
		{
			"earlyoom 1.2", "Nov 25 02:21:30 h earlyoom[420]: Low memory! At or below sigkill limits (mem: 10 %, swap: 10 %)\n" +
				"Nov 25 02:21:31 h earlyoom[420]: Killing process 'it's' with signal 9, pid: 5, badness: 812, VmRSS: 1 MiB\n",
			"02:21:31 user by user/earlyoom earlyoom[420] for memory_pressure: it's[5] limit node, 2 lines",
		},
		{
			"earlyoom 1.1", "Nov 25 02:21:31 h earlyoom[420]: Killing process: a b, pid: 5, badness: 812, VmRSS: 1 MiB\n",
			"02:21:31 user by user/earlyoom earlyoom[420] for memory_pressure: a b[5] limit node, 1 lines",
		},
		{
			"earlyoom 1.0", "Nov 25 02:21:31 h earlyoom[420]: Out of memory! avail: 1 MiB < min: 2 MiB\nNov 25 02:21:31 h earlyoom[420]: Killing process 5 a b\n",
			"02:21:31 user by user/earlyoom earlyoom[420] for memory_pressure: a b[5] limit node, 2 lines",
		},
		{
			"earlyoom, a dry run",
			"Nov 25 02:21:31 h earlyoom[420]: sending SIGTERM to process 5 uid 0 \"a\": badness 812, VmRSS 1 MiB\n" +
				"Nov 25 02:21:31 h earlyoom[420]: dryrun, not actually sending any signal\n", "",
		},
		{
			"earlyoom, not permitted",
			"Nov 25 02:21:31 h earlyoom[420]: sending SIGTERM to process 5 uid 0 \"a\": badness 812, VmRSS 1 MiB\n" +
				"Nov 25 02:21:31 h earlyoom[420]: kill failed: Operation not permitted\n", "",
		},
		{"earlyoom, self-test", "Nov 25 02:21:31 h earlyoom[420]: sending 0 (no-op signal) to process 5 uid 0 \"a\": badness 812, VmRSS 1 MiB\n", ""},
		{
			"oomd, from /dev/kmsg",
			"12,901,5000000,-;oomd kill: 64.22 46.12 18.24 system.slice/cg.service 2468151296 ruleset:[protect] detectorgroup:[mem] killer:kill_by_memory_size v2\n" +
				"12,902,6000000,-;oomd kill: 64.22 46.12 18.24 system.slice/cg.service 2468151296 ruleset:[protect] detectorgroup:[mem] killer:(dry)kill v2\n",
			"00:00:05 user by user/oomd oomd[0] for memory_pressure: [0] of /system.slice/cg.service (/  cg.service), 1 lines",
		},
		{
			"Talos",
			"user: warning: [2026-08-11T17:20:38.123Z]: [talos] OOM controller triggered {\"component\": \"controller-runtime\"}\n" +
				"user: warning: [2026-08-11T17:20:38.523Z]: [talos] Sending SIGKILL to cgroup {\"component\": \"controller-runtime\", " +
				"\"cgroup\": \"/sys/fs/cgroup/kubepods/besteffort/pod" + uid + "\"}\n" +
				"user: warning: [2026-08-11T17:20:39.023Z]: [talos] victim processes: {\"processes\": [12, 13]}\n",
			"17:20:38 user by user/talos talos[0] for memory_pressure: [12] of /kubepods/besteffort/pod" + uid + " (/ " + uid + " ) [13] of " +
				"/kubepods/besteffort/pod" + uid + " (/ " + uid + " ) limit node, 2 lines",
		},
		{
			"the kubelet",
			"Nov 25 02:21:30 n kubelet[900]: I1125 02:21:30.000152    900 eviction_manager.go:369] \"Eviction manager: must evict pod(s) to reclaim\" resourceName=\"memory\"\n" +
				"Nov 25 02:21:30 n kubelet[900]: I1125 02:21:30.000352    900 eviction_manager.go:592] \"Evicting pod\" pod=\"shop/cart-1\" podUID=\"" + uid + "\" message=\"low\"\n" +
				"Nov 25 02:21:33 n kubelet[900]: I1125 02:21:33.445172    900 eviction_manager.go:595] \"Eviction manager: pod is evicted successfully\" pod=\"shop/cart-1\"\n",
			"02:21:33 user by user/runtime kubelet[900] for eviction: [0] (shop/cart-1 " + uid + " ) limit node, 2 lines",
		},
		{
			"the kubelet, for a disk",
			"Nov 25 02:21:30 n kubelet[900]: I1125 02:21:30.000152    900 eviction_manager.go:369] \"Eviction manager: must evict pod(s) to reclaim\" resourceName=\"ephemeral-storage\"\n" +
				"Nov 25 02:21:33 n kubelet[900]: I1125 02:21:33.445172    900 eviction_manager.go:595] \"Eviction manager: pod is evicted successfully\" pod=\"shop/cart-1\"\n",
			"",
		},
		{
			"the kubelet, before 1.20",
			"Nov 25 02:21:30 n kubelet[900]: I1125 02:21:30.000152    900 eviction_manager.go:362] eviction manager: must evict pod(s) to reclaim memory\n" +
				"Nov 25 02:21:33 n kubelet[900]: I1125 02:21:33.445172    900 eviction_manager.go:567] eviction manager: pod cart-1_shop(" + uid + ") is evicted successfully\n",
			"02:21:33 user by user/runtime kubelet[900] for eviction: [0] (shop/cart-1 " + uid + " ) limit node, 2 lines",
		},
		{
			"the kubelet, in JSON",
			"Nov 25 02:21:30 n kubelet[900]: {\"ts\":1764037290000.2,\"caller\":\"eviction/eviction_manager.go:369\",\"msg\":\"Eviction manager: must evict pod(s) to reclaim\",\"v\":0,\"resourceName\":\"memory\"}\n" +
				"Nov 25 02:21:33 n kubelet[900]: {\"ts\":1764037293000.2,\"caller\":\"eviction/eviction_manager.go:595\",\"msg\":\"Eviction manager: pod is evicted successfully\",\"v\":0,\"pod\":{\"name\":\"cart-1\",\"namespace\":\"shop\"}}\n",
			"02:21:33 user by user/runtime kubelet[900] for eviction: [0] (shop/cart-1  ) limit node, 2 lines",
		},
		{
			"nohang", "Nov 25 02:21:30 n nohang[90]: Implementing a corrective action:\nNov 25 02:21:30 n nohang[90]:   Sending SIGTERM to the victim\n",
			"02:21:30 user by user/nohang nohang[90] for memory_pressure: [0], 1 lines",
		},
		{
			"nohang 0.3",
			"Nov 25 02:21:30 h nohang[90]: Memory status that requires corrective actions:\n" +
				"Nov 25 02:21:30 h nohang[90]:   MemAvailable [383 MiB, 5.0 %] <= soft_threshold_min_mem [384 MiB, 5.0 %]\n" +
				"Nov 25 02:21:30 h nohang[90]:   SwapFree [104 MiB, 5.1 %] <= soft_threshold_min_swap [205 MiB, 10.0 %]\n" +
				"Nov 25 02:21:30 h nohang[90]: TOP printed in 1ms; process with highest badness:\n" +
				"Nov 25 02:21:30 h nohang[90]:   PID: 903309, name: mysqld, badness: 849\n" +
				"Nov 25 02:21:30 h nohang[90]: Victim status (found in 2ms):\n" +
				"Nov 25 02:21:30 h nohang[90]:   PID:       903309, name: my,sqld, state: S (sleeping), EUID: 27, SID: 1 (a), lifetime: 2min\n" +
				"Nov 25 02:21:30 h nohang[90]:   cgroup_v1: \n" +
				"Nov 25 02:21:30 h nohang[90]:   cgroup_v2: /system.slice/mysqld.service\n" +
				"Nov 25 02:21:30 h nohang[90]: Implementing a corrective action:\n" +
				"Nov 25 02:21:30 h nohang[90]:   Sending SIGTERM to the victim\n" +
				"Nov 25 02:21:30 h nohang[90]: OK; total response time: 5ms\n",
			"02:21:30 user by user/nohang nohang[90] for memory_pressure: my,sqld[903309] of /system.slice/mysqld.service (/  mysqld.service), 3 lines",
		},
		{
			"nohang before 0.2, escalated",
			"Nov 25 02:21:30 h nohang[90]:   PID: 12297, Name: tail, badness: 727\n" +
				"Nov 25 02:21:30 h nohang[90]:   Send SIGTERM to the victim; total response time: 13246 ms\n" +
				"Nov 25 02:21:33 h nohang[90]:   PID: 12297, Name: tail, badness: 727\n" +
				"Nov 25 02:21:33 h nohang[90]:   Send SIGKILL to the victim; total response time: 13246 ms\n",
			"02:21:30 user by user/nohang nohang[90] for memory_pressure: tail[12297], 2 lines",
		},
		{
			"nohang 0.1",
			"Nov 25 02:21:30 h nohang[90]:   Victim is tail, pid: 5, badness: 8, VmRSS: 1 MiB, VmSwap: 0 MiB\n" +
				"Nov 25 02:21:30 h nohang[90]:   Sending SIGKILL to the victim; OK; response time: 1 ms\n",
			"02:21:30 user by user/nohang nohang[90] for memory_pressure: tail[5], 1 lines",
		},
		{
			"nohang, a block without a kill, and a victim that is not in the log",
			"Nov 25 02:21:30 h nohang[90]:   PID: 5, name: tail, badness: 727\n" +
				"Nov 25 02:21:30 h nohang[90]: Thresholds is not exceeded now\n" +
				"Nov 25 02:21:31 h nohang[90]:   Sending SIGKILL to the victim\n",
			"02:21:31 user by user/nohang nohang[90] for memory_pressure: [0], 1 lines",
		},
		{
			"nohang, not permitted",
			"Nov 25 02:21:30 h nohang[90]:   Sending SIGKILL to the victim\nNov 25 02:21:30 h nohang[90]: Cannot send a signal: PermissionError\n", "",
		},
		{
			"oomd, for swap",
			"[ 5000.000001] oomd kill: 64.22 46.12 18.24 a.slice 2468151296 ruleset:[protect] detectorgroup:[swap low] killer:kill_by_swap_usage v2\n",
			"01:23:20 user by user/oomd oomd[0] for swap: [0] of /a.slice (/  a.slice), 1 lines",
		},
		{"others", "Nov 25 02:21:30 n sshd[90]: Killed process by oom victim SIGKILL Eviction\n", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := userBrief(parse(t, test.log, Options{})); got != test.want {
				t.Errorf("got\n%s\nwant\n%s", got, test.want)
			}
		})
	}
}

// TestCasesOfKillersInUserSpace are logs of whole nodes, of which the first incident counts.
func TestCasesOfKillersInUserSpace(t *testing.T) {
	for name, want := range map[string]string{
		"evicted-unknown": "03:04:05 user by user/runtime kubelet[129] for eviction: [0] (shop/cart-1  ), 1 lines",
		"oomd-swap": "03:04:05 user by user/systemd-oomd systemd-oomd[3562] for swap: [0] of " +
			"/user.slice/user-1000.slice/user@1000.service/app.slice/app-x.scope (/  app-x.scope) limit node, 2104 processes, 2 lines",
		"nohang": "03:04:05 user by user/nohang nohang[700] for memory_pressure: rustc[35393] of " +
			"/user.slice/user-1000.slice/session-2.scope (/  session-2.scope), 1 lines",
	} {
		if got := userBrief(parse(t, readFile(t, "testdata/cases/"+name+".txt"), Options{})); got != want {
			t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
		}
	}
}

// TestSwapOfSystemdOOMD has the node's memory and swap as systemd-oomd compared them.
func TestSwapOfSystemdOOMD(t *testing.T) {
	inc := parse(t, readFile(t, "testdata/cases/oomd-swap.txt"), Options{})[0]

	l := inc.Limiter
	if l == nil || l.LimitBytes == nil || *l.LimitBytes != 16474247168 || *l.UsageBytes != 16109408256 ||
		*l.SwapLimitBytes != 2147479552 || *l.SwapUsageBytes != 1982627840 {
		t.Errorf("got limiter %+v, want the node's memory and swap", l)
	}

	if got, want := inc.Killer.Evidence[2].Value, "92.3 % of 2147479552 bytes, threshold 90.00%"; got != want {
		t.Errorf("got evidence %q, want %q", got, want)
	}
}
