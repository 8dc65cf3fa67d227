#!/usr/bin/env bash
# Builds, checks and tests the clients in sdk/ against real clusters; prints the time of each part.
#
# usage: STINT_BIN_DIR=FOLDER sdk/test.sh
#   FOLDER   where stint and stint-agent are, such as target/release
# STINT_TESTS_FULL=1 in the environment: ten times as many Jobs while leaders are killed.
# Runs as root, as what it starts does; installs what it needs on Debian 12.
set -euo pipefail
# Before the change of folder: it may be relative.
STINT_BIN_DIR=$(realpath -- "${STINT_BIN_DIR:-.}")
export STINT_BIN_DIR
cd "$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)"
. ../deploy/prerequisites.sh

if [ ! -x "$STINT_BIN_DIR/stint" ] || [ ! -x "$STINT_BIN_DIR/stint-agent" ]; then
  say "STINT_BIN_DIR must name the folder of stint and stint-agent, such as target/release"
  exit 2
fi
# Tests make clients that would take these.
unset STINT_SERVER STINT_TOKEN_FILE

# major PROGRAM: its major version; nothing if it is not there.
major() { "$1" --version 2>/dev/null | sed -n 's/^[^0-9]*\([0-9]*\).*/\1/p'; }

prerequisites() {
  python3 -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 10))' 2>/dev/null \
    || install_packages python3 python3-venv
  if [ "$(major node || true)" -ge 18 ] 2>/dev/null && command -v npm >/dev/null 2>&1; then return 0; fi
  install_packages nodejs npm ca-certificates
}

# timed NAME COMMAND…: runs a part and notes its time.
timed() {
  local name="$1" begun=$SECONDS status=0
  shift
  "$@" || status=$?
  printf '%-28s %4d s  %s\n' "$name" $((SECONDS - begun)) "$([ "$status" = 0 ] && echo ok || echo FAILED)" >>"$logs/times"
  return "$status"
}

python_install() {
  [ -x .venv/bin/pip ] || python3 -m venv .venv
  PIP_CONSTRAINT=$PWD/constraints.txt .venv/bin/pip install --quiet --disable-pip-version-check -e '.[dev]'
}

python_check() {
  .venv/bin/ruff check && .venv/bin/ruff format --check && .venv/bin/mypy
}

# What is published: a source distribution that builds without the repository, and the wheel made from it.
python_package() {
  local folder
  folder=$(mktemp -d)
  PIP_CONSTRAINT=$PWD/constraints.txt .venv/bin/python -m build --outdir "$folder" . >"$folder/log" 2>&1 \
    || { cat "$folder/log"; return 1; }
  .venv/bin/python -m venv "$folder/venv"
  "$folder/venv/bin/pip" install --quiet --disable-pip-version-check -c constraints.txt "$folder"/stint-*.whl \
    || { rm -rf "$folder"; return 1; }
  (cd "$folder" && venv/bin/python -c 'import stint, stint.v1.nodes_pb2_grpc; stint.Client("127.0.0.1:1").close()') \
    || { rm -rf "$folder"; return 1; }
  rm -rf "$folder"
}

# Both halves at once: they wait more than they work. -s: what the tests of killed leaders met belongs to the record.
python_tests() {
  local half status=0
  .venv/bin/pytest -q -W error -p no:cacheprovider -s tests/test_leader_loss.py &
  half=$!
  .venv/bin/pytest -q -W error -p no:cacheprovider --ignore tests/test_leader_loss.py || status=$?
  wait "$half" || status=$?
  return "$status"
}

python_all() {
  cd python
  timed "python: install" python_install || return 1
  timed "python: ruff, mypy" python_check || return 1
  timed "python: packages" python_package || return 1
  timed "python: tests" python_tests
}

typescript_install() {
  npm ci --no-audit --no-fund --loglevel error && npm run --silent build
}

# What is published, as somebody else has it.
typescript_package() {
  local folder
  folder=$(mktemp -d)
  npm pack --ignore-scripts --silent --pack-destination "$folder" >/dev/null || { rm -rf "$folder"; return 1; }
  (cd "$folder" && echo '{"type": "module"}' >package.json \
    && npm install --no-audit --no-fund --loglevel error ./stint-*.tgz >/dev/null \
    && node -e 'import("stint").then((stint) => new stint.Client("127.0.0.1:1").close())') \
    || { rm -rf "$folder"; return 1; }
  rm -rf "$folder"
}

typescript_all() {
  cd typescript
  timed "typescript: install" typescript_install || return 1
  timed "proto: breaking changes" ../check-proto.sh || return 1
  timed "typescript: biome, tsc" npm run --silent check || return 1
  timed "typescript: package" typescript_package || return 1
  timed "typescript: tests" npm test --silent
}

logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
timed prerequisites prerequisites

# Both at once: the tests wait more than they work.
status=0
(python_all) >"$logs/python" 2>&1 &
python=$!
(typescript_all) >"$logs/typescript" 2>&1 &
typescript=$!
wait "$python" || { status=1; printf '\n==== python\n'; cat "$logs/python"; }
wait "$typescript" || { status=1; printf '\n==== typescript\n'; cat "$logs/typescript"; }
grep -h 'unknown outcomes resolved' "$logs/python" "$logs/typescript" || true
cat "$logs/times"
exit "$status"
