#!/usr/bin/env bash
# What operators do, on real processes: a cluster on one machine, installation, units, packages, containers. What a machine does
# not allow is not run, and said at the end.
#
# usage: STINT_BIN_DIR=FOLDER tests/deploy.sh [--full] [PART…]
#   FOLDER   where stint and stint-agent are, such as target/release
#   --full   also what takes minutes: several machines, packages and containers (so does STINT_TESTS_FULL=1)
#   PART     scripts units cluster loopback install systemd day machines packages compose; all of them if none is named
# Parts that need root say so where it is missing.
set -Eeuo pipefail
STINT_BIN_DIR=$(realpath -- "${STINT_BIN_DIR:-.}")
export STINT_BIN_DIR PATH="$STINT_BIN_DIR:$PATH"
cd "$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)"
. deploy/prerequisites.sh
for part in check machine scripts cluster install systemd machines day_record day packages compose; do
  # shellcheck source=/dev/null
  . "tests/deploy/$part.sh"
done

full=${STINT_TESTS_FULL:+true}
parts=()
for argument in "$@"; do
  case "$argument" in
    --full) full=true ;;
    scripts | units | cluster | loopback | install | systemd | day | machines | packages | compose) parts+=("$argument") ;;
    *) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//p}' tests/deploy.sh >&2; exit 2 ;;
  esac
done
if [ ! -x "$STINT_BIN_DIR/stint" ] || [ ! -x "$STINT_BIN_DIR/stint-agent" ]; then
  say "STINT_BIN_DIR must name the folder of stint and stint-agent, such as target/release"
  exit 2
fi
# None of what somebody has set for his own cluster.
for name in "${!STINT_@}"; do
  case "$name" in
    STINT_BIN_DIR | STINT_TESTS_*) ;;
    *) unset "$name" ;;
  esac
done

work=$(mktemp -d)
# Processes of Pods are users of their own, and so is who has no rights.
chmod 755 "$work"
finish() {
  local status=$?
  trap - EXIT INT TERM
  clean_up
  rm -rf "$work"
  exit "$status"
}
trap finish EXIT INT TERM
# Nothing fails without a word.
trap 'printf "FAILED: %s, line %s: %s\n" "${BASH_SOURCE[0]}" "$LINENO" "$BASH_COMMAND" >&2' ERR

if [ ${#parts[@]} = 0 ]; then
  parts=(scripts units cluster loopback install systemd day)
  if [ "${full:-}" = true ]; then
    parts+=(machines packages compose)
  else
    not_run machines "they take minutes: tests/deploy.sh --full"
    not_run packages "they take minutes: tests/deploy.sh --full"
    not_run compose "it takes minutes: tests/deploy.sh --full"
  fi
fi
times=()
for part in "${parts[@]}"; do
  begun=$SECONDS
  printf '\n-- %s\n' "$part"
  # Not behind || or if: -e would not count in it.
  "part_$part"
  times+=("$(printf '%-12s %4d s' "$part" $((SECONDS - begun)))")
done
printf '\n'
printf '%s\n' "${times[@]}"
# shellcheck disable=SC2154 # It is set by check.sh.
if [ ${#not_run[@]} -gt 0 ]; then
  printf '\n'
  printf 'not run: %s\n' "${not_run[@]}"
fi
