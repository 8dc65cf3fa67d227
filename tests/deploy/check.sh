# shellcheck shell=bash
# What the parts of tests/deploy.sh say and wait with. Sourced. No `grep -q` behind a pipe: who writes into it would fail.

# What was not run, and why.
not_run=()
not_run() { not_run+=("$1: $2"); printf 'not run: %s: %s\n' "$1" "$2"; }

# Ends of what the parts have begun, the last first; done whatever happens.
clean_ups=()
on_end() { clean_ups=("$1" "${clean_ups[@]}"); }
clean_up() {
  local command
  for command in "${clean_ups[@]}"; do eval "$command" || true; done
  clean_ups=()
}

# broken WORDS…: the test has failed.
broken() {
  printf 'FAILED: %s\n' "$*" >&2
  exit 1
}

# expect WORDS COMMAND…: it has to succeed; what it says is shown if it does not.
expect() {
  local words="$1" said
  shift
  said=$("$@" 2>&1) || { printf '%s\n' "$said" >&2; broken "$words"; }
  printf 'ok: %s\n' "$words"
}

# expect_refusal WORDS TEXT COMMAND…: it has to fail, and to say so.
expect_refusal() {
  local words="$1" text="$2" said
  shift 2
  if said=$("$@" 2>&1); then printf '%s\n' "$said" >&2; broken "$words: it was done"; fi
  grep -qF -e "$text" <<<"$said" || { printf '%s\n' "$said" >&2; broken "$words: it does not say: $text"; }
  printf 'ok: %s\n' "$words"
}

# eventually WORDS SECONDS COMMAND…: it has to succeed at some time.
eventually() {
  local words="$1" deadline=$((SECONDS + $2)) said
  shift 2
  until said=$("$@" 2>&1); do
    [ "$SECONDS" -lt "$deadline" ] || { printf '%s\n' "$said" >&2; broken "$words, within its time"; }
    sleep 0.2
  done
  printf 'ok: %s\n' "$words"
}

# same WORDS ONE OTHER
same() {
  [ "$2" = "$3" ] || { diff <(printf '%s\n' "$2") <(printf '%s\n' "$3") >&2 || true; broken "$1"; }
  printf 'ok: %s\n' "$1"
}

is_root() { [ "$(id -u)" = 0 ]; }

# page NAME: the commands of deploy/README.md that stand below the mark <!-- tested: NAME -->.
page() {
  local commands
  commands=$(awk -v mark="<!-- tested: $1 -->" '
    $0 == mark { found = 1; next }
    found && /^```/ { if (inside) exit; inside = 1; next }
    inside { print }' deploy/README.md)
  [ -n "$commands" ] || broken "deploy/README.md has no commands marked $1"
  printf '%s\n' "$commands"
}

# job_is NAME CONDITION: by `stint` with the environment that there is.
job_is() { stint wait "job/$1" --for "$2" --timeout 1s; }
