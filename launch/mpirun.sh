#!/usr/bin/env bash
# mpirun with what small machines and containers need. Takes mpirun's own arguments:
#
#     launch/mpirun.sh -n 4 build/flexgen-dist generate ...
#
# Only defaults are set, through the environment, so that any option on the command line or variable set before
# still wins. MPIRUN names another launcher than the first mpirun of PATH. The exit status is the job's; an interrupted
# job's is 130.
set -euo pipefail

launcher=${MPIRUN:-mpirun}
if ! command -v "$launcher" >/dev/null; then
  echo "error: '$launcher' was not found: Open MPI is not installed or not in PATH." \
       "Install it (Debian: openmpi-bin) or set MPIRUN" >&2
  exit 2
fi

default() { [[ -n ${!1+set} ]] || export "$1=$2"; }  # a variable that is set already is left alone

# Open MPI refuses root; in a container root is the usual user.
if [[ $(id -u) -eq 0 ]]; then
  default OMPI_ALLOW_RUN_AS_ROOT 1
  default OMPI_ALLOW_RUN_AS_ROOT_CONFIRM 1
  default PRTE_ALLOW_RUN_AS_ROOT 1
  default PRTE_ALLOW_RUN_AS_ROOT_CONFIRM 1
fi

# More ranks than cores are allowed, and a rank's threads may use every core. Each pair: Open MPI 4, then 5.
default OMPI_MCA_rmaps_base_oversubscribe 1
default PRTE_MCA_rmaps_default_mapping_policy :oversubscribe
default OMPI_MCA_hwloc_base_binding_policy none
default PRTE_MCA_hwloc_default_binding_policy none

# Containers often refuse process_vm_readv between processes, which Open MPI 4 takes for granted.
if [[ -e /.dockerenv || -e /run/.containerenv || -n ${container:-} ]] ||
   grep -qE 'docker|containerd|kubepods|libpod|lxc' /proc/1/cgroup 2>/dev/null; then
  default OMPI_MCA_btl_vader_single_copy_mechanism none
fi

# While sweeps run, rank 0 writes here which process the first interrupt asks to end with the sweep under way.
FLEXGEN_STOP_FILE=$(mktemp "${TMPDIR:-/tmp}/flexgen-stop-XXXXXX")
export FLEXGEN_STOP_FILE
trap 'rm -f "$FLEXGEN_STOP_FILE"' EXIT

# One copy of each of Open MPI's own help texts, not one per rank.
default OMPI_MCA_orte_base_help_aggregate 1

# The job runs in a session of its own, where a Ctrl-C reaches it once, from here, and it still may read a terminal.
own_session=()
if command -v setsid >/dev/null; then own_session=(setsid); fi

interrupted=0  # by a signal that ends jobs
num_signals=0
forward() { num_signals=$((num_signals + 1)); kill -s "$1" "$job" 2>/dev/null || :; }
is_asked=0
ask() {  # false where the job does not run yet, or rank 0 on another machine
  local host='' process=''
  ((is_asked == 0)) && read -r host process <"$FLEXGEN_STOP_FILE" 2>/dev/null && [[ $host == "$HOSTNAME" ]] || return 1
  is_asked=1 num_signals=$((num_signals + 1))
  kill -s USR1 "$process" 2>/dev/null
}
job=
for signal in INT TERM HUP; do
  # shellcheck disable=SC2064  # the names are meant as they are now
  trap "interrupted=1; ask || forward $signal" "$signal"
done
for signal in USR1 USR2 CONT; do
  # shellcheck disable=SC2064
  trap "forward $signal" "$signal"
done
trap 'forward TSTP; kill -s STOP $$' TSTP

{ : <&0; } 2>/dev/null || exec </dev/null  # a closed input is an empty one

# What a shell starts in the background ignores Ctrl-C and reads nothing, unless told otherwise.
(trap - INT QUIT; exec "${own_session[@]}" "$launcher" "$@") <&0 &
job=$!
((interrupted == 0)) || kill -s TERM "$job"  # it came before there was a job

# When this script ends in whatever way, kill -9 included, its end of this pipe closes, and no job is left behind.
exec {alive}> >(trap '' INT TERM HUP; read -r word || :; [[ ${word-} == over ]] || kill -s TERM "$job" 2>/dev/null)

# A signal ends `wait` before the job has ended.
while :; do
  seen=$num_signals status=0
  wait "$job" || status=$?
  [[ $num_signals == "$seen" ]] && break
done
trap "" PIPE
echo over >&"$alive" || :

# mpirun says 1 for a job that was interrupted, which is what "some rows failed" says.
if ((interrupted && status != 0)); then status=130; fi
exit "$status"
