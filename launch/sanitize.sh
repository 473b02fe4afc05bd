#!/usr/bin/env bash
# Builds and runs the suites that live in one process under a sanitizer, with the plain reference kernels of a build
# without LibTorch.
#   launch/sanitize.sh thread  [ARGUMENT ...]    what has threads: streams, disk queues, loaders, ranks as threads
#   launch/sanitize.sh address [ARGUMENT ...]    memory errors, leaks and undefined behaviour: engine, files, rows, texts
# Further arguments go to ctest, e.g. -R storage. Any finding is a failure. FLEXGEN_SUITES="engine storage": these alone.
set -euo pipefail
# shellcheck source=launch/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

usage() {
  sed -n 's/^# \{0,1\}//; 2,6p' "${BASH_SOURCE[0]}" >&2
  exit 2
}

case ${1:-} in
  thread)
    preset=tsan
    suites=(${FLEXGEN_SUITES:-base batch comm device engine job ops placement_grid run storage weights})
    # One-threaded arithmetic, and of the grid what adds no other thread: minutes under this sanitizer.
    export GTEST_FILTER="-Devices/*Test.*:CompressedAttention.*:CompressedKernels.*:CompressedMatrix.*:Quantize.*"
    GTEST_FILTER+=":PlainLayer.*:Compressed*/PlacementGrid*:WholeLayers/*:Half/*:Sparse/*:*/PlacementGrid*block64x2*"
    export TSAN_OPTIONS="suppressions=$PROJECT_DIR/tests/support/thread_sanitizer_suppressions.txt ${TSAN_OPTIONS:-}"
    ;;
  address)
    preset=asan
    suites=(${FLEXGEN_SUITES:-app base batch checkpoint engine job made_up_family model planner policy run schedule spec storage text weights})
    export GTEST_FILTER="-Planner.BruteForce*"  # half a million plans: of figures, not of memory
    export ASAN_OPTIONS="detect_stack_use_after_return=1 ${ASAN_OPTIONS:-}"
    export UBSAN_OPTIONS="halt_on_error=1 print_stacktrace=1 ${UBSAN_OPTIONS:-}"
    ;;
  *) usage ;;
esac
shift

configure_sanitized() {
  (cd "$PROJECT_DIR" && logged "cmake --preset $preset" cmake --preset "$preset")
  STEP_NOTE="preset $preset"
}

NUM_STEPS=4
BUILD_DIR=$PROJECT_DIR/build-$preset
BUILD_TARGETS=("${suites[@]/#/test_}")
step 'system packages' system_packages
step 'configure' configure_sanitized
step 'build' build_targets
echo "[4/$NUM_STEPS] tests"
pattern=$(IFS='|'; echo "${suites[*]}")
exec ctest --test-dir "$BUILD_DIR" --output-on-failure --no-tests=error -j 2 -R "^($pattern)(\\.[0-9]+)?\$" "$@"
