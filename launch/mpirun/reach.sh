# Part of launch/mpirun.sh and launch/cluster.sh: commands on other hosts.
#
# FLEXGEN_SSH names the agent, `AGENT HOST COMMAND`, where that is not ssh; words with spaces between them.
# shellcheck shell=bash

is_this_machine() {
  [[ $1 == localhost || $1 == 127.* || ${1%%.*} == "${HOSTNAME%%.*}" || " $(hostname -I 2>/dev/null)" == *" $1 "* ]]
}

on_host() {  # HOST COMMAND, for a shell there; on this machine without an agent
  local agent
  if is_this_machine "$1"; then bash -c "$2"; return; fi
  read -ra agent <<<"${FLEXGEN_SSH:-ssh}"
  # Nobody is there to be asked for a password.
  if [[ ${agent[0]##*/} == ssh ]]; then agent+=(-o BatchMode=yes -o ConnectTimeout=10); fi
  "${agent[@]}" "$1" "$2"
}

answers() { on_host "$1" true </dev/null >/dev/null 2>&1; }
