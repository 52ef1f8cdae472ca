#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Boots real Debian kernels under QEMU, provokes OOMs in them, and compares what oomtrace
# reports with the kernel's own account. Without options: all kernels, cases and tiers.
# With --noise, beside what an unprivileged tenant can make the kernel report all the time.
# It is a front for go test ./test/vm, whose subtests are kernel, case and tier.
#
#   scripts/vm-test.sh [--arch A] [--kernel K] [--case C,...] [--tier T] [--noise] [--keep] [--update] [--list]
#                      [--work DIR] [--console FILE] [--recorder-kills N] [--patience 15m]
#   scripts/vm-test.sh --arch A --kernel K --power-cuts N [--work DIR]
#   scripts/vm-test.sh --survival [--arch amd64] [--kernel K] [--keep] [--work DIR]
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH=$PWD/.cache/go/bin:$PATH:/usr/local/go/bin # as in the Makefile
scripts/go.sh

usage() { echo "vm-test: $*" >&2; exit 2; }

# choose KIND NAME: fails unless there is one.
list=''
choose() {
	[ -n "$list" ] || list=$(go run ./test/guest list)
	grep -q -x -E "$1 $2" <<< "$list" || usage "no $1 ${2//\\/}; --list prints them"
}

arch='(amd64|arm64)' kernel='.*' cases='' tier='' options=() test=TestKernels
while [ $# -gt 0 ]; do
	option=$1
	case $option in *=*) set -- "${option%%=*}" "${option#*=}" "${@:2}"; option=$1 ;; esac
	case $option in
	--keep | --update) options+=("-${option#--}"); shift; continue ;;
	--noise) test=TestKernelsUnderNoise; shift; continue ;;
	--times) shift; continue ;; # they are always logged
	--survival) test=TestSurvival; shift; continue ;;
	--list) go run ./test/guest list | sed -n 's/^kernel //p; s/^case /  /p'; exit ;;
	--arch | --kernel | --case | --tier | --work | --console | --recorder-kills | --power-cuts | --patience) ;;
	*) usage "unknown option $option" ;;
	esac
	[ $# -ge 2 ] || usage "$option needs a value"
	value=$2
	shift 2
	case $option in
	--arch) arch=$value ;;
	--kernel) kernel=${value//./\\.} ;;
	--case) cases=$value ;;
	--tier) tier=$value ;;
	--work) options+=(-dir "$(realpath -m "$value")") ;;
	--console) options+=(-console "$(realpath "$value")") ;;
	--recorder-kills) options+=(-recorder-kills "$value") ;;
	--patience) options+=(-boot-limit "$value") ;;
	--power-cuts) test=TestPowerCuts options+=(-power-cuts "$value") ;;
	esac
done

choose kernel "$arch-$kernel"
pattern="^$test\$/^$arch-$kernel\$"
for name in ${cases//,/ }; do choose case "$name"; done
case $tier in
'' | fentry | kprobe | tracepoint) ;;
*) usage "no tier $tier; there are: fentry, kprobe, tracepoint" ;;
esac
if [ -n "$cases$tier" ]; then
	cases=${cases:+^(${cases//,/|})\$}
	pattern="$pattern/${cases:-.*}${tier:+/^($tier|kernel-log)\$}"
fi

scripts/kernels.sh
# Run in the package's directory, go test passes output on at once; without -v, its last
# lines are the failed tests.
OOMTRACE_LAB=1 exec go test -C test/vm -count=1 -timeout 3h -run "$pattern" "${options[@]}"
