// SPDX-License-Identifier: Apache-2.0

// +k8s:openapi-gen=true
// +k8s:openapi-model-package=io.x-k8s.cluster.infrastructure.v1alpha3
// +k8s:deepcopy-gen=package
// +k8s:conversion-gen=metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure
// +k8s:defaulter-gen=TypeMeta
// +groupName=infrastructure.cluster.x-k8s.io

// Package v1alpha3 is the version that manifests of the archived provider
// cluster-api-provider-metalstack are written in. It carries every field that
// v1alpha4 has, so that a round trip through either loses nothing, and is
// therefore made from it by hack/update-codegen.sh. On the day on which the two
// shall differ, that step goes, and these files are edited like any other.
package v1alpha3
