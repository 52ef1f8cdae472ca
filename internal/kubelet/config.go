// SPDX-License-Identifier: Apache-2.0

package kubelet

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"sigs.k8s.io/yaml"
)

// Config is the part of a kubelet's configuration (kubelet.config.k8s.io/v1beta1) that
// concerns memory, as it is in force: defaults, files, and the command line over them.
type Config struct {
	EvictionHard              map[string]string `json:"evictionHard"`
	EvictionSoft              map[string]string `json:"evictionSoft"`
	EvictionSoftGracePeriod   map[string]string `json:"evictionSoftGracePeriod"`
	EvictionMinimumReclaim    map[string]string `json:"evictionMinimumReclaim"`
	EvictionMaxPodGracePeriod int               `json:"evictionMaxPodGracePeriod"` // seconds
	SystemReserved            map[string]string `json:"systemReserved"`
	KubeReserved              map[string]string `json:"kubeReserved"`
	EnforceNodeAllocatable    []string          `json:"enforceNodeAllocatable"`
	// SingleProcessOOMKill keeps memory.oom.group off the containers. Nil: the
	// kubelet's default, which is on with cgroup v1 and off with v2.
	SingleProcessOOMKill *bool  `json:"singleProcessOOMKill"`
	CgroupDriver         string `json:"cgroupDriver"`
	CgroupRoot           string `json:"cgroupRoot"`
	FailSwapOn           *bool  `json:"failSwapOn"`
	MemorySwap           struct {
		SwapBehavior string `json:"swapBehavior"`
	} `json:"memorySwap"`
	MergeDefaultEvictionSettings *bool `json:"mergeDefaultEvictionSettings"`

	// PID is the running kubelet's, 0 if none runs.
	PID int `json:"-"`
	// Source names the files and the command line that it was read from.
	Source string `json:"-"`
}

// defaultHard are the hard thresholds of a kubelet on Linux whose configuration has
// none (pkg/kubelet/eviction/defaults_linux.go).
var defaultHard = map[string]string{
	signalMemory:         "100Mi",
	"nodefs.available":   "10%",
	"nodefs.inodesFree":  "5%",
	"imagefs.available":  "15%",
	"imagefs.inodesFree": "5%",
}

// defaultFile is the usual configuration, for a kubelet that does not run.
const defaultFile = "/var/lib/kubelet/config.yaml"

// maxConfig bounds a file of the configuration, and a command line, in bytes.
const maxConfig = 1 << 20

// Find reads the configuration of the node's kubelet: of the running one by its
// command line, else the usual file. Root is the directory of the node's /proc and
// /var; empty is "/". It returns nil without an error where there is no kubelet.
//
// It reads the name of every process: some 10 µs each.
func Find(root string) (*Config, error) {
	pid, args := running(root)
	if pid == 0 {
		text, err := readAll(filepath.Join("/", root, defaultFile))
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}

		if err != nil {
			return nil, fmt.Errorf("read the kubelet's configuration: %w: run as root", err)
		}

		return parse([][]byte{text}, nil, []string{defaultFile})
	}
	flags := parseFlags(args)
	var texts [][]byte
	var sources []string

	add := func(path string) error {
		text, err := readOf(root, pid, path)
		if err != nil {
			return fmt.Errorf("read the configuration of kubelet[%d]: %w: run as root on the node", pid, err)
		}

		texts, sources = append(texts, text), append(sources, path)

		return nil
	}
	if path := flags["config"]; path != "" {
		if err := add(path); err != nil {
			return nil, err
		}
	}
	// Files of --config-dir override those before them (1.28, by name; *.conf only).
	if dir := flags["config-dir"]; dir != "" {
		names, _ := filepath.Glob(filepath.Join("/", root, dir, "*.conf"))
		slices.Sort(names)

		for _, name := range names {
			if err := add(filepath.Join(dir, filepath.Base(name))); err != nil {
				return nil, err
			}
		}
	}

	c, err := parse(texts, flags, append(sources, fmt.Sprintf("command line of kubelet[%d]", pid)))
	if c != nil {
		c.PID = pid
	}

	return c, err
}

// parse merges files, the later over the earlier, and the flags over all. Maps of
// files are merged by key; a flag replaces a map as a whole, as the kubelet does.
func parse(texts [][]byte, flags map[string]string, sources []string) (*Config, error) {
	c := &Config{}
	for i, text := range texts {
		if err := yaml.Unmarshal(text, c); err != nil {
			return nil, fmt.Errorf("parse the kubelet's configuration %s: %w", sources[i], err)
		}
	}

	c.override(flags)

	switch {
	case len(c.EvictionHard) == 0:
		c.EvictionHard = maps.Clone(defaultHard)
	case c.MergeDefaultEvictionSettings != nil && *c.MergeDefaultEvictionSettings:
		merged := maps.Clone(defaultHard)
		maps.Copy(merged, c.EvictionHard)
		c.EvictionHard = merged
	}

	if c.EnforceNodeAllocatable == nil {
		c.EnforceNodeAllocatable = []string{"pods"}
	}
	c.Source = strings.Join(sources, ", ")

	return c, nil
}

// override applies the flags of the command line.
func (c *Config) override(flags map[string]string) {
	pairs := func(name, separator string, to *map[string]string) {
		text, ok := flags[name]
		if !ok {
			return
		}
		*to = map[string]string{}

		for _, pair := range strings.Split(text, ",") {
			if key, value, ok := strings.Cut(pair, separator); ok {
				(*to)[strings.TrimSpace(key)] = strings.TrimSpace(value)
			}
		}
	}
	pairs("eviction-hard", "<", &c.EvictionHard)
	pairs("eviction-soft", "<", &c.EvictionSoft)
	pairs("eviction-soft-grace-period", "=", &c.EvictionSoftGracePeriod)
	pairs("eviction-minimum-reclaim", "=", &c.EvictionMinimumReclaim)
	pairs("system-reserved", "=", &c.SystemReserved)
	pairs("kube-reserved", "=", &c.KubeReserved)
	word := func(name string, to *string) {
		if text, ok := flags[name]; ok {
			*to = text
		}
	}
	word("cgroup-driver", &c.CgroupDriver)
	word("cgroup-root", &c.CgroupRoot)

	if text, ok := flags["enforce-node-allocatable"]; ok {
		c.EnforceNodeAllocatable = strings.Split(text, ",")
	}

	if n, err := strconv.Atoi(flags["eviction-max-pod-grace-period"]); err == nil {
		c.EvictionMaxPodGracePeriod = n
	}

	if on, err := strconv.ParseBool(flags["fail-swap-on"]); err == nil {
		c.FailSwapOn = &on
	}
}

// parseFlags parses --name=value and --name value. Names may have underscores for
// dashes, as the kubelet allows.
func parseFlags(args []string) map[string]string {
	flags := map[string]string{}

	for i := 0; i < len(args); i++ {
		arg, ok := strings.CutPrefix(args[i], "--")
		if !ok || arg == "" {
			continue
		}

		name, value, ok := strings.Cut(arg, "=")
		if !ok {
			value = "true"

			if i+1 < len(args) && !strings.HasPrefix(args[i+1], "-") {
				i++
				value = args[i]
			}
		}
		flags[strings.ReplaceAll(name, "_", "-")] = value
	}

	return flags
}

// running finds the kubelet by the name of its process, and reads its command line.
// Processes of pods do not count: a pod may give any of its own that name.
func running(root string) (pid int, args []string) {
	proc := filepath.Join("/", root, "proc")

	dir, err := os.Open(proc)
	if err != nil {
		return 0, nil
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	var pids []int

	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			pids = append(pids, pid)
		}
	}

	slices.Sort(pids)

	for _, pid := range pids {
		of := filepath.Join(proc, strconv.Itoa(pid))

		comm, err := readAll(filepath.Join(of, "comm"))
		if err != nil || strings.TrimSpace(string(comm)) != "kubelet" {
			continue
		}

		if cgroup, err := readAll(filepath.Join(of, "cgroup")); err != nil || strings.Contains(string(cgroup), "kubepods") {
			continue
		}

		line, err := readAll(filepath.Join(of, "cmdline"))
		if err != nil || len(line) == 0 {
			continue
		}

		return pid, strings.Split(strings.TrimRight(string(line), "\x00"), "\x00")[1:]
	}

	return 0, nil
}

// readOf reads a file in the root of a process: the kubelet of a nested node has its
// own root, which a symbolic link must not lead out of.
func readOf(root string, pid int, path string) ([]byte, error) {
	own := filepath.Join("/", root, "proc", strconv.Itoa(pid), "root")
	if link, err := os.Readlink(own); err != nil || link == "/" {
		return readAll(filepath.Join("/", root, path))
	}

	dir, err := os.OpenRoot(own)
	if err != nil {
		return nil, err
	}
	defer dir.Close()

	file, err := dir.Open(strings.TrimLeft(filepath.Clean(path), "/"))
	if err != nil {
		return nil, err
	}
	defer file.Close()

	return io.ReadAll(io.LimitReader(file, maxConfig))
}

func readAll(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()

	return io.ReadAll(io.LimitReader(file, maxConfig))
}
