#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Boots a whole Debian under QEMU, and has everything that kills on a node kill a service
# there; or runs the scenarios with pods, on cgroup v2. It is a front for go test ./test/node.
#
#   scripts/machine-test.sh [--case shell,sudo,...] [--keep] [--work DIR]
#   scripts/machine-test.sh --pods[=cgroupfs|systemd] [--case loop,...] [--keep] [--work DIR] [--patience 10m]
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH=$PWD/.cache/go/bin:$PATH:/usr/local/go/bin # as in the Makefile
scripts/go.sh

usage() { echo "machine-test: $*" >&2; exit 2; }

cases='' driver='' options=()
while [ $# -gt 0 ]; do
	option=$1
	case $option in
	--pods) driver=cgroupfs; shift; continue ;;
	--pods=*) driver=${option#*=}; shift; continue ;;
	--keep) options+=(-keep); shift; continue ;;
	*=*) set -- "${option%%=*}" "${option#*=}" "${@:2}"; option=$1 ;;
	esac
	case $option in --case | --work | --patience) ;; *) usage "unknown option $option" ;; esac
	[ $# -ge 2 ] || usage "$option needs a value"
	value=$2
	shift 2
	case $option in
	--case) cases=$value ;;
	--work) options+=(-dir "$(realpath -m "$value")") ;;
	--patience) options+=(-boot-limit "$value") ;;
	esac
done

case $driver in
'')
	killers=$(go run ./test/guest list | sed -n 's/^killer //p')
	for name in ${cases//,/ }; do
		grep -q -x "$name" <<< "$killers" || usage "no killer $name; there are:" $killers
	done
	pattern="^TestKillers\$${cases:+/^(${cases//,/|})\$}"
	;;
cgroupfs | systemd) pattern="^TestPods\$/^$driver\$${cases:+/^(${cases//,/|})\$}" ;;
*) usage "no driver $driver; there are: cgroupfs, systemd" ;;
esac

scripts/machine.sh
# Run in the package's directory, go test passes output on at once; without -v, its last
# lines are the failed tests.
OOMTRACE_LAB=1 exec go test -C test/node -count=1 -timeout 3h -run "$pattern" "${options[@]}"
