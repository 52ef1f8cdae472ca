#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Fetches container runtimes of Debian for the tests into .cache/cri/NAME: their
# binaries, without installing them. What is there already is left alone.
#
#   scripts/containerd.sh             all of them
#   scripts/containerd.sh NAME...     some: 1.6 2
#   scripts/containerd.sh --list      the names
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/debian.sh

# name, suites of containerd. runc is bookworm's in each: newer ones want a newer
# libc than the tests may run on.
runtimes='
1.6 debian-security/dists/bookworm-security,debian/dists/bookworm
2   debian/dists/sid
'
runc=debian-security/dists/bookworm-security,debian/dists/bookworm

fetch() {
	local name=$1 suites=$2 arch
	local dir=$cache/cri/$name
	[ -s "$dir/version" ] && return
	arch=$(dpkg --print-architecture)
	local work
	work=$(mktemp -d)
	# shellcheck disable=SC2064
	trap "rm -rf '$work'" RETURN
	mkdir -p "$dir"
	unpack "$suites" "$arch" containerd "$work" > /dev/null
	unpack "$runc" "$arch" runc "$work" > /dev/null
	local binary
	for binary in containerd containerd-shim-runc-v2 ctr runc; do
		find "$work" -name "$binary" -type f -perm -100 -exec cp {} "$dir/" \; -quit
		[ -x "$dir/$binary" ] || die "the packages have no $binary"
	done
	"$dir/containerd" --version | awk '{print $3}' > "$dir/version"
	echo "containerd $(cat "$dir/version")"
}

names() { echo "$runtimes" | awk 'NF{print $1}'; }

case ${1:-} in
--list) names; exit ;;
-*) echo "containerd.sh: unknown option $1" >&2; exit 2 ;;
esac
mkdir -p "$cache"
[ $# -gt 0 ] || mapfile -t wanted < <(names)
[ $# -eq 0 ] || wanted=("$@")
for want in "${wanted[@]}"; do
	line=$(echo "$runtimes" | awk -v n="$want" '$1 == n')
	[ -n "$line" ] || { echo "containerd.sh: no runtime $want; there are: $(names | tr '\n' ' ')" >&2; exit 2; }
	# shellcheck disable=SC2086
	fetch $line
done
