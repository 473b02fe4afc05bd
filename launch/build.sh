#!/usr/bin/env bash
# Sets the machine up and builds the program, without tests: build/flexgen-dist. See setup.sh for the environment.
set -euo pipefail
# shellcheck source=launch/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

NUM_STEPS=5
set_up_and_build flexgen-dist
