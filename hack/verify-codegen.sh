#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Fails if the tree is not what hack/update-codegen.sh makes of it. It generates
# into a copy, so the tree stays as it is.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."

copy="$(mktemp -d)"
trap 'rm -rf "${copy}"' EXIT

mkdir -p "${copy}/pkg" "${copy}/docs"
cp -R go.mod go.sum hack generated artifacts "${copy}/"
cp -R pkg/apis "${copy}/pkg/"
"${copy}/hack/update-codegen.sh"

if ! diff -Nru pkg/apis "${copy}/pkg/apis" || ! diff -Nru generated "${copy}/generated" ||
  ! diff -u hack/openapi-violations.txt "${copy}/hack/openapi-violations.txt" || ! diff -Nru artifacts/charts "${copy}/artifacts/charts" ||
  ! diff -u docs/api.md "${copy}/docs/api.md"; then
  echo "generated code is out of date: run hack/update-codegen.sh" >&2
  exit 1
fi
