#!/usr/bin/env bash
# Sets the machine up, builds everything and runs the whole test suite through CTest. Further arguments go to ctest,
# e.g. launch/test.sh -L unit. Needs no GPU; the first run needs a network for what is missing (see setup.sh).
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

build_everything() {
  build_targets
}

NUM_STEPS=6
step 'system packages' system_packages
step 'LibTorch' torch_library
step 'CUDA compiler' cuda_compiler
step 'configure' configure
step 'build' build_everything
echo "[6/$NUM_STEPS] tests"
exec ctest --test-dir "$BUILD_DIR" --output-on-failure -j 2 "$@"
