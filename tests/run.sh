#!/usr/bin/env bash
# Installs what the tests need on Debian 12 and runs them all; prints the time of each stage.
#
# usage: tests/run.sh [--full]
#   --full   also the long runs: many faults, large loads
set -euo pipefail
# Absolute: --help reads it after the change of folder.
script="$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)/$(basename -- "$0")"
cd "$(dirname -- "$script")/.."
. deploy/prerequisites.sh

full=false
for argument in "$@"; do
  case "$argument" in
    --full) full=true ;;
    -h | --help) sed -n '2,5s/^# \{0,1\}//p' "$script"; exit 0 ;;
    *) say "unknown argument $argument; usage: tests/run.sh [--full]"; exit 2 ;;
  esac
done

stage_times=()
# stage NAME COMMAND…: runs one stage and keeps its time.
stage() {
  local name="$1" begun=$SECONDS status=0
  shift
  printf '\n==== %s\n' "$name"
  "$@" || status=$?
  stage_times+=("$(printf '%-32s %4d s  %s' "$name" $((SECONDS - begun)) "$([ "$status" = 0 ] && echo ok || echo FAILED)")")
  if [ "$status" != 0 ]; then
    print_times
    exit "$status"
  fi
}
print_times() {
  printf '\n==== time of each stage\n'
  printf '%s\n' "${stage_times[@]}"
}

prerequisites() {
  install_build_prerequisites rustfmt clippy
  # What the end-to-end tests use: Jobs in perl, network namespaces, a program that is a whole image.
  install_packages libmath-bigint-perl iproute2 procps busybox-static
  # Networks of Pods' own, on the engine.
  install_packages containernetworking-plugins
  # A container engine, unless there is one; its tests run another instance of it, with folders and a socket of its own.
  command -v containerd >/dev/null 2>&1 || install_packages containerd runc
}
# Crates that never link RocksDB: with debug assertions and overflow checks.
readonly PURE=(-p stint-api -p stint-core -p stint-lease -p stint-logs -p stint-proto -p stint-kube -p stint-runtime -p stint-client)

# Each example in the documentation, and those that the README shows, on a real cluster.
rust_examples() {
  tests/with_dev_server.sh cargo test --locked --doc -p stint-client || return 1
  local example
  for example in squares watching unknown_outcome; do
    tests/with_dev_server.sh cargo run --quiet --locked -p stint-client --example "$example" || return 1
  done
}

# Not through `stage`: what it sets must stay set.
begun=$SECONDS
prerequisites
choose_target_folder
stage_times+=("$(printf '%-32s %4d s  ok' prerequisites $((SECONDS - begun)))")

stage format cargo fmt --all --check
stage "build (release)" cargo build --release --locked -p stint -p stint-agent
# Not all features of all crates at once: they would be unified, down to what RocksDB is built with, and it would be built twice.
stage clippy cargo clippy --release --locked --workspace --all-targets --features stint-raft/rocksdb -- -D warnings
stage "clippy (every runtime)" cargo clippy --release --locked -p stint-runtime -p stint-agent --all-targets --all-features -- -D warnings
if [ "$full" = true ]; then
  export STINT_TESTS_FULL=1
fi
stage "unit and property (pure)" cargo test --locked "${PURE[@]}" --features stint-runtime/cri,stint-runtime/oci,stint-logs/archive
stage "storage, replication, services" cargo test --release --locked -p stint-daemon -p stint-raft -p stint-server -p stint-agent --features stint-raft/rocksdb
# One at a time: some of them measure how long a recovery takes.
stage "end to end" cargo test --release --locked -p stint-tests -p stint -- --test-threads 1
stage "examples (Rust)" rust_examples
stage "clients" env STINT_BIN_DIR="${CARGO_TARGET_DIR:-target}/release" sdk/test.sh
stage "deployment" env STINT_BIN_DIR="${CARGO_TARGET_DIR:-target}/release" tests/deploy.sh
if [ "$full" = true ]; then
  stage "build (figures)" cargo build --release --locked -p stint-bench
  for measurement in cluster client isolation memory; do
    stage "figures: $measurement" "${CARGO_TARGET_DIR:-target}/release/stint-bench" "$measurement"
  done
fi
print_times
