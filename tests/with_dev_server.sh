#!/usr/bin/env bash
# Runs a command while there is a cluster for it: one server and one node, in folders of their own.
#
# usage: tests/with_dev_server.sh COMMAND [ARGUMENT…]
#   STINT_BIN_DIR   where stint is; else the release folder of cargo's target folder
# The command finds the server in STINT_SERVER and STINT_EXAMPLES_SERVER. Runs as root, as what it starts does.
set -euo pipefail

[ $# -gt 0 ] || { sed -n '2,6s/^# \{0,1\}//p' "$0" >&2; exit 2; }
root="$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)"
bin_dir="${STINT_BIN_DIR:-${CARGO_TARGET_DIR:-$root/target}/release}"
[ -x "$bin_dir/stint" ] || { printf '%s\n' "there is no stint in $bin_dir: cargo build --release -p stint" >&2; exit 2; }

folder="$(mktemp -d)"
# Pods are users of their own.
chmod 755 "$folder"
server=
finish() {
  if [ -n "$server" ]; then
    kill "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
  fi
  rm -rf "$folder"
}
trap finish EXIT

"$bin_dir/stint" dev --listen 127.0.0.1:0 --data-dir "$folder/data" --address-file "$folder/address" \
  >"$folder/log" 2>&1 &
server=$!
for _ in $(seq 600); do
  [ -e "$folder/address" ] && break
  kill -0 "$server" 2>/dev/null || break
  sleep 0.1
done
if [ ! -e "$folder/address" ]; then
  printf '%s\n' "stint dev did not become ready:" >&2
  cat "$folder/log" >&2
  exit 1
fi
STINT_SERVER="$(cat "$folder/address")"
STINT_EXAMPLES_SERVER="$STINT_SERVER"
export STINT_SERVER STINT_EXAMPLES_SERVER
unset STINT_TOKEN_FILE
"$@"
