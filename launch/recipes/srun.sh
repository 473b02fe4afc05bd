#!/usr/bin/env bash
# A job by Slurm's own launcher instead of mpirun, where Slurm and Open MPI share PMIx (`srun --mpi=list` names it); with
# srun's own options before the program:
#
#     launch/recipes/srun.sh --nodes=2 --ntasks-per-node=1 --gres=gpu:1 build/flexgen-dist generate ...
#
# For a night, with the queue, time limits and lost nodes taken care of:
#
#     FLEXGEN_LAUNCHER=launch/recipes/srun.sh sbatch --nodes=2 --gres=gpu:1 launch/recipes/slurm.sbatch build/flexgen-dist ...
#
# Several ranks of a node each stay on a NUMA node of theirs with --cpu-bind=ldoms. The exit status is the job's.
set -uo pipefail
(($# > 0)) || { echo "usage: ${0##*/} [OPTION OF SRUN ...] PROGRAM COMMAND ..., e.g. build/flexgen-dist generate ..." >&2; exit 2; }
command -v srun >/dev/null || { echo 'error: srun was not found: is this a machine of a Slurm cluster?' >&2; exit 2; }

# While sweeps run, rank 0 writes here which process the first signal asks to end with the sweep under way.
FLEXGEN_STOP_FILE=$(mktemp "${TMPDIR:-/tmp}/flexgen-srun-XXXXXX") || exit 6
export FLEXGEN_STOP_FILE
trap 'rm -f "$FLEXGEN_STOP_FILE"' EXIT

is_stopped=0 is_asked=0 job=
# shellcheck disable=SC2317  # the traps call it
ask() {  # false where the job does not run yet, or rank 0 on another machine
  local host='' process=''
  ((is_asked == 0)) && read -r host process <"$FLEXGEN_STOP_FILE" && [[ $host == "$HOSTNAME" ]] || return 1
  is_asked=1
  kill -s USR1 "$process" 2>/dev/null
}
# shellcheck disable=SC2317
stop() { is_stopped=1; ask || { [[ -z $job ]] || kill -s TERM "$job" 2>/dev/null; }; }
trap stop INT TERM HUP

# Where one rank ends with an error, the others are not waited for.
(trap - INT; exec srun --mpi=pmix --kill-on-bad-exit=1 "$@") <&0 &
job=$!
while :; do  # a signal ends `wait` as well
  wait "$job"
  status=$?
  kill -0 "$job" 2>/dev/null || break
done
if ((is_stopped && status != 0)); then status=130; fi
exit "$status"
