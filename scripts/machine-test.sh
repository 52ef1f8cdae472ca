#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Boots a whole Debian under QEMU and lets everybody who kills on a node kill there.
#
#   scripts/machine-test.sh [--case shell,sudo,...] [--keep]
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/machine.sh
exec go run ./test/machine "$@"
