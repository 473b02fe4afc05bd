# Part of launch/mpirun.sh: one run of the job, with the signals that come meanwhile and ends that mpirun does not see.
#
# Uses $launcher, $scratch, $retries. Gives: forward_signals, run_once; $status, $interrupted.
# shellcheck shell=bash disable=SC2154,SC2034  # of and for the script that reads this

interrupted=0  # by a signal that ends jobs
num_signals=0 is_asked=0
job=

# The job runs in a session of its own, where a Ctrl-C reaches it once, from here, and it still may read a terminal.
own_session=()
if command -v setsid >/dev/null; then own_session=(setsid); fi

forward() { num_signals=$((num_signals + 1)); [[ -z $job ]] || kill -s "$1" "$job" 2>/dev/null || :; }
ask() {  # false where the job does not run yet, or rank 0 on another machine
  local host='' process=''
  ((is_asked == 0)) && read -r host process <"$FLEXGEN_STOP_FILE" 2>/dev/null && [[ $host == "$HOSTNAME" ]] || return 1
  is_asked=1 num_signals=$((num_signals + 1))
  kill -s USR1 "$process" 2>/dev/null
}

forward_signals() {
  local signal
  for signal in INT TERM HUP; do
    # shellcheck disable=SC2064  # the names are meant as they are now
    trap "interrupted=1; ask || forward $signal" "$signal"
  done
  for signal in USR1 USR2 CONT; do
    # shellcheck disable=SC2064
    trap "forward $signal" "$signal"
  done
  trap 'forward TSTP; kill -s STOP $$' TSTP
}

# Process ids of the job's ranks on this machine, of those that run.
living_ranks() {
  local file child children state
  for file in "/proc/$1"/task/*/children; do
    read -ra children 2>/dev/null <"$file" || :
    for child in ${children[@]+"${children[@]}"}; do
      state=$(sed 's/.*) //; s/ .*//' "/proc/$child/stat" 2>/dev/null) || continue
      [[ $state != Z ]] && grep -qzE '^(OMPI_COMM_WORLD_RANK|PMIX_RANK)=' "/proc/$child/environ" 2>/dev/null &&
        echo "$child"
    done
  done
}

# Ranks end together. Where one has ended and the others have not after this many seconds, mpirun (Open MPI 4.1) has
# missed it: a rank that is killed while MPI starts leaves the others waiting, and mpirun with them.
end_grace=${FLEXGEN_END_GRACE_S:-20}

# Ends the job where mpirun hangs. Runs beside it.
watch_launcher() {
  trap '' INT TERM HUP
  local launched=$1 most=0 late=0 ranks
  local clock  # nobody writes to it; a sleep would outlive this process, and hold its streams
  exec {clock}<>"$scratch/clock"
  while ! read -rt 1 -u "$clock" && kill -0 "$launched" 2>/dev/null; do
    mapfile -t ranks < <(living_ranks "$launched")
    if ((${#ranks[@]} >= most)); then most=${#ranks[@]} late=0; continue; fi
    ((++late > end_grace)) || continue
    echo "launch/mpirun.sh: $((most - ${#ranks[@]})) of $most ranks have ended $late s ago, and mpirun has not seen" \
         "it: the others are ended" >&2
    touch "$scratch/ended"
    kill -s KILL ${ranks[@]+"${ranks[@]}"} "$launched" 2>/dev/null
    return
  done
}

# What a rank or mpirun says of lost ranks is read again where the job may be started anew.
keep_messages() {
  mkfifo "$scratch/messages"
  (trap '' INT TERM HUP; exec tee "$scratch/log" <"$scratch/messages" >&2) &
  listener=$!
  exec {messages}>"$scratch/messages"
}
end_messages() {
  exec {messages}>&-
  local times=0  # what the job has left running may hold its end open
  while kill -0 "$listener" 2>/dev/null && ((++times < 100)); do sleep 0.02; done
  kill "$listener" 2>/dev/null || :
  rm -f "$scratch/messages"
}

# Runs "$launcher" with the arguments; afterwards $status is what it said.
run_once() {
  local alive watcher seen messages=2 listener
  is_asked=0
  rm -f "$scratch/ended" "$scratch/log"
  : >"$FLEXGEN_STOP_FILE"
  [[ -p $scratch/clock ]] || mkfifo "$scratch/clock"
  if ((retries > 0)); then keep_messages; fi

  # What a shell starts in the background ignores Ctrl-C and reads nothing, unless told otherwise.
  (trap - INT QUIT; exec "${own_session[@]}" "$launcher" "$@") <&0 2>&"$messages" &
  job=$!
  ((interrupted == 0)) || kill -s TERM "$job"  # it came before there was a job

  # When this script ends in whatever way, kill -9 included, its end of this pipe closes, and no job is left behind.
  exec {alive}> >(trap '' INT TERM HUP; read -r word || :; [[ ${word-} == over ]] || kill -s TERM "$job" 2>/dev/null)
  watch_launcher "$job" {alive}>&- &
  watcher=$!

  # A signal ends `wait` before the job has ended.
  while :; do
    seen=$num_signals status=0
    wait "$job" || status=$?
    [[ $num_signals == "$seen" ]] && break
  done
  job=
  kill -s KILL "$watcher" 2>/dev/null || :
  wait "$watcher" 2>/dev/null || :
  (trap '' PIPE; echo over >&"$alive") 2>/dev/null || :
  exec {alive}>&-
  if ((messages != 2)); then end_messages; fi
  # mpirun (Open MPI 4) says 205 where it has lost a host, which its message names.
  # 128 + 9 is a rank that was killed, or mpirun itself.
  if [[ -e $scratch/ended ]] || ((status == 205 || status == 137)); then status=5; fi
}
