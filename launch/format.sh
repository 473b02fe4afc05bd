#!/usr/bin/env bash
# Formats the sources as .clang-format says.
#   launch/format.sh [--check]     --check: changes nothing, fails where a source is not so formatted
# Versions of clang-format differ in what they make of the same rules: the one that .clang-format names counts, and
# without it nothing is checked.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
arguments=(-i)
[ "${1:-}" != --check ] || arguments=(--dry-run -Werror)

version=$(sed -n 's/^# clang-format \([0-9]*\)$/\1/p' .clang-format)
for program in "clang-format-$version" clang-format; do
  if [[ "$("$program" --version 2>/dev/null)" =~ version\ $version\. ]]; then
    find src tests benchmark -name '*.[ch]pp' -o -name '*.cu' -o -name '*.cuh' | sort |
      xargs "$program" "${arguments[@]}"
    echo "format: every source is as .clang-format says"
    exit
  fi
done
echo "format: skipped, clang-format $version is not installed" >&2
[ "${1:-}" = --check ]  # who asked for the sources to be formatted must hear of it
