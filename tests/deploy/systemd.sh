# shellcheck shell=bash disable=SC2154 # What tests/deploy.sh sets is known to it alone.
# Parts of tests/deploy.sh: the units under a systemd that runs. Sourced.

unit_property() { machine_run systemctl show --value --property "$2" "$1"; }
# on_machine_job NAME CONDITION
machine_job_is() { machine_run stint wait "job/$1" --for "$2" --timeout 1s; }
machine_pods_run() { [ "$(machine_run pgrep -fxc 'sleep 7654321')" = "$1" ]; }
machine_node_is_ready() { machine_run stint get nodes | grep -E "^$1 +Ready" >/dev/null; }

part_systemd() {
  if ! machine_make || ! machine_start; then
    not_run "units under systemd" "$machine_problem"
    return 0
  fi
  printf 'ok: %s\n' "a machine with systemd runs"
  # A lease that a busy machine does not use up between two agents.
  mkdir -p "$machine/etc/stint"
  echo STINT_SERVER_NODE_LEASE=20s >"$machine/etc/stint/server.env"
  printf 'the page:\n'
  page install | sed 's/^/  /'
  expect "the page's commands install a server and an agent, and run a Job" machine_run timeout 180 bash -euo pipefail -c "$(page install)"
  services_go_on stint-server stint-agent
  expect "the page's commands remove them" machine_run bash -euo pipefail -c "$(page uninstall)"
  if machine_run systemctl cat stint-server stint-agent >/dev/null 2>&1; then broken "units are left"; fi
  same "nothing of them runs" "" "$(machine_run ps -eo comm= | grep '^stint' || true)"
  machine_remove "$machine"
}

# services_go_on SERVER AGENT: units that run and have a cluster of one node, w1.
services_go_on() {
  local server="$1" agent="$2" before
  same "the server is the user stint" stint "$(machine_run ps -o user= -p "$(unit_property "$server" MainPID)")"
  same "it can gain no rights" "0000000000000000 1" \
    "$(machine_run sed -n 's/^\(CapBnd\|NoNewPrivs\):\t*//p' "/proc/$(unit_property "$server" MainPID)/status" | tr '\n' ' ' | sed 's/ $//')"
  # The agent ends and comes back under its Pods.
  machine_run stint run --detach --name long --completions 2 --parallelism 2 --retries 0 -- sleep 7654321 >/dev/null 2>&1
  eventually "Pods run" 60 machine_pods_run 2
  before=$(unit_property "$agent" MainPID)
  expect "the agent is restarted" machine_run systemctl restart "$agent"
  [ "$before" != "$(unit_property "$agent" MainPID)" ] || broken "it was not restarted"
  eventually "the node is there" 60 machine_node_is_ready w1
  machine_run kill -KILL "$(unit_property "$agent" MainPID)"
  eventually "an agent that is killed comes back" 60 came_back "$agent" "$before"
  sleep 22 # Longer than the lease: whoever is not taken over has ended.
  machine_pods_run 2 || broken "Pods did not outlive a restart and a SIGKILL of their agent"
  printf 'ok: %s\n' "its Pods have gone on"
  before=$(unit_property "$server" MainPID)
  machine_run kill -KILL "$before"
  eventually "a server that is killed comes back" 60 came_back "$server" "$before"
  eventually "with what it had" 60 machine_run stint get job long
  expect "the server is stopped" machine_run systemctl stop "$server"
  same "it has ended by itself, and well" "success 0" "$(unit_property "$server" Result) $(unit_property "$server" ExecMainStatus)"
  expect "the server is started" machine_run systemctl start "$server"
  eventually "the node is there" 60 machine_node_is_ready w1
  machine_run stint delete job long >/dev/null 2>&1
  eventually "its Pods end" 60 machine_pods_run 0
}

# came_back UNIT PID: whether the unit runs as another process.
came_back() {
  [ "$(unit_property "$1" ActiveState)" = active ] && [ "$(unit_property "$1" MainPID)" != "$2" ] \
    && [ "$(unit_property "$1" NRestarts)" != 0 ]
}
