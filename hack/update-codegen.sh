#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Makes everything that is generated: the types of v1alpha3 from those of
# v1alpha4, the code beside the types, generated/, what the Helm chart has of
# artifacts/deploy, and docs/api.md. The generators are tools of go.mod, or in
# hack, so a clean checkout and the module proxy are all that is needed.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly module=metal-stack.io/infrastructure-apiserver
readonly apis=pkg/apis/infrastructure
readonly hub="${module}/${apis}"
readonly versions=("${hub}/v1alpha3" "${hub}/v1alpha4")
# What is only served has neither an internal version nor clients.
readonly served="${module}/pkg/apis/firewall/v2"
readonly out=generated
readonly out_pkg="${module}/${out}"
readonly header=(--go-header-file hack/boilerplate/boilerplate.go.txt)

# copy FILE TARGET SED-EXPRESSION: a hand-written file, for another package.
copy() {
  { echo "// Code generated from ../${1#"${apis}/"} by hack/update-codegen.sh. DO NOT EDIT."
    echo
    sed -e "$3" "$1"
  } >"$2"
}

find pkg/apis -name 'zz_*.go' -delete
rm -rf "${out}"

echo "v1alpha3, and when an allocation holds metal, which both versions have of the hub"
for file in has_metal; do
  for version in v1alpha3 v1alpha4; do
    copy "${apis}/${file}.go" "${apis}/${version}/zz_copied.${file}.go" "s/^package infrastructure$/package ${version}/"
  done
done
for path in "${apis}"/v1alpha4/*.go; do
  file="$(basename "${path}")"
  case "${file}" in
    doc.go | zz_* | *_test.go) ;;
    *) copy "${path}" "${apis}/v1alpha3/zz_copied.${file}" s/v1alpha4/v1alpha3/g ;;
  esac
done

echo "deep copies, defaults, conversions"
"${GO:-go}" tool deepcopy-gen "${header[@]}" --output-file zz_generated.deepcopy.go "${hub}" "${versions[@]}" "${served}"
"${GO:-go}" tool defaulter-gen "${header[@]}" --output-file zz_generated.defaults.go "${versions[@]}"
"${GO:-go}" tool conversion-gen "${header[@]}" --output-file zz_generated.conversion.go "${versions[@]}"

echo "OpenAPI"
# The types of Kubernetes that ours are made of, and that the generic server
# answers with. Their model names come with their packages.
readonly kubernetes=(
  k8s.io/apimachinery/pkg/api/resource
  k8s.io/apimachinery/pkg/apis/meta/v1
  k8s.io/apimachinery/pkg/runtime
  k8s.io/apimachinery/pkg/version
)
report="$(mktemp)"
trap 'rm -f "${report}"' EXIT
"${GO:-go}" tool openapi-gen "${header[@]}" \
  --output-dir "${out}/openapi" --output-pkg "${out_pkg}/openapi" --output-file zz_generated.openapi.go \
  --output-model-name-file zz_generated.model_name.go \
  --report-filename "${report}" \
  $(printf -- '--readonly-pkg %s ' "${kubernetes[@]}") \
  "${kubernetes[@]}" "${versions[@]}" "${served}"
# What Kubernetes' API rules find fault with in our own types, for a reviewer.
grep -F "${module}" "${report}" >hack/openapi-violations.txt || true

echo "apply configurations, clientset, listers, informers"
"${GO:-go}" tool applyconfiguration-gen "${header[@]}" \
  --output-dir "${out}/applyconfiguration" --output-pkg "${out_pkg}/applyconfiguration" \
  "${versions[@]}"
"${GO:-go}" tool client-gen "${header[@]}" \
  --output-dir "${out}/clientset" --output-pkg "${out_pkg}/clientset" --clientset-name versioned \
  --apply-configuration-package "${out_pkg}/applyconfiguration" \
  --input-base "${PWD}/pkg/apis" --input infrastructure/v1alpha3 --input infrastructure/v1alpha4
"${GO:-go}" tool lister-gen "${header[@]}" \
  --output-dir "${out}/listers" --output-pkg "${out_pkg}/listers" \
  "${versions[@]}"
"${GO:-go}" tool informer-gen "${header[@]}" \
  --output-dir "${out}/informers" --output-pkg "${out_pkg}/informers" \
  --versioned-clientset-package "${out_pkg}/clientset/versioned" --listers-package "${out_pkg}/listers" \
  "${versions[@]}"

echo "Helm chart"
"${GO:-go}" run ./hack/chart

echo "docs/api.md"
"${GO:-go}" run ./hack/apidocs
