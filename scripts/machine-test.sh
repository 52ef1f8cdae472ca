#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Boots a whole Debian under QEMU and lets everybody who kills on a node kill there;
# or plays there what happens to pods, on cgroup v2.
#
#   scripts/machine-test.sh [--case shell,sudo,...] [--keep] [--work DIR]
#   scripts/machine-test.sh --pods[=cgroupfs|systemd] [--case loop,...] [--keep] [--work DIR]
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/machine.sh
exec go run ./test/machine "$@"
