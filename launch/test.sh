#!/usr/bin/env bash
# Sets the machine up, builds everything and runs the tests through CTest. Needs no GPU; the first run needs a network
# for what is missing (see setup.sh).
#   launch/test.sh [--all] [ARGUMENT ...]     --all: those labelled nightly, too, which take long; the other arguments go
#                                             to ctest, e.g. -L unit
set -euo pipefail
# shellcheck source=launch/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

choice=(-LE nightly)
arguments=()
for argument in "$@"; do
  if [ "$argument" = --all ]; then choice=(); else arguments+=("$argument"); fi
done

NUM_STEPS=6
FLEXGEN_CUDA=${FLEXGEN_CUDA:-ON}  # what is not compiled is not tested
set_up_and_build all
echo "[6/$NUM_STEPS] tests"
exec ctest --test-dir "$BUILD_DIR" --output-on-failure -j 2 \
  ${choice[@]+"${choice[@]}"} ${arguments[@]+"${arguments[@]}"}
