# Part of launch/mpirun.sh: the hosts of a job, and which of them are lost.
#
# Uses usage_error, answers, is_this_machine, $min_ranks, $scratch, $arguments. Gives: read_hosts, all_hosts_answer, leave_out_lost_hosts.
# shellcheck shell=bash disable=SC2154,SC2034  # of and for the script that reads this

num_ranks=0        # -n
hosts=()           # in the order in which mpirun fills them
rest=()            # mpirun's arguments without hosts and ranks, the program and its own arguments last
declare -A slots   # of each host
declare -A deaths  # by host: how often it has lost a rank

add_host() {  # NAME SLOTS; a host that is named again has more of them
  [[ -n ${slots[$1]-} ]] || hosts+=("$1")
  slots[$1]=$((${slots[$1]-0} + $2))
}

# LIST [SLOTS]: "a:4,b:4"; a host without a number has SLOTS, else one.
read_host_list() {
  local entry entries
  IFS=, read -ra entries <<<"$1"
  for entry in "${entries[@]}"; do
    [[ $entry =~ ^([A-Za-z0-9_.-]+)(:([0-9]+))?$ ]] || usage_error "cannot read the host '$entry': NAME or NAME:SLOTS"
    add_host "${BASH_REMATCH[1]}" "${BASH_REMATCH[3]:-${2:-1}}"
  done
}

# FILE [SLOTS]: "a slots=4 max_slots=8" or "a:4", a line each. How many slots a host without a number has, mpirun finds
# out only later; without SLOTS such a line is refused.
read_hostfile() {
  local line name word count
  [[ -r $1 ]] || usage_error "cannot read the hostfile '$1'"
  while read -r line || [[ -n $line ]]; do
    line=${line%%#*}
    read -r name line <<<"$line" || :
    [[ -n $name ]] || continue
    count=${2-}
    if [[ $name =~ ^(.+):([0-9]+)$ ]]; then name=${BASH_REMATCH[1]} count=${BASH_REMATCH[2]}; fi
    for word in $line; do if [[ $word =~ ^slots=([0-9]+)$ ]]; then count=${BASH_REMATCH[1]}; fi; done
    [[ $name =~ ^[A-Za-z0-9_.-]+$ && -n $count ]] ||
      usage_error "a line of '$1' is to have the form 'HOST slots=N', not '$name $line'"
    add_host "$name" "$count"
  done <"$1"
}

# Takes mpirun's arguments apart. What decides otherwise which rank runs where is refused.
read_hosts() {
  local option
  while (($# > 0)); do
    option=${1/#--/-}
    case $option in
      -n | -np | -c | -H | -host | -hostfile | -machinefile | -default-hostfile)
        (($# > 1)) || usage_error "$1 takes a value"
        case $option in
          -n | -np | -c)
            [[ $2 =~ ^[1-9][0-9]{0,5}$ ]] || usage_error "--allow-fewer-ranks needs a number of ranks, not $1 '$2'"
            num_ranks=$2
            ;;
          -H | -host) read_host_list "$2" ;;
          *) read_hostfile "$2" ;;
        esac
        shift 2
        ;;
      -x | -mca | -gmca | -wdir | -wd | -path | -prefix | -output-filename | -report-uri | -tune)
        local num_values=1
        [[ $option != *mca ]] || num_values=2
        (($# > num_values)) || usage_error "$1 takes a value"
        rest+=("${@:1:num_values + 1}")
        shift $((num_values + 1))
        ;;
      -oversubscribe | -nooversubscribe | -tag-output | -timestamp-output | -q | -quiet | -v | -verbose | \
        -allow-run-as-root | -report-bindings | -display-map | -nolocal) rest+=("$1"); shift ;;
      -*) usage_error "--allow-fewer-ranks does not know what mpirun's option $1 means for hosts and ranks" ;;
      *) break ;;
    esac
  done
  rest+=("$@")
  (($# > 0)) || usage_error "there is no program to run"
  [[ " $* " != *" : "* ]] || usage_error "--allow-fewer-ranks knows one program, not several with ':' between them"
  ((num_ranks > 0)) || usage_error "--allow-fewer-ranks needs the number of ranks: -n N"
  ((${#hosts[@]} > 0)) || usage_error "--allow-fewer-ranks needs hosts: --host or --hostfile"
}

all_hosts_answer() {
  local host
  for host in "${hosts[@]}"; do answers "$host" || return 1; done
}

# The host of the rank that was lost, as the rank that noticed it or mpirun names it; nothing where none is named.
lost_host() {
  sed -nE 's/.*: rank [0-9]+ on ([^ ]+) has not answered.*/\1/p; s/.* rank [0-9]+ on ([^ ]+) was the first to stand.*/\1/p
           s/.*process rank [0-9]+ with PID [0-9]+ on node ([^ ]+) exited.*/\1/p
           s/.*Remote daemon: .* on node ([^ ]+)$/\1/p' "$scratch/log" 2>/dev/null | head -n 1
}

count_death() {
  local lost host
  lost=$(lost_host)
  [[ -n $lost ]] || return 0
  for host in "${hosts[@]}"; do
    if [[ ${host%%.*} == "${lost%%.*}" ]] || { is_this_machine "$host" && is_this_machine "$lost"; }; then
      deaths[$host]=$((${deaths[$host]-0} + 1))
      return
    fi
  done
  echo "launch/mpirun.sh: '$lost' has lost a rank, which is none of the hosts as they were given" >&2
}

# Ranks that a host has where N are dealt to hosts that have slots in all: each is filled before the next; where there
# are more ranks than slots, each has as many more as it has slots.
ranks_on() {
  local host=$1 total=0 before=0 name
  for name in "${hosts[@]}"; do
    if [[ $name == "$host" ]]; then before=$total; fi
    total=$((total + slots[$name]))
  done
  if ((num_ranks > total)); then
    echo $((num_ranks * (before + slots[$host]) / total - num_ranks * before / total))
  else
    local left=$((num_ranks - before))
    echo $((left < 0 ? 0 : left < slots[$host] ? left : slots[$host]))
  fi
}

# Takes lost hosts off the list and makes the arguments anew. False, with a word why, where too little is left.
leave_out_lost_hosts() {
  local host kept=() fewer=0 list=''
  count_death
  for host in "${hosts[@]}"; do
    if ((${deaths[$host]-0} >= 2)); then
      echo "launch/mpirun.sh: $host has lost a rank ${deaths[$host]} times: the job goes on without it" >&2
    elif ! answers "$host"; then
      echo "launch/mpirun.sh: $host cannot be reached: the job goes on without it" >&2
    else
      kept+=("$host")
      continue
    fi
    fewer=$((fewer + $(ranks_on "$host")))
  done
  ((fewer > 0 || ${#kept[@]} < ${#hosts[@]})) || return 0
  if ((${#kept[@]} == 0 || num_ranks - fewer < (min_ranks > 1 ? min_ranks : 1))); then
    echo "launch/mpirun.sh: $((num_ranks - fewer)) ranks are left of $num_ranks, fewer than --min-ranks $min_ranks:" \
         "the job is given up" >&2
    return 1
  fi
  num_ranks=$((num_ranks - fewer)) hosts=("${kept[@]}")
  for host in "${hosts[@]}"; do list+=",$host:${slots[$host]}"; done
  arguments=(--host "${list#,}" -n "$num_ranks" "${rest[@]}")
}
