# shellcheck shell=bash disable=SC2154 # What tests/deploy.sh sets is known to it alone.
# Parts of tests/deploy.sh: deploy/cluster.sh with hosts of its own, and on loopback. Sourced.

# What a Pod sleeps for, to be found among all processes.
LONG_SLEEP=$((80000000 + $$))
readonly LONG_SLEEP

# pids_of STATUS: which processes run, by what `cluster.sh status` says.
pids_of() { sed -n 's/^\([sw][0-9]*\) .*runs (\([0-9]*\)).*/\1 \2/p' <<<"$1"; }
leader() { stint status 2>/dev/null | awk '$3 == "leader" { print $1 }'; }
is_ready() { stint get nodes | grep -E "^$1 +Ready" >/dev/null; }
is_not_ready() { stint get nodes | grep -E "^$1 +NotReady" >/dev/null; }
has_sleepers() { [ "$(pgrep -fxc "sleep $LONG_SLEEP")" = "$1" ]; }

# state_of_machine: what a cluster could leave.
state_of_machine() {
  find /run/netns -name 'stint*' 2>/dev/null | sort || true
  ip -o link show | sed -n 's/^[0-9]*: \(stint[^:@]*\).*/\1/p' | sort
  grep -F " $work/" /proc/self/mountinfo || true
  pgrep -fx "sleep $LONG_SLEEP" || true
  pgrep -f "$work/" || true
}

part_cluster() {
  if ! is_root || ! install_packages iproute2 procps || ! ip netns add "stint-try-$$" 2>/dev/null; then
    not_run cluster "network namespaces can be made by root alone, and not everywhere"
    return 0
  fi
  ip netns delete "stint-try-$$"
  local before after names name groups
  before=$(state_of_machine)
  export STINT_CLUSTER_FOLDER="$work/cluster"
  on_end "STINT_CLUSTER_FOLDER='$work/cluster' deploy/cluster.sh down >/dev/null 2>&1"
  on_end "STINT_CLUSTER_FOLDER='$work/second' deploy/cluster.sh down >/dev/null 2>&1"

  # As it stands on the page.
  printf 'the page:\n'
  page try | sed 's/^/  /'
  expect "the page's commands make a cluster, lose a server and a node, and end it" \
    bash -euo pipefail -c "PATH=$(printf '%q' "$STINT_BIN_DIR"):\$PATH"$'\n'"$(page try)"
  after=$(state_of_machine)
  same "nothing is left of it" "$before" "$after"

  # Two at once: each has a network of its own.
  expect "a cluster comes up" deploy/cluster.sh up --server-flags '--node-lease 15s' --agent-flags '--cpu 8'
  expect "a second one comes up beside it" deploy/cluster.sh up --folder "$work/second" --servers 1 --agents 1
  [ "$(deploy/cluster.sh env | head -n 1)" != "$(deploy/cluster.sh env --folder "$work/second" | head -n 1)" ] \
    || broken "two clusters have the same addresses"
  expect "the second one grows from 1 and 1 to 3 and 2" deploy/cluster.sh up --folder "$work/second" --servers 3 --agents 2
  eventually "it has grown" 60 second_is_whole w2
  (eval "$(deploy/cluster.sh env --folder "$work/second")" && stint member remove s3) || broken "s3 is not taken out"
  expect "a server that was taken out is let in again" deploy/cluster.sh up --folder "$work/second"
  eventually "it is back" 60 second_is_whole
  expect_refusal "a member does not go" "is a member" deploy/cluster.sh up --folder "$work/second" --servers 2
  (eval "$(deploy/cluster.sh env --folder "$work/second")" && stint member remove s3) || broken "s3 is not taken out"
  expect "what was taken out goes" deploy/cluster.sh up --folder "$work/second" --servers 2
  if deploy/cluster.sh status --folder "$work/second" | grep '^s3 '; then broken "s3 is still there"; fi
  # Two commands at once: the one that comes later, or waits, makes a cluster anew and works on nothing that is gone.
  (
    while [ -d "$work/second" ] && flock -n "$work/second" true; do sleep 0.02; done
    exec deploy/cluster.sh up --folder "$work/second" --servers 3
  ) >/dev/null 2>&1 &
  local later=$!
  expect "the second one goes" deploy/cluster.sh down --folder "$work/second"
  wait "$later" || broken "it is not made anew by whoever waited for that"
  eventually "it is whole" 60 second_is_whole
  expect "it goes again" deploy/cluster.sh down --folder "$work/second"
  local status
  status=$(deploy/cluster.sh status)
  names=$(pids_of "$status")
  expect "up again changes nothing" deploy/cluster.sh up
  same "no process was started anew" "$names" "$(pids_of "$(deploy/cluster.sh status)")"
  expect_refusal "servers do not go without being taken out" "stint member remove" deploy/cluster.sh up --servers 1
  expect_refusal "there is no such host" "no host s9" deploy/cluster.sh kill s9
  local network says
  while read -r network says; do
    expect_refusal "$network is no network for it" "$says" deploy/cluster.sh up --folder "$work/third" --subnet "$network"
  done <<END
10.213 A.B.C
10.0213.1 A.B.C
224.0.0 hosts
10.213.256 255
x.y.z A.B.C
127.0.0 loopback
$(host_address s1 | cut -d . -f 1-3) in use
END
  mkdir "$work/foreign" && touch "$work/foreign/file"
  expect_refusal "a folder of somebody else's is left alone" "is not a cluster's" deploy/cluster.sh up --folder "$work/foreign"

  eval "$(deploy/cluster.sh env)"
  # The leader dies and a node is cut off under a Job: it completes all the same.
  stint run --detach --name faults --completions 24 --parallelism 6 --index --retries 50 -- sleep 2 >/dev/null 2>&1
  name=$(leader)
  expect "the leader is killed" deploy/cluster.sh kill "$name"
  expect "a node is cut off" deploy/cluster.sh cut w1
  status=$(deploy/cluster.sh status)
  printf '%s\n' "$name was killed, w1 is cut off:" "$status"
  expect "status says who does not run" grep "^$name .*does not run" <<<"$status"
  expect "status says who is cut off" grep '^w1 .* cut$' <<<"$status"
  # One of the two is alive.
  local knock
  knock="for one in $(host_address s2) $(host_address s3); do ! timeout 5 bash -c \": >/dev/tcp/\$one/7440\" || exit 0; done; echo nobody; exit 1"
  expect_refusal "nothing reaches the servers from there" nobody deploy/cluster.sh run w1 -- bash -c "$knock"
  expect "from another node it does" deploy/cluster.sh run w2 -- bash -c "$knock"
  eventually "the Job completes" 120 job_is faults complete
  same "each index has succeeded once" 24 "$(stint get job faults -o json | sed -n 's/^ *"succeeded": \([0-9]*\),*$/\1/p')"
  eventually "the node that is cut off is known to be" 60 is_not_ready w1
  expect "the node is healed" deploy/cluster.sh heal
  expect "up starts what does not run" deploy/cluster.sh up
  eventually "all servers are there" 60 all_servers_follow 3

  # An agent's process ends, another one takes its Pods over.
  stint run --detach --name long --completions 2 --parallelism 2 --retries 0 -- sleep "$LONG_SLEEP" >/dev/null 2>&1
  eventually "its Pods run" 60 has_sleepers 2
  name=$(stint get pods -o wide | awk '/^long-/ { for (i = 1; i <= NF; i++) if ($i ~ /^w[12]$/) { print $i; exit } }')
  expect "their agent ends" deploy/cluster.sh stop "$name"
  has_sleepers 2 || broken "Pods ended with their agent"
  expect "it is started again" deploy/cluster.sh start "$name"
  eventually "it is there again" 60 is_ready "$name"
  sleep 17 # Longer than the lease: whoever is not taken over has ended.
  has_sleepers 2 || broken "Pods did not outlive the restart of their agent"
  if stint get job long -o json | grep '"failed": [1-9]'; then broken "a restart of an agent counted as a failure"; fi
  printf 'ok: %s\n' "its Pods have gone on, and nothing has failed"

  # Down under the worst: Pods whose agents are dead and whose lease has not run out, a host that is cut off, a server that is dead.
  groups=$(node_groups)
  deploy/cluster.sh cut w2
  deploy/cluster.sh kill w1 w2 s2
  has_sleepers 2 || broken "Pods ended with their agent"
  expect "down" deploy/cluster.sh down
  same "nothing is left: namespaces, links, mounts, processes" "$before" "$(state_of_machine)"
  [ ! -e "$work/cluster" ] || broken "the folder is left"
  for name in $groups; do
    [ -z "$(find /sys/fs/cgroup -name "$name" -print -quit)" ] || broken "the control groups $name are left"
  done
  printf 'ok: %s\n' "no control groups are left of: $(tr '\n' ' ' <<<"$groups")"
  expect "down again has nothing to do" deploy/cluster.sh down
  expect_refusal "there is no cluster any more" "there is no cluster" deploy/cluster.sh status
  unset STINT_CLUSTER_FOLDER STINT_SERVER STINT_TOKEN_FILE
}

host_address() { deploy/cluster.sh status 2>/dev/null | awk -v name="$1" '$1 == name && !n++ { print $2 }'; }
all_servers_follow() { [ "$(stint status 2>/dev/null | grep -Ec ' (leader|follower) .* [0-9]+ +[0-9]+ +0$')" = "$1" ]; }
# second_is_whole [NODE]: three servers follow in the second cluster, and the node is ready.
second_is_whole() {
  (eval "$(deploy/cluster.sh env --folder "$work/second")" && all_servers_follow 3 && { [ $# = 0 ] || is_ready "$1"; })
}
# node_groups: names of the control groups of the agents.
node_groups() { stint describe node w1 w2 | sed -n 's/^ *Node UID: */stint-/p'; }

# Without rights: as somebody who has none.
part_loopback() {
  local nobody=() folder
  folder=$(mktemp -d)
  chmod 755 "$folder"
  if is_root; then
    nobody=(setpriv --reuid nobody --regid nogroup --clear-groups env HOME="$folder")
    chown nobody "$folder"
    "${nobody[@]}" test -x "$STINT_BIN_DIR/stint" || { cp "$STINT_BIN_DIR"/stint{,-agent} "$folder"; nobody+=(STINT_BIN_DIR="$folder"); }
    # The clone may be where nobody else may look.
    cp -r deploy "$folder/deploy"
  else
    mkdir "$folder/deploy" && cp -r deploy/. "$folder/deploy"
  fi
  local cluster=("${nobody[@]}" STINT_CLUSTER_FOLDER="$folder/cluster" "$folder/deploy/cluster.sh")
  is_root || cluster=(env "${cluster[@]}")
  on_end "${cluster[*]} down >/dev/null 2>&1; rm -rf '$folder'"
  expect "a cluster comes up without root" "${cluster[@]}" up
  expect_refusal "no host can be cut off there, and why" "on loopback" "${cluster[@]}" cut w1
  (
    eval "$("${cluster[@]}" env)"
    # The token is for its owner alone.
    is_root || stint() { "$STINT_BIN_DIR/stint" "$@"; }
    stint run --detach --name loopback --completions 8 --parallelism 4 -- sleep 1 >/dev/null 2>&1
    "${cluster[@]}" kill s1
    eventually "a Job completes though a server is killed" 120 job_is loopback complete
    stint run --detach --name long --completions 4 --parallelism 4 -- sleep "$LONG_SLEEP" >/dev/null 2>&1
    eventually "Pods run" 60 has_sleepers 4
    "${cluster[@]}" kill w1
  )
  # shellcheck disable=SC2016 # The inner shell's.
  expect "down, from within" sh -c 'cd "$1" && shift && "$@"' sh "$folder/cluster/s1" "${cluster[@]}" down
  if pgrep -fx "sleep $LONG_SLEEP" >/dev/null || pgrep -f "$folder/cluster" >/dev/null; then broken "processes are left"; fi
  [ ! -e "$folder/cluster" ] || broken "the folder is left"
  printf 'ok: %s\n' "nothing is left"
}
