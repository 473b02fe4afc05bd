#!/usr/bin/env bash
# Runs a rank of a job on a share of this machine's processors, so that ranks of one machine are as many equal ones.
#
#     mpirun -n 4 benchmark/cluster/share.sh SHARE flexgen-dist ...     SHARE: processors of a rank: 1, 2, or below 1
#
# Whole processors by pinning. Less than one by the quota of a control group on top (root; periods of 10 ms), which is
# left behind for the next run: flexgen-dist-share-RANK.
set -euo pipefail
(($# >= 2)) || { sed -n 's/^# \{0,1\}//; 2,7p' "$0" >&2; exit 2; }
share=$1
shift
rank=${OMPI_COMM_WORLD_LOCAL_RANK:-${PMI_RANK:-0}}

read -r first last quota_us < <(awk -v share="$share" -v rank="$rank" -v all="$(nproc --all)" 'BEGIN {
  first = int(rank * share) % all
  print first, first + (share < 1 ? 0 : int(share) - 1), (share < 1 ? int(10000 * share) : 0) }')

if ((quota_us > 0)); then
  if [[ -f /sys/fs/cgroup/cgroup.controllers ]]; then
    group=/sys/fs/cgroup/flexgen-dist-share-$rank
    mkdir -p "$group"
    echo "$quota_us 10000" >"$group/cpu.max"
  else
    group=/sys/fs/cgroup/cpu/flexgen-dist-share-$rank
    mkdir -p "$group"
    echo 10000 >"$group/cpu.cfs_period_us"
    echo "$quota_us" >"$group/cpu.cfs_quota_us"
  fi
  echo $$ >"$group/cgroup.procs"
fi
exec taskset -c "$first-$last" "$@"
