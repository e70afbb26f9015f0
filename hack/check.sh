#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Runs the named checks, or all of them, each under a header; goes on after a
# failure, and closes with a count of checks and Go tests.
#
# usage: hack/check.sh [format|vet|lint|modules|generated|shell|gotest]...
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

: "${GO:=go}" "${TEST_PACKAGES:=./...}" "${TEST_TIMEOUT:=40m}"
# How many test packages run at once: one more than there are cores, as some wait more
# than they compute. hack/run-test.sh gives priority to test/e2e/capi.
: "${TEST_PROCESSES:=$(($(getconf _NPROCESSORS_ONLN) + 1))}"
# GOGC of `go test`, of which hack/run-test.sh frees the tests: a linker that collects
# garbage less often takes a quarter less processor time and a tenth more memory, and some
# seventy test binaries link much of Kubernetes.
: "${BUILD_GOGC:=400}"

# The packages that take longest, which go test starts first.
longest=(test/e2e/capi test/robustness/faults pkg/metal/observation test/robustness/outage test/performance/load pkg/controller
  pkg/apiserver/testserver test/e2e/tenancy hack/run test/e2e/upgrade test/e2e/replicas test/e2e/operations test/e2e/kubectl test/e2e/ledger
  test/e2e/contract test/e2e/chart test/e2e/garbagecollection test/e2e/api test/e2e/deploy pkg/apiserver pkg/allocation pkg/storage test/robustness/floods)

# All files of the tree that match a pattern, tracked or about to be.
files() { git ls-files --cached --others --exclude-standard -- "$@" | sort -u | while read -r f; do [[ -f $f ]] && echo "$f"; done; }

check_format() {
  local unformatted
  unformatted=$(files '*.go' | xargs gofmt -l) || return 1
  [[ -z $unformatted ]] || { echo "run gofmt -w on:"; echo "$unformatted"; return 1; }
  check_boilerplate
}

# What is written by hand begins with the licence's header; generated code gets it
# from its generators.
check_boilerplate() {
  local file header missing=0
  while read -r file; do
    header=$(<"hack/boilerplate/boilerplate.${file##*.}.txt")
    head -n 5 "$file" | grep -qxF -- "$header" || { echo "$file: no header; put hack/boilerplate/boilerplate.${file##*.}.txt at its top"; missing=1; }
  done < <(files '*.go' '*.sh' | grep -v '^generated/')
  return $missing
}

# Modules beside the main one that have code of ours.
readonly modules=(hack/release)

check_vet() {
  local dir failed=0
  for dir in . "${modules[@]}"; do "$GO" -C "$dir" vet ./... || failed=1; done
  return $failed
}

# What is checked, and what is not, is in .golangci.yml.
check_lint() {
  local dir failed=0
  make -s bin/golangci-lint || return 1
  for dir in . "${modules[@]}"; do (cd "$dir" && "$OLDPWD/bin/golangci-lint" run --config "$OLDPWD/.golangci.yml") || failed=1; done
  return $failed
}

check_modules() {
  local dir job jobs=() failed=0
  for dir in . "${modules[@]}" hack/tools hack/controlplane hack/capi hack/helm; do
    check_module "$dir" &
    jobs+=($!)
  done
  for job in "${jobs[@]}"; do wait "$job" || failed=1; done
  return $failed
}

check_module() {
  local failed=0
  "$GO" -C "$1" mod tidy -diff || { echo "run: go -C $1 mod tidy"; failed=1; }
  "$GO" -C "$1" mod verify || failed=1
  return $failed
}

check_generated() { hack/verify-codegen.sh; }

check_shell() {
  local script failed=0
  while read -r script; do
    bash -n "$script" || failed=1
    head -n 15 "$script" | grep -q '^set -.*u' || { echo "$script: no 'set -u' at its top"; failed=1; }
  done < <(files '*.sh' .ci/run)
  return $failed
}

# The packages to test, in the order in which they are to start.
test_packages() {
  local all module
  # shellcheck disable=SC2086
  all=$("$GO" list $TEST_PACKAGES) && module=$("$GO" list -m) || return 1
  { for package in "${longest[@]}"; do grep -x "$module/$package" <<<"$all"; done; echo "$all"; } | awk '!seen[$0]++'
}

# Where the time went, so that whoever reads the output of CI sees it.
slowest_packages() {
  echo "slowest packages, in seconds:"
  grep -E '"Action":"(pass|fail)","Package":"[^"]*","Elapsed"' .cache/test.json |
    sed -E 's/.*"Package":"([^"]*)","Elapsed":([0-9.]+).*/\2 \1/' | sort -rn | head -n 12
}

# go_test MODULE ARGUMENT...: go test in a module's directory, its events in .cache/events.
go_test() {
  # gotestsum takes an event that it does not know for the end of a test, and
  # forgets what the test printed before, such as why it failed.
  # shellcheck disable=SC2016
  bin/gotestsum --format pkgname --hide-summary=skipped --jsonfile ".cache/events/module-${1//\//-}.json" --raw-command -- \
    env GOGC="$BUILD_GOGC" bash -o pipefail -c '"$0" -C "$1" test -json "${@:2}" | grep --line-buffered -vF "\"Action\":\"artifacts\""' "$GO" "$@"
}

check_gotest() {
  local race=-race
  if ! command -v "$("$GO" env CC)" >/dev/null || [[ $("$GO" env CGO_ENABLED) != 1 ]]; then
    echo "WARNING: no C compiler: the race detector is off"
    race=
  fi
  echo "building the test runner, a Kubernetes control plane, Cluster API, helm and what releases are made by, once"
  make -s bin/gotestsum controlplane capi helm bin/release || return 1
  local packages
  packages=$(test_packages) || return 1
  rm -rf .cache/artifacts .cache/events .cache/test.json
  mkdir -p .cache/artifacts .cache/events
  local result=0 dir job jobs=() flags=(-exec "'$PWD/hack/run-test.sh'" -vet=off -shuffle=on -timeout "$TEST_TIMEOUT")
  if [[ $TEST_PACKAGES == ./... ]]; then
    # Beside those of the main module, whose last packages leave processors idle.
    for dir in "${modules[@]}"; do
      # shellcheck disable=SC2086
      go_test "$dir" $race -p 1 "${flags[@]}" ./... &
      jobs+=($!)
    done
  fi
  # shellcheck disable=SC2086
  go_test . $race -p "$TEST_PROCESSES" "${flags[@]}" -artifacts -outputdir "$PWD/.cache/artifacts" $packages || result=1
  for job in "${jobs[@]}"; do wait "$job" || result=1; done
  cat .cache/events/* >.cache/test.json
  slowest_packages
  passed=$((passed + $(grep -c '"Action":"pass".*"Test":' .cache/test.json)))
  failed=$((failed + $(grep -c '"Action":"fail".*"Test":' .cache/test.json)))
  return $result
}

describe() {
  case $1 in
    format) echo "gofmt, licence headers" ;;
    vet) echo "go vet" ;;
    lint) echo "golangci-lint" ;;
    modules) echo "go.mod and go.sum are tidy, downloads are what they were" ;;
    generated) echo "generated code is up to date" ;;
    shell) echo "shell scripts" ;;
    gotest) echo "go test: everything up to tests with a Kubernetes control plane, race detector, random order" ;;
    *) return 1 ;;
  esac
}

passed=0 failed=0 broken=()
[[ $# -gt 0 ]] || set -- format shell modules generated vet lint gotest
echo "With cold caches this downloads some hundred modules, compiles them twice (without"
echo "and with race detector), and builds Kubernetes and Cluster API from source to test"
echo "against: up to an hour on two cores. Afterwards some 30 minutes."
for check in "$@"; do
  title=$(describe "$check") || { echo "unknown check: $check" >&2; exit 2; }
  printf '\n=== %s: %s\n' "$check" "$title"
  began=$SECONDS
  if "check_$check"; then
    passed=$((passed + 1))
    echo "--- ok ($((SECONDS - began)) s)"
  else
    failed=$((failed + 1))
    broken+=("$check")
    echo "--- FAILED ($((SECONDS - began)) s)"
  fi
done

echo
[[ ${#broken[@]} -eq 0 ]] || echo "failed checks: ${broken[*]}"
echo "$passed passed, $failed failed"
[[ ${#broken[@]} -eq 0 ]]
