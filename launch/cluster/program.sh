# Part of launch/cluster.sh: the program on every host, the same one.
#
# Uses fact, complain, on_host, $hosts, $program, $copy, $digest. Gives: bring_program, check_program.
# shellcheck shell=bash disable=SC2154  # of the script that reads this

# Where every host has this build, or one that says of itself that it is the same, at the same path, it stays; else
# all take a copy of the one that is here, at a path of its own.
bring_program() {
  local host own missing=()
  if [[ -z $digest ]]; then  # none here: then on all of them
    for host in "${hosts[@]}"; do
      [[ -n $(fact "$host" program) ]] || complain "$host has no '$program', and neither has this machine (--program)"
    done
    end_if_complained
    return
  fi
  own=$("$program" --version 2>&1) || :  # it is looked at on every host below
  own=${own%%$'\n'*}
  for host in "${hosts[@]}"; do
    [[ $(fact "$host" program) == "$digest" || $(fact "$host" version) == "$own" ]] || missing+=("$host")
  done
  ((${#missing[@]} > 0)) || return 0
  for host in "${hosts[@]}"; do
    [[ $(fact "$host" copy) == "$digest" ]] || copy_to_host "$host"
  done
  end_if_complained
  program=$copy
}

copy_to_host() {
  local folder file
  printf -v folder %q "${copy%/*}"
  printf -v file %q "$copy"
  # Whole or not at all: other jobs may start from the same copy.
  on_host "$1" "mkdir -p $folder && cat >$file.\$\$ && chmod 755 $file.\$\$ && mv $file.\$\$ $file" \
    <"$program" 2>"$scratch/said-$1" ||
    complain "the program cannot be copied to $1:${copy%/*}: $(tail -n 1 "$scratch/said-$1"); name another folder by --copy-to"
  echo "program     copied to $1:$copy" >&2
}

# What the loader or the system says becomes what is missing there, all of it at once.
check_program() {
  local host said file missing
  printf -v file %q "$program"
  for host in "${hosts[@]}"; do
    said=$(on_host "$host" "$file --version" </dev/null 2>&1) && continue
    missing=$(on_host "$host" "ldd $file" </dev/null 2>/dev/null | sed -n 's/^[[:space:]]*\([^ ]*\) => not found/\1/p' | sort -u | paste -sd ' ' -) || :
    if [[ $said == *GLIBC* || $said == *GLIBCXX* ]]; then
      complain "the program does not run on $host, whose C or C++ library is older than where it was built" \
               "($(grep -oE 'GLIBC(XX)?_[0-9.]+' <<<"$said" | sort -uV | tail -n 1)): build it on the oldest of the hosts"
    elif [[ -n $missing ]]; then
      complain "the program does not run on $host, which lacks $missing: install them there (docker/Dockerfile lists the packages)," \
               "or the program with its libraries, and name it by --program"
    elif [[ $said == *'ormat error'* ]]; then
      complain "the program does not run on $host, a $(fact "$host" machine): it was built for $(uname -m)"
    else
      complain "the program does not run on $host: $(tail -n 1 <<<"$said")"
    fi
  done
  end_if_complained
}
