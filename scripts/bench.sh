#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Measures what oomtrace costs on this machine, beside bpftrace and perf where they can
# be installed, and writes docs/overhead.md. Takes some minutes and needs root.
#
#   scripts/bench.sh [--rounds N] [--slice 2s] [--part kill] [--out FILE]
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH=$PWD/.cache/go/bin:$PATH:/usr/local/go/bin # as in the Makefile
[ "$(id -u)" = 0 ] || { echo "bench: run as root" >&2; exit 1; }
scripts/setup.sh
# The peers. The row of one that is not installed reads "not measured".
for peer in bpftrace:bpftrace perf:linux-perf; do
	command -v "${peer%:*}" > /dev/null ||
		DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${peer#*:}" > /dev/null ||
		echo "bench: cannot install ${peer#*:}" >&2
done
# Some commands look for tracefs by themselves, others do not.
mountpoint -q /sys/kernel/tracing || mount -t tracefs nodev /sys/kernel/tracing || true
make -s build
mkdir -p .cache/bench
gcc -O2 -Wall -pthread -o .cache/bench/hog test/vm/hog/hog.c
clang-19 -target bpf -O2 -g -mcpu=v3 -I"/usr/include/$(gcc -print-multiarch)" -c -o .cache/bench/minimal.bpf.o test/bench/minimal.bpf.c
exec go run ./test/bench --out docs/overhead.md "$@"
