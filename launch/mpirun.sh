#!/usr/bin/env bash
# mpirun with what small machines and containers need. Takes mpirun's own arguments:
#
#     launch/mpirun.sh [OPTION ...] -n 4 build/flexgen-dist generate ...
#
# Options of its own stand before mpirun's:
#
#     --retries N          start the job again, up to N times, after a lost rank or a crash: it goes on by its journal
#     --retry-pause S      seconds before that [10]
#     --allow-fewer-ranks  with --retries: without hosts that cannot be reached or have lost a rank twice, and with as
#                          many ranks fewer as ran there. Hosts: --host or --hostfile; ranks: -n
#     --min-ranks N        with --allow-fewer-ranks: rather give up than run on fewer [1]
#
# Only defaults are set, through the environment, so that any option on the command line or variable set before
# still wins. MPIRUN names another launcher than the first mpirun of PATH. The exit status is the job's; where it was
# interrupted 130, where a rank was killed 5. Started again is what has ended with 5 (a rank lost), 70, or by a signal
# (129 and more); not what has done its rows (0, 1), cannot be done as it is asked for (2, 3, 4), has no room on its
# disk (6) or was interrupted.
set -euo pipefail

launch_folder=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")  # a link may lead here
# shellcheck source=launch/mpirun/reach.sh
source "$launch_folder/mpirun/reach.sh"
# shellcheck source=launch/mpirun/hosts.sh
source "$launch_folder/mpirun/hosts.sh"
# shellcheck source=launch/mpirun/one_run.sh
source "$launch_folder/mpirun/one_run.sh"

usage_error() {
  echo "error: launch/mpirun.sh: $*" >&2
  exit 2
}

retries=0 retry_pause=10 allow_fewer_ranks=0 min_ranks=1
while (($# > 0)); do
  case $1 in
    --retries | --retry-pause | --min-ranks)
      [[ ${2-} =~ ^[0-9]{1,6}$ ]] || usage_error "$1 takes a number, not '${2-}'"
      name=${1#--}
      printf -v "${name//-/_}" %d "$((10#$2))"
      shift 2
      ;;
    --allow-fewer-ranks) allow_fewer_ranks=1; shift ;;
    *) break ;;
  esac
done
((retries > 0)) || ((allow_fewer_ranks == 0)) || usage_error "--allow-fewer-ranks needs --retries"

launcher=${MPIRUN:-mpirun}
if ! command -v "$launcher" >/dev/null; then
  echo "error: '$launcher' was not found: Open MPI is not installed or not in PATH." \
       "Install it (Debian: openmpi-bin) or set MPIRUN" >&2
  exit 2
fi
arguments=("$@")
((allow_fewer_ranks == 0)) || read_hosts "$@"

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

# Where a host falls silent, mpirun and that host's daemon end the job on both sides after 25 s; Open MPI's own defaults
# make that 8 minutes. Open MPI 4, then 5.
for launcher_of in OMPI PRTE; do
  default "${launcher_of}_MCA_oob_tcp_keepalive_time" 10
  default "${launcher_of}_MCA_oob_tcp_keepalive_intvl" 3
  default "${launcher_of}_MCA_oob_tcp_keepalive_probes" 5
done

# Containers often refuse process_vm_readv between processes, which Open MPI 4 takes for granted.
if [[ -e /.dockerenv || -e /run/.containerenv || -n ${container:-} ]] ||
   grep -qE 'docker|containerd|kubepods|libpod|lxc' /proc/1/cgroup 2>/dev/null; then
  default OMPI_MCA_btl_vader_single_copy_mechanism none
fi

# One copy of each of Open MPI's own help texts, not one per rank.
default OMPI_MCA_orte_base_help_aggregate 1

scratch=$(mktemp -d "${TMPDIR:-/tmp}/flexgen-mpirun-XXXXXX")
trap 'rm -rf "$scratch"' EXIT
# While sweeps run, rank 0 writes here which process the first interrupt asks to end with the sweep under way.
export FLEXGEN_STOP_FILE=$scratch/stop
forward_signals
{ : <&0; } 2>/dev/null || exec </dev/null  # a closed input is an empty one

is_worth_another_run() {
  ((interrupted == 0)) || return 1
  (($1 == 5 || $1 == 70 || ($1 > 128 && $1 != 130))) && return 0
  # mpirun itself says 1 where a host is gone, which is what "some rows failed" says.
  (($1 == 1 && allow_fewer_ranks)) && ! all_hosts_answer
}

pause() {  # an interrupt ends it within a second
  local left
  for ((left = $1; left > 0 && interrupted == 0; --left)); do sleep 1; done
}

for ((run = 0; ; ++run)); do
  run_once "${arguments[@]}"
  if ((run == retries)) || ! is_worth_another_run "$status"; then break; fi
  if ((allow_fewer_ranks)) && ! leave_out_lost_hosts; then break; fi
  echo "launch/mpirun.sh: the job ended with exit code $status; in $retry_pause s it is started again" \
       "($((run + 1)) of $retries)" >&2
  pause "$retry_pause"
  if ((interrupted)); then break; fi
done
# mpirun says 1 for a job that was interrupted, which is what "some rows failed" says.
if ((interrupted && status != 0)); then status=130; fi
exit "$status"
