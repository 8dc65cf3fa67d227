#!/usr/bin/env bash
# Installs a server or an agent of stint on this machine: program, user, folders, settings, systemd unit. Done again, it puts
# right what is not as it should be, and leaves the rest alone; each thing that it does is said. Settings, the token and data that
# are there are never replaced, except by what is named here. Needs root.
#
# usage: deploy/install.sh server|agent [OPTIONS]
#   --binary FILE       the program, stint or stint-agent; by default that of $STINT_BIN_DIR, or else of cargo's release folder
#   --config FILE       settings that become /etc/stint/server.toml or agent.toml; by default those of deploy/config, to be edited
#   --token-file FILE   the cluster's token, which becomes /etc/stint/token
#   --start             enable the unit, and start it; restart it if something has changed
#   --root DIR          install into the folder of another system, such as an image; nothing is started
#   --uninstall         stop it, and remove program and unit
#   --purge             with --uninstall: also its settings, ITS DATA, and user and token if nothing else needs them
set -euo pipefail
script="$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)/$(basename -- "$0")"
source="$(dirname -- "$script")"
. "$source/prerequisites.sh"

fail() { say "$*"; exit 1; }
usage() { say "$*; see deploy/install.sh --help"; exit 2; }

role="" binary="" config="" token="" root="" start=false uninstall=false purge=false
while [ $# -gt 0 ]; do
  case "$1" in
    --binary | --config | --token-file | --root) [ $# -ge 2 ] || usage "$1 needs a value" ;;
  esac
  case "$1" in
    server | agent) [ -z "$role" ] || usage "one of server and agent at a time"; role=$1 ;;
    --binary) binary=$2; shift ;;
    --config) config=$2; shift ;;
    --token-file) token=$2; shift ;;
    --root) root=$(CDPATH='' cd -- "$2" && pwd -P); shift ;;
    --start) start=true ;;
    --uninstall) uninstall=true ;;
    --purge) purge=true ;;
    -h | --help) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//p}' "$script"; exit 0 ;;
    *) usage "unknown argument $1" ;;
  esac
  shift
done
[ "$root" != / ] || root=""
case "$role" in
  server) other=agent program=stint unit=stint-server data=/var/lib/stint ;;
  agent) other=server program=stint-agent unit=stint-agent data=/var/lib/stint-agent ;;
  *) usage "server or agent is missing" ;;
esac
[ "$purge" = false ] || [ "$uninstall" = true ] || usage "--purge goes with --uninstall"
[ "$(id -u)" = 0 ] || [ -n "$root" ] || fail "only root can install $program here: sudo deploy/install.sh, or name a folder by --root"

settings="/etc/stint/$role.toml" token_path=/etc/stint/token
program_path="/usr/local/bin/$program" unit_path="/etc/systemd/system/$unit.service"
# Whether something that runs has to be told.
changed=false

# Whether systemd runs here and is the one that is meant.
has_systemd() { [ -z "$root" ] && [ -d /run/systemd/system ] && command -v systemctl >/dev/null 2>&1; }

# has_entry FILE NAME: whether there is such a user or group.
has_entry() { grep -qs "^$2:" "$root/etc/$1"; }
# owner OWNER PATH…: on another system owners are known by its own files; who is not root owns all of it.
owner() {
  local user="$1" group="$2" path="$root$3" uid=0 gid=0
  [ "$(id -u)" = 0 ] || return 0
  [ "$user" = root ] || uid=$(awk -F: -v name="$user" '$1 == name { print $3 }' "$root/etc/passwd" 2>/dev/null || true)
  [ "$group" = root ] || gid=$(awk -F: -v name="$group" '$1 == name { print $3 }' "$root/etc/group" 2>/dev/null || true)
  chown "${uid:-0}:${gid:-0}" "$path"
}

# What is half made is no use to anybody: interrupted, it goes.
half_made=()
remove_half_made() { [ ${#half_made[@]} = 0 ] || rm -f -- "${half_made[@]}"; }
trap remove_half_made EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# put MODE OWNER GROUP SOURCE TARGET: a file, as a whole or not at all; what is the same stays.
put() {
  local mode="$1" user="$2" group="$3" from="$4" to="$5"
  if cmp -s "$from" "$root$to"; then
    say "as it should be: $to"
  else
    half_made+=("$root$to.new")
    install -D -m "$mode" "$from" "$root$to.new"
    mv "$root$to.new" "$root$to"
    changed=true
    say "installed: $to"
  fi
  chmod "$mode" "$root$to"
  owner "$user" "$group" "$to"
}

# folder MODE OWNER GROUP PATH
folder() {
  [ -d "$root$4" ] || { (umask 022 && mkdir -p "$root$4") && say "made: $4"; }
  chmod "$1" "$root$4"
  owner "$2" "$3" "$4"
}

make_user() {
  [ "$role" = server ] || return 0
  if has_entry passwd stint; then
    say "as it should be: user stint"
  elif [ "$(id -u)" != 0 ] || [ ! -f "$root/etc/passwd" ]; then
    say "not made: user stint, whom the server runs as; there: useradd --system --home-dir $data --shell /usr/sbin/nologin stint"
  else
    useradd ${root:+--prefix "$root"} --system --user-group --no-create-home --home-dir "$data" --shell /usr/sbin/nologin stint
    say "made: user stint"
  fi
}

install_all() {
  if [ -z "$binary" ]; then
    choose_target_folder
    binary="${STINT_BIN_DIR:-${CARGO_TARGET_DIR:-$(dirname -- "$source")/target}/release}/$program"
  fi
  local file
  for file in "$binary" ${config:+"$config"} ${token:+"$token"}; do [ -f "$file" ] || fail "there is no file $file"; done
  [ -x "$binary" ] || fail "$binary is not a program"
  make_user
  folder 755 root root /etc/stint
  if [ "$role" = server ]; then folder 700 stint stint "$data"; else folder 700 root root "$data"; fi
  put 755 root root "$binary" "$program_path"
  if [ -n "$config" ]; then
    put 644 root root "$config" "$settings"
  elif [ -f "$root$settings" ]; then
    say "left as it is: $settings"
  else
    put 644 root root "$source/config/$role.toml" "$settings"
  fi
  # An agent reads it as root, a server as its own user.
  if [ -n "$token" ]; then
    put 640 root stint "$token" "$token_path"
  elif [ -f "$root$token_path" ]; then
    owner root stint "$token_path"
    chmod 640 "$root$token_path"
  fi
  local unit_text
  unit_text=$(mktemp)
  half_made+=("$unit_text")
  sed 's|^ExecStart=/usr/bin/|ExecStart=/usr/local/bin/|' "$source/systemd/$unit.service" >"$unit_text"
  put 644 root root "$unit_text" "$unit_path"
  if ! has_systemd; then
    say "no systemd here: the unit is in place, and nothing was started"
    return 0
  fi
  systemctl daemon-reload
  if [ "$start" = false ]; then
    say "next: edit $settings, then systemctl enable --now $unit"
    return 0
  fi
  systemctl --quiet enable "$unit"
  if ! systemctl --quiet is-active "$unit"; then
    systemctl start "$unit"
    say "started: $unit"
  elif [ "$changed" = true ]; then
    systemctl restart "$unit"
    say "restarted: $unit"
  else
    say "runs: $unit"
  fi
}

# drop PATH…: removes what is there.
drop() {
  local path
  for path in "$@"; do
    [ -e "$root$path" ] || [ -L "$root$path" ] || continue
    if rm -rf -- "$root$path" 2>/dev/null; then
      say "removed: $path"
    elif [ -d "$root$path" ] && [ -z "$(ls -A "$root$path")" ]; then
      say "emptied, as it is a disk of its own: $path"
    else
      fail "$root$path can't be removed as a whole: see what is left of it, and try again"
    fi
  done
}

uninstall_all() {
  if has_systemd && [ -f "$unit_path" ]; then
    systemctl --quiet disable --now "$unit" || true
    say "stopped: $unit"
  fi
  # Also what an installation that was killed has left.
  drop "$program_path" "$unit_path" "$program_path.new" "$unit_path.new"
  ! has_systemd || systemctl daemon-reload
  if [ "$purge" = false ]; then
    say "left: $settings and $data (--purge removes them)"
    return 0
  fi
  unmount_below "$root$data" || fail "$root$data has mounts that can't be taken away: nothing of it was removed"
  drop "$settings" "$settings.new" "/etc/stint/$role.env" "$data"
  [ -e "$root/etc/stint/$other.toml" ] || drop "$token_path" "$token_path.new"
  if [ -d "$root/etc/stint" ] && [ -z "$(ls -A "$root/etc/stint")" ]; then drop /etc/stint; fi
  if [ "$role" = server ] && has_entry passwd stint && [ "$(id -u)" = 0 ]; then
    # The agent's, which reads it as root. Its group will be that of somebody else one day.
    if [ -f "$root$token_path" ]; then
      chmod 600 "$root$token_path"
      owner root root "$token_path"
    fi
    userdel ${root:+--prefix "$root"} stint
    ! has_entry group stint || groupdel ${root:+--prefix "$root"} stint
    say "removed: user stint"
  fi
}

if [ "$uninstall" = true ]; then uninstall_all; else install_all; fi
