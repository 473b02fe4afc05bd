#!/usr/bin/env bash
# clang-tidy over the sources of src/ as a build folder compiles them. Any finding is a failure; what clang cannot
# compile (built-in functions of gcc) is none.
#   launch/tidy.sh [--since COMMIT] [BUILD_FOLDER] [PATTERN]
#     --since        only sources that changed since COMMIT, in themselves or in their header
#     BUILD_FOLDER   default: build
#     PATTERN        only paths that contain it, e.g. src/job/; default: src/
#   FLEXGEN_TIDY_SECONDS   no source is begun after so many seconds; default: no limit
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
since=''
if [ "${1:-}" = --since ]; then
  since=$2
  shift 2
fi
build=${1:-build}
pattern=${2:-src/}
[ -e "$build/compile_commands.json" ] || { echo "no $build/compile_commands.json: configure first (launch/test.sh does)" >&2; exit 2; }
if grep -qs '^FLEXGEN_UNITY:BOOL=ON' "$build/CMakeCache.txt"; then
  echo "$build compiles rooms as one, clang-tidy reads files: configure it with -DFLEXGEN_UNITY=OFF first" >&2
  exit 2
fi

changed() {  # of the paths that come in, those that changed since $since
  if [ -z "$since" ]; then cat; return; fi
  grep -Fxf <(git diff --name-only "$since" -- src | sed -n "s|^\(.*\)\.[ch]pp\$|$PWD/\1.cpp|p") || true
}

read_source() {  # read_source FILE: its findings, and a line once it is read
  [ "$EPOCHSECONDS" -lt "$deadline" ] || return 0
  # clang does not know gcc's own warning flags.
  clang-tidy -p "$build" --quiet --extra-arg=-Wno-unknown-warning-option "$1" 2>/dev/null || true
  echo "tidy: read $1"
}

# clang does not read .cu files as nvcc compiles them.
mapfile -t sources < <(sed -n 's/^ *"file": "\(.*\)",*$/\1/p' "$build/compile_commands.json" | grep -F "$PWD/$pattern" |
  grep '\.cpp$' | sort -u | changed)
deadline=$((EPOCHSECONDS + ${FLEXGEN_TIDY_SECONDS:-1000000}))
log=$(mktemp)
trap 'rm -f "$log"' EXIT
export -f read_source
export build deadline
{ [ ${#sources[@]} = 0 ] || printf '%s\0' "${sources[@]}"; } |
  xargs -r -0 -P "${FLEXGEN_JOBS:-$(nproc)}" -n 1 bash -c 'read_source "$0"' >"$log"
num_read=$(grep -c '^tidy: read ' "$log" || true)
grep -v '^tidy: read ' "$log" || true
echo "tidy: $num_read of ${#sources[@]} sources read"
# Errors of the compiler have names of their own: clang-diagnostic-...
if grep -E ': (warning|error): .*\[[a-z]+-' "$log" | grep -qv '\[clang-diagnostic-'; then exit 1; fi
