# shellcheck shell=bash
# Shared set-up: finds or installs what the build needs, then configures and builds. Source it; do not run it.
#
# Every step asks the machine what is there rather than a diary of earlier runs, so a second run costs under a second.
# Nothing is installed outside the project folder except distribution packages (apt-get, as root or through sudo).
#
# Environment (all optional):
#   CMAKE_PREFIX_PATH             a LibTorch distribution to use instead of the project's own .venv
#   FLEXGEN_LIBTORCH=venv         ignore any LibTorch of the machine, use the project's own .venv
#   FLEXGEN_CUDA                  ON: compile the CUDA engine, GPU or not; OFF: leave it out; default: where this machine has
#                                 a GPU, or the build folder holds it already
#   FLEXGEN_CUDA_ARCHITECTURES    e.g. 90 or "80;90"; default: the GPUs that are there, without one 75;80;86;89;90
#   FLEXGEN_JOBS                  compile jobs; default: by cores and memory

PROJECT_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)  # the same through any link: nothing is built anew
BUILD_DIR=$PROJECT_DIR/build
LOG_DIR=$PROJECT_DIR/.cache/setup
VENV_DIR=$PROJECT_DIR/.venv
TORCH_VERSION=2.11.0
OLDEST_ARCHITECTURE=75  # that nvcc 13 compiles for
DEFAULT_ARCHITECTURES='75;80;86;89;90'
CUDA_PACKAGES=(nvidia-cuda-nvcc==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-cccl==13.0.85)
SYSTEM_PACKAGES=(g++ cmake ninja-build ccache pkg-config python3 python3-venv libopenmpi-dev openmpi-bin libspdlog-dev
  libfmt-dev liburing-dev libpcre2-dev libcxxopts-dev nlohmann-json3-dev zlib1g-dev libzstd-dev
  libcpp-httplib-dev coinor-libclp-dev libgtest-dev libgmock-dev)

# --- steps, their clock and their log ---------------------------------------------------------------------------

fail() {  # fail WHAT [LOG]: the reason and, where there is one, the end of the log
  printf '\nfailed: %s\n' "$1" >&2
  if [ -n "${2:-}" ] && [ -s "${2:-}" ]; then
    printf -- '--- last lines of %s\n' "$2" >&2
    tail -n 40 "$2" >&2
  fi
  exit 1
}

# step LABEL FUNCTION: runs FUNCTION, which may say what it found by setting STEP_NOTE; prints one line.
step() {
  local label=$1 function=$2 started=$SECONDS
  STEP_NUMBER=$((${STEP_NUMBER:-0} + 1))
  STEP_NOTE=''
  STEP_LOG=$LOG_DIR/$function.log
  mkdir -p "$LOG_DIR"
  : >"$STEP_LOG"
  printf '[%d/%d] %s ... ' "$STEP_NUMBER" "$NUM_STEPS" "$label"
  "$function"
  printf 'ok (%d s)%s\n' $((SECONDS - started)) "${STEP_NOTE:+: $STEP_NOTE}"
}

# logged WHAT COMMAND...: output goes to the step's log; a failure ends the script with WHAT and the log's tail.
logged() {
  local what=$1
  shift
  printf '$ %s\n' "$*" >>"$STEP_LOG"
  "$@" >>"$STEP_LOG" 2>&1 || fail "$what" "$STEP_LOG"
}

# --- 1. distribution packages -------------------------------------------------------------------------------------

at_least() {  # at_least 3.25.1 3.22
  [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]
}

missing_tools() {  # prints what is missing, one word each; nothing when the build can go on
  local tool
  for tool in g++ cmake ninja pkg-config python3 mpicxx mpirun; do
    command -v "$tool" >/dev/null || echo "$tool"
  done
  if command -v g++ >/dev/null; then
    at_least "$(g++ -dumpfullversion)" 11 || echo 'g++>=11'
    # One run of the preprocessor asks for all headers.
    g++ -std=c++20 -E -P -x c++ - 2>/dev/null <<'PROBE' | grep . || true
#define MISSING(header) header
#if !__has_include(<spdlog/spdlog.h>)
spdlog
#endif
#if !__has_include(<fmt/format.h>)
fmt
#endif
#if !__has_include(<liburing.h>)
liburing
#endif
#if !__has_include(<pcre2.h>)
pcre2
#endif
#if !__has_include(<zlib.h>)
zlib
#endif
#if !__has_include(<zstd.h>)
zstd
#endif
#if !__has_include(<cxxopts.hpp>)
cxxopts
#endif
#if !__has_include(<nlohmann/json.hpp>)
nlohmann-json
#endif
#if !__has_include(<httplib.h>)
cpp-httplib
#endif
#if !__has_include(<coin/ClpSimplex.hpp>)
clp
#endif
#if !__has_include(<gtest/gtest.h>)
googletest
#endif
#if !__has_include(<gmock/gmock.h>)
googlemock
#endif
PROBE
  fi
  if command -v cmake >/dev/null; then
    at_least "$(cmake --version | awk 'NR == 1 {print $3}')" 3.22 || echo 'cmake>=3.22'
  fi
  if command -v python3 >/dev/null; then
    python3 -c 'import ensurepip, venv' 2>/dev/null || echo python3-venv
  fi
}

system_packages() {
  local missing prefix=()
  missing=$(missing_tools | xargs)
  if [ -z "$missing" ]; then
    STEP_NOTE='all present'
    return
  fi
  if ! command -v apt-get >/dev/null; then
    fail "missing: $missing. This machine has no apt-get: install these with its own package manager, then run again."
  fi
  if [ "$(id -u)" != 0 ]; then
    if ! sudo -n true 2>/dev/null; then
      fail "missing: $missing. Installing needs root. Run this one command, then this script again:

  sudo apt-get update && sudo apt-get install -y --no-install-recommends ${SYSTEM_PACKAGES[*]}"
    fi
    prefix=(sudo -n)
  fi
  printf 'installing (missing: %s) ... ' "$missing"
  logged 'apt-get update' ${prefix[@]+"${prefix[@]}"} apt-get update
  logged 'apt-get install of the system packages' ${prefix[@]+"${prefix[@]}"} \
    env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${SYSTEM_PACKAGES[@]}"
  hash -r
  missing=$(missing_tools | xargs)
  [ -z "$missing" ] || fail "still missing after apt-get install: $missing (an old release?)"
}

# --- 2. LibTorch -----------------------------------------------------------------------------------------------------
# Sets LIBTORCH (the folder that holds include/ and lib/) and TORCH_CUDA (its CUDA version, empty in a CPU build).

libtorch_at() {  # libtorch_at FOLDER: prints the LibTorch folder that FOLDER is, or lies in
  local up
  for up in '' /.. /../.. /../../..; do
    if [ -e "$1$up/lib/libtorch_cpu.so" ] && [ -d "$1$up/include/torch" ]; then
      (cd "$1$up" && pwd)
      return
    fi
  done
}

libtorch_usable() {  # a compiler of today needs the C++11 ABI, which wheels before 2.6 lack
  [ -n "$1" ] && ! grep -qs 'GLIBCXX_USE_CXX11_ABI=0' "$1/share/cmake/Torch/TorchConfig.cmake"
}

libtorch_cuda() {  # libtorch_cuda FOLDER: prints e.g. 13.0, or nothing
  [ -e "$1/lib/libtorch_cuda.so" ] || return 0
  if [ -e "$1/version.py" ]; then
    sed -n "s/^cuda.*= '\([0-9.]*\)'.*/\1/p" "$1/version.py"
  elif [ -e "$1/build-version" ]; then
    sed -n 's/.*+cu\([0-9]*\)\([0-9]\)$/\1.\2/p' "$1/build-version"
  fi
}

venv_site_packages() {
  echo "$VENV_DIR"/lib/python3*/site-packages
}

make_venv() {
  if [ ! -x "$VENV_DIR/bin/python" ]; then
    logged 'making the virtual environment .venv' python3 -m venv "$VENV_DIR"
  fi
}

pip_install() {  # pip_install NAME PACKAGE...: an unfinished install leaves a mark, so that the next run finishes it
  local mark=$VENV_DIR/.unfinished-$1
  shift
  make_venv
  : >"$mark"
  logged "pip install $*" "$VENV_DIR/bin/python" -m pip install --disable-pip-version-check --no-input "$@"
  rm -f "$mark"
}

find_libtorch() {
  local candidate folders cuda
  if [ "${FLEXGEN_LIBTORCH:-}" != venv ]; then
    IFS=':;' read -ra folders <<<"${CMAKE_PREFIX_PATH:-}"
    for candidate in ${folders[@]+"${folders[@]}"}; do
      LIBTORCH=$(libtorch_at "$candidate")
      if libtorch_usable "$LIBTORCH"; then
        return 0
      fi
    done
  fi
  if [ ! -e "$VENV_DIR/.unfinished-torch" ]; then
    LIBTORCH=$(libtorch_at "$(venv_site_packages)/torch")
    if libtorch_usable "$LIBTORCH"; then
      return 0
    fi
  fi
  if [ "${FLEXGEN_LIBTORCH:-}" != venv ]; then
    candidate=$(python3 -c 'import importlib.util as u; print(u.find_spec("torch").submodule_search_locations[0])' \
      2>/dev/null) || candidate=''
    LIBTORCH=${candidate:+$(libtorch_at "$candidate")}
    if libtorch_usable "$LIBTORCH"; then
      # A CUDA build without a CUDA compiler of its own major version would lose the CUDA engine: prefer our own then.
      cuda=$(libtorch_cuda "$LIBTORCH")
      if [ -z "$cuda" ] || [ -n "$(machine_nvcc "$cuda")" ]; then
        return 0
      fi
    fi
  fi
  LIBTORCH=''
  return 1
}

torch_library() {
  if ! find_libtorch; then
    printf 'installing torch %s into .venv (a 2 GB download) ... ' "$TORCH_VERSION"
    pip_install torch "torch==$TORCH_VERSION"
    LIBTORCH=$(libtorch_at "$(venv_site_packages)/torch")
    [ -n "$LIBTORCH" ] || fail "no LibTorch in $VENV_DIR after pip install torch==$TORCH_VERSION"
  fi
  TORCH_CUDA=$(libtorch_cuda "$LIBTORCH")
  STEP_NOTE="${LIBTORCH#"$PROJECT_DIR"/}, ${TORCH_CUDA:+CUDA }${TORCH_CUDA:-CPU build}"
}

# --- 3. CUDA compiler ------------------------------------------------------------------------------------------------
# Sets NVCC, CUDA_ROOT and CUDA_ARCHITECTURES, or ENABLE_CUDA=OFF. No GPU or driver is needed to compile.

gpu_architectures() {  # prints those of the GPUs here, e.g. "80;90"; nothing without a GPU that we run on
  { nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null || true; } |
    awk -F . -v oldest=$OLDEST_ARCHITECTURE '/^[0-9]+\.[0-9]+$/ && ($1 $2) + 0 >= oldest {print $1 $2}' | sort -un | paste -sd ';'
}

configured_architectures() {  # prints those that the build folder is configured for; nothing for a CPU build
  [ -e "$BUILD_DIR/build.ninja" ] || return 0
  sed -n 's/^cuda .*-DCMAKE_CUDA_ARCHITECTURES=//p' "$BUILD_DIR/.configured" 2>/dev/null || true
}

choose_architectures() {  # sets CUDA_ARCHITECTURES; empty where nobody asks for CUDA and nothing here runs it
  local here known one
  CUDA_ARCHITECTURES=${FLEXGEN_CUDA_ARCHITECTURES:-}
  [ -z "$CUDA_ARCHITECTURES" ] || return 0
  here=$(gpu_architectures)
  known=$(configured_architectures)
  # What is compiled already serves, if it serves every GPU here.
  CUDA_ARCHITECTURES=$known
  for one in ${here//;/ }; do
    [[ ";$known;" == *";$one;"* ]] || CUDA_ARCHITECTURES=$here
  done
  if [ -z "$CUDA_ARCHITECTURES" ] && [ "${FLEXGEN_CUDA:-auto}" = ON ]; then CUDA_ARCHITECTURES=$DEFAULT_ARCHITECTURES; fi
}

machine_nvcc() {  # machine_nvcc VERSION: prints an nvcc of VERSION's major number that has beside it what we link
  local nvcc root major=${1%%.*}
  for nvcc in "$(command -v nvcc || true)" /usr/local/cuda/bin/nvcc /usr/local/cuda-"$1"/bin/nvcc; do
    [ -x "$nvcc" ] || continue
    nvcc=$(readlink -f "$nvcc")
    root=$(dirname "$(dirname "$nvcc")")
    if "$nvcc" --version 2>/dev/null | grep -q "release $major\." &&
      [ -e "$root/include/cuda_runtime.h" ] &&
      [ -e "$root/include/cublasLt.h" ] && [ -e "$root/lib64/libcublasLt.so" ]; then
      echo "$nvcc"
      return
    fi
  done
}

link_wheel_toolkit() {  # wheels lay files out for loading, not for linking: add the names that compilers ask for
  local library root=$1
  ln -sfn lib "$root/lib64"
  for library in "$root"/lib/lib*.so.*; do
    ln -sfn "${library##*/}" "${library%%.so.*}.so"
  done
}

cuda_compiler() {
  ENABLE_CUDA=ON
  NVCC=''
  CUDA_ROOT=''
  if [ "${FLEXGEN_CUDA:-auto}" = OFF ]; then
    ENABLE_CUDA=OFF
    STEP_NOTE='left out (FLEXGEN_CUDA=OFF)'
    return
  fi
  choose_architectures
  if [ -z "$CUDA_ARCHITECTURES" ]; then
    ENABLE_CUDA=OFF
    STEP_NOTE='left out: no GPU here (to compile it all the same, for another machine: FLEXGEN_CUDA=ON)'
    return
  fi
  if [ -z "$TORCH_CUDA" ]; then
    ENABLE_CUDA=OFF
    STEP_NOTE='left out: this LibTorch is a CPU build (FLEXGEN_LIBTORCH=venv installs one with CUDA)'
    return
  fi
  NVCC=$(machine_nvcc "$TORCH_CUDA")
  if [ -z "$NVCC" ]; then
    local root
    root=$(venv_site_packages)/nvidia/cu13
    # The wheels of torch bring the toolkit's headers and libraries, those of nvcc the compiler. A LibTorch from
    # elsewhere comes with its own toolkit, or not at all.
    if [ "$LIBTORCH" != "$(venv_site_packages)/torch" ] || [ "${TORCH_CUDA%%.*}" != 13 ]; then
      fail "LibTorch in $LIBTORCH is built for CUDA $TORCH_CUDA, but this machine has no whole CUDA toolkit
of that major version (nvcc, cuda_runtime.h, cublasLt). Install it, or set FLEXGEN_LIBTORCH=venv to use the project's own."
    fi
    if [ ! -x "$root/bin/nvcc" ] || [ -e "$VENV_DIR/.unfinished-nvcc" ]; then
      printf 'installing nvcc 13.0 into .venv ... '
      pip_install nvcc "${CUDA_PACKAGES[@]}"
    fi
    link_wheel_toolkit "$root"
    NVCC=$root/bin/nvcc
  fi
  CUDA_ROOT=$(dirname "$(dirname "$NVCC")")
  STEP_NOTE="${NVCC#"$PROJECT_DIR"/}, for sm_${CUDA_ARCHITECTURES//;/, sm_}"
}

# --- 4. configure, 5. build ------------------------------------------------------------------------------------------

configure() {
  local preset=cpu arguments stamp
  arguments=(-DLibTorch_DIRECTORY="$LIBTORCH")
  if [ "$ENABLE_CUDA" != OFF ]; then
    preset=cuda
    arguments+=(-DCMAKE_CUDA_COMPILER="$NVCC" -DCUDAToolkit_ROOT="$CUDA_ROOT"
      -DCMAKE_CUDA_ARCHITECTURES="$CUDA_ARCHITECTURES")
  fi
  stamp="$preset $(cksum <"$PROJECT_DIR/CMakePresets.json") ${arguments[*]}"
  if [ -e "$BUILD_DIR/build.ninja" ] && [ "$(cat "$BUILD_DIR/.configured" 2>/dev/null)" = "$stamp" ]; then
    STEP_NOTE="preset $preset, nothing changed"
    return
  fi
  # A new compiler or LibTorch in an old cache keeps stale paths: start the cache afresh, keep the object files.
  rm -f "$BUILD_DIR/CMakeCache.txt" "$BUILD_DIR/.configured"
  (cd "$PROJECT_DIR" && logged "cmake --preset $preset" cmake --preset "$preset" -B "$BUILD_DIR" "${arguments[@]}")
  printf '%s\n' "$stamp" >"$BUILD_DIR/.configured"
  STEP_NOTE="preset $preset"
}

compile_jobs() {  # a source file that includes LibTorch takes about 2 GB to compile
  local cores memory_gib jobs
  cores=$(nproc)
  memory_gib=$(awk '/^MemAvailable/ {print int($2 / 1048576)}' /proc/meminfo)
  jobs=$((memory_gib / 2 < cores ? memory_gib / 2 : cores))
  echo $((jobs > 0 ? jobs : 1))
}

build_targets() {
  local jobs targets=("${BUILD_TARGETS[@]}")
  jobs=${FLEXGEN_JOBS:-$(compile_jobs)}
  printf '$ ninja -C %s -j %s %s\n' "$BUILD_DIR" "$jobs" "${targets[*]}" >>"$STEP_LOG"
  # A line now and then, so that a long first build is seen to move.
  if ! ninja -C "$BUILD_DIR" -j "$jobs" "${targets[@]}" 2>&1 | tee -a "$STEP_LOG" |
    awk -v started="$(date +%s)" '
      match($0, /^\[[0-9]+\/[0-9]+\]/) {
        "date +%s" | getline now; close("date +%s")
        if (now - last >= 20) { if (last) { printf "%s ", substr($0, RSTART, RLENGTH); fflush() } last = now }
      }'; then
    fail 'the build' "$STEP_LOG"
  fi
}

set_up_and_build() {  # set_up_and_build TARGET...: the five steps that all scripts share; they set NUM_STEPS
  BUILD_TARGETS=("$@")
  step 'system packages' system_packages
  step 'LibTorch' torch_library
  step 'CUDA compiler' cuda_compiler
  step 'configure' configure
  step 'build' build_targets
}
