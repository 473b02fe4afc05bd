#!/usr/bin/env bash
# Every placement x B,K x overlap x number of ranks of greedy_parity.py, 96 runs of 520 rows; prints a table.
#
#     tests/parity/full_matrix.sh [BUILD_DIR]        default: build
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
build=${1:-$here/../../build}
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive}
exec python3 -B "$here/greedy_parity.py" --binary "$build/flexgen-dist" --matrix
