#!/usr/bin/env bash
# Runs ranks of this machine over a made-up link: MPI over TCP, through a loopback of its own with a rate.
#
#     benchmark/cluster/shaped.sh 1gbit launch/mpirun.sh -n 2 build/flexgen-dist bench ...
#
# The rate as tc writes it; "free": TCP, not shaped. Needs root, ip and tc. Both directions share the one loopback: tokens
# queue behind hidden states, which a duplex link spares them.
set -euo pipefail
(($# >= 2)) || { sed -n 's/^# \{0,1\}//; 2,7p' "$0" >&2; exit 2; }
if [[ ${FLEXGEN_SHAPED:-} != inside ]]; then
  FLEXGEN_SHAPED=inside exec unshare --net "$0" "$@"
fi
rate=$1
shift

ip link set lo mtu 9000 up
[[ $rate == free ]] || tc qdisc add dev lo root tbf rate "$rate" burst 16kb latency 20s
export OMPI_MCA_btl=tcp,self OMPI_MCA_btl_tcp_if_include=lo OMPI_MCA_oob_tcp_if_include=lo
exec "$@"
