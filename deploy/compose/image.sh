#!/usr/bin/env bash
# Makes the image of deploy/compose out of programs that are built.
#
# usage: deploy/compose/image.sh [--binaries DIR] [--tag NAME] [--base IMAGE]
#   --binaries DIR   where stint and stint-agent are; by default $STINT_BIN_DIR, or else cargo's release folder
#   --tag NAME       what the image is called; stint by default
#   --base IMAGE     what it is made from, a Debian 12 or newer; debian:bookworm-slim by default
# The engine is the one that `docker` speaks to.
set -euo pipefail
script="$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)/$(basename -- "$0")"
source="$(dirname -- "$script")"
root="$(dirname -- "$(dirname -- "$source")")"
. "$root/deploy/prerequisites.sh"

binaries="" tag=stint base=debian:bookworm-slim
while [ $# -gt 0 ]; do
  case "$1" in
    --binaries) binaries=${2:?--binaries needs a value}; shift ;;
    --tag) tag=${2:?--tag needs a value}; shift ;;
    --base) base=${2:?--base needs a value}; shift ;;
    -h | --help) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//p}' "$script"; exit 0 ;;
    *) say "unknown argument $1; see deploy/compose/image.sh --help"; exit 2 ;;
  esac
  shift
done
choose_target_folder
binaries=${binaries:-${STINT_BIN_DIR:-${CARGO_TARGET_DIR:-$root/target}/release}}

# The folder of the programs alone: cargo's is some gigabytes.
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for program in stint stint-agent; do
  [ -x "$binaries/$program" ] || { say "there is no $program in $binaries: cargo build --release -p $program"; exit 1; }
  strip -o "$folder/$program" "$binaries/$program" 2>/dev/null || cp "$binaries/$program" "$folder"
done
chmod 755 "$folder"/*
docker build --quiet --tag "$tag" --build-arg "BASE=$base" --file "$source/Dockerfile" "$folder"
