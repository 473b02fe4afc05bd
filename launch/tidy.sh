#!/usr/bin/env bash
# clang-tidy over the sources of src/ as a build folder compiles them.
#   launch/tidy.sh [BUILD_FOLDER] [PATTERN]     default: build, all of src/; PATTERN filters the paths, e.g. src/job/
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
build=${1:-build}
pattern=${2:-src/}
[ -e "$build/compile_commands.json" ] || { echo "no $build/compile_commands.json: configure first (launch/test.sh does)" >&2; exit 2; }
# clang reads neither .cu files compiled by nvcc, nor gcc's own warning flags.
sed -n 's/^ *"file": "\(.*\)",*$/\1/p' "$build/compile_commands.json" | grep -F "$PWD/$pattern" | grep '\.cpp$' | sort -u |
  xargs -r -P "${FLEXGEN_JOBS:-$(nproc)}" -n 1 clang-tidy -p "$build" --quiet --extra-arg=-Wno-unknown-warning-option 2> >(grep -vE '^[0-9]+ warnings? generated' >&2)
