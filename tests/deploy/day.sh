# shellcheck shell=bash disable=SC2154,SC2034 # What tests/deploy.sh sets is known to it alone, and what this sets to other parts.
# Part of tests/deploy.sh: a cluster's whole life on machines of its own, as one operator lives it by deploy/README.md: 1 server and
# 1 node, 3 and 3, a machine of each lost, one replaced, a backup that becomes a second cluster, upgrades, 1 and 1 again, nothing.
# Jobs are submitted all day. What is judged: day_record.sh. Sourced.
#
# Hosts are numbers, 10.0.0.NUMBER: servers 1 to 3, and 4 in the place of one that is lost; nodes 11 to 13; 21 the second cluster;
# 250 the operator's desk, which has no machine.

# The folder of each machine by its number; of each server by its name, and each node, the number of its host.
declare -A day_machine day_server day_node

on() {
  local machine=${day_machine[$1]}
  shift
  machine_run "$@"
}
# desk COMMAND…: with the servers that the operator knows.
desk() {
  nsenter --net="/run/netns/stint-host250-$$" -- env STINT_CONFIG=/nonexistent STINT_SERVER="$(cat "$day/servers")" \
    STINT_TOKEN_FILE="$day/token" "$@"
}
# by_page HOST|desk NAME [SED]: runs the page's commands, changed so that they are about other hosts.
by_page() {
  local commands
  commands=$(page "$2" | sed "${3:-}")
  expect "$(head -n 1 <<<"$commands" | sed 's/ *#.*//')" by_page_run "$1" "$commands"
}
by_page_run() {
  if [ "$1" = desk ]; then desk timeout 180 bash -euo pipefail -c "$2"; else on "$1" timeout 180 bash -euo pipefail -c "$2"; fi
}

# boot NUMBER FOLDER: makes or starts this machine, with the folder at /shared.
boot() {
  machine=${day_machine[$1]:-}
  machine_options=("--bind=$2:/shared" "--bind-ro=$day/new:/opt/stint/new" "--bind=$day/backup:/backup")
  machine_disk=4G
  [ -n "$machine" ] || machine_make || return 1
  day_machine[$1]=$machine
  machine_start "stint-host$1-$$"
}
# lose HOST: as by a loss of power: nothing of it says goodbye, not even its sockets.
lose() {
  local machine=${day_machine[$1]}
  network_link "$1" down
  machine_lose
}

# know_servers: what the operator's desk is told, and what agents are given.
know_servers() {
  local name list=()
  for name in $(printf '%s\n' "${!day_server[@]}" | sort); do list+=("10.0.0.${day_server[$name]}:7440"); done
  (IFS=, && printf '%s\n' "${list[*]}") >"$day/servers.new"
  mv "$day/servers.new" "$day/servers"
}
# server_settings NAME: the page's, on its machine.
server_settings() {
  local name members="" number=${day_server[$1]}
  for name in "${!day_server[@]}"; do members+=", \"$name=10.0.0.${day_server[$name]}:7441\""; done
  {
    page new-server.toml | sed "s/^name = .*/name = \"$1\"/; s/\"10\.0\.0\.4:/\"10.0.0.$number:/
      s/^initial-cluster = .*/initial-cluster = [${members#, }]/"
    printf 'node-lease = "%s"\n' "$day_lease"
  } >"${day_machine[$number]}/opt/stint/server.toml"
  cp "$day/token" "${day_machine[$number]}/opt/stint/token"
}
# agent_settings NAME: the page's, and that Pods may write where their words are collected.
agent_settings() {
  local number=${day_node[$1]}
  {
    page agent.toml | sed "s/^name = .*/name = \"$1\"/; s/^server = .*/server = [\"$(sed 's/,/", "/g' "$day/servers")\"]/"
    printf 'allow = ["writable=/shared"]\n'
  } >"${day_machine[$number]}/opt/stint/agent.toml"
  cp "$day/token" "${day_machine[$number]}/opt/stint/token"
}

servers_follow() { [ "$(desk stint status 2>/dev/null | grep -Ec ' (leader|follower) .* 0$')" = "$1" ]; }
server_leading() { desk stint status 2>/dev/null | awk '$3 == "leader" { print $1 }'; }
node_is() { desk stint get nodes | grep -E "^$1 +$2 " >/dev/null; }
# jobs_are_complete WHERE…: all that are listed there; not where none can be listed.
jobs_are_complete() {
  local jobs
  jobs=$("$@" stint get jobs) || return 1
  ! awk 'NR > 1 && $2 != "Complete"' <<<"$jobs" | grep .
}
all_jobs_complete() { jobs_are_complete desk; }
is_there() { [ -e "$1" ]; }
main_pid() { on "$1" systemctl show --value --property MainPID "$2"; }

# add_server NAME NUMBER
add_server() {
  by_page desk member-add "s/s4=10\.0\.0\.4/$1=10.0.0.$2/"
  day_server[$1]=$2
  server_settings "$1"
  by_page "$2" new-server
  by_page desk follows "s/s4/$1/"
  know_servers
}
# add_agent NAME NUMBER
add_agent() {
  day_node[$1]=$2
  agent_settings "$1"
  by_page "$2" new-agent
  eventually "$1 is ready" 120 node_is "$1" Ready
}

# upgrade_server NAME, upgrade_agent NAME
upgrade_server() {
  local number=${day_server[$1]} begun before ended
  begun=$(now) before=$(main_pid "$number" stint-server)
  by_page "$number" upgrade-server
  by_page desk follows "s/s4/$1/"
  [ "$before" != "$(main_pid "$number" stint-server)" ] || broken "$1 was not restarted"
  ended=$(now)
  eventually "Pods go on" 60 went_on any "$begun" "$ended"
  printf '%s\n' "$1 any $begun $ended" >>"$day/upgrades"
}
upgrade_agent() {
  local number=${day_node[$1]} begun before ended
  begun=$(now) before=$(main_pid "$number" stint-agent)
  by_page "$number" upgrade-agent
  eventually "$1 is ready" 120 node_is "$1" Ready
  [ "$before" != "$(main_pid "$number" stint-agent)" ] || broken "the agent of $1 was not restarted"
  ended=$(now)
  eventually "Pods that were there go on" 60 went_on "10.0.0.$number" "$begun" "$ended"
  printf '%s\n' "$1 10.0.0.$number $begun $ended" >>"$day/upgrades"
}

# started_after JOB TIME: when the first of its Pods began after this time.
started_after() {
  find "$day/shared/pods" -name "$1-*" -exec awk -v time="$2" 'FNR == 1 && $2 > time { print $2 }' {} + | sort -rn \
    | tail -n 1 | grep .
}

steady_pods_tick() { [ "$(find "$1/pods" -name 'steady-*' | wc -l)" = "$2" ]; }
many_are_complete() { [ "$(desk stint get jobs | grep -c '^many-[0-9]* *Complete ')" = "$1" ]; }

# day_is_idle SECONDS: what 3 and 3 take while nothing is submitted.
day_is_idle() {
  local host name rss cpu
  touch "$day/pause"
  eventually "the last submit is over" 120 is_there "$day/paused"
  eventually "nothing is left to be done" 120 all_jobs_complete
  sleep 3
  processes "$1" 1 2 3 11 12 13 >"$day/idle"
  rm "$day/pause"
  while read -r host name rss cpu; do
    figure "idle 3 and 3: ${name} on 10.0.0.$host" "$((rss / 1024)) MiB, $cpu % of a core"
  done <"$day/idle"
  figure "idle 3 and 3, all of them, over $1 s" \
    "$(awk '{ rss += $3; cpu += $4 } END { printf "%.0f MiB, %.2f %% of a core", rss / 1024, cpu }' "$day/idle")"
}

# second COMMAND…: at the desk of the second cluster.
second() {
  nsenter --net="/run/netns/stint-host250-$$" -- env STINT_CONFIG=/nonexistent STINT_SERVER=10.0.0.21:7440 \
    STINT_TOKEN_FILE="$day/token2" "$@"
}
second_is_ready() { second stint get nodes | grep '^w1 *Ready ' >/dev/null; }
second_jobs_complete() { jobs_are_complete second; }

# day_restores: the backup becomes a cluster of one machine, beside the first one.
day_restores() {
  local begun settings="${day_machine[21]}/opt/stint"
  begun=$(now)
  head -c 32 /dev/urandom | base64 -w0 >"$day/token2"
  cp "$day/token2" "$settings/token"
  page server.toml | sed 's/10\.0\.0\.1:/10.0.0.21:/; s/^initial-cluster = .*/initial-cluster = ["s1=10.0.0.21:7441"]/' \
    >"$settings/server.toml"
  page agent.toml | sed 's/^server = .*/server = ["10.0.0.21:7440"]/' >"$settings/agent.toml"
  printf 'allow = ["writable=/shared"]\n' >>"$settings/agent.toml"
  by_page 21 restore
  eventually "the second cluster answers" 120 second stint get jobs
  figure "restoring, to the first answer of the second cluster" "$(seconds_since "$begun") s"
  jobs_of second stint >"$day/second-jobs"
  same "Jobs that were complete are as they were" "" "$(sort "$day/second-jobs" | comm -23 <(sort "$day/complete-before") -)"
  by_page 21 new-agent
  eventually "its node is ready" 120 second_is_ready
  eventually "Pods that were unfinished run again, on its node" 120 steady_pods_tick "$day/shared2" 9
  same "those before them have ended as Restored" 9 "$(pods_of second stint | grep -c '^steady-[^ ]* Restored ')"
  touch "$day/shared2/finish"
  eventually "all Jobs of the backup complete there" 300 second_jobs_complete
  jobs_of second stint >"$day/second-jobs"
  pods_of second stint >"$day/second-pods"
  same "no acknowledged Job is lost there, and nothing counted as a failure" "" \
    "$(judge_jobs "$day/second-jobs" "$day/none" "$day/acknowledged-before")"
  # What has run in the first cluster has written its words there.
  ls "$day/shared/pods" >"$day/first-pods"
  awk -v first="$day/first-pods" 'BEGIN { while ((getline name <first) > 0) is_first[name] } !($1 in is_first)' \
    "$day/second-pods" >"$day/own-pods"
  same "its Pods did their work, each once" "" "$(judge_pods "$day/own-pods" "$day/none" "$day/shared2/pods")"
  same "they ran on its own node" "10.0.0.21" "$(find "$day/shared2/pods" -type f -exec awk '{ print $3 }' {} + | sort -u)"
}

# day_is_judged: all that was promised.
day_is_judged() {
  local acknowledged
  jobs_of desk stint >"$day/jobs"
  pods_of desk stint >"$day/pods"
  awk '$2 == "NodeLost" && $4 == "w3"' "$day/pods" >"$day/lost"
  acknowledged=$(wc -l <"$day/acknowledged")
  same "no acknowledged Job of $acknowledged is lost, and nothing but the loss of a host counted as a failure" "" \
    "$(judge_jobs "$day/jobs" "$day/lost" "$day/acknowledged")"
  same "each Pod did its work once, but for those of the host that was lost" "" \
    "$(judge_pods "$day/pods" "$day/lost" "$day/shared/pods")"
  same "Pods went on over each upgrade" "" "$(judge_upgrades)"
  [ "$(wc -l <"$day/upgrades")" = 6 ] || broken "not all of 6 were upgraded"
  [ -s "$day/lost" ] || broken "no Pod was lost with its host"
  figure "Jobs acknowledged; lost" "$acknowledged; 0"
  figure "Pods that ran; lost with their host; disturbed otherwise" \
    "$(find "$day/shared/pods" -type f | wc -l); $(wc -l <"$day/lost"); 0"
  figure "longest submit of the day, of $(grep -c '^stream-' "$day/acknowledged") one after the other; outcomes unknown" \
    "$(awk '/^stream-/ && $4 - $3 > most { most = $4 - $3 } END { printf "%.1f s", most }' "$day/acknowledged"); \
$(wc -l <"$day/unacknowledged")"
  figure "longest silence of a Pod that writes twice a second" "$(find "$day/shared/pods" -name 'steady-*' -exec awk '
    FNR > 1 && $2 - last > most { most = $2 - last } { last = $2 } END { printf "%.1f\n", most }' {} +) s"
}

restarts() { printf '%s: %s\n' "10.0.0.$1 $2" "$(on "$1" systemctl show --value --property NRestarts "$2")"; }
has_said() { on "$1" journalctl --quiet --output cat --unit stint-server | grep -F "$2" >/dev/null; }
# nothing_crashed: no unit was started anew by systemd.
nothing_crashed() {
  local number
  for number in "${day_server[@]}"; do restarts "$number" stint-server; done
  for number in "${day_node[@]}"; do restarts "$number" stint-agent; done
}

# day_ends: what is left of it, and, if it was not a good one, what servers and agents say.
day_ends() {
  local number
  touch "$day/stop"
  [ -z "${day_stream:-}" ] || wait "$day_stream" 2>/dev/null || true
  [ "${day_is_good:-}" != true ] || return 0
  cat "$day/unacknowledged" 2>/dev/null || true
  for number in "${!day_machine[@]}"; do
    printf -- '-- 10.0.0.%s\n' "$number"
    on "$number" journalctl --no-pager --quiet --output cat --unit stint-server --unit stint-agent --lines 15 || true
  done >&2
}

part_day() {
  local jobs=200 idle=10 number name lost lost_host leading begun many_begun time
  # Half of the lease is what an election, or the restart of an agent, may take before Pods end: more than the default on machines
  # that are slow.
  day_lease=20s day_long=5
  if [ "${full:-}" = true ]; then jobs=1000 idle=60 day_lease=10s day_long=15; fi
  day="$work/day" day_is_good=""
  mkdir -p "$day"/{new,backup}
  if ! is_root || ! install_packages iproute2 >/dev/null 2>&1 || ! network_make 1 2 3 4 11 12 13 21 250; then
    not_run "a day" "${machine_problem:-that takes root}"
    return 0
  fi
  pod_program "$day/shared"
  pod_program "$day/shared2"
  head -c 32 /dev/urandom | base64 -w0 >"$day/token"
  touch "$day/acknowledged" "$day/unacknowledged" "$day/upgrades" "$day/none"
  # The same version, rebuilt: the same program in another file.
  for name in stint stint-agent; do
    cp "$STINT_BIN_DIR/$name" "$day/new"
    printf 'rebuilt' >>"$day/new/$name"
  done
  begun=$(now)
  for number in 1 2 3 4 11 12 13 21; do
    if ! boot "$number" "$day/shared$([ "$number" != 21 ] || printf 2)"; then
      not_run "a day" "$machine_problem"
      return 0
    fi
  done
  printf 'ok: 8 machines run, after %s s; what they write is %s\n' "$(seconds_since "$begun")" \
    "$([ -e "$machine.disk" ] && printf 'on disks' || printf 'in memory, where fsync costs nothing')"

  figure "size of stint, of stint-agent" "$(du -m --apparent-size "$STINT_BIN_DIR/stint" | cut -f 1) MiB, \
$(du -m --apparent-size "$STINT_BIN_DIR/stint-agent" | cut -f 1) MiB"

  step "install 1 server and 1 agent"
  day_server[s1]=1
  server_settings s1
  know_servers
  by_page 1 new-server
  add_agent w1 11
  # From now on Jobs are submitted, whatever happens.
  stream &
  day_stream=$!
  on_end day_ends

  step "grow to 3 and 3"
  add_server s2 2
  add_server s3 3
  agent_settings w1 # It is to know more than one server, even when it is restarted.
  by_page 11 new-agent
  add_agent w2 12
  add_agent w3 13
  eventually "three servers" 120 servers_follow 3
  step_end
  day_is_idle "$idle"

  step "submit Pods that go on all day, and $jobs Jobs at once"
  submit steady 9 until /shared/finish || broken "a submit was not acknowledged"
  eventually "its Pods run" 120 steady_pods_tick "$day/shared" 9
  many_begun=$(now)
  submit_many "$jobs" || broken "submits were not acknowledged"
  figure "$jobs Jobs submitted by one manifest, acknowledged" "$(seconds_since "$many_begun") s"

  step "lose the server that leads, until all $jobs Jobs are complete"
  lost=$(server_leading) lost_host=${day_server[$lost]}
  begun=$(now)
  lose "$lost_host"
  submit after-loss 1 0.3 || broken "a submit was not acknowledged after a server was lost"
  figure "loss of the server that leads, to the acknowledgement of a submit made at once; to the first one of two" \
    "$(seconds_since "$begun") s; $(seconds_since "$begun" "$(awk -v begun="$begun" '
      $3 >= begun && (!first || $4 < first) { first = $4 }
      END { print first }' "$day/acknowledged")") s"
  eventually "the Jobs are complete" 300 many_are_complete "$jobs"
  figure "$jobs Jobs, from their submission to the end of all, with that loss" "$(seconds_since "$many_begun") s"

  step "replace it"
  by_page desk replace "s/s2/$lost/; s/10\.0\.0\.9/10.0.0.4/"
  day_server[$lost]=4
  server_settings "$lost"
  by_page 4 new-server
  by_page desk follows "s/s4/$lost/"
  know_servers
  eventually "three servers" 120 servers_follow 3
  for name in w1 w2 w3; do
    agent_settings "$name"
    by_page "${day_node[$name]}" new-agent
    eventually "$name is ready" 120 node_is "$name" Ready
  done

  step "the lost machine comes back, and is removed"
  machine=${day_machine[$lost_host]}
  machine_stop
  network_link "$lost_host" up
  boot "$lost_host" "$day/shared" || broken "the machine does not boot again: $machine_problem"
  eventually "its server finds out that it is one no more" 120 has_said "$lost_host" "was removed from cluster"
  by_page "$lost_host" remove-server
  eventually "three servers" 120 servers_follow 3

  step "back up"
  cp "$day/acknowledged" "$day/acknowledged-before"
  jobs_of desk stint | awk '$6 != "-"' >"$day/complete-before"
  by_page desk backup "s|/backup/|$day/backup/|"
  figure "size of the backup, with $(wc -l <"$day/complete-before") complete Jobs" \
    "$(du -k --apparent-size "$day/backup/stint-2026-11-26" | cut -f 1) KiB"

  step "upgrade 3 servers, one by one, the leading one last"
  leading=$(server_leading)
  for name in $(printf '%s\n' "${!day_server[@]}" | sort | grep -vx "$leading") "$leading"; do upgrade_server "$name"; done
  step "upgrade 3 agents, one by one"
  for name in w1 w2 w3; do upgrade_agent "$name"; done

  step "lose a node's host, and have it back"
  begun=$(now)
  lose 13
  eventually "Pods of it run elsewhere" 120 started_after steady "$begun"
  time=$(started_after steady "$begun")
  figure "loss of a node's host, to the start of its Pods elsewhere (lease of $day_lease)" "$(seconds_since "$begun" "$time") s"
  eventually "the node is known to be lost" 120 node_is w3 NotReady
  number=$(grep -l ' 10\.0\.0\.13$' "$day"/shared/pods/steady-* | wc -l)
  [ "$number" -gt 0 ] || broken "no Pod that goes on all day was there"
  eventually "others have taken the place of $number Pods" 120 steady_pods_tick "$day/shared" $((9 + number))
  machine=${day_machine[13]}
  machine_stop
  network_link 13 up
  boot 13 "$day/shared" || broken "the machine does not boot again: $machine_problem"
  eventually "the node is back" 120 node_is w3 Ready

  step "restore the backup into a second cluster, until its Jobs are complete"
  day_restores

  step "shrink to 1 and 1"
  same "nothing has ended by itself" "" "$(nothing_crashed | grep -v ' 0$' || true)"
  touch "$day/shared/finish"
  for name in w3 w2; do
    by_page desk drain "s/w3/$name/"
    by_page "${day_node[$name]}" remove-agent
  done
  for name in w3 w2; do by_page desk delete-node "s/w3/$name/"; done
  for name in s3 s2; do
    by_page desk member-remove "s/s3/$name/"
    number=${day_server[$name]}
    unset "day_server[$name]"
    know_servers
    by_page "$number" remove-server
  done
  eventually "one server" 120 servers_follow 1

  step "the last Jobs complete"
  touch "$day/stop"
  eventually "the last submit is over" 120 is_there "$day/stopped"
  eventually "all Jobs are complete" 300 all_jobs_complete
  step_end
  day_is_judged

  step "uninstall"
  for number in "${day_server[s1]}" 11 21; do by_page "$number" uninstall; done
  step_end
  for number in 1 2 3 4 11 12 13 21; do
    same "nothing is left on 10.0.0.$number" "" "$(on "$number" sh -c 'ls -d /etc/stint /var/lib/stint* /usr/local/bin/stint* \
      /etc/systemd/system/stint-* 2>/dev/null; ps -eo comm= | grep "^stint"' || true)"
  done
  day_is_good=true
  printf '%s\n' "" "| step | time |" "|---|---|" "${day_steps[@]}" "" "| figure | |" "|---|---|" "${day_figures[@]}"
  for number in "${!day_machine[@]}"; do machine_remove "${day_machine[$number]}"; done
  network_remove
}
