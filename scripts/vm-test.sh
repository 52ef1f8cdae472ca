#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Boots real Debian kernels under QEMU, provokes OOMs in them and compares what
# oomtrace says with the kernel's own account. Without options: all kernels.
#
#   scripts/vm-test.sh [--arch A] [--kernel K] [--case C] [--tier T] [--keep] [--update] [--list]
#                      [--work DIR] [--console FILE]
set -euo pipefail
cd "$(dirname "$0")/.."
for tool in qemu-system-x86_64 qemu-system-aarch64 gcc aarch64-linux-gnu-gcc cpio busybox; do
	command -v "$tool" > /dev/null || {
		echo "vm-test: $tool is missing: sudo scripts/setup.sh installs what the tests need" >&2
		exit 1
	}
done
scripts/kernels.sh
exec go run ./test/matrix "$@"
