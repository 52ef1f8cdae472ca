# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# Fetches packages of any suite of Debian, without installing them. To be sourced
# at the top of the repository.

mirror=${DEBIAN_MIRROR:-http://deb.debian.org}
cache=.cache

die() { echo "${0##*/}: $*" >&2; exit 1; }

# download URL FILE [SHA256]
download() {
	local try
	for try in 1 2 3 4; do
		if curl -fsSL --retry 2 -o "$2.part" "$1"; then
			[ -z "${3:-}" ] || echo "$3  $2.part" | sha256sum -c --quiet - || { rm -f "$2.part"; continue; }
			mv "$2.part" "$2"
			return
		fi
		sleep $((try * 2))
	done
	rm -f "$2.part"
	die "cannot download $1: is the network there? DEBIAN_MIRROR sets another mirror"
}

# index SUITE ARCH: prints "package filename sha256" of everything in the suite.
index() {
	local file
	file=$cache/index/$(echo "$1-$2" | tr / _).txt
	if [ ! -s "$file" ] || [ -n "$(find "$file" -mtime +1)" ]; then
		mkdir -p "$cache/index"
		local xz=$file.xz
		download "$mirror/$1/main/binary-$2/Packages.xz" "$xz"
		xz -dc "$xz" | awk '
			/^Package: /{p=$2} /^Filename: /{f=$2} /^SHA256: /{s=$2}
			/^$/{print p, f, s; p=""} END{if (p) print p, f, s}' > "$file.part"
		mv "$file.part" "$file"
		rm "$xz"
	fi
	cat "$file"
}

# unpack SUITES ARCH PATTERN DIR: the newest package that matches.
unpack() {
	local suite found='' root
	for suite in ${1//,/ }; do
		found+=$(index "$suite" "$2" | grep -E "^$3 " | sed "s|$| ${suite%%/dists/*}|" || true)$'\n'
	done
	found=$(echo "$found" | grep . | sort -V | tail -n 1) || die "no package $3 in $1"
	local package file sum
	read -r package file sum root <<< "$found"
	download "$mirror/$root/$file" "$cache/$package-$2.deb" "$sum"
	dpkg-deb -x "$cache/$package-$2.deb" "$4"
	rm "$cache/$package-$2.deb"
	echo "$package"
}
