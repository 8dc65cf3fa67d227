# shellcheck shell=bash disable=SC2154 # What tests/deploy.sh sets is known to it alone.
# Part of tests/deploy.sh: a cluster of three machines, each with a systemd of its own, installed as deploy/README.md says. Sourced.

# network_make NUMBER…: a namespace each on a bridge, with the addresses of the page.
network_make() {
  local number
  ip netns add "stint-bridge-$$" 2>/dev/null || { machine_problem="no network namespaces can be made here"; return 1; }
  on_end network_remove
  ip -n "stint-bridge-$$" link add br0 type bridge
  ip -n "stint-bridge-$$" link set br0 up
  for number in "$@"; do
    ip netns add "stint-host$number-$$"
    ip -n "stint-bridge-$$" link add "p$number" type veth peer name host0 netns "stint-host$number-$$"
    ip -n "stint-bridge-$$" link set "p$number" master br0 up
    ip -n "stint-host$number-$$" address add "10.0.0.$number/24" dev host0
    ip -n "stint-host$number-$$" link set host0 up
    ip -n "stint-host$number-$$" link set lo up
  done
}
network_remove() {
  local path
  for path in /run/netns/stint-host*-"$$" "/run/netns/stint-bridge-$$"; do ip netns delete "${path##*/}" 2>/dev/null || true; done
}
# network_link NUMBER up|down: of a machine's cable.
network_link() { ip -n "stint-bridge-$$" link set "p$1" "$2"; }

# of_machine NUMBER: what the page says for the first machine, for another one.
of_machine() { sed "s/^name = \"\(.\)1\"/name = \"\1$1\"/; s/^\(listen\|peer-listen\) = \"10\.0\.0\.1:/\1 = \"10.0.0.$1:/"; }
cluster_stint() { machine_run stint --server 10.0.0.1:7440,10.0.0.2:7440,10.0.0.3:7440 --token-file /etc/stint/token "$@"; }
cluster_nodes_are() { [ "$(cluster_stint get nodes | grep -c "^w[123] *$2 ")" = "$1" ]; }
cluster_servers_follow() { [ "$(cluster_stint status 2>/dev/null | grep -Ec ' (leader|follower) .* 0$')" = "$1" ]; }
cluster_job_is() { cluster_stint wait "job/$1" --for "$2" --timeout 1s; }

part_machines() {
  local number role machines=()
  if ! is_root || ! install_packages iproute2 >/dev/null 2>&1 || ! network_make 1 2 3; then
    not_run "a cluster of machines" "${machine_problem:-that takes root}"
    return 0
  fi
  head -c 32 /dev/urandom | base64 -w0 >"$work/shared-token"
  for number in 1 2 3; do
    if ! machine_make || ! machine_start "stint-host$number-$$"; then
      not_run "a cluster of machines" "$machine_problem"
      return 0
    fi
    machines+=("$machine")
    cp "$work/shared-token" "$machine/opt/stint/token"
    for role in server agent; do page "$role.toml" | of_machine "$number" >"$machine/opt/stint/$role.toml"; done
  done
  for number in 1 2 3; do
    machine=${machines[number - 1]}
    for role in server agent; do
      expect "machine $number: with the page's settings, its $role" \
        machine_run deploy/install.sh "$role" --config "$role.toml" --token-file token --start
    done
  done
  eventually "three servers" 60 cluster_servers_follow 3
  eventually "three nodes" 60 cluster_nodes_are 3 Ready
  expect "the page's context reaches it" machine_run bash -euo pipefail -c "$(page context)"

  cluster_stint run --detach --name loss --completions 30 --parallelism 6 --retries 60 -- sleep 2 >/dev/null 2>&1
  machine=${machines[2]}
  machine_lose
  machine=${machines[0]}
  eventually "a Job completes though a machine is lost with its server and its node" 180 cluster_job_is loss complete
  eventually "the node is known to be lost" 60 cluster_nodes_are 1 NotReady
  # It boots again, on the disk that it had.
  machine=${machines[2]}
  machine_stop
  machine_start "stint-host3-$$" || broken "the machine does not boot again: $machine_problem"
  printf 'ok: %s\n' "the machine boots again"
  eventually "three servers" 60 cluster_servers_follow 3
  eventually "three nodes" 60 cluster_nodes_are 3 Ready

  for number in 3 2 1; do
    machine=${machines[number - 1]}
    for role in agent server; do
      expect "machine $number: the $role is removed" machine_run deploy/install.sh "$role" --uninstall --purge
    done
    machine_remove "$machine"
  done
  network_remove
}
