// SPDX-License-Identifier: Apache-2.0

// +k8s:openapi-gen=true
// +k8s:openapi-model-package=io.x-k8s.cluster.infrastructure.v1alpha4
// +k8s:deepcopy-gen=package
// +k8s:conversion-gen=metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure
// +k8s:defaulter-gen=TypeMeta
// +groupName=infrastructure.cluster.x-k8s.io

// Package v1alpha4 is the preferred version of the API, the one that records
// are stored in and that satisfies Cluster API's v1beta2 contract.
//
// The doc comments of its types are what `kubectl explain` prints. The types of
// v1alpha3 are generated from these by hack/update-codegen.sh.
package v1alpha4
