#!/usr/bin/env bash
# Makes the Debian packages stint and stint-agent of binaries that are built, by cargo-deb, and prints where they are.
#
# usage: deploy/packages.sh [--binaries DIR] [--out DIR] [--fast]
#   --binaries DIR   where stint and stint-agent are; by default $STINT_BIN_DIR, or else cargo's release folder
#   --out DIR        where the packages go; by default the folder debian beside it
#   --fast           compress less, for packages that are thrown away
# cargo-deb is installed, into the folder of caches, if cargo has it not: that is a build of some minutes.
set -euo pipefail
script="$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)/$(basename -- "$0")"
root="$(dirname -- "$(dirname -- "$script")")"
. "$root/deploy/prerequisites.sh"

# Packages are to be the same next year.
readonly CARGO_DEB_VERSION=3.8.0

binaries="" out="" fast=""
while [ $# -gt 0 ]; do
  case "$1" in
    --binaries) binaries=${2:?--binaries needs a value}; shift ;;
    --out) out=${2:?--out needs a value}; shift ;;
    --fast) fast=--fast ;;
    -h | --help) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//p}' "$script"; exit 0 ;;
    *) say "unknown argument $1; see deploy/packages.sh --help"; exit 2 ;;
  esac
  shift
done
use_cargo_home
choose_target_folder
binaries=$(realpath -- "${binaries:-${STINT_BIN_DIR:-${CARGO_TARGET_DIR:-$root/target}/release}}")
out=$(realpath -m -- "${out:-$binaries/../debian}")
for program in stint stint-agent; do
  [ -x "$binaries/$program" ] || { say "there is no $program in $binaries: cargo build --release -p $program"; exit 1; }
done
# Which packages of libraries the programs need is found by dpkg-shlibdeps.
install_packages dpkg-dev

tools="${XDG_CACHE_HOME:-$HOME/.cache}/stint/tools"
cargo_deb="$tools/bin/cargo-deb"
if [ "$("$cargo_deb" --version 2>/dev/null | awk '{ print $NF }')" != "$CARGO_DEB_VERSION" ]; then
  say "building cargo-deb $CARGO_DEB_VERSION"
  cargo install --quiet --locked --root "$tools" --version "$CARGO_DEB_VERSION" cargo-deb >&2
fi

# A folder as cargo would have it: these binaries, and what one of them says of itself.
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir -p "$folder/release/package/man" "$out"
cp "$binaries/stint" "$binaries/stint-agent" "$folder/release"
"$binaries/stint" man --out "$folder/release/package/man" >/dev/null 2>&1
gzip -9n "$folder/release/package/man/"*.1
for shell in bash:stint.bash zsh:_stint fish:stint.fish; do
  # It names the program by the path that it was started by.
  "$binaries/stint" completion "${shell%%:*}" | sed "s|$binaries/stint|/usr/bin/stint|g" >"$folder/release/package/${shell##*:}"
done

# The same binaries of the same commit make the same package.
SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-$(git -C "$root" log -1 --format=%ct 2>/dev/null || echo 0)}"
export SOURCE_DATE_EPOCH
for package in stint stint-agent; do
  # shellcheck disable=SC2086 # Nothing, or one flag.
  (cd "$root" && CARGO_TARGET_DIR="$folder" "$cargo_deb" --quiet --no-build --strip $fast --package "$package" --output "$out")
done
