#!/usr/bin/env bash
# A night's job in a tmux session: it outlives the terminal and the connection.
#
#     launch/recipes/tmux.sh NAME launch/mpirun.sh --retries 3 -n 2 build/flexgen-dist generate ...
#
#     tmux attach -t NAME     look at it; Ctrl-C ends it with the sweep under way, Ctrl-B D leaves it alone
#     NAME.log                all that it has said; its last line is the exit code
#
# The same command goes on by the journal where a job has ended.
set -euo pipefail
(($# >= 2)) || { sed -n '2,9s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2; }
name=$1
shift

# The words as they are, whatever is in them.
printf -v command '%q ' "$@"
printf -v log '%q' "$PWD/$name.log"
# tee must outlive the Ctrl-C that ends the job: it writes down how that has ended.
script="set -o pipefail; { $command; echo \"exit code \$?\"; } 2>&1 | (trap '' INT; exec tee -a $log)"
# A server that runs already has variables of its own.
variables=()
for variable in PATH LD_LIBRARY_PATH TMPDIR ${!OMP_*} ${!OMPI_*} ${!CUDA_*} ${!FLEXGEN_*} MPIRUN; do
  if [[ -n ${!variable+set} ]]; then variables+=(-e "$variable=${!variable}"); fi
done
tmux new-session -d -s "$name" -c "$PWD" ${variables[@]+"${variables[@]}"} bash -c "trap : INT; $script"
echo "the job runs in the tmux session '$name'; tmux attach -t $name shows it, $name.log keeps what it says"
