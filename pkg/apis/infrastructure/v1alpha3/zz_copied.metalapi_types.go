// Code generated from ../v1alpha4/metalapi_types.go by hack/update-codegen.sh. DO NOT EDIT.

// SPDX-License-Identifier: Apache-2.0

package v1alpha3

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// +k8s:conversion-gen:explicit-from=net/url.Values
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// MetalAPIOptions are the query options of the metalapi subresource of a cluster, which
// serves the part of the metal-api's REST interface that the cluster is given. They are
// never stored.
type MetalAPIOptions struct {
	metav1.TypeMeta `json:",inline"`

	// path is the part of the URL after the subresource, a path of the metal-api such
	// as `v1/ip/find`.
	// +optional
	// +k8s:validation:maxLength=1024
	Path string `json:"path,omitempty"`
}
