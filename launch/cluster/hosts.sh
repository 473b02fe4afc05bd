# Part of launch/cluster.sh: what the hosts have, asked all at once.
#
# Uses usage_error, on_host, $hosts, $slots, $scratch, $program, $copy. Gives: ask_hosts,
# refuse_hosts_named_twice, check_launchers, count_ranks, put_this_machine_first, bind_to_numa_nodes, fact, complain.
# shellcheck shell=bash disable=SC2154,SC2034,SC2004  # of and for the script that reads this

num_complaints=0
complain() { echo "error: $*" >&2; num_complaints=$((num_complaints + 1)); }
end_if_complained() { ((num_complaints == 0)) || exit 5; }

fact() { sed -n "s/^$2 //p" "$scratch/facts-$1"; }  # HOST KEY

# What an agent says where it does not get there, and what helps.
advice() {  # HOST, its words on stdin
  local said
  said=$(cat)
  case $said in
    *'Permission denied'*) echo "let this user in by a key: ssh-copy-id $1" ;;
    *'Host key verification'*) echo "say once by hand that it is the right one: ssh $1" ;;
    *'ould not resolve'*) echo "is its name right in the hostfile, and known here?" ;;
    *) echo "does it run, and does '${FLEXGEN_SSH:-ssh} $1 true' work here?" ;;
  esac
}

ask_hosts() {
  local host question words asked=()
  printf -v words '%q %q' "$program" "$copy"
  question=$(<"$launch_folder/cluster/probe.sh")
  for host in "${hosts[@]}"; do
    (on_host "$host" "bash -s $words" <<<"$question" >"$scratch/facts-$host" 2>"$scratch/said-$host") &
    asked+=($!)
  done
  for host in "${!asked[@]}"; do
    wait "${asked[host]}" && [[ -n $(fact "${hosts[host]}" name) ]] && continue
    complain "${hosts[host]} cannot be reached: $(tail -n 1 "$scratch/said-${hosts[host]}" | tr -d '\r');" \
             "$(advice "${hosts[host]}" <"$scratch/said-${hosts[host]}")"
  done
  end_if_complained
  bash -s "$program" "$copy" <<<"$question" >"$scratch/facts-here"  # mpirun runs here, with ranks or without
}

# Two names of one host would be two hosts to whoever counts slots, and one to mpirun.
refuse_hosts_named_twice() {
  local host name
  local -A named
  for host in "${hosts[@]}"; do
    name=$(fact "$host" name)
    [[ -z ${named[$name]-} ]] || complain "'$host' and '${named[$name]}' are one host, $name: name it once, or give hosts names of their own"
    named[$name]=$host
  done
  end_if_complained
}

# Open MPI gives rank 0 to the machine that it is started on, where that is among the hosts.
put_this_machine_first() {
  local host first=() others=()
  for host in "${hosts[@]}"; do
    if is_this_machine "$host"; then first+=("$host"); else others+=("$host"); fi
  done
  hosts=(${first[@]+"${first[@]}"} ${others[@]+"${others[@]}"})
}

# One rank for each slot; for each GPU where the hostfile has no number.
count_ranks() {
  local host
  num_ranks=0 host_list=''
  for host in "${hosts[@]}"; do
    if ((slots[$host] == 0)); then slots[$host]=$(fact "$host" gpus); fi
    if ((slots[$host] == 0)); then slots[$host]=1; fi
    num_ranks=$((num_ranks + slots[$host]))
    host_list+=",$host:${slots[$host]}"
  done
  host_list=${host_list#,}
}

# mpirun starts a daemon of its own version on every other host.
check_launchers() {
  local host own daemon
  own=$("$launcher" --version 2>/dev/null) || :
  own=${own%%$'\n'*}
  for host in "${hosts[@]}"; do
    is_this_machine "$host" && continue
    daemon=$(fact "$host" daemon)
    if [[ -z $daemon ]]; then
      complain "$host has no Open MPI in the PATH of a shell that nobody logs in to: install it there (Debian: openmpi-bin)"
    elif [[ $(fact "$host" mpi) != "$own" ]]; then
      complain "$host has '$(fact "$host" mpi)', this machine '$own': one version everywhere is needed"
    fi
  done
  end_if_complained
}

# Ranks stay on one NUMA node where every host deals its ranks evenly to its nodes; else each may use all processors.
bind_to_numa_nodes() {
  local host nodes each='' share
  for host in "${hosts[@]}"; do
    nodes=$(fact "$host" nodes)
    ((nodes > 1 && slots[$host] % nodes == 0)) || return 0
    share=$((slots[$host] / nodes))
    [[ ${each:-$share} == "$share" ]] || return 0
    each=$share
  done
  export OMPI_MCA_rmaps_base_mapping_policy=ppr:$each:numa OMPI_MCA_hwloc_base_binding_policy=numa
  export PRTE_MCA_rmaps_default_mapping_policy=ppr:$each:numa PRTE_MCA_hwloc_default_binding_policy=numa
  echo "binding     $each ranks on every NUMA node" >&2
}
