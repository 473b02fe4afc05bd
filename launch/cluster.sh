#!/usr/bin/env bash
# A job on several hosts, from a hostfile to results:
#
#     launch/cluster.sh --hostfile FILE [OPTION ...] generate --model ...
#
#     --hostfile FILE   lines `HOST`, `HOST slots=N` or `HOST:N`, as Open MPI and DeepSpeed have them; a host without a
#                       number has a rank for each of its GPUs, without GPUs one. Rank 0 runs on this machine
#                       where it is one of them, else on the first
#     --host LIST       the same as `a:2,b`
#     --program FILE    the program [build/flexgen-dist]; hosts that lack it at this path get a copy
#     --copy-to FOLDER  where on the hosts copies go [~/.cache/flexgen-dist]
#     --rsh AGENT       what reaches a host, as `AGENT HOST COMMAND` [ssh]
#     --interface X     the network between ranks, an interface's name or a network such as 10.0.0.0/24; without it the
#                       fastest that all hosts are in, never one of containers
#     --env NAME[=V]    a variable for all ranks; FLEXGEN_*, OMP_*, NCCL_*, UCX_*, HF_* and LD_LIBRARY_PATH go by themselves
#     --no-doctor       do not look first for what would keep the job from running
#     --check           look, say what would be started, and end
#     --retries N, --retry-pause S, --allow-fewer-ranks, --min-ranks N     as of launch/mpirun.sh, which runs the job
#
# Hosts are asked all at once, before anything is copied or started; all that is wrong is said, and the exit code is 5.
# Paths of the model and of --offload-dir are those on the hosts. Else the exit status is the job's.
# shellcheck disable=SC2034,SC2154  # variables of and for the parts
set -euo pipefail

launch_folder=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")  # a link may lead here

usage_error() {
  echo "error: launch/cluster.sh: $*" >&2
  exit 2
}

for part in mpirun/reach mpirun/hosts cluster/hosts cluster/network cluster/program cluster/files; do
  # shellcheck source=/dev/null
  source "$launch_folder/$part.sh"
done

program=$launch_folder/../build/flexgen-dist copy_to=$HOME/.cache/flexgen-dist interface='' wants_doctor=1 only_check=0
variables=() retry_options=()
while (($# > 0)); do
  case $1 in
    --hostfile | --host | --program | --copy-to | --rsh | --interface | --env | --retries | --retry-pause | --min-ranks)
      (($# > 1)) || usage_error "$1 takes a value"
      ;;&
    --hostfile) read_hostfile "$2" 0 ;;
    --host) read_host_list "$2" 0 ;;
    --program) program=$2 ;;
    --copy-to) copy_to=$2 ;;
    --rsh) export FLEXGEN_SSH=$2 OMPI_MCA_plm_rsh_agent=$2 PRTE_MCA_plm_ssh_agent=$2 ;;
    --interface) interface=$2 ;;
    --env) variables+=("$2") ;;
    --retries | --retry-pause | --min-ranks) retry_options+=("$1" "$2") ;;
    --allow-fewer-ranks) retry_options+=("$1"); shift; continue ;;
    --no-doctor) wants_doctor=0; shift; continue ;;
    --check) only_check=1; shift; continue ;;
    --) shift; break ;;
    -*) usage_error "unknown option '$1'; those of the program stand behind its command" ;;
    *) break ;;
  esac
  shift 2
done
words=("$@")
((${#hosts[@]} > 0)) || usage_error 'there are no hosts: --hostfile FILE or --host a:2,b'
((${#words[@]} > 0 || only_check)) || usage_error "there is no job: give the program's command, generate for example, and its options"
launcher=${MPIRUN:-mpirun}
command -v "$launcher" >/dev/null || usage_error "'$launcher' was not found: install Open MPI (Debian: openmpi-bin) or set MPIRUN"

scratch=$(mktemp -d "${TMPDIR:-/tmp}/flexgen-cluster-XXXXXX")
trap 'rm -rf "$scratch"' EXIT
program=$(readlink -m "$program")
digest=$(sha256sum "$program" 2>/dev/null | cut -d ' ' -f 1) || digest=''
copy=$copy_to/programs/${digest:0:16}/flexgen-dist

put_this_machine_first
ask_hosts
refuse_hosts_named_twice
check_launchers
count_ranks
choose_network
bring_program
check_program
bind_to_numa_nodes

command=("$launch_folder/mpirun.sh" "${retry_options[@]}" --host "$host_list" -n "$num_ranks")
while IFS= read -r name; do command+=(-x "$name"); done < <(
  compgen -e | grep -E '^(FLEXGEN_|OMP_|NCCL_|UCX_|HF_|LD_LIBRARY_PATH$)' | grep -vE '^FLEXGEN_(SSH|STOP_FILE|END_GRACE_S)$' || :)
for variable in "${variables[@]}"; do command+=(-x "$variable"); done

# What of the job's options the doctor wants to know.
examine() {
  local word option='' asked=()
  for word in "${words[@]:1}"; do
    if [[ $word == --* ]]; then option=$word; fi
    case ${option%%=*} in
      --model | --path | --offload-dir | --output | --device | --gpu-mem | --rank-timeout) asked+=("$word") ;;
    esac
  done
  "${command[@]}" "$program" doctor --quiet "${asked[@]}" </dev/null >&2
}

echo "ranks       $num_ranks on $host_list" >&2
send_files
if ((wants_doctor && ${#words[@]} > 0)) &&
   on_host "${hosts[0]}" "$(printf %q "$program") --help" </dev/null | grep '^  doctor ' >/dev/null; then
  status=0
  examine || status=$?
  if ((status != 0)); then
    echo "launch/cluster.sh: the job is not started; --no-doctor starts it nevertheless" >&2
    exit "$status"
  fi
fi
if ((only_check)); then
  printf '%q ' "${command[@]}" "$program" "${words[@]}"
  echo
  exit 0
fi

# Signals are for the job, and results come home after it.
job=
# shellcheck disable=SC2317  # the traps call it
forward() { [[ -z $job ]] || kill -s "$1" "$job" 2>/dev/null || :; }
for signal in INT TERM HUP; do
  # shellcheck disable=SC2064  # the names are meant as they are now
  trap "forward $signal" "$signal"
done
{ : <&0; } 2>/dev/null || exec </dev/null
(trap - INT QUIT; exec "${command[@]}" "$program" "${words[@]}") <&0 &
job=$!
while :; do  # a signal ends `wait` before the job has ended
  status=0
  wait "$job" || status=$?
  kill -0 "$job" 2>/dev/null || break
done
bring_results "$status"
exit "$status"
