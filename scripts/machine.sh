#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Makes a whole Debian for the tests that need one, in .cache/machine: root.ext4,
# vmlinuz, initrd. It has systemd, and who else kills on a node: systemd-oomd,
# earlyoom, containerd, sudo, cron. What is there already is left alone, unless this
# script has changed.
set -euo pipefail
cd "$(dirname "$0")/.."

mirror=${DEBIAN_MIRROR:-http://deb.debian.org}
suite=trixie
out=.cache/machine
packages=systemd-sysv,libpam-systemd,dbus,systemd-oomd,earlyoom,sudo,cron,containerd,runc,login,procps,kmod,linux-image-cloud-amd64

stamp=$(sha256sum "$0" | cut -d' ' -f1)
[ "$(cat $out/stamp 2> /dev/null)" != "$stamp" ] || exit 0
for tool in mmdebstrap mke2fs; do
	command -v "$tool" > /dev/null || { echo "machine.sh: $tool is missing: scripts/setup.sh installs it" >&2; exit 1; }
done
[ "$(id -u)" = 0 ] || { echo "machine.sh: run as root" >&2; exit 1; }

rm -rf "$out"
mkdir -p "$out"
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
mmdebstrap --quiet --variant=minbase --architectures=amd64 --include="$packages" \
	--dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
	"$suite" "$root" "deb $mirror/debian $suite main" "deb $mirror/debian-security $suite-security main"
cp "$root"/boot/vmlinuz-* "$out/vmlinuz"
cp "$root"/boot/initrd.img-* "$out/initrd"
rm -rf "${root:?}"/boot/* "$root"/var/lib/apt/lists/*

# One service plays the cases, from a second disk.
mkdir "$root/lab"
cat > "$root/etc/systemd/system/lab.service" <<- 'END'
	[Unit]
	Description=Cases of the test
	After=multi-user.target systemd-oomd.service systemd-logind.service
	Wants=systemd-oomd.service systemd-logind.service
	[Service]
	Type=oneshot
	ExecStartPre=/usr/bin/mount -o ro /dev/vdb /lab
	ExecStart=/lab/guest
	ExecStopPost=/usr/bin/systemctl poweroff --force --force
	StandardOutput=tty
	StandardError=tty
	TTYPath=/dev/ttyS0
	TimeoutStartSec=infinity
	OOMScoreAdjust=-999
	[Install]
	WantedBy=multi-user.target
END
mkdir -p "$root/etc/systemd/oomd.conf.d" "$root/etc/systemd/system/multi-user.target.wants"
printf '[OOM]\nDefaultMemoryPressureDurationSec=1s\n' > "$root/etc/systemd/oomd.conf.d/lab.conf"
ln -s /etc/systemd/system/lab.service "$root/etc/systemd/system/multi-user.target.wants/lab.service"
for unit in getty@tty1.service serial-getty@ttyS0.service systemd-timesyncd.service apt-daily.timer apt-daily-upgrade.timer \
	earlyoom.service containerd.service e2scrub_all.timer fstrim.timer dpkg-db-backup.timer; do
	ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
echo '/dev/vda / ext4 rw 0 1' > "$root/etc/fstab"
echo lab > "$root/etc/hostname"
chroot "$root" useradd -m -s /bin/sh lab
echo 'lab ALL=(ALL) NOPASSWD: ALL' > "$root/etc/sudoers.d/lab"
mke2fs -q -t ext4 -m 0 -d "$root" "$out/root.ext4" 1200M
echo "$stamp" > "$out/stamp"
