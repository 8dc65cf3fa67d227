#!/usr/bin/env bash
# A whole cluster on this machine, for trying things out: each server and each agent is a host of its own, with an address of its
# own, that can be killed, started, cut off and healed. As root each host is a network namespace on one bridge; other users get
# one address of the loopback interface per host, and can't cut any off.
#
# usage: deploy/cluster.sh COMMAND [OPTIONS]
#   up                   make the cluster, or start what is missing of it; says how to reach it
#   status               what runs where; exits 3 if there is no cluster
#   env                  the variables that make `stint` use it: eval "$(deploy/cluster.sh env)"
#   kill NAME…           end servers or agents by SIGKILL; the Pods of an agent go on until its lease runs out
#   stop NAME…           end them by SIGTERM: a server hands leadership over, an agent leaves its Pods to the next one
#   start NAME…          start them again, on the data that they have
#   cut NAME…            take hosts off the network
#   heal [NAME…]         put them back; all of them if none is named
#   run NAME -- COMMAND  run a command on a host
#   logs NAME            what its server or agent has logged
#   down                 end everything and remove it, data included
# options:
#   --folder DIR         where all of it is kept; by default $STINT_CLUSTER_FOLDER, or else /var/lib/stint-cluster, or, not as
#                        root, stint-cluster in $XDG_STATE_HOME
# options of up:
#   --servers N          servers s1, s2, …; 3 by default; a cluster that is there grows by those that it has not, and loses those that
#                        were taken out by `stint member remove`; those of the others that were are let in again, without data
#   --agents N           agents w1, w2, …; 2 by default; the same
#   --binaries DIR       where stint and stint-agent are; by default $STINT_BIN_DIR, or else cargo's release folder, or else of PATH
#   --server-flags TEXT  more flags for each server, such as '--node-lease 5s'; those of `stint server`
#   --agent-flags TEXT   more flags for each agent, such as '--cpu 2'; those of `stint-agent`
#   --subnet A.B.C       network of the hosts, with 24 bits; by default one of 10.213.0 to 10.213.250 that is free, or of 192.168
#   --loopback           no namespaces, also as root
set -euo pipefail
script="$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)/$(basename -- "$0")"
root="$(dirname -- "$(dirname -- "$script")")"
. "$root/deploy/prerequisites.sh"

readonly CLIENT_PORT=7440 PEER_PORT=7441
# A /24 has room for more, a machine has not.
readonly HOSTS_MAX=100
# How long `up` waits for a leader and for every node, on a machine that is busy.
readonly READY_SECONDS=180
# How long agents may take to end their Pods: 5 s, and what is needed to tell the servers.
readonly STOP_SECONDS=20
# How long what was killed may take to be gone.
readonly GONE_SECONDS=30

# Processes of Pods are users of their own, and pass through the folder; the token is made for its owner alone.
umask 022

fail() { say "$*"; exit 1; }
usage() { say "$*; see deploy/cluster.sh --help"; exit 2; }

# What is set for the cluster as a whole, in a file of KEY=VALUE.
setting() { sed -n "s/^$1=//p" "$settings_file"; }
has_cluster() { [ -f "$settings_file" ]; }
need_cluster() { has_cluster || { say "there is no cluster in $folder: deploy/cluster.sh up"; exit 3; }; }
in_namespaces() { [ "$mode" = namespaces ]; }

# read_settings: of a cluster that is there.
read_settings() {
  mode=$(setting mode) number=$(setting number) subnet=$(setting subnet) binaries=$(setting binaries)
  n_servers=$(setting servers) n_agents=$(setting agents)
  server_flags=$(setting server_flags) agent_flags=$(setting agent_flags)
}
write_settings() {
  {
    printf '%s\n' "# Made by deploy/cluster.sh; this folder is removed by deploy/cluster.sh down."
    printf '%s\n' "mode=$mode" "number=$number" "subnet=$subnet" "binaries=$binaries" "servers=$n_servers" \
      "agents=$n_agents" "server_flags=$server_flags" "agent_flags=$agent_flags"
  } >"$settings_file.new"
  mv "$settings_file.new" "$settings_file"
}

# lock: one command at a time changes a cluster. Descriptor 9 is closed for what is started. What is read of the cluster is read
# with the lock only: another command may have changed or removed it meanwhile.
lock() {
  while :; do
    [ "$command" != up ] || mkdir -p "$folder"
    need_folder
    exec 9<"$folder"
    flock -w 300 9 || fail "another deploy/cluster.sh works on $folder for more than 5 minutes"
    # It may have been removed while this waited, and made anew.
    if [ "$folder" -ef /proc/self/fd/9 ]; then return 0; fi
  done
}
need_folder() { [ -d "$folder" ] || { say "there is no cluster in $folder: deploy/cluster.sh up"; exit 3; }; }

server_names() { seq -f 's%.0f' 1 "$n_servers"; }
agent_names() { [ "$n_agents" = 0 ] || seq -f 'w%.0f' 1 "$n_agents"; }
all_names() { server_names; agent_names; }
check_name() { all_names | grep -xF -e "$1" >/dev/null || usage "the cluster has no host $1"; }
is_server() { [ "${1#s}" != "$1" ]; }
# address NAME: servers are .1, .2, …, agents .101, .102, …
address() {
  case "$1" in
    s*) printf '%s.%d\n' "$subnet" "${1#s}" ;;
    w*) printf '%s.%d\n' "$subnet" $((HOSTS_MAX + ${1#w})) ;;
  esac
}
server_addresses() {
  local name list=""
  for name in $(server_names); do list="$list,$(address "$name"):$CLIENT_PORT"; done
  printf '%s\n' "${list#,}"
}
peer_addresses() {
  local name list=""
  for name in $(server_names); do list="$list,$name=$(address "$name"):$PEER_PORT"; done
  printf '%s\n' "${list#,}"
}

# The command line, as somebody without any settings of his own would use it.
client() {
  STINT_CONFIG="$folder/no-contexts" "$binaries/stint" --server "$(server_addresses)" --token-file "$folder/token" \
    --request-timeout 5s "$@"
}

# ---- hosts

namespace() { printf 'stint%s-%s\n' "$number" "$1"; }
switch() { ip netns exec "$(namespace switch)" "$@"; }

# Who has the number and the network, as long as this machine is up: after a boot they are free for others.
owner_file() { printf '/run/stint-cluster/%s\n' "$number"; }
owns_network() { ! in_namespaces || [ ! -e "$(owner_file)" ] || [ "$(cat "$(owner_file)")" = "$folder" ]; }
need_network() { owns_network || fail "since a boot its network is that of the cluster in $(cat "$(owner_file)"): end that one first"; }
own_network() {
  in_namespaces || return 0
  mkdir -p /run/stint-cluster
  printf '%s\n' "$folder" >"$(owner_file)"
}

# in_use SUBNET: other networks in it, and the narrower ones of those that it is in; 0.0.0.0/0 is everything.
in_use() { ip -4 route show root "$1.0/24"; ip -4 route show match "$1.0/24" | grep -v '^default' || true; }

# check_subnet: that what is wanted is a network, and that nothing else of this machine is lost to it.
check_subnet() {
  local one numbers=() others
  [ -n "$subnet" ] || return 0
  # Without leading zeros, which would be read as octal.
  [[ "$subnet" =~ ^(0|[1-9][0-9]{0,2})(\.(0|[1-9][0-9]{0,2})){2}$ ]] \
    || usage "--subnet $subnet is no network: write A.B.C, such as 10.213.7"
  IFS=. read -ra numbers <<<"$subnet"
  for one in "${numbers[@]}"; do [ "$one" -le 255 ] || usage "--subnet $subnet: $one is more than 255"; done
  if ! in_namespaces; then
    [ "${numbers[0]}" = 127 ] || usage "--subnet $subnet is not of the loopback interface: write 127.B.C"
    return 0
  fi
  [ "${numbers[0]}" != 127 ] || usage "--subnet $subnet is of the loopback interface: hosts of their own can't be in it"
  if [ "${numbers[0]}" = 0 ] || [ "${numbers[0]}" -gt 223 ]; then usage "--subnet $subnet is no network of hosts"; fi
  others=$(in_use "$subnet")
  [ -z "$others" ] || fail "the network $subnet.0/24 is in use here (${others%%$'\n'*}): name another one by --subnet"
}

# claim_network: takes a network that is free; by its number it also names everything.
claim_network() {
  local free problem others=""
  if ! in_namespaces; then
    number=$(printf '%s' "$folder" | cksum | awk '{ print $1 % 250 }')
    for _ in $(seq 250); do
      free="127.213.$number"
      (: >"/dev/tcp/$free.1/$CLIENT_PORT") 2>/dev/null || break
      number=$(((number + 1) % 250))
    done
    subnet=${subnet:-$free}
    return 0
  fi
  for number in $(seq 0 250); do
    for free in "${subnet:-10.213.$number}" "192.168.$number"; do
      others=""
      [ -z "$subnet" ] || break
      others=$(in_use "$free")
      [ -n "$others" ] || break
    done
    [ -z "$others" ] || continue
    # Two that look at the same moment can't both make it.
    if problem=$(ip netns add "$(namespace switch)" 2>&1); then
      subnet=$free
      own_network
      return 0
    fi
    [ -e "/run/netns/$(namespace switch)" ] || fail "no network namespaces here ($problem): deploy/cluster.sh up --loopback"
  done
  fail "no network of 10.213.0.0/16 and 192.168.0.0/16 is free: name one by --subnet"
}

# make_switch: the bridge, in a namespace of its own so that no firewall of this machine is between the hosts, and a link to it.
make_switch() {
  local outer="stint$number"
  [ -e "/run/netns/$(namespace switch)" ] || ip netns add "$(namespace switch)"
  switch ip link show br0 >/dev/null 2>&1 || switch ip link add br0 type bridge
  switch ip link set br0 up
  if ! ip link show "$outer" >/dev/null 2>&1; then
    ip link add "$outer" type veth peer name machine netns "$(namespace switch)"
    ip address add "$subnet.254/24" dev "$outer"
  fi
  ip link set "$outer" up
  switch ip link set machine master br0 up
}

make_host() {
  # Interrupted between two of its commands a host would stay without an address.
  trap '' INT TERM HUP
  make_host_now "$1"
  trap - INT TERM HUP
}
make_host_now() {
  local name="$1" space
  space=$(namespace "$name")
  mkdir -p "$folder/$name"
  in_namespaces || return 0
  [ -e "/run/netns/$space" ] || ip netns add "$space"
  if ! ip -n "$space" link show eth0 >/dev/null 2>&1; then
    # Of a host of that name that is gone, if something of it still runs.
    switch ip link delete "$name" 2>/dev/null || true
    switch ip link add "$name" type veth peer name eth0 netns "$space"
    ip -n "$space" address add "$(address "$name")/24" dev eth0
    switch ip link set "$name" master br0 up
  fi
  ip -n "$space" link set lo up
  ip -n "$space" link set eth0 up
}

# is_cut NAME: whether its link was taken down.
is_cut() { in_namespaces && ! switch ip -o link show "$1" 2>/dev/null | grep '[<,]UP[,>]' >/dev/null; }
set_link() {
  in_namespaces || fail "no host can be cut off: on loopback (not as root, or by --loopback) there are no links to take away"
  switch ip link set "$1" "$2"
}

# on_host NAME COMMAND…: nothing but the network is another there. `ip netns exec` would take control groups away.
on_host() {
  local name="$1"
  shift
  if in_namespaces; then
    exec nsenter --net="/run/netns/$(namespace "$name")" -- "$@"
  else
    exec "$@"
  fi
}

# ---- processes

# started_at PID: when, in ticks since the boot, if it runs; with it a process is known even if its id is used again. What was
# killed and is not collected yet does not run. All of it by one look: the process can end between two.
started_at() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | awk '$1 !~ /[ZX]/ { print $20 }'; }
# process_of NAME: its id, if it runs.
process_of() {
  local pid begun
  read -r pid begun < <(tail -n 1 "$folder/$1/processes" 2>/dev/null) || return 1
  [ -n "$begun" ] && [ "$(started_at "$pid")" = "$begun" ] || return 1
  printf '%s\n' "$pid"
}

start_host() {
  local name="$1" pid flags own program
  ! process_of "$name" >/dev/null || return 0
  own=$(address "$name")
  if is_server "$name"; then
    read -ra flags <<<"$server_flags"
    program=("$binaries/stint" server --name "$name" --data-dir "$folder/$name/data" --listen "$own:$CLIENT_PORT"
      --peer-listen "$own:$PEER_PORT" --initial-cluster "$(peer_addresses)" --token-file "$folder/token")
  else
    read -ra flags <<<"$agent_flags"
    program=("$binaries/stint-agent" --name "$name" --data-dir "$folder/$name/data" --server "$(server_addresses)"
      --token-file "$folder/token")
  fi
  # A session of its own: Ctrl-C here is not for it.
  (
    exec </dev/null >>"$folder/$name/log" 2>&1 9<&-
    on_host "$name" setsid "${program[@]}" "${flags[@]}"
  ) &
  pid=$!
  printf '%s %s\n' "$pid" "$(started_at "$pid")" >>"$folder/$name/processes"
}

# end_hosts SIGNAL SECONDS NAME…: sends it, and waits until they have ended.
end_hosts() {
  local signal="$1" deadline=$((SECONDS + $2)) name pid
  shift 2
  for name in "$@"; do
    if pid=$(process_of "$name"); then kill -s "$signal" "$pid" 2>/dev/null || true; fi
  done
  for name in "$@"; do
    while process_of "$name" >/dev/null; do
      [ "$SECONDS" -lt "$deadline" ] || return 1
      sleep 0.1
    done
  done
}

# own_processes: this one, and those that it was started by, who may stand in the folder.
own_processes() {
  local pid=$$
  while [ "${pid:-0}" -gt 1 ]; do
    printf '%s\n' "$pid"
    pid=$(awk '/^PPid/ { print $2 }' "/proc/$pid/status" 2>/dev/null || true)
  done
}

# left_processes: all that is left of the cluster: on its hosts; or with an open file of its folder, and shims, which nobody but
# root can look into, but which are named by the agent that began them.
left_processes() {
  local name agents file words=()
  if in_namespaces; then
    for name in $(all_names); do
      [ ! -e "/run/netns/$(namespace "$name")" ] || ip netns pids "$(namespace "$name")"
    done
    return 0
  fi
  find /proc/[0-9]*/fd /proc/[0-9]*/cwd -maxdepth 1 -lname "$folder/*" 2>/dev/null | cut -d / -f 3 | sort -u \
    | grep -vxF -f <(own_processes) -e "$BASHPID" || true
  agents=$(for name in $(agent_names); do cut -d ' ' -f 1 "$folder/$name/processes" 2>/dev/null || true; done)
  for file in $(grep -slzx stint-shim /proc/[0-9]*/cmdline || true); do
    mapfile -d '' -t words 2>/dev/null <"$file" || continue
    ! grep -qxF -e "${words[1]-}" <<<"$agents" || cut -d / -f 3 <<<"$file"
  done
}

# ---- commands

choose_binaries() {
  binaries=${binaries:-$bin_dir}
  if [ -z "$binaries" ]; then
    choose_target_folder
    binaries="${CARGO_TARGET_DIR:-$root/target}/release"
    [ -x "$binaries/stint" ] || binaries=$(dirname -- "$(command -v stint || echo /usr/bin/stint)")
  fi
  if [ ! -x "$binaries/stint" ] || [ ! -x "$binaries/stint-agent" ]; then
    fail "stint and stint-agent are not in $binaries: cargo build --release -p stint -p stint-agent, or name their folder by --binaries"
  fi
  binaries=$(CDPATH='' cd -- "$binaries" && pwd)
}

check_count() {
  case "$2" in
    '' | *[!0-9]*) usage "$1 $2 is not a number" ;;
  esac
  if [ "$2" -gt "$HOSTS_MAX" ]; then usage "$1 $2 is more than $HOSTS_MAX"; fi
}

new_cluster() {
  n_servers=${wanted_servers:-3} n_agents=${wanted_agents:-2}
  [ "$n_servers" -ge 1 ] || usage "a cluster has at least one server"
  if [ "$(id -u)" = 0 ] && [ "$loopback" = false ]; then mode=namespaces; else mode=loopback; fi
  if in_namespaces; then
    command -v ip >/dev/null 2>&1 || fail "the program ip is missing: apt-get install iproute2, or deploy/cluster.sh up --loopback"
  fi
  server_flags=$wanted_server_flags agent_flags=$wanted_agent_flags subnet=$wanted_subnet binaries=$wanted_binaries
  choose_binaries
  check_subnet
  # Interrupted between the two, it would have made what `down` does not know.
  trap '' INT TERM HUP
  claim_network
  write_settings
  trap - INT TERM HUP
}

# change_cluster: what may change of one that is there.
change_cluster() {
  local one left=${wanted_servers:-$n_servers}
  [ "$left" -ge 1 ] || usage "a cluster has at least one server"
  if [ "$left" -lt "$n_servers" ]; then
    ask_members || fail "who is a member is not known without a leader: start what is missing, and try again"
    for one in $(seq $((left + 1)) "$n_servers"); do
      ! is_member "s$one" || usage "s$one is a member of the cluster: take it out first, by stint member remove s$one"
    done
  fi
  if [ "${wanted_agents:-$n_agents}" -lt "$n_agents" ]; then
    usage "the cluster has $n_agents agents already: stop those that are too many"
  fi
  if [ -n "$wanted_subnet" ] && [ "$wanted_subnet" != "$subnet" ]; then usage "the cluster has the network $subnet"; fi
  n_agents=${wanted_agents:-$n_agents}
  local before="$server_flags $agent_flags $binaries"
  [ "$given_server_flags" = false ] || server_flags=$wanted_server_flags
  [ "$given_agent_flags" = false ] || agent_flags=$wanted_agent_flags
  binaries=${wanted_binaries:-$binaries}
  choose_binaries
  if [ "$before" != "$server_flags $agent_flags $binaries" ]; then
    say "what runs keeps its flags and program until it is started again: deploy/cluster.sh stop NAME, deploy/cluster.sh start NAME"
  fi
  while [ "$n_servers" -gt "$left" ]; do
    remove_host "s$n_servers"
    n_servers=$((n_servers - 1))
  done
  write_settings
}

up() {
  if [ -d "$folder" ] && ! has_cluster && [ -n "$(ls -A "$folder")" ]; then
    fail "$folder is there, and is not a cluster's: name another one by --folder"
  fi
  mkdir -p "$folder"
  folder=$(CDPATH='' cd -- "$folder" && pwd -P)
  settings_file="$folder/cluster.conf"
  lock
  if has_cluster; then read_settings; change_cluster; else new_cluster; fi
  [ -s "$folder/token" ] || (umask 077 && head -c 32 /dev/urandom | base64 -w0 >"$folder/token")
  local name
  need_network
  own_network
  if in_namespaces; then
    trap '' INT TERM HUP
    make_switch
    trap - INT TERM HUP
  fi
  for name in $(all_names); do make_host "$name"; done
  for name in $(all_names); do start_host "$name"; done
  wait_until_ready
  ask_members || fail "the leader is lost again: try again"
  for name in $(server_names); do is_member "$name" || let_in_again "$name"; done
  while [ "$n_servers" -lt "${wanted_servers:-0}" ]; do add_server "s$((n_servers + 1))"; done
  say "$n_servers servers and $n_agents agents are up. To use them in this shell:"
  say ""
  print_env | sed 's/^/  /' >&2
  say ""
  say "or, for good: stint context add local --server $(server_addresses) --token-file $(printf '%q' "$folder/token")"
}

# ask_members: of a leader; without one it is only what a server remembers.
ask_members() {
  members=$(client status) || return 1
  grep -E '^s[0-9]+ +[0-9]+ +leader ' <<<"$members" >/dev/null
}
# is_member NAME: by what they have said.
is_member() { grep "^$1 " <<<"$members" >/dev/null; }

# let_in_again NAME: what was taken out has no use for its data any more.
let_in_again() {
  say "$1 was taken out of the cluster: it is let in again, on an empty folder"
  end_hosts KILL "$GONE_SECONDS" "$1" || fail "$1 has not ended within $GONE_SECONDS s"
  rm -rf "${folder:?}/$1/data"
  add_server "$1"
}

# remove_host NAME: of one that is no member any more.
remove_host() {
  end_hosts KILL "$GONE_SECONDS" "$1" || fail "$1 has not ended within $GONE_SECONDS s"
  if in_namespaces; then
    # At once, also if something else still runs on the host.
    switch ip link delete "$1" 2>/dev/null || true
    [ ! -e "/run/netns/$(namespace "$1")" ] || ip netns delete "$(namespace "$1")"
  fi
  rm -rf "${folder:?}/$1"
  say "$1 is gone"
}

# add_server NAME: lets another one into a cluster that is up, and waits until it follows.
add_server() {
  local name="$1" deadline=$((SECONDS + READY_SECONDS))
  # One that was let in before, and not started any more, is known already.
  client status 2>/dev/null | grep "^$name " >/dev/null || client member add "$name=$(address "$name"):$PEER_PORT" >&2
  [ "${name#s}" -le "$n_servers" ] || n_servers=${name#s}
  write_settings
  make_host "$name"
  start_host "$name"
  until client status 2>/dev/null | grep -E "^$name .* follower .* 0$" >/dev/null; do
    process_of "$name" >/dev/null || { say "$name has ended; its log:"; tail -n 20 "$folder/$name/log" >&2; exit 1; }
    [ "$SECONDS" -lt "$deadline" ] || fail "$name does not follow after $READY_SECONDS s; what it logs: deploy/cluster.sh logs $name"
    sleep 0.2
  done
}

# wait_until_ready: until there is a leader and every agent that is not cut off is a node.
wait_until_ready() {
  local deadline=$((SECONDS + READY_SECONDS)) name missing ready
  while :; do
    missing=""
    for name in $(all_names); do
      # One that was taken out finds that out by itself, and is let in again later.
      if is_server "$name" && tail -n 5 "$folder/$name/log" 2>/dev/null | grep -F "was removed from cluster" >/dev/null; then continue; fi
      process_of "$name" >/dev/null || { say "$name has ended; its log:"; tail -n 20 "$folder/$name/log" >&2; exit 1; }
    done
    if ready=$(client get nodes 2>/dev/null); then
      for name in $(agent_names); do
        is_cut "$name" || grep -Eq "^$name +Ready" <<<"$ready" || missing="$missing $name"
      done
      [ -n "$missing" ] || return 0
    else
      missing=" a leader"
    fi
    [ "$SECONDS" -lt "$deadline" ] || fail "not there after $READY_SECONDS s:$missing; what they log: deploy/cluster.sh logs s1"
    sleep 0.2
  done
}

print_env() {
  printf 'export STINT_SERVER=%s\n' "$(server_addresses)"
  printf 'export STINT_TOKEN_FILE=%q\n' "$folder/token"
  # shellcheck disable=SC2016 # The shell that reads it has the PATH.
  [ "$(command -v stint || true)" = "$binaries/stint" ] || printf 'export PATH=%q:"$PATH"\n' "$binaries"
}

status() {
  local name pid process network
  printf '%-6s %-21s %-16s %s\n' NAME ADDRESS PROCESS NETWORK
  for name in $(all_names); do
    if pid=$(process_of "$name"); then process="runs ($pid)"; else process="does not run"; fi
    network="connected"
    if is_cut "$name"; then network="cut"; fi
    printf '%-6s %-21s %-16s %s\n' "$name" "$(address "$name")" "$process" "$network"
  done
  printf '\n'
  if client status; then
    printf '\n'
    client get nodes || true
  fi
}

down() {
  local name pids deadline point path
  # Agents end their Pods; for servers nothing is left to be kept.
  # shellcheck disable=SC2046 # Names have no spaces.
  end_hosts INT "$STOP_SECONDS" $(agent_names) || say "an agent has not ended its Pods within $STOP_SECONDS s: they are killed"
  # shellcheck disable=SC2046
  end_hosts KILL "$GONE_SECONDS" $(all_names) || true
  deadline=$((SECONDS + GONE_SECONDS))
  # Nothing of this command is in the folder that goes.
  cd /
  while owns_network && pids=$(left_processes) && [ -n "$pids" ]; do
    [ "$SECONDS" -lt "$deadline" ] || fail "processes that do not end: $(tr '\n' ' ' <<<"$pids")"
    # shellcheck disable=SC2086
    kill -s KILL $pids 2>/dev/null || true
    sleep 0.1
  done
  # What agents that were killed have left mounted.
  unmount_below "$folder" || fail "$folder has mounts that can't be taken away: it is left"
  for name in $(agent_names); do remove_groups "$name"; done
  if in_namespaces && owns_network; then
    for name in $(all_names) switch; do
      path=$(namespace "$name")
      [ ! -e "/run/netns/$path" ] || ip netns delete "$path"
    done
    # Of a link whose other end is gone nothing is left, some moments later.
    ip link delete "stint$number" 2>/dev/null || true
    rm -f "$(owner_file)"
  fi
  rm -rf "$folder"
  say "the cluster in $folder is gone"
}

# remove_groups NAME: control groups of an agent that will not come back; they are named by its node's uid, which stands in the
# table of this host's agents, and, for containers without an engine, by its folder.
remove_groups() {
  local data="$folder/$1/data" uid group
  [ "$(id -u)" = 0 ] || return 0
  # shellcheck disable=SC2016 # The variables are awk's.
  uid=$(tr '\0' '\n' 2>/dev/null </run/stint-agent/nodes \
    | awk -v data="$data" '{ uid = $1; $1 = $2 = ""; if (substr($0, 3) == data) print uid }' || true)
  for group in ${uid:+"stint-$uid"} "stint-oci-$(printf '%s' "$data/oci/shims" | sha256sum | head -c 12)"; do
    # Those below go first; the last have gone a moment after their processes.
    find /sys/fs/cgroup -depth -type d \( -path "*/$group/*" -o -path "*/$group" \) -exec rmdir {} + 2>/dev/null || true
  done
}

command=${1:-}
[ $# = 0 ] || shift
case "$command" in
  -h | --help | help) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//p}' "$script"; exit 0 ;;
  up | status | env | kill | stop | start | cut | heal | run | logs | down) ;;
  '') usage "a command is missing" ;;
  *) usage "unknown command $command" ;;
esac

folder="" names=() on_host_command=() loopback=false
wanted_servers="" wanted_agents="" wanted_binaries="" wanted_server_flags="" wanted_agent_flags="" wanted_subnet=""
given_server_flags=false given_agent_flags=false
while [ $# -gt 0 ]; do
  case "$1" in
    --folder | --servers | --agents | --binaries | --server-flags | --agent-flags | --subnet)
      [ $# -ge 2 ] || usage "$1 needs a value"
      ;;
  esac
  case "$1" in
    --folder) folder=$2; shift ;;
    --servers) check_count "$1" "$2"; wanted_servers=$2; shift ;;
    --agents) check_count "$1" "$2"; wanted_agents=$2; shift ;;
    --binaries) wanted_binaries=$2; shift ;;
    --server-flags) wanted_server_flags=$2 given_server_flags=true; shift ;;
    --agent-flags) wanted_agent_flags=$2 given_agent_flags=true; shift ;;
    --subnet) wanted_subnet=$2; shift ;;
    --loopback) loopback=true ;;
    --) shift; on_host_command=("$@"); break ;;
    -h | --help) exec "$script" --help ;;
    -*) usage "unknown option $1" ;;
    *) names+=("$1") ;;
  esac
  shift
done
folder=${folder:-${STINT_CLUSTER_FOLDER:-}}
if [ -z "$folder" ]; then
  if [ "$(id -u)" = 0 ]; then folder=/var/lib/stint-cluster; else folder="${XDG_STATE_HOME:-$HOME/.local/state}/stint-cluster"; fi
fi
[ ! -d "$folder" ] || folder=$(CDPATH='' cd -- "$folder" && pwd -P)
settings_file="$folder/cluster.conf"
bin_dir=${STINT_BIN_DIR:-}
# What is set for people must not reach servers and agents.
for name in "${!STINT_@}"; do unset "$name"; done

case "$command" in
  up | status | env | down) [ ${#names[@]} = 0 ] || usage "$command takes no names" ;;
  kill | stop | start | cut) [ ${#names[@]} -gt 0 ] || usage "$command needs the name of a host" ;;
  run | logs) [ ${#names[@]} = 1 ] || usage "$command needs the name of one host" ;;
esac
if [ "$command" = up ]; then up; exit 0; fi
if [ "$command" = down ] && ! has_cluster; then say "there is no cluster in $folder"; exit 0; fi
need_cluster
case "$command" in
  kill | stop | start | cut | heal | down) lock; need_cluster ;;
esac
read_settings
if in_namespaces && [ "$(id -u)" != 0 ]; then fail "the cluster in $folder was made by root: use it as root"; fi
for name in "${names[@]}"; do check_name "$name"; done
case "$command" in
  run | start | cut | heal) need_network ;;
esac
case "$command" in
  status) status ;;
  env) print_env ;;
  logs) cat "$folder/${names[0]}/log" ;;
  run) [ ${#on_host_command[@]} -gt 0 ] || usage "run needs a command behind --"; on_host "${names[0]}" "${on_host_command[@]}" ;;
  kill) end_hosts KILL "$GONE_SECONDS" "${names[@]}" || fail "not ended within $GONE_SECONDS s" ;;
  stop) end_hosts TERM "$GONE_SECONDS" "${names[@]}" || fail "not ended within $GONE_SECONDS s" ;;
  start) for name in "${names[@]}"; do make_host "$name"; start_host "$name"; done ;;
  cut) for name in "${names[@]}"; do set_link "$name" down; done ;;
  heal)
    [ ${#names[@]} -gt 0 ] || mapfile -t names < <(all_names)
    for name in "${names[@]}"; do set_link "$name" up; done
    ;;
  down) down ;;
esac
