#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Builds kubectl metal for all platforms, and writes the archives and the manifest that krew
# takes from a release.
#
# usage: [PLATFORMS="linux/amd64 …"] hack/release-kubectl-metal.sh DIRECTORY TAG
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

dir=$1 tag=$2
: "${GO:=go}" "${COMMIT:=$(git rev-parse HEAD 2>/dev/null || true)}"
: "${PLATFORMS:=linux/amd64 linux/arm64 darwin/amd64 darwin/arm64 windows/amd64 windows/arm64}"
version=metal-stack.io/infrastructure-apiserver/pkg/version
client=k8s.io/client-go/pkg/version
flags="-s -w -X $version.version=$tag -X $version.commit=$COMMIT -X $client.gitVersion=$tag -X $client.gitCommit=$COMMIT"

mkdir -p "$dir"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
manifest=$(sed "s#@TAG@#$tag#g" artifacts/krew/metal.yaml.tmpl)
for platform in $PLATFORMS; do
  os=${platform%/*} arch=${platform#*/} suffix=
  [[ $os != windows ]] || suffix=.exe
  echo "building kubectl-metal for $platform"
  stage=$work/$os-$arch
  mkdir "$stage"
  CGO_ENABLED=0 GOOS=$os GOARCH=$arch "$GO" build -trimpath -ldflags "$flags" -o "$stage/kubectl-metal$suffix" ./cmd/kubectl-metal
  cp LICENSE artifacts/krew/kubectl_complete-metal "$stage"
  archive=kubectl-metal_${os}_${arch}.tar.gz
  # The same inputs give the same archive.
  tar -C "$stage" --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 -cf - . | gzip -n9 >"$dir/$archive"
  sum=$(sha256sum "$dir/$archive")
  manifest=${manifest//@SHA256_${os}_${arch}@/${sum%% *}}
done
printf '%s\n' "$manifest" >"$dir/metal.yaml"
