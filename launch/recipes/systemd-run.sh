#!/usr/bin/env bash
# A night's job as a service of systemd, of the user's own: it outlives the terminal and is started again after a crash.
#
#     launch/recipes/systemd-run.sh NAME launch/mpirun.sh -n 2 build/flexgen-dist generate ...
#
#     journalctl --user -fu NAME      what it says            systemctl --user stop NAME     ends with the sweep under way
#     systemctl --user status NAME    how it stands           the same command again         goes on by the journal
#
# Once, so that it outlives the log-out, too: loginctl enable-linger
set -euo pipefail
(($# >= 2)) || { sed -n '2,9s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2; }
name=$1
shift

properties=(
  Restart=on-failure RestartSec=10
  # What another start would not mend: failed rows, usage, model, memory, a full disk, an interrupt.
  'RestartPreventExitStatus=1 2 3 4 6 130'
  # Five starts in an hour are enough: then it fails by itself.
  StartLimitBurst=5 StartLimitIntervalSec=3600
  # The launcher alone is told to stop, and lets the sweep under way end; what is left after that is killed.
  KillMode=mixed TimeoutStopSec=600 SuccessExitStatus=130
)
options=(--user "--unit=$name" --collect --same-dir)
for property in "${properties[@]}"; do options+=("--property=$property"); done
# A service starts with the variables of systemd, not with those of this shell.
for variable in PATH HOME LD_LIBRARY_PATH TMPDIR ${!OMP_*} ${!OMPI_*} ${!CUDA_*} ${!FLEXGEN_*} MPIRUN; do
  if [[ -n ${!variable+set} ]]; then options+=("--setenv=$variable=${!variable}"); fi
done
exec systemd-run "${options[@]}" -- "$(command -v "$1")" "${@:2}"
