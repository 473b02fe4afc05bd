#!/usr/bin/env bash
# Sets the machine up, builds everything and runs the whole test suite through CTest. Further arguments go to ctest,
# e.g. launch/test.sh -L unit. Needs no GPU; the first run needs a network for what is missing (see setup.sh).
set -euo pipefail
# shellcheck source=launch/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

NUM_STEPS=6
FLEXGEN_CUDA=${FLEXGEN_CUDA:-ON}  # what is not compiled is not tested
set_up_and_build all
echo "[6/$NUM_STEPS] tests"
exec ctest --test-dir "$BUILD_DIR" --output-on-failure -j 2 "$@"
