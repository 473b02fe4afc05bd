#!/usr/bin/env bash
# Stands in for ssh among the boxes of a site: agent.sh [-o OPTION ...] BOX COMMAND...
# Like ssh it gives the command's words to a shell there, in a session of its own, and says 255 where the box does not
# answer: it asks by the network.
set -uo pipefail
while [[ ${1-} == -* ]]; do
  if [[ $1 == -o ]]; then shift; fi
  shift
done
box=$1
shift
process=$(cat "/mnt/boxes/$box" 2>/dev/null) ||
  { echo "ssh: Could not resolve hostname $box: Name or service not known" >&2; exit 255; }
# A port that nobody listens on is refused where there is a network.
[[ $box == "$(hostname)" ]] || grep -q refused <<<"$(timeout 5 bash -c ": </dev/tcp/$box/22" 2>&1)" ||
  { echo "ssh: connect to host $box port 22: No route to host" >&2; exit 255; }
exec nsenter --target "$process" --net --uts --mount setsid --wait bash -c "$*"
