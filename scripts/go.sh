#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Puts Go in .cache/go, where the Makefile looks first, unless there is one that can build
# this project. It is the toolchain that go itself would fetch from the module proxy.
set -euo pipefail
cd "$(dirname "$0")/.."

version=1.26.8
declare -A sha256=(
	[amd64]=30c2b1bf7dcc88d3eb0a1364e47ddd9128edb3110a30e8a0ef61cd5856b31de7
	[arm64]=02b36b6787b3ac767668f630e2998df45a3b1f9ffee08d1bf3ef6487cd658d99
)

die() { echo "go.sh: $*" >&2; exit 1; }

# A module of its own asks nothing but the version: go is new enough, or fetches one that is.
module=$(mktemp -d)
trap 'rm -rf "$module"' EXIT
grep '^go ' go.mod | sed '1i module version' > "$module/go.mod"
(cd "$module" && GOFLAGS='' go list -m) > /dev/null 2>&1 && exit 0

case $(uname -m) in
x86_64) arch=amd64 ;;
aarch64) arch=arm64 ;;
*) die "install Go $version or newer from go.dev/dl: no download for $(uname -m)" ;;
esac

for program in curl unzip; do
	command -v $program > /dev/null && continue
	[ "$(id -u)" = 0 ] && command -v apt-get > /dev/null || die "install $program, or Go $version or newer from go.dev/dl"
	apt-get update -q
	DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends curl unzip ca-certificates
done

proxy=${GOPROXY:-https://proxy.golang.org}
proxy=${proxy%%[,|]*}
name=golang.org/toolchain@v0.0.1-go$version.linux-$arch
mkdir -p .cache
dir=$(mktemp -d .cache/go.XXXXXX)
trap 'rm -rf "$module" "$dir"' EXIT

echo "go.sh: fetching Go $version"
curl -fsSL --retry 3 -o "$dir/go.zip" "$proxy/${name%@*}/@v/${name#*@}.zip" ||
	die "fetch Go $version from $proxy: set GOPROXY, or install it from go.dev/dl"
echo "${sha256[$arch]}  $dir/go.zip" | sha256sum --check --quiet || die "Go $version from $proxy has another checksum than is pinned here"

unzip -q "$dir/go.zip" -d "$dir"
chmod +x "$dir/$name"/bin/* "$dir/$name"/pkg/tool/*/* # module archives have no modes
rm -rf .cache/go
mv "$dir/$name" .cache/go
