#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Fetches Debian kernels for the tests into .cache/kernels/NAME:
#   vmlinuz, btf (the kernel's type information), modules/ (swap and disks), release
# What is there already is left alone, unless the list of modules has changed.
#
#   scripts/kernels.sh             all of them
#   scripts/kernels.sh NAME...     some: amd64-6.12 arm64-6.1 ...
#   scripts/kernels.sh --list      the names
set -euo pipefail
cd "$(dirname "$0")/.."

# name, architecture, suites (path under the mirror), pattern of the package's name
kernels='
amd64-5.10  amd64 debian-security/dists/bullseye-security,debian/dists/bullseye linux-image-5\.10\.0-[0-9]+-cloud-amd64
amd64-6.1   amd64 debian-security/dists/bookworm-security,debian/dists/bookworm linux-image-6\.1\.0-[0-9]+-cloud-amd64
amd64-6.12  amd64 debian-security/dists/trixie-security,debian/dists/trixie linux-image-6\.12\.[0-9]+\+deb13-cloud-amd64
amd64-6.18  amd64 debian/dists/trixie-backports linux-image-6\.18\.[0-9]+\+deb13-cloud-amd64
amd64-7.3   amd64 debian/dists/trixie-backports linux-binary-7\.[0-9]+\.[0-9]+\+deb13-cloud-amd64
arm64-6.1   arm64 debian-security/dists/bookworm-security,debian/dists/bookworm linux-image-6\.1\.0-[0-9]+-cloud-arm64
arm64-6.12  arm64 debian-security/dists/trixie-security,debian/dists/trixie linux-image-6\.12\.[0-9]+\+deb13-cloud-arm64
'

# Swap in the guests is zram, a disk is virtio.
modules='lzo_compress lz4_compress lz4hc_compress zstd_compress 842_compress lzo lzo-rle zsmalloc zram virtio_blk'

. scripts/debian.sh

# number FILE OFFSET: four bytes, little endian.
number() { od -An -t u4 -j "$2" -N 4 "$1" | tr -d ' '; }

# find_btf FILE OUT: cuts out the type information, which begins with the header of
# Documentation/bpf/btf.rst: magic, version, length of itself, then offsets and lengths
# of types and strings. The longest is the kernel's own.
find_btf() {
	local at length best=0
	for at in $(LC_ALL=C grep -abo -P '\x9f\xeb\x01\x00\x18\x00\x00\x00' "$1" | cut -d: -f1); do
		length=$((24 + $(number "$1" $((at + 16))) + $(number "$1" $((at + 20)))))
		[ "$length" -gt "$best" ] && [ "$length" -lt 100000000 ] || continue
		best=$length
		tail -c +$((at + 1)) "$1" | head -c "$length" > "$2" || true
	done
	[ "$best" -gt 1000000 ]
}

# A kernel image is plain (arm64), or has a compressed part.
extract_btf() {
	local image=$1 out=$2 work=$3 at magic tool
	find_btf "$image" "$out" && return
	while read -r magic tool; do
		for at in $(LC_ALL=C grep -abo -P "$magic" "$image" | cut -d: -f1 | head -n 4); do
			tail -c +$((at + 1)) "$image" | $tool > "$work/vmlinux" 2>/dev/null || true
			find_btf "$work/vmlinux" "$out" && return
		done
	done <<- 'END'
		\x28\xb5\x2f\xfd zstd -dc
		\x02\x21\x4c\x18 lz4 -dc
		\x1f\x8b\x08 gzip -dc
		\xfd7zXZ\x00 xz -dc
	END
	die "cannot find the types in $image"
}

fetch() {
	local name=$1 arch=$2 suites=$3 pattern=$4
	local dir=$cache/kernels/$name
	[ "$(cat "$dir/stamp" 2> /dev/null)" != "$modules" ] || return 0
	local work
	work=$(mktemp -d)
	# shellcheck disable=SC2064
	trap "rm -rf '$work'" RETURN
	local package release
	package=$(unpack "$suites" "$arch" "$pattern" "$work/root")
	release=${package#linux-image-}
	release=${release#linux-binary-}
	case $package in
	linux-binary-*) unpack "$suites" "$arch" "linux-modules-$(echo "$release" | sed 's/[.+]/\\&/g')" "$work/root" > /dev/null ;;
	esac
	local new=$cache/kernels/.$name.new
	rm -rf "$new"
	mkdir -p "$new/modules"
	find "$work/root" -name "vmlinuz*" -type f -exec cp {} "$new/vmlinuz" \; -quit
	[ -s "$new/vmlinuz" ] || die "$package has no vmlinuz"
	local module
	for module in $modules; do
		find "$work/root" -name "$module.ko*" -exec cp {} "$new/modules/" \;
	done
	find "$new/modules" -name '*.xz' -exec xz -d {} + # for insmod
	extract_btf "$new/vmlinuz" "$new/btf" "$work"
	echo "$release" > "$new/release"
	echo "$modules" > "$new/stamp"
	# At once, for whoever boots it meanwhile.
	rm -rf "$dir"
	mv "$new" "$dir"
	echo "$name: $release"
}

names() { echo "$kernels" | awk 'NF{print $1}'; }

# The guests' shell; that of the machine serves guests of its own architecture.
busybox() {
	[ -x "$cache/busybox-arm64" ] && return
	local work
	work=$(mktemp -d)
	unpack debian/dists/bookworm arm64 busybox-static "$work" > /dev/null
	cp "$work"/bin/busybox "$cache/busybox-arm64" 2>/dev/null || cp "$work"/usr/bin/busybox "$cache/busybox-arm64"
	rm -rf "$work"
}

case ${1:-} in
--list) names; exit ;;
-*) echo "kernels.sh: unknown option $1" >&2; exit 2 ;;
esac
mkdir -p "$cache"

# Tests that run side by side fetch the same kernels.
exec 9> "$cache/.kernels.lock"
flock 9

[ $# -gt 0 ] || mapfile -t wanted < <(names)
[ $# -eq 0 ] || wanted=("$@")
for want in "${wanted[@]}"; do
	line=$(echo "$kernels" | awk -v n="$want" '$1 == n')
	[ -n "$line" ] || { echo "kernels.sh: no kernel $want; there are: $(names | tr '\n' ' ')" >&2; exit 2; }
	# shellcheck disable=SC2086
	fetch $line
	case $want in arm64-*) busybox ;; esac
done
