#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Writes the module that pins the control plane of one Kubernetes version:
# hack/compat/v<major>.<minor>/go.mod and go.sum, in place of those that are there.
#
# usage: hack/compat/module.sh v1.35.4
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

: "${GO:=go}"
version=${1:?usage: hack/compat/module.sh v1.35.4}
[[ $version =~ ^v1\.[0-9]+\.[0-9]+$ ]] || { echo "$version: want a released version of Kubernetes, such as v1.35.4" >&2; exit 2; }
minor=${version%.*}

kubernetes=$("$GO" mod download -json "k8s.io/kubernetes@$version" | sed -n 's/.*"GoMod": "\(.*\)",*/\1/p')
staging=$(sed -n 's|^\t\(.*\) => ./staging/src/.*|\1|p' "$kubernetes")
[[ -n $staging ]] || { echo "$kubernetes replaces no staging modules: read how this version is built" >&2; exit 1; }

mkdir -p "$minor"
{
  echo "// A control plane of Kubernetes $minor, built from source to test against: make compat."
  echo "// Written by hack/compat/module.sh $version."
  echo "module metal-stack.io/infrastructure-apiserver/hack/compat/$minor"
  echo
  sed -n '/^go /p' "$kubernetes"
  echo
  # Programs have the defaults of the Go version that their release was made with.
  sed -n '/^godebug /p' "$kubernetes"
  echo
  echo "tool ("
  for program in kube-apiserver kube-controller-manager kubectl; do echo "	k8s.io/kubernetes/cmd/$program"; done
  echo ")"
  echo
  echo "require k8s.io/kubernetes $version"
  echo
  echo "// k8s.io/kubernetes replaces its staging modules by folders of its own."
  echo "replace ("
  for module in $staging; do echo "	$module => $module ${version/v1/v0}"; done
  echo ")"
} >"$minor/go.mod"
rm -f "$minor/go.sum"
"$GO" -C "$minor" mod tidy
