// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/oomtrace/oomtrace/test/internal/must"
)

// Memory, disks and file systems of the guest.

// availableMiB is the memory that a process can get.
func availableMiB() int {
	text, err := os.ReadFile("/proc/meminfo")
	must.OK("read the free memory", err)

	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "MemAvailable:" {
			kib, err := strconv.Atoi(fields[1])
			must.OK("read the free memory", err)

			return kib >> 10
		}
	}

	must.OK("read the free memory", errors.New("no MemAvailable"))

	return 0
}

// mountTmpfs mounts a tmpfs until the end of the case.
func (g *Guest) mountTmpfs() (dir string) {
	dir, err := os.MkdirTemp("/tmp", "tmpfs-")
	must.OK("make a directory", err)
	must.OK("mount a tmpfs", unix.Mount("none", dir, "tmpfs", 0, "nr_inodes=0"))

	g.later(func() { _ = unix.Unmount(dir, 0); os.Remove(dir) })

	return dir
}

const zramDisk = "/dev/zram0"

// zram makes a disk of compressed memory until the end of the case. What is read of it
// is page cache that can be dropped, unlike the pages of tmpfs.
func (g *Guest) zram(size string) {
	loadModules("lzo_compress", "lz4_compress", "lz4hc_compress", "842_compress", "zstd_compress", "lzo", "lzo-rle",
		"zsmalloc", "zram")
	must.OK("size zram", os.WriteFile("/sys/block/zram0/disksize", []byte(size), 0))

	g.later(func() { _ = os.WriteFile("/sys/block/zram0/reset", []byte("1"), 0) })
}

// swapOn makes swap of compressed memory until the end of the case.
func (g *Guest) swapOn() {
	g.zram("128M")
	busybox("mkswap", zramDisk)
	busybox("swapon", zramDisk)

	g.later(func() { _ = swapOffZram() })
}

func swapOffZram() error { return exec.Command("/bin/busybox", "swapoff", zramDisk).Run() }

func busybox(args ...string) {
	if out, err := exec.Command("/bin/busybox", args...).CombinedOutput(); err != nil {
		must.OK(args[0], fmt.Errorf("%w: %s", err, out))
	}
}

// setFile writes a setting, and restores it at the end of the case.
func (g *Guest) setFile(file, value string) {
	old, err := os.ReadFile(file)
	must.OK("read "+file, err)
	must.OK("set "+file, os.WriteFile(file, []byte(value), 0))

	g.later(func() { _ = os.WriteFile(file, old, 0) })
}

// loadModules loads modules. Those that are built in have no file.
func loadModules(names ...string) {
	for _, name := range names {
		if fd, err := unix.Open("/modules/"+name+".ko", unix.O_RDONLY, 0); err == nil {
			_ = unix.FinitModule(fd, "", 0)
			unix.Close(fd)
		}
	}
}
