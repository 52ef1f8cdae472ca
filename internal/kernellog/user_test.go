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
		line += fmt.Sprintf(", %d lines", len(k.Evidence))
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
				"(/  app-x.scope) limit memory.pressure, 2 lines",
		},
		{
			"systemd-oomd, swap; systemd's line first",
			"Nov 25 02:21:31 h systemd[1]: batch.service: systemd-oomd killed 3 process(es) in this unit.\n" +
				"Nov 25 02:21:32 h systemd-oomd[811]: Killed /system.slice/batch.service due to memory used (16000000000) / total (16500000000) and swap used " +
				"(8000000000) / total (8100000000) being more than 90.00%\n",
			"02:21:31 user by user/systemd-oomd systemd-oomd[0] for memory_pressure: [0] of /system.slice/batch.service (/  batch.service), 2 lines",
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
		{"others", "Nov 25 02:21:30 n sshd[90]: Killed process by oom victim SIGKILL Eviction\n", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := userBrief(parse(t, test.log, Options{})); got != test.want {
				t.Errorf("got\n%s\nwant\n%s", got, test.want)
			}
		})
	}
}
