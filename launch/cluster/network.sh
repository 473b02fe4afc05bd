# Part of launch/cluster.sh: which network the ranks talk over.
#
# Uses fact, complain, $hosts, $interface. Gives: choose_network.
# shellcheck shell=bash disable=SC2154  # of the script that reads this

# Of this machine alone, whatever its address says: loopback, and what containers and virtual machines hang on.
is_inner() {
  case $1 in
    lo | docker* | br-* | virbr* | veth* | vnet* | vmnet* | vboxnet* | podman* | cni* | cali* | flannel* | lxc* | lxd* | kube* | tailscale*)
      return 0 ;;
  esac
  return 1
}

networks_of() {  # HOST: those that lead to others
  local network name speed
  while read -r network name speed; do
    is_inner "$name" || [[ $network == 169.254.* || $network == 127.* || $network == */32 ]] || echo "$network $name $speed"
  done < <(fact "$1" network)
}

# The fastest network that all hosts are in; of equals the first one in the table of the first host.
common_network() {
  local network name speed slowest best='' best_speed=-2 host found
  while read -r network name speed; do
    slowest=$speed
    for host in "${hosts[@]}"; do
      found=$(networks_of "$host" | awk -v network="$network" '$1 == network && !found++ {print $3}')
      [[ -n $found ]] || continue 2
      if ((found < slowest)); then slowest=$found; fi
    done
    if ((slowest > best_speed)); then best=$network best_speed=$slowest; fi
  done < <(networks_of "${hosts[0]}")
  echo "$best"
}

check_interface() {
  local host has
  for host in "${hosts[@]}"; do
    has=$(fact "$host" network | awk -v wanted="$interface" '$1 == wanted || $2 == wanted' | wc -l)
    ((has > 0)) || complain "$host is not in the network '$interface' (--interface): it has $(
      fact "$host" network | awk '{printf "%s%s (%s)", separator, $2, $1; separator = ", "}')"
  done
  end_if_complained
}

# NCCL knows interfaces by name only: it is told where the network has one name on all hosts.
tell_nccl() {
  local names
  names=$(for host in "${hosts[@]}"; do fact "$host" network; done |
    awk -v wanted="$interface" '$1 == wanted || $2 == wanted {print $2}' | sort -u)
  [[ $names == *$'\n'* ]] || export NCCL_SOCKET_IFNAME="${NCCL_SOCKET_IFNAME-=$names}"
}

inner_interfaces() {
  local name inner
  inner=$(for host in here "${hosts[@]}"; do fact "$host" network; done |
    while read -r _ name _; do if is_inner "$name" && [[ $name != lo ]]; then echo "$name"; fi; done | sort -u | paste -sd , -)
  echo "lo${inner:+,$inner}"
}

# mpirun and its daemons: the ranks' network where this machine is in it, too.
choose_network_of_daemons() {
  if fact here network | awk -v wanted="$interface" '$1 == wanted || $2 == wanted {found = 1} END {exit !found}'; then
    export OMPI_MCA_oob_tcp_if_include=$interface PRTE_MCA_prte_if_include=$interface
  else
    export OMPI_MCA_oob_tcp_if_exclude PRTE_MCA_prte_if_exclude
    OMPI_MCA_oob_tcp_if_exclude=$(inner_interfaces)
    PRTE_MCA_prte_if_exclude=$OMPI_MCA_oob_tcp_if_exclude
  fi
}

choose_network() {
  ((${#hosts[@]} > 1)) || return 0
  if [[ -n $interface ]]; then check_interface; else interface=$(common_network); fi
  if [[ -n $interface ]]; then
    export OMPI_MCA_btl_tcp_if_include=$interface
    choose_network_of_daemons
    tell_nccl
    echo "network     $interface" >&2
  else  # routers between them: all but what leads nowhere
    export OMPI_MCA_btl_tcp_if_exclude
    OMPI_MCA_btl_tcp_if_exclude=$(inner_interfaces)
    choose_network_of_daemons
    echo "network     no network has all hosts in it: any but $OMPI_MCA_btl_tcp_if_exclude; --interface names one" >&2
  fi
}
