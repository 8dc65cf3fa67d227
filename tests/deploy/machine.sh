# shellcheck shell=bash disable=SC2154,SC2034 # What tests/deploy.sh sets is known to it alone.
# Machines to throw away: a file system that begins as another one and forgets what is written to it, with or without systemd as
# its first process. Sourced.
#
# Needs root. Where one can't be made, the reason is in machine_problem. There may be several: all functions are about the one whose
# folder is in machine.

machine="" machine_problem=""
# More options for systemd-nspawn, such as --bind=FOLDER:FOLDER.
machine_options=()
# How large a disk of its own a machine gets, such as 4G; without it what it writes is kept in memory, where fsync costs nothing.
machine_disk=""
# Of those that run: process ids of systemd-nspawn, and of the systemd in it.
declare -A machine_nspawn machine_leader

# machine_make [FOLDER]: a copy of this machine, or of the system in FOLDER, with this repository's deploy and the programs in
# /opt/stint.
machine_make() {
  local lower="${1:-/}"
  machine=$(mktemp -d -p "$work" machine.XXXX)
  is_root || { machine_problem="that takes root"; return 1; }
  mkdir "$machine.tmp"
  on_end "machine_remove '$machine'"
  machine_disk_make || mount -t tmpfs -o mode=755 stint-test "$machine.tmp" 2>/dev/null \
    || { machine_problem="nothing can be mounted here"; return 1; }
  mkdir "$machine.tmp"/{upper,work}
  mount -t overlay overlay -o "lowerdir=$lower,upperdir=$machine.tmp/upper,workdir=$machine.tmp/work" "$machine" 2>/dev/null \
    || { machine_problem="there is no overlayfs here, or not on top of this file system"; return 1; }
  # What this machine has of stint, and what it starts by itself, is not the test's.
  rm -rf "$machine"/etc/stint "$machine"/var/lib/stint* "$machine"/usr/local/bin/stint* "$machine"/etc/systemd/system/stint-* \
    "$machine"/etc/systemd/system/*.wants
  sed -i '/^stint:/d' "$machine"/etc/{passwd,group,shadow,gshadow} 2>/dev/null || true
  mkdir -p "$machine/opt/stint/bin"
  cp -r deploy README.md "$machine/opt/stint"
  cp "$STINT_BIN_DIR/stint" "$STINT_BIN_DIR/stint-agent" "$machine/opt/stint/bin"
}

# machine_disk_make: a file system in a file, if it is asked for and can be had.
machine_disk_make() {
  [ -n "$machine_disk" ] && truncate -s "$machine_disk" "$machine.disk" && mkfs.ext4 -q -F "$machine.disk" 2>/dev/null \
    && mount -o loop "$machine.disk" "$machine.tmp" 2>/dev/null
}

# machine_start [NAMESPACE]: boots it, in this network namespace or else in one of its own.
machine_start() {
  local network=--private-network
  [ $# = 0 ] || network="--network-namespace-path=/run/netns/$1"
  install_packages systemd systemd-container procps >/dev/null 2>&1 || { machine_problem="there is no systemd-nspawn here"; return 1; }
  [ -x "$machine/lib/systemd/systemd" ] || { machine_problem="this machine has no systemd that could be started"; return 1; }
  machine_boot "$network" </dev/null >"$machine.console" 2>&1 &
  machine_nspawn[$machine]=$!
  # What ends by SIGKILL here does so on purpose.
  disown
  local deadline=$((SECONDS + 60))
  until machine_leader[$machine]=$(pgrep -P "${machine_nspawn[$machine]}") && machine_run systemctl is-active --quiet multi-user.target; do
    if ! kill -0 "${machine_nspawn[$machine]}" 2>/dev/null || [ "$SECONDS" -ge "$deadline" ]; then
      machine_problem="systemd does not come up in a container here: $(tail -n 1 "$machine.console" | tr -d '\r')"
      machine_stop
      return 1
    fi
    sleep 0.2
  done 2>/dev/null
}

# machine_boot NETWORK: becomes systemd-nspawn. Where a systemd runs it gives the machine control groups of its own; elsewhere
# several machines would be in one.
machine_boot() {
  local options=(--register=no "${machine_options[@]}") hierarchy
  if [ ! -d /run/systemd/system ]; then
    options+=(--keep-unit)
    for hierarchy in $(machine_hierarchies); do
      mkdir "$hierarchy/stint-${machine##*/}" 2>/dev/null || true
      printf '%s\n' "$BASHPID" 2>/dev/null >"$hierarchy/stint-${machine##*/}/cgroup.procs" || true
    done
  fi
  exec setsid systemd-nspawn "${options[@]}" --quiet --directory "$machine" --machine "${machine##*/}" "$1" --link-journal=no \
    --boot -- --unit=multi-user.target
}

# machine_hierarchies: of control groups, those that systemd makes groups in.
machine_hierarchies() {
  awk '{ for (i = 7; $i != "-"; i++); if ($(i + 1) == "cgroup2" || $NF ~ /name=systemd/) print $5 }' /proc/self/mountinfo
}

# machine_run COMMAND…: on the machine as it runs, or else among its files alone; in the folder of this repository there.
machine_run() {
  local settings=(env -i HOME=/root "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" LANG=C.UTF-8
    STINT_BIN_DIR=/opt/stint/bin STINT_CONFIG=/nonexistent)
  if [ -n "${machine_leader[$machine]:-}" ]; then
    nsenter --target "${machine_leader[$machine]}" --mount --uts --ipc --net --pid --cgroup -- \
      "${settings[@]}" /bin/bash -c 'cd /opt/stint && exec "$@"' _ "$@"
  else
    # shellcheck disable=SC2016 # The variables are the inner shell's.
    unshare --mount --propagation private --net --pid --fork /bin/bash -c '
      root=$1; shift
      mount --rbind /dev "$root/dev" && mount -t proc proc "$root/proc" && mount -t tmpfs tmpfs "$root/run" || exit 1
      exec chroot "$root" "$@"' _ "$machine" "${settings[@]}" /bin/bash -c 'cd /opt/stint && exec "$@"' _ "$@"
  fi
}

# machine_stop: shuts it down.
machine_stop() {
  local nspawn=${machine_nspawn[$machine]:-} deadline=$((SECONDS + 60))
  [ -n "$nspawn" ] || return 0
  kill "$nspawn" 2>/dev/null || true
  while kill -0 "$nspawn" 2>/dev/null; do
    [ "$SECONDS" -lt "$deadline" ] || machine_lose
    sleep 0.1
  done
  unset "machine_nspawn[$machine]" "machine_leader[$machine]"
}

# machine_lose: ends all of its processes at once, as a loss of power does.
machine_lose() {
  kill -KILL "${machine_leader[$machine]:-}" 2>/dev/null || true
  kill -KILL "${machine_nspawn[$machine]}" 2>/dev/null || true
}

# machine_remove FOLDER
machine_remove() {
  local machine="$1"
  machine_stop
  umount -R "$1" 2>/dev/null || umount -l "$1" 2>/dev/null || true
  umount "$1.tmp" 2>/dev/null || umount -l "$1.tmp" 2>/dev/null || true
  rmdir "$1" "$1.tmp" 2>/dev/null || true
  rm -f "$1.disk"
  local hierarchy
  for hierarchy in $(machine_hierarchies); do
    find "$hierarchy/stint-${1##*/}" -depth -type d -exec rmdir {} + 2>/dev/null || true
  done
}
