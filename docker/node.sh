#!/usr/bin/env bash
# A node of the compose cluster: lets the other nodes in by a key that they share, made by whoever comes first.
#   flexgen-node            waits for ranks (sshd in the foreground)
#   flexgen-node COMMAND... runs COMMAND once every node of FLEXGEN_NODES answers
set -euo pipefail

keys=/keys
mkdir -p ~/.ssh "$keys"
exec 9>"$keys/lock"
flock 9
[ -e "$keys/id_ed25519" ] || ssh-keygen -q -t ed25519 -N '' -f "$keys/id_ed25519"
flock -u 9
install -m 600 "$keys/id_ed25519" ~/.ssh/id_ed25519
install -m 600 "$keys/id_ed25519.pub" ~/.ssh/authorized_keys
printf 'Host *\n  StrictHostKeyChecking no\n  UserKnownHostsFile /dev/null\n  LogLevel ERROR\n' >~/.ssh/config

if [ $# = 0 ]; then
  mkdir -p /run/sshd
  exec /usr/sbin/sshd -D -e
fi
for node in ${FLEXGEN_NODES:-}; do
  for _ in $(seq 60); do
    ssh -o ConnectTimeout=2 "$node" true 2>/dev/null && continue 2
    sleep 1
  done
  echo "error: node $node does not answer: is its container up? (docker compose ps)" >&2
  exit 5
done
exec "$@"
