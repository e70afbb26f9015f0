#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Runs a package's tests for `go test -exec`. Those of test/e2e/capi come first when
# processors are short: its clusters have to come up in time.
#
# usage: hack/run-test.sh <test binary> [argument]...
set -euo pipefail

unset GOGC # of the build: hack/check.sh

[[ ${1##*/} == capi.test ]] && exec "$@"
exec nice -n 10 "$@"
