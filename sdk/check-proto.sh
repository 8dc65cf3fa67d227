#!/usr/bin/env bash
# Compares proto/stint/v1 with what clients were built from, proto/baseline.binpb, and says what would break them.
#
# usage: sdk/check-proto.sh [--accept]
#   --accept   make what there is now the baseline: once it is clear that breaking is wanted, or after additions
set -euo pipefail
cd "$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)"
buf=$PWD/typescript/node_modules/.bin/buf
baseline=$PWD/../proto/baseline.binpb
[ -x "$buf" ] || { echo "buf is not there: run npm ci in sdk/typescript" >&2; exit 2; }

case "${1:-}" in
  --accept) exec "$buf" build ../proto --exclude-source-info -o "$baseline" ;;
  "") ;;
  *) sed -n '2,5s/^# \{0,1\}//p' "$PWD/check-proto.sh" >&2; exit 2 ;;
esac

# The check itself is tried first, on a copy in which a field has another number.
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
cp -r ../proto/. "$copy"
sed -i 's/string request_id = 2;/string request_id = 3;/' "$copy/stint/v1/jobs.proto"
if "$buf" breaking "$copy" --against "$baseline" >"$copy/found" 2>&1; then
  echo "the check does not notice that a field was given another number" >&2
  exit 1
fi
grep -q 'request_id' "$copy/found" || { cat "$copy/found" >&2; exit 1; }

if ! "$buf" breaking ../proto --against "$baseline"; then
  echo "proto/stint/v1 breaks clients that are in use: change it so that it does not, or accept it by sdk/check-proto.sh --accept" >&2
  exit 1
fi
