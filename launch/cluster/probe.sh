# Says what a host has, one fact a line: KEY VALUE. Runs there, from launch/cluster.sh: bash -s PROGRAM COPY
# shellcheck shell=bash
program=$1 copy=$2

digest() { sha256sum "$1" 2>/dev/null | cut -d ' ' -f 1; }
echo "name ${HOSTNAME%%.*}"
echo "machine $(uname -m)"
echo "program $(digest "$program")"
echo "copy $(digest "$copy")"
echo "version $({ [ -x "$program" ] && "$program" --version; } 2>&1 | head -n 1)"
echo "gpus $(nvidia-smi -L 2>/dev/null | grep -c '^GPU ')"
echo "nodes $(find /sys/devices/system/node -maxdepth 1 -name 'node[0-9]*' 2>/dev/null | wc -l)"
echo "daemon $(command -v orted || command -v prted)"
echo "mpi $(mpirun --version 2>/dev/null | head -n 1)"

# Networks that a host is in itself, as the kernel's table has them, least byte first: NETWORK/BITS INTERFACE MBIT/S
while read -r interface to gateway flags _ _ _ mask _; do
  [[ $gateway == 00000000 && $mask != 00000000 && $((0x$flags & 1)) == 1 ]] || continue
  bits=0
  for ((rest = 0x$mask; rest > 0; rest >>= 1)); do bits=$((bits + (rest & 1))); done
  printf 'network %d.%d.%d.%d/%d' "0x${to:6:2}" "0x${to:4:2}" "0x${to:2:2}" "0x${to:0:2}" "$bits"
  printf ' %s %s\n' "$interface" "$(cat "/sys/class/net/$interface/speed" 2>/dev/null || echo -1)"
done </proc/net/route
