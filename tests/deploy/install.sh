# shellcheck shell=bash disable=SC2154 # What tests/deploy.sh sets is known to it alone.
# Parts of tests/deploy.sh: deploy/install.sh, among files and under systemd. Sourced.

# What is new on the machine, but for what every command leaves: each path with mode, owner and size.
files_of_machine() {
  (cd "$machine.tmp/upper" && find etc usr var opt -newer "$work/begun" ! -type d ! -name '*-' -printf '%p %m %u:%g %s\n' 2>/dev/null | sort)
}

part_install() {
  local first said role
  # Into the folder of another system, by somebody without rights.
  local image="$work/image"
  mkdir "$image"
  for role in server agent; do
    expect "install.sh $role puts all of it into a folder" deploy/install.sh "$role" --root "$image"
  done
  expect "program, settings and unit are there" ls "$image"/usr/local/bin/stint{,-agent} "$image"/etc/stint/{server,agent}.toml \
    "$image"/etc/systemd/system/stint-{server,agent}.service
  expect "the unit starts that program" grep -q '^ExecStart=/usr/local/bin/stint server ' "$image/etc/systemd/system/stint-server.service"
  # A Pod's view of the host, by an agent that was killed.
  mkdir -p "$work/of the host" "$image/var/lib/stint-agent/cri/sources/a pod/0"
  touch "$work/of the host/file"
  if is_root; then mount --bind "$work/of the host" "$image/var/lib/stint-agent/cri/sources/a pod/0"; fi
  for role in server agent; do
    expect "install.sh $role takes all of it away again" deploy/install.sh "$role" --root "$image" --uninstall --purge
  done
  same "nothing is left" "" "$(find "$image" -type f)"
  expect "what belongs to the host stays" test -e "$work/of the host/file"
  expect_refusal "a program that is none is refused" "is not a program" deploy/install.sh server --root "$image" --binary README.md
  expect_refusal "purging is asked for by both flags" "goes with --uninstall" deploy/install.sh server --root "$image" --purge

  # On a machine, with its users.
  machine_make || { not_run "installation on a machine" "$machine_problem"; return 0; }
  touch "$work/begun"
  head -c 32 /dev/urandom | base64 -w0 >"$machine/opt/stint/token"
  expect "a server is installed" machine_run deploy/install.sh server --token-file token
  first=$(files_of_machine)
  said=$(machine_run deploy/install.sh server --token-file token 2>&1)
  if grep -E '^(installed|made|removed)' <<<"$said"; then broken "done again, something was done"; fi
  same "done again it changes nothing" "$first" "$(files_of_machine)"
  expect "the server has a user" machine_run id stint
  expect "who may read the token, but not change it" \
    machine_run setpriv --reuid stint --regid stint --clear-groups sh -c 'test -r /etc/stint/token && ! test -w /etc/stint/token'
  expect "its data is its own" machine_run sh -c 'stat -c "%U %a" /var/lib/stint | grep -x "stint 700"'
  # What an operator has changed stays; what is broken is mended.
  echo '# mine' >>"$machine/etc/stint/server.toml"
  echo broken >"$machine/etc/systemd/system/stint-server.service"
  expect "done again after a change" machine_run deploy/install.sh server
  expect "settings stay" grep -q '^# mine$' "$machine/etc/stint/server.toml"
  expect "the unit is mended" grep -q '^ExecStart=' "$machine/etc/systemd/system/stint-server.service"
  expect "an agent is installed beside it" machine_run deploy/install.sh agent
  expect "the server is uninstalled" machine_run deploy/install.sh server --uninstall
  expect "data and settings are left" machine_run ls -d /var/lib/stint /etc/stint/server.toml
  expect "and purged" machine_run deploy/install.sh server --uninstall --purge
  expect "the agent still has its token" machine_run test -s /etc/stint/token
  same "nobody but root has it" "root:root 600" "$(machine_run stat -c '%U:%G %a' /etc/stint/token)"
  if machine_run getent group stint >/dev/null; then broken "the group is left"; fi
  # What an installation that was killed leaves.
  touch "$machine/usr/local/bin/stint-agent.new" "$machine/etc/stint/agent.toml.new"
  expect "the agent is purged" machine_run deploy/install.sh agent --uninstall --purge
  same "nothing is left" "" "$(files_of_machine | sed -E '/^etc\/(passwd|group|shadow|gshadow|\.pwd\.lock) |^var\/lib\/(dpkg|apt)\/|^opt\/stint\/token /d')"
  if machine_run id stint >/dev/null 2>&1; then broken "the user is left"; fi
  machine_remove "$machine"
}
