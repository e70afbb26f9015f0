#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Writes what clusterctl takes from a release of this provider.
#
# usage: hack/release.sh DIRECTORY REGISTRY TAG     (needs bin/kubectl)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

dir=$1 registry=$2 tag=$3
mkdir -p "$dir"
# The images of artifacts/deploy are those of no release.
bin/kubectl kustomize artifacts/clusterctl |
  sed -E "s#ghcr.io/metal-stack/(metalstack-[a-z-]+):latest#$registry/\1:$tag#" >"$dir/infrastructure-components.yaml"
cp artifacts/clusterctl/{metadata,addons-metal-ccm}.yaml artifacts/clusterctl/clusterclass-*.yaml "$dir"
# Flavours: a template, and the add-ons that come with it.
cat artifacts/clusterctl/{cluster-template,addons-metal-ccm}.yaml >"$dir/cluster-template.yaml"
cat artifacts/clusterctl/{cluster-template,addons-metal-ccm,addons-calico}.yaml >"$dir/cluster-template-calico.yaml"
cat artifacts/clusterctl/{cluster-template-kamaji,addons-metal-ccm}.yaml >"$dir/cluster-template-kamaji.yaml"
cat artifacts/clusterctl/{cluster-template-topology,addons-metal-ccm}.yaml >"$dir/cluster-template-topology.yaml"
