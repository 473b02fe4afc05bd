#!/usr/bin/env bash
# From a bare machine to a finished job: installs what is missing, builds, and runs a demo batch of 1,200
# data-wrangling rows through two ranks with weights, KV cache and hidden states spread over GPU, DRAM and SSD.
#
#   launch/quickstart.sh            set up what is missing, then run (see setup.sh for the environment it heeds)
#
# Results lie in results/. A second run skips what is done and starts the job at once.
set -euo pipefail
# shellcheck source=launch/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

prepare_job() {
  mkdir -p "$PROJECT_DIR/results" "$PROJECT_DIR/.cache/offload"
  # A finished job would be taken up again, with nothing left to do: start it anew.
  rm -rf "$PROJECT_DIR"/results/demo*
  if nvidia-smi -L >/dev/null 2>&1 && [ "$ENABLE_CUDA" != OFF ]; then
    DEVICE_NOTE="on $(nvidia-smi -L | awk -F ' \\(' 'NR == 1 {print $1}')"
  else
    DEVICE_NOTE='on the CPU (no usable GPU here)'
  fi
}

run_demo() {
  local program=$BUILD_DIR/flexgen-dist status=0
  cd "$PROJECT_DIR"
  # 20 % of the weights on gpu, 30 % in dram, the rest on ssd; the same of the KV cache; hidden states half and half.
  local command=(launch/mpirun.sh -n 2 "${program#"$PROJECT_DIR"/}" generate
    --model configs/demo-model --input configs/demo-rows/rows.jsonl --output results/demo.jsonl
    --percent 20 30 20 30 50 50 --gpu-batch-size 50 --num-gpu-batches 4
    --offload-dir .cache/offload --report results/demo-report.json)
  printf '[6/6] the job, 2 ranks, %s\n  %s\n' "$DEVICE_NOTE" "${command[*]}"
  "${command[@]}" || status=$?
  [ "$status" = 0 ] || fail "the job ended with exit code $status; its own messages stand above"
}

NUM_STEPS=6
set_up_and_build flexgen-dist
prepare_job
job_started=$SECONDS
run_demo
printf 'ok (%d s)\n\n' $((SECONDS - job_started))
python3 launch/score_demo.py results/demo.jsonl configs/demo-rows/answers.jsonl results/demo-report.json
printf 'results        %s\n' "$PROJECT_DIR/results/demo.jsonl" "$PROJECT_DIR/results/demo-report.json"
