#!/usr/bin/env bash
# Installs what building stint needs on Debian 12: a C++ toolchain and libclang (RocksDB), perl, and cargo by rustup.
# Sourced by the other scripts, which share its helpers; does nothing where everything is there.

# Oldest Rust that builds stint; the same as rust-version in Cargo.toml.
readonly RUST_VERSION_MIN="1.89"

# Services and containers may have none; cargo and rustup need one.
if [ -z "${HOME:-}" ]; then
  HOME=$(getent passwd "$(id -u)" 2>/dev/null | cut -d: -f6 || true)
  export HOME="${HOME:-/}"
fi

say() { printf '%s\n' "$*" >&2; }

# unmount_below FOLDER: what is mounted in it, the innermost first. A Pod's view of the host is, for one: whoever removed the folder
# without this would remove files of the host. Fails if something stays.
unmount_below() {
  local point
  while read -r _ _ _ _ point _; do
    # The kernel writes spaces and the like in octal.
    point=$(printf '%b' "$point")
    case "$point" in "$1"/*) printf '%s\0' "$point" ;; esac
  done </proc/self/mountinfo | sort -rz | xargs -0r -n 1 umount -l --
}

# install_packages NAME…: installs Debian packages that are missing.
install_packages() {
  local missing=() package
  for package in "$@"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] && return 0
  if ! command -v apt-get >/dev/null 2>&1 || [ "$(id -u)" != 0 ]; then
    say "missing packages: ${missing[*]}; install them (on Debian, as root: apt-get install ${missing[*]}) and run this again"
    return 1
  fi
  say "installing ${missing[*]}"
  apt-get update -qq >&2 || true
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
}

# version_at_least HAVE WANT: compares dotted versions.
version_at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }

# use_cargo_home: puts what rustup has installed on PATH, for this script only.
use_cargo_home() {
  local programs="${CARGO_HOME:-$HOME/.cargo}/bin"
  case ":$PATH:" in
    *":$programs:"*) ;;
    *) [ ! -d "$programs" ] || export PATH="$programs:$PATH" ;;
  esac
}

# install_rust: makes sure that a cargo of at least RUST_VERSION_MIN is on PATH.
install_rust() {
  use_cargo_home
  local have=""
  if command -v rustc >/dev/null 2>&1 && command -v cargo >/dev/null 2>&1; then
    have=$(rustc --version 2>/dev/null | awk '{print $2}')
    if [ -n "$have" ] && version_at_least "$have" "$RUST_VERSION_MIN"; then
      return 0
    fi
  fi
  say "rust ${have:-is missing}: installing a toolchain of at least $RUST_VERSION_MIN by rustup"
  install_packages ca-certificates curl || return 1
  if command -v rustup >/dev/null 2>&1 && rustup toolchain install stable --profile minimal -c rustfmt -c clippy >&2; then
    export RUSTUP_TOOLCHAIN=stable
  elif ! curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs \
    | sh -s -- -y --no-modify-path --profile minimal -c rustfmt -c clippy >&2; then
    say "rustup can't be had here: install Rust $RUST_VERSION_MIN or newer (rustc, cargo, rustfmt, clippy) and run this again"
    return 1
  fi
  use_cargo_home
  command -v cargo >/dev/null 2>&1
}

# install_components NAME…: makes sure that cargo has rustfmt or clippy.
install_components() {
  local component command
  for component in "$@"; do
    case "$component" in
      rustfmt) command=fmt ;;
      *) command="$component" ;;
    esac
    cargo "$command" --version >/dev/null 2>&1 && continue
    if command -v rustup >/dev/null 2>&1 && rustup component add "$component" >&2; then
      cargo "$command" --version >/dev/null 2>&1 && continue
    fi
    say "cargo has no $component: install it (rustup component add $component, or the package of your Rust) and run this again"
    return 1
  done
}

# install_build_prerequisites [COMPONENT…]: everything that `cargo build` needs, and these components of Rust.
install_build_prerequisites() {
  install_packages g++ libclang-dev perl ca-certificates || return 1
  install_rust || return 1
  install_components "$@"
}

# choose_target_folder: keeps build outputs outside the clone where the user has such a folder.
choose_target_folder() {
  local cache="${XDG_CACHE_HOME:-$HOME/.cache}/stint/target"
  if [ -z "${CARGO_TARGET_DIR:-}" ] && [ -d "$cache" ]; then
    export CARGO_TARGET_DIR="$cache"
  fi
}
