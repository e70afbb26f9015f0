#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Runs each fuzz target of the module, or those whose names match, in turn.
# What a target finds is a file under testdata/fuzz of its package: it is
# mended, and the file committed.
#
# usage: FUZZTIME=30s [FUZZPARALLEL=WORKERS] hack/fuzz.sh [NAME PATTERN]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

: "${GO:=go}" "${FUZZTIME:=30s}" "${FUZZPARALLEL:=}"

failed=()
output=$(mktemp)
trap 'rm -f "$output"' EXIT

# A run that is at work on an input when its time is over can fail with nothing
# but the words "context deadline exceeded", for which Go is to blame.
found() { ! grep -q '^    context deadline exceeded$' "$output" || grep -qE 'Failing input|panic:' "$output"; }

while IFS=: read -r file name; do
  package=./$(dirname "$file")
  echo "=== $package $name, for $FUZZTIME"
  "$GO" test "$package" -run '^$' -fuzz "^$name\$" -fuzztime "$FUZZTIME" -fuzzminimizetime 2s ${FUZZPARALLEL:+-parallel "$FUZZPARALLEL"} 2>&1 | tee "$output" || ! found || failed+=("$name")
done < <(git grep --untracked -oE 'func Fuzz\w+\(f \*testing\.F\)' -- '*_test.go' | sed -E 's/:func (Fuzz\w+)\(.*/:\1/' | grep -E ":.*${1:-}")

if ((${#failed[@]})); then
  printf 'failed: %s\n' "${failed[@]}"
  exit 1
fi
