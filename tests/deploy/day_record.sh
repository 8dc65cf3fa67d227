# shellcheck shell=bash disable=SC2154 # What tests/deploy.sh and tests/deploy/day.sh set is known to them alone.
# What is written down during a day (tests/deploy/day.sh), and how it is judged: times of its steps, the Jobs that were
# acknowledged, and what each Pod wrote of itself. Sourced.
#
# In the folder $day: acknowledged (NAME COMPLETIONS BEGUN ACKNOWLEDGED, one line for each Job), unacknowledged (the same, of
# submits whose outcome nobody knows), shared/ and shared2/ (what the machines of each cluster have at /shared, with a file of
# each Pod in pods/), upgrades (NAME ADDRESS BEGUN ENDED).

# now: seconds since the boot, suspended ones included (CLOCK_BOOTTIME): all machines, and their Pods, have this clock.
now() {
  local up rest
  read -r up rest </proc/uptime
  printf '%s\n' "$up"
}
# seconds_since TIME [TIME]
seconds_since() { awk -v from="$1" -v to="${2:-$(now)}" 'BEGIN { printf "%.1f\n", to - from }'; }

# step WORDS: what comes next; the time of what came before it is written down.
day_steps=() day_figures=()
step() {
  step_end
  day_step="$1" day_step_begun=$(now)
  printf '%s:\n' "$1"
}
step_end() {
  [ -z "${day_step:-}" ] || day_steps+=("$(printf '| %s | %s s |' "$day_step" "$(seconds_since "$day_step_begun")")")
  day_step=""
}
figure() { day_figures+=("$(printf '| %s | %s |' "$1" "$2")"); }

# pod_program FOLDER: what Pods run, put where they see it at /shared.
pod_program() {
  mkdir -p "$1/pods"
  chmod 1777 "$1/pods"
  cat >"$1/pod" <<'PROGRAM'
#!/bin/sh
# pod SECONDS, or pod until FILE: writes down when this Pod began, where, that it goes on, and when it ended.
at() {
  read -r up rest </proc/uptime
  echo "$1 $up $2" >>"/shared/pods/$HOSTNAME"
}
while read -r address names; do
  case " $names " in *" $HOSTNAME "*) break ;; esac
done </etc/hosts
at start "$address"
case "$1" in
  until) while [ ! -e "$2" ]; do at tick "$address"; sleep 0.5; done ;;
  *) sleep "$1" ;;
esac
at end "$address"
PROGRAM
  chmod 755 "$1" "$1/pod"
}

# submit NAME COMPLETIONS ARGUMENTS…: a Job of that program; written down if it is acknowledged.
submit() {
  local name="$1" completions="$2" begun
  shift 2
  begun=$(now)
  # Many Pods may be lost: who is wrongly run again is found by what was counted, not by a Job that fails.
  if desk stint --request-timeout 60s run --detach --name "$name" --completions "$completions" --parallelism "$completions" \
    --retries 50 -- sh /shared/pod "$@" >>"$day/submits" 2>&1; then
    printf '%s\n' "$name $completions $begun $(now)" >>"$day/acknowledged"
  else
    printf '%s\n' "$name $completions $begun $(now)" >>"$day/unacknowledged"
    return 1
  fi
}

# submit_many COUNT: so many Jobs of one Pod each, by one manifest.
submit_many() {
  local number begun
  for number in $(seq "$1"); do
    [ "$number" = 1 ] || printf -- '---\n'
    printf '%s\n' "apiVersion: batch/v1" "kind: Job" "metadata: {name: many-$number}" "spec:" "  backoffLimit: 50" "  template:" \
      "    spec:" "      restartPolicy: Never" "      runtimeClassName: process" \
      "      containers: [{name: main, command: [sh, /shared/pod, '3']}]"
  done >"$day/many.yaml"
  begun=$(now)
  desk stint --request-timeout 60s create -f "$day/many.yaml" >"$day/many"
  sed -n "s/^job\.batch\/\(.*\) created$/\1 1 $begun $(now)/p" "$day/many" >>"$day/acknowledged"
}

# stream: one Job after the other, short ones and some that take longer, until $day/stop is there; none while $day/pause is.
stream() {
  local number=0 seconds
  while [ ! -e "$day/stop" ]; do
    if [ -e "$day/pause" ]; then
      touch "$day/paused"
      sleep 0.2
      continue
    fi
    rm -f "$day/paused"
    number=$((number + 1))
    case $((number % 10)) in
      0) seconds=$day_long ;;
      5) seconds=3 ;;
      *) seconds=0.3 ;;
    esac
    submit "stream-$number" 2 "$seconds" || true
    sleep 0.4
  done
  touch "$day/stopped"
}

# jobs_of COMMAND…: what `COMMAND get jobs -o json` tells, a line for each Job:
# NAME UID COMPLETIONS SUCCEEDED FAILED COMPLETED-AT, the last - if it is not complete.
jobs_of() {
  "$@" get jobs -o json | awk '
    function tell() { if (name != "") print name, uid, wanted, succeeded, failed, complete ? at : "-" }
    function value(text) { text = $2; gsub(/[",]/, "", text); return text }
    /^    \{/ { tell(); name = ""; succeeded = failed = complete = 0; at = "-" }
    /^      "[a-z]*": /  { section = $1 }
    section == "\"metadata\":" && /^        "name":/ { name = value() }
    section == "\"metadata\":" && /^        "uid":/ { uid = value() }
    section == "\"spec\":" && /^        "completions":/ { wanted = value() }
    section == "\"status\":" && /^        "succeeded":/ { succeeded = value() }
    section == "\"status\":" && /^        "failed":/ { failed = value() }
    section == "\"status\":" && /^        "completionTime":/ { at = value() }
    section == "\"status\":" && /^            "type": "Complete"/ { complete = 1 }
    END { tell() }'
}

# judge_jobs FILE LOST NAMES: each Job of NAMES (as in acknowledged) is in FILE (of jobs_of), and each in FILE is complete, with
# what was asked for, and has failed as often as there are Pods of it in LOST (lines of pods_of).
judge_jobs() {
  awk -v lost="$2" -v names="$3" '
    BEGIN {
      while ((getline line <lost) > 0) { split(line, part, " "); sub(/-[^-]*$/, "", part[1]); may_fail[part[1]]++ }
      while ((getline line <names) > 0) { split(line, part, " "); wanted[part[1]] = part[2] }
    }
    {
      there[$1] = 1
      if ($6 == "-") print "not complete: " $0
      else if ($4 != $3 || ($1 in wanted && $3 != wanted[$1])) print "not what was asked for: " $0
      if ($5 != may_fail[$1] + 0) print "failures counted that were no losses: " $0
    }
    END { for (name in wanted) if (!(name in there)) print "an acknowledged Job is lost: " name }' "$1"
}

# pods_of COMMAND…: NAME STATUS RESTARTS NODE of each Pod.
pods_of() { "$@" get pods -o wide | awk 'NR > 1 { print $1, $3, $4, $7 }'; }

# judge_pods FILE LOST FOLDER: of what Pods wrote into FOLDER: each began once, and has ended well, or is in LOST; each that FILE
# (of pods_of) says to be completed has done so; none was begun again.
judge_pods() {
  find "$3" -type f -exec awk '
    { name = FILENAME; sub(/.*\//, "", name) }
    FNR == 1 && $1 != "start" { print name, "begins with", $1 }
    $1 == "start" { starts[name]++ }
    $1 == "end" { ends[name]++ }
    END { for (name in starts) print "POD", name, starts[name], ends[name] + 0 }' {} + >"$day/judged"
  grep -v '^POD ' "$day/judged" || true
  awk -v lost="$2" -v written="$day/judged" '
    BEGIN {
      while ((getline line <lost) > 0) { split(line, part, " "); is_lost[part[1]] = 1 }
      while ((getline line <written) > 0) {
        if (split(line, part, " ") != 4 || part[1] != "POD") continue
        ended[part[2]] = part[4]
        if (part[3] != 1) print "it began " part[3] " times: " part[2]
        if (part[4] != 1 && !(part[2] in is_lost)) print "it was disturbed: " part[2]
      }
    }
    $2 == "Completed" && ended[$1] != 1 { print "completed without having done its work: " $0 }
    $2 != "Completed" && $2 != "Restored" && !($1 in is_lost) { print "neither completed nor lost with its host: " $0 }
    $3 != 0 { print "begun again: " $0 }' "$1"
}

# went_on ADDRESS|any BEGUN ENDED: whether a Pod of this host, or of any, wrote before the one and after the other.
went_on() {
  find "$day/shared/pods" -type f -exec awk -v address="$1" -v begun="$2" -v ended="$3" '
    FNR == 1 { before = ($2 < begun && (address == "any" || $3 == address)) }
    before && $2 > ended { print FILENAME; exit }' {} + | grep .
}

# judge_upgrades: of what was upgraded, that over which no Pod went on.
judge_upgrades() {
  local name address begun ended
  while read -r name address begun ended; do
    went_on "$address" "$begun" "$ended" >/dev/null || printf 'no Pod went on over the upgrade of %s\n' "$name"
  done <"$day/upgrades"
}

# processes SECONDS HOST…: of what runs of stint on these hosts, over so many seconds: HOST PROCESS RSS-KIB CPU-PERCENT.
processes() {
  local seconds="$1" host
  shift
  for host in "$@"; do processes_now "$host"; done >"$day/processes"
  sleep "$seconds"
  for host in "$@"; do processes_now "$host"; done | awk -v before="$day/processes" -v ticks="$(getconf CLK_TCK)" '
    BEGIN {
      while ((getline line <before) > 0) {
        split(line, part, " ")
        used[part[1], part[3]] = part[5]
        at[part[1], part[3]] = part[6]
      }
    }
    ($1, $3) in used { printf "%s %s %d %.2f\n", $1, $2, $4, 100 * ($5 - used[$1, $3]) / ticks / ($6 - at[$1, $3]) }'
}
# processes_now HOST: HOST NAME PID RSS-KIB TICKS TIME
processes_now() {
  # shellcheck disable=SC2016 # The variables are the inner shell's.
  on "$1" bash -c '
    for process in /proc/[0-9]*; do
      name=$(cat "$process/comm" 2>/dev/null) || continue
      case "$name" in stint*) ;; *) continue ;; esac
      read -r -a word < <(sed "s/.*) //" "$process/stat" 2>/dev/null) || continue
      rss=$(sed -n "s/^VmRSS:[^0-9]*\([0-9]*\) kB/\1/p" "$process/status" 2>/dev/null) || continue
      read -r up rest </proc/uptime
      echo "$1 $name ${process#/proc/} $rss $((word[11] + word[12])) $up"
    done' _ "$1"
}
