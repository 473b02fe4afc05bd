# Part of launch/cluster.sh: rank 0 reads and writes the job's files. Where that is another machine than this one,
# inputs go there before the job, and results come home after it, however it ends.
#
# Uses on_host, usage_error, $hosts, $copy_to, $words. Gives: send_files, bring_results.
# shellcheck shell=bash disable=SC2154  # of the script that reads this

job_folder=''      # there; empty where rank 0 runs here
declare -A homes   # path there -> path here
num_sent=0

quoted() { printf %q "$1"; }

# The word of a file that rank 0 reads; what is no file here is left as it is.
sent() {
  [[ $1 != - && -f $1 ]] || { new_word=$1; return 0; }
  new_word=$job_folder/in/$((num_sent++))-${1##*/}
  on_host "${hosts[0]}" "cat >$(quoted "$new_word")" <"$1" || usage_error "cannot send '$1' to ${hosts[0]}:$job_folder (--copy-to)"
}

# Of one that it writes.
expected() {
  [[ $1 != - ]] || { new_word=$1; return 0; }
  [[ -d $(dirname "$1") ]] || usage_error "there is no folder '$(dirname "$1")' for '$1'"
  new_word=$job_folder/out/${1##*/}
  [[ -z ${homes[$new_word]-} ]] || usage_error "two files with the name '${1##*/}' cannot be written on ${hosts[0]}"
  homes[$new_word]=$(readlink -m "$1")
}

# --output=FILE becomes two words, as others have it.
part_words() {
  local parted=() word
  for word in "${words[@]}"; do
    if [[ $word =~ ^(--(input|config|output|error-file|report|trace))=(.*)$ ]]; then
      parted+=("${BASH_REMATCH[1]}" "${BASH_REMATCH[3]}")
    else
      parted+=("$word")
    fi
  done
  words=("${parted[@]}")
}

send_files() {
  local first=${hosts[0]} new_words=() word option='' output='' new_word
  is_this_machine "$first" && return 0
  part_words
  for word in "${words[@]}"; do
    if [[ $option == --output ]]; then output=$word; fi
    option=$word
  done
  # A job that has been interrupted finds its journal where it was.
  job_folder=$copy_to/jobs/$(sha256sum <<<"$HOSTNAME:$(readlink -m "${output:-none}")" | cut -c 1-16)
  if [[ -e $output && " ${words[*]} " != *' --overwrite '* ]] && ! on_host "$first" "test -e $(quoted "$job_folder")" </dev/null; then
    usage_error "'$output' exists already: it stays as it is; --overwrite replaces it"
  fi
  on_host "$first" "mkdir -p $(quoted "$job_folder/in") $(quoted "$job_folder/out")" </dev/null ||
    usage_error "cannot make '$job_folder' on $first: name another folder by --copy-to"
  option=''
  for word in "${words[@]}"; do
    if [[ $word == --* ]]; then option=$word new_word=$word
    else
      case $option in
        --input | --config) sent "$word" ;;
        --output | --error-file | --report | --trace) expected "$word" ;;
        *) new_word=$word ;;
      esac
    fi
    new_words+=("$new_word")
  done
  words=("${new_words[@]}")
}

bring_results() {  # STATUS of the job
  [[ -n $job_folder ]] || return 0
  local there here brought=1
  for there in "${!homes[@]}"; do
    here=${homes[$there]}
    on_host "${hosts[0]}" "test -e $(quoted "$there")" </dev/null 2>/dev/null || continue
    if on_host "${hosts[0]}" "cat $(quoted "$there")" </dev/null >"$here.part"; then mv "$here.part" "$here"
    else
      rm -f "$here.part"
      brought=0
    fi
  done
  if ((brought == 0)); then
    echo "launch/cluster.sh: results cannot be brought home: they lie in ${hosts[0]}:$job_folder/out" >&2
  elif (($1 <= 1)); then
    on_host "${hosts[0]}" "rm -rf $(quoted "$job_folder")" </dev/null
  else
    echo "launch/cluster.sh: the job's journal lies in ${hosts[0]}:$job_folder; the same command goes on by it" >&2
  fi
}
