# shellcheck shell=bash disable=SC2154 # What tests/deploy.sh sets is known to it alone.
# Parts of tests/deploy.sh: the cluster of containers, on an engine of the test's own. Sourced.

# engine_start: Docker, with folders, a socket and a network of its own; no registry can be reached from there.
engine_start() {
  is_root || { engine_problem="that takes root"; return 1; }
  RUNLEVEL=1 install_packages docker.io docker-compose iproute2 >/dev/null 2>&1 || { engine_problem="there is no Docker here"; return 1; }
  engine="$work/docker"
  mkdir -p "$engine"
  ip netns add "stint-engine-$$" 2>/dev/null || { engine_problem="no network namespaces can be made here"; return 1; }
  on_end engine_stop
  ip -n "stint-engine-$$" link set lo up
  nsenter --net="/run/netns/stint-engine-$$" -- unshare --mount --propagation private -- \
    dockerd --data-root "$engine/data" --exec-root "$engine/exec" --pidfile "$engine/pid" --host "unix://$engine/socket" \
    --cgroup-parent "/stint-engine-$$" --log-level warn </dev/null >"$engine/log" 2>&1 &
  engine_pid=$!
  export DOCKER_HOST="unix://$engine/socket"
  local deadline=$((SECONDS + 60))
  until docker info >/dev/null 2>&1; do
    if ! kill -0 "$engine_pid" 2>/dev/null || [ "$SECONDS" -ge "$deadline" ]; then
      engine_problem="dockerd does not come up here: $(tail -n 1 "$engine/log")"
      return 1
    fi
    sleep 0.2
  done
}

engine_stop() {
  [ -n "${engine_pid:-}" ] || return 0
  docker ps -aq | xargs -r docker rm -f >/dev/null 2>&1 || true
  kill "$engine_pid" 2>/dev/null || true
  local deadline=$((SECONDS + 30))
  while kill -0 "$engine_pid" 2>/dev/null; do
    if [ "$SECONDS" -ge "$deadline" ]; then kill -KILL "$engine_pid" 2>/dev/null || true; fi
    sleep 0.1
  done
  engine_pid=""
  ip netns delete "stint-engine-$$" 2>/dev/null || true
  awk -v below="$engine/" 'index($5, below) == 1 { print $5 }' /proc/self/mountinfo | sort -r | xargs -r -n 1 umount -l || true
  find /sys/fs/cgroup -depth -type d -path "*/stint-engine-$$*" -exec rmdir {} + 2>/dev/null || true
  rm -rf "$engine"
}

compose() {
  if docker compose version >/dev/null 2>&1; then docker compose "$@"; else docker-compose "$@"; fi
}
in_s1() { compose -f deploy/compose/compose.yaml exec -T s1 "$@"; }
composed_nodes_are_ready() { [ "$(in_s1 stint get nodes | grep -Ec '^w[12] +Ready')" = 2 ]; }
composed_job_is() { in_s1 stint wait "job/$1" --for "$2" --timeout 1s; }

part_compose() {
  local base commands groups
  if ! base=$(base_system); then
    not_run compose "debootstrap can't make a base image here, and tests use no registry"
    return 0
  fi
  engine_start || { not_run compose "$engine_problem"; return 0; }
  expect "a base image is made" docker import "$base" debian:bookworm-slim
  export COMPOSE_PROJECT_NAME="stint-test"
  # Debian 12 has the older program of two words.
  commands=$(page compose)
  docker compose version >/dev/null 2>&1 || commands=${commands//docker compose/docker-compose}
  printf 'the page:\n'
  sed 's/^/  /' <<<"$commands"
  expect "the page's commands make an image and a cluster, and run a Job" timeout 300 bash -euo pipefail -c "$commands"
  docker images --format 'image {{.Repository}}: {{.Size}}'
  eventually "both nodes are there" 60 composed_nodes_are_ready
  # Also that the servers have no rights: their image is read-only, and they are nobody there.
  same "a server is a user without rights" "7440" "$(in_s1 id -u)"
  expect_refusal "it writes nowhere but to its folder" "" in_s1 touch /x
  expect "agents guarantee all there is" grep -q 'all: fencing, isolation and limits' <(in_s1 stint describe node w1 w2)
  groups=$(in_s1 stint describe node w1 w2 | sed -n 's/^ *Node UID: */stint-/p')

  in_s1 stint run --detach --name faults --completions 16 --parallelism 4 --retries 40 -- sleep 2 >/dev/null 2>&1
  expect "a server and a node are killed" docker kill "$(compose -f deploy/compose/compose.yaml ps -q s2)" \
    "$(compose -f deploy/compose/compose.yaml ps -q w1)"
  eventually "the Job completes" 120 composed_job_is faults complete
  expect "all of it is stopped" compose -f deploy/compose/compose.yaml stop
  expect "and comes up again" compose -f deploy/compose/compose.yaml up -d
  eventually "with what it had" 60 composed_job_is faults complete
  eventually "both nodes are there" 60 composed_nodes_are_ready
  expect "down" compose -f deploy/compose/compose.yaml down -v
  same "no container and no volume is left" "" "$(docker ps -aq; docker volume ls -q)"
  # An agent in a container can't see the groups of those before it: they are empty, and stay until the machine boots.
  for name in $groups; do find /sys/fs/cgroup -depth -type d -path "*/$name*" -exec rmdir {} + 2>/dev/null || true; done
  engine_stop
  unset DOCKER_HOST COMPOSE_PROJECT_NAME
}
