#!/bin/bash
# Records the runs in this folder anew: each `$ ` line of each .txt is executed in order, in one shell a file, against a
# fresh `stint dev`; what it writes to stdout and stderr replaces the lines below it. Lines that begin with `#` stay.
#
#   crates/cli/docs/record.sh [STINT [FILE.txt …]]     STINT: the binary, default target/release/stint
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
stint=$(realpath "${1:-$here/../../../target/release/stint}")
shift || true
files=("$@")
[ ${#files[@]} -gt 0 ] || files=("$here"/*.txt)

record() {
  local file=$1 folder server=127.0.0.1:17440 pid line shown before=nothing
  # Always the same folder and port, so that two recordings differ in what the commands say alone.
  folder=/tmp/stint-record
  mkdir "$folder"
  trap 'rm -rf /tmp/stint-record' EXIT
  ln -s "$stint" "$folder/stint"
  "$stint" dev --data-dir "$folder/data" --listen "$server" --address-file "$folder/address" 2>"$folder/dev.stderr" &
  pid=$!
  for _ in $(seq 600); do [ -e "$folder/address" ] && break; kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
  [ -e "$folder/address" ] || { cat "$folder/dev.stderr" >&2; exit 1; }
  mkdir "$folder/home"
  # One shell for the whole file: variables and folders of one command are there for the next.
  coproc SHELL_OF_FILE {
    cd "$folder/home" && exec env -i PATH="$folder:/usr/bin:/bin" HOME="$folder/home" TERM=dumb LANG=C.UTF-8 \
      STINT_SERVER="$server" bash --norc --noprofile 2>&1
  }
  local input=${SHELL_OF_FILE[1]} output=${SHELL_OF_FILE[0]}
  while IFS= read -r line || [ -n "$line" ]; do
    case $line in
      '#'*)
        [ "$before" = comment ] || [ "$before" = nothing ] || echo
        before=comment
        printf '%s\n' "$line" ;;
      '$ '*)
        [ "$before" = nothing ] || echo
        before=command
        printf '%s\n' "$line"
        printf '{ %s\n} </dev/null\necho "::end $?::"\n' "${line#\$ }" >&"$input"
        while IFS= read -r shown <&"$output"; do
          case $shown in
            *'::end 0::') [ -z "${shown%::end 0::}" ] || printf '%s\n' "${shown%::end 0::}"; break ;;
            *'::end '*'::') shown=${shown#*::end }; printf '(exit code %s)\n' "${shown%::}"; break ;;
            *) printf '%s\n' "$shown" ;;
          esac
        done ;;
      # What an earlier recording wrote, and lines between.
      *) ;;
    esac
  done <"$file" >"$folder/recorded"
  exec {input}>&-
  wait "$SHELL_OF_FILE_PID" 2>/dev/null || true
  kill -INT "$pid" && wait "$pid" || true
  mv "$folder/recorded" "$file"
  rm -rf "$folder"
}

for file in "${files[@]}"; do record "$file"; done
