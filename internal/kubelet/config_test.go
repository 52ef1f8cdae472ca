// SPDX-License-Identifier: Apache-2.0

package kubelet

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/oomtrace/oomtrace/internal/testenv"
)

// process returns the files of a process in /proc.
func process(pid, comm, cgroup string, args ...string) map[string]string {
	dir := "proc/" + pid + "/"

	return map[string]string{
		dir + "comm": comm + "\n", dir + "cgroup": "0::" + cgroup + "\n",
		dir + "cmdline": strings.Join(args, "\x00") + "\x00", dir + "root/": "/",
	}
}

func join(all ...map[string]string) map[string]string {
	sum := map[string]string{}
	for _, m := range all {
		maps.Copy(sum, m)
	}

	return sum
}

const configYAML = `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
cgroupDriver: systemd
evictionHard:
  memory.available: 500Mi
  nodefs.available: "10%"
evictionSoft:
  memory.available: 5%
evictionSoftGracePeriod:
  memory.available: 1m30s
kubeReserved:
  memory: 1Gi
  cpu: 500m
singleProcessOOMKill: true
enforceNodeAllocatable: [pods, kube-reserved]
`

func TestTheConfigurationIsFound(t *testing.T) {
	running := process("900", "kubelet", "/system.slice/kubelet.service", "/usr/bin/kubelet", "--config=/etc/kubelet.yaml",
		"--eviction_soft", "memory.available<700Mi", "--v", "--fail-swap-on=false", "--system-reserved=memory=2Gi,cpu=1")
	for _, test := range []struct {
		name  string
		files map[string]string
		check func(*Config) bool
		err   string
	}{
		{"no kubelet", map[string]string{"proc/1/comm": "systemd\n"}, func(c *Config) bool { return c == nil }, ""},
		{"its file alone", map[string]string{"var/lib/kubelet/config.yaml": configYAML}, func(c *Config) bool {
			return c.PID == 0 && c.Source == "/var/lib/kubelet/config.yaml" && c.CgroupDriver == "systemd" &&
				maps.Equal(c.EvictionHard, map[string]string{"memory.available": "500Mi", "nodefs.available": "10%"}) &&
				c.KubeReserved["memory"] == "1Gi" && *c.SingleProcessOOMKill && slices.Contains(c.EnforceNodeAllocatable, "kube-reserved")
		}, ""},
		{"an empty file means the defaults", map[string]string{"var/lib/kubelet/config.yaml": "kind: KubeletConfiguration\n"}, func(c *Config) bool {
			return maps.Equal(c.EvictionHard, defaultHard) &&
				slices.Equal(c.EnforceNodeAllocatable, []string{"pods"}) && c.SingleProcessOOMKill == nil
		}, ""},
		{"defaults merged", map[string]string{
			"var/lib/kubelet/config.yaml": "mergeDefaultEvictionSettings: true\nevictionHard: {memory.available: 1Gi}\n",
		}, func(c *Config) bool {
			return c.EvictionHard["memory.available"] == "1Gi" && c.EvictionHard["imagefs.available"] == "15%"
		}, ""},
		{"the command line wins", join(running, map[string]string{"etc/kubelet.yaml": configYAML, "var/lib/kubelet/config.yaml": "x: y"}), func(c *Config) bool {
			return c.PID == 900 && c.EvictionHard["memory.available"] == "500Mi" && c.EvictionSoft["memory.available"] == "700Mi" &&
				!*c.FailSwapOn && c.SystemReserved["memory"] == "2Gi" && c.Source == "/etc/kubelet.yaml, command line of kubelet[900]"
		}, ""},
		{"a flag replaces the whole map", process("900", "kubelet", "/", "kubelet", "--eviction-hard=nodefs.available<5%"), func(c *Config) bool {
			return maps.Equal(c.EvictionHard, map[string]string{"nodefs.available": "5%"})
		}, ""},
		{"without a file", process("900", "kubelet", "/", "kubelet"), func(c *Config) bool {
			return maps.Equal(c.EvictionHard, defaultHard)
		}, ""},
		{"a directory of files", join(process("900", "kubelet", "/", "kubelet", "--config", "/a.yaml", "--config-dir=/d"), map[string]string{
			"a.yaml":      "evictionHard: {memory.available: 1Gi}\ncgroupRoot: /x\n",
			"d/20.conf":   "evictionHard: {memory.available: 3Gi}\n",
			"d/10.conf":   "evictionHard: {memory.available: 2Gi, nodefs.available: 1%}\n",
			"d/README.md": ": no yaml\n\t",
		}), func(c *Config) bool {
			return maps.Equal(c.EvictionHard, map[string]string{"memory.available": "3Gi", "nodefs.available": "1%"}) && c.CgroupRoot == "/x"
		}, ""},
		{"one in a pod is not the node's", process("900", "kubelet", "/kubepods/burstable/podx/y", "kubelet", "--eviction-hard=memory.available<9Gi"), func(c *Config) bool {
			return c == nil
		}, ""},
		{"one with a root of its own", join(
			process("900", "kubelet", "/docker/x", "kubelet", "--config=/var/lib/kubelet/config.yaml"),
			map[string]string{"proc/900/root/": "../../nested", "nested/var/lib/kubelet/config.yaml": "cgroupRoot: /nested\n"},
		), func(c *Config) bool { return c.CgroupRoot == "/nested" }, ""},
		{"a link out of its root", join(
			process("900", "kubelet", "/docker/x", "kubelet", "--config=/config.yaml"),
			map[string]string{"proc/900/root/": "../../nested", "nested/config.yaml/": "../secret", "nested/x": "", "secret": "cgroupRoot: /secret\n"},
		), nil, "path escapes"},
		{"its file is gone", process("900", "kubelet", "/", "kubelet", "--config=/gone.yaml"), nil, "run as root"},
		{"no YAML", map[string]string{"var/lib/kubelet/config.yaml": "\t- {"}, nil, "parse the kubelet's configuration /var/lib"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, err := Find(testenv.Tree(t, test.files))
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Fatalf("got %+v, %v, want error %q", c, err, test.err)
				}

				return
			}

			if err != nil || !test.check(c) {
				t.Errorf("got %+v, %v, want another configuration", c, err)
			}
		})
	}
}

func FuzzFlags(f *testing.F) {
	f.Add("--eviction-hard=memory.available<1Gi,x\x00--a\x00b\x00--=\x00-")
	f.Fuzz(func(t *testing.T, line string) {
		if _, err := parse(nil, parseFlags(strings.Split(line, "\x00")), nil); err != nil {
			t.Errorf("got %v, want none: flags that do not parse are left out", err)
		}
	})
}
