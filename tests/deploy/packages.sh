# shellcheck shell=bash disable=SC2154 # What tests/deploy.sh sets is known to it alone.
# Parts of tests/deploy.sh: the Debian packages, on a system that has nothing else, and under systemd. Sourced.

# base_system: where the archive of a small Debian 12 is; made once, and kept with other caches for a month.
base_system() {
  local archive="${XDG_CACHE_HOME:-$HOME/.cache}/stint/bookworm.tar" folder="$work/bookworm"
  if [ -z "$(find "$archive" -mtime -30 2>/dev/null)" ]; then
    if ! is_root || ! install_packages debootstrap >/dev/null 2>&1; then return 1; fi
    mkdir -p "$(dirname -- "$archive")"
    debootstrap --variant=minbase --include=ca-certificates bookworm "$folder" >"$work/debootstrap.log" 2>&1 || return 1
    rm -rf "$folder"/var/cache/apt/* "$folder"/var/lib/apt/lists/*
    tar -C "$folder" -cf "$archive.new" . && mv "$archive.new" "$archive"
    rm -rf "$folder"
  fi
  printf '%s\n' "$archive"
}

part_packages() {
  local base before said
  expect "the packages are made" deploy/packages.sh --out "$work/packages" --fast
  ls -sh "$work/packages"
  if base=$(base_system); then
    mkdir "$work/base"
    tar -C "$work/base" -xf "$base"
  fi
  if [ -z "$base" ] || ! machine_make "$work/base"; then
    not_run "packages on a system of their own" "${machine_problem:-debootstrap makes none here}"
  else
    touch "$work/begun"
    mkdir "$machine/opt/packages"
    cp "$work/packages"/*.deb "$machine/opt/packages"
    before=$(package_files)
    expect "they are installed where nothing but Debian is" machine_run sh -c 'dpkg -i /opt/packages/*.deb'
    expect "the programs run" machine_run sh -c 'stint --version && stint-agent --version'
    expect "there are pages" machine_run sh -c 'zcat /usr/share/man/man1/stint-server.1.gz | grep -q initial.*cluster'
    expect "completion is bash's" machine_run bash -n /usr/share/bash-completion/completions/stint
    expect "it asks the program that is installed" machine_run grep -q /usr/bin/stint /usr/share/bash-completion/completions/stint
    expect "the server has a user, and a folder that is its own" \
      machine_run sh -c 'id stint && stat -c "%U %a" /var/lib/stint | grep -x "stint 700"'
    machine_run sh -c 'echo "# mine" >>/etc/stint/server.toml; echo token >/etc/stint/token; touch /var/lib/stint/data'
    expect "installed again" machine_run sh -c 'dpkg -i /opt/packages/stint_*.deb'
    expect "settings stay" machine_run grep -qx '# mine' /etc/stint/server.toml
    expect "the token is the server's to read" machine_run sh -c 'stat -c "%G %a" /etc/stint/token | grep -x "stint 640"'
    expect "removed" machine_run dpkg -r stint stint-agent
    expect "settings, token and data are left" machine_run ls /etc/stint/server.toml /etc/stint/token /var/lib/stint/data
    expect "the server is purged" machine_run dpkg -P stint
    same "nobody but root has the agent's token" "root:root 600" "$(machine_run stat -c '%U:%G %a' /etc/stint/token)"
    expect "purged" machine_run dpkg -P stint-agent
    same "nothing is left" "$before" "$(package_files)"
    if ls -d "$machine"/etc/stint "$machine"/var/lib/stint* >/dev/null 2>&1; then broken "folders are left"; fi
    if machine_run id stint >/dev/null 2>&1; then broken "the user is left"; fi
    expect "installed once more" machine_run sh -c 'dpkg -i /opt/packages/*.deb'
    # In one shell: mounts need not outlive it.
    # shellcheck disable=SC2016 # The variables are that shell's.
    expect "purged from disks of their own, without what is mounted below" machine_run sh -euc '
      mkdir /opt/theirs
      touch /opt/theirs/file
      mount -t tmpfs none /var/lib/stint
      mount -t tmpfs none /var/lib/stint-agent
      mkdir -p /var/lib/stint/raft "/var/lib/stint-agent/a view" /var/lib/stint-agent/logs
      mount --bind /opt/theirs "/var/lib/stint-agent/a view"
      dpkg -P stint stint-agent
      ls /opt/theirs/file
      for folder in /var/lib/stint /var/lib/stint-agent; do
        mountpoint -q "$folder"
        [ -z "$(ls -A "$folder")" ]
        umount "$folder"
      done'
    machine_remove "$machine"
  fi

  install_packages adduser >/dev/null 2>&1 || true
  if ! machine_make || ! machine_start; then
    not_run "packages under systemd" "$machine_problem"
    return 0
  fi
  cp "$work/packages"/*.deb "$machine/opt/stint"
  printf 'the page:\n'
  page packages | sed 's/^/  /'
  expect "the page's commands install them, start them, and run a Job" \
    machine_run timeout 180 bash -euo pipefail -c "$(page packages)"
  services_go_on stint-server stint-agent
  # The same version once more is what an upgrade does.
  machine_run stint run --detach --name upgrade --completions 2 --parallelism 2 --retries 0 -- sleep 7654321 >/dev/null 2>&1
  eventually "Pods run" 60 machine_pods_run 2
  before="$(unit_property stint-agent MainPID) $(unit_property stint-server MainPID)"
  said=$(machine_run sh -c 'dpkg -i ./*.deb' 2>&1) || { printf '%s\n' "$said"; broken "an upgrade"; }
  [ "$before" != "$(unit_property stint-agent MainPID) $(unit_property stint-server MainPID)" ] || broken "nothing was restarted"
  eventually "the node is there" 60 machine_node_is_ready w1
  sleep 12 # Longer than the lease.
  machine_pods_run 2 || broken "Pods did not outlive an upgrade"
  printf 'ok: %s\n' "Pods go on while both are upgraded"
  expect "purged" machine_run dpkg -P stint stint-agent
  if machine_run systemctl cat stint-server stint-agent >/dev/null 2>&1; then broken "units are left"; fi
  eventually "Pods end with their lease" 60 machine_pods_run 0
  machine_remove "$machine"
}

# package_files: what is on the machine, but for what dpkg and Debian's tools write down for themselves.
package_files() {
  (cd "$machine" && find etc usr var -xdev ! -type d -newer "$work/begun" -printf '%p\n' 2>/dev/null \
    | { grep -Ev '^etc/(passwd|group|shadow|gshadow|subuid|subgid)-?$|^etc/\.pwd\.lock$|^var/lib/dpkg/|^var/log/|^var/cache/' || true; } | sort)
}
