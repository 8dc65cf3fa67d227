#!/usr/bin/env bash
# Builds stint, starts `stint dev`, runs the pi Job and prints the 2000 places of π that its Pod wrote.
# Data on stdout, everything else on stderr. Leaves no process and no data behind.
#
# usage: deploy/quickstart.sh [--keep]
#   --keep          leave the cluster running and say how to talk to it
#   STINT_BIN_DIR   in the environment: where stint is built already; nothing is installed or built then but what the Job needs
set -euo pipefail
# Absolute: --help reads it after the change of folder.
script="$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)/$(basename -- "$0")"
# It may be relative to where the caller is.
[ -z "${STINT_BIN_DIR:-}" ] || STINT_BIN_DIR=$(realpath -- "$STINT_BIN_DIR")
cd "$(dirname -- "$script")/.."
. deploy/prerequisites.sh

keep=false
for argument in "$@"; do
  case "$argument" in
    --keep) keep=true ;;
    -h | --help) sed -n '2,7s/^# \{0,1\}//p' "$script"; exit 0 ;;
    *) say "unknown argument $argument; usage: deploy/quickstart.sh [--keep]"; exit 2 ;;
  esac
done

if [ -n "${STINT_BIN_DIR:-}" ] && [ ! -x "$STINT_BIN_DIR/stint" ]; then
  say "there is no stint in STINT_BIN_DIR=$STINT_BIN_DIR"
  exit 2
fi
# Debian 12's perl 5.36 can't compute bpi(2000) with its own Math::BigInt; this package's newer one can.
install_packages libmath-bigint-perl
if [ -n "${STINT_BIN_DIR:-}" ]; then
  stint="$STINT_BIN_DIR/stint"
else
  install_build_prerequisites
  choose_target_folder
  say "building (the first build takes about half an hour on 2 cores, most of it RocksDB)"
  cargo build --release --locked -p stint -p stint-agent >&2
  stint="${CARGO_TARGET_DIR:-target}/release/stint"
  say "stint and stint-agent are in $(dirname -- "$stint")"
fi
case "$stint" in
  /*) ;;
  *) stint="$PWD/$stint" ;;
esac

data=$(mktemp -d -t stint-quickstart.XXXXXX)
dev_pid=""
cleanup() {
  status=$?
  trap - EXIT INT TERM
  if [ -n "$dev_pid" ] && { [ "$keep" = false ] || [ "$status" -ne 0 ]; }; then
    kill -TERM "$dev_pid" 2>/dev/null || true
    wait "$dev_pid" 2>/dev/null || true
    rm -rf "$data"
  fi
  exit "$status"
}
trap cleanup EXIT INT TERM

# The ports are the system's choice, so that nothing that already runs is in the way.
if [ "$keep" = true ]; then
  # Its own session: Ctrl-C in this terminal later must not stop a cluster that is meant to stay.
  setsid "$stint" dev --data-dir "$data/dev" --listen 127.0.0.1:0 --address-file "$data/address" \
    </dev/null >"$data/dev.log" 2>&1 &
else
  "$stint" dev --data-dir "$data/dev" --listen 127.0.0.1:0 --address-file "$data/address" \
    </dev/null >"$data/dev.log" 2>&1 &
fi
dev_pid=$!
for _ in $(seq 1 300); do
  [ -s "$data/address" ] && break
  if ! kill -0 "$dev_pid" 2>/dev/null; then
    say "stint dev ended before it was ready; its log:"
    cat "$data/dev.log" >&2
    exit 1
  fi
  sleep 0.1
done
[ -s "$data/address" ] || { say "stint dev was not ready within 30 s; its log:"; cat "$data/dev.log" >&2; exit 1; }
STINT_SERVER=$(cat "$data/address")
export STINT_SERVER
say "cluster ready at $STINT_SERVER"

"$stint" apply -f deploy/examples/pi-calculator.yaml >&2
# In short steps: a cluster that has ended must not be waited for.
wait_deadline=$((SECONDS + 300))
until "$stint" wait job/pi-calculator --for finished --timeout 5s >"$data/wait.log" 2>&1; do
  if ! kill -0 "$dev_pid" 2>/dev/null; then
    say "stint dev ended before the Job had; its log:"
    cat "$data/dev.log" >&2
    exit 1
  fi
  if [ "$SECONDS" -ge "$wait_deadline" ]; then
    cat "$data/wait.log" >&2
    "$stint" get jobs,pods,events >&2 || true
    exit 1
  fi
  sleep 0.2
done
cat "$data/wait.log" >&2
"$stint" get jobs >&2
"$stint" get pods >&2
if ! "$stint" wait job/pi-calculator --for complete --timeout 1s >/dev/null 2>&1; then
  say "the Job did not complete; its Pods' log:"
  "$stint" logs job/pi-calculator >&2 || true
  exit 1
fi
say "the log of its Pod, π to 2000 places:"
"$stint" logs job/pi-calculator

if [ "$keep" = true ]; then
  say ""
  say "the cluster stays up as process $dev_pid; talk to it with:"
  say "  export STINT_SERVER=$(printf '%q' "$STINT_SERVER")"
  say "  $(printf '%q' "$stint") get jobs"
  say "end it, and remove its data, with:"
  say "  kill $dev_pid; rm -rf $(printf '%q' "$data")"
fi
