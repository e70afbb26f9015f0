// SPDX-License-Identifier: Apache-2.0

// +k8s:openapi-gen=true
// +k8s:openapi-model-package=io.metal-stack.firewall.v2
// +k8s:deepcopy-gen=package
// +groupName=firewall.metal-stack.io

// Package v2 is the version of the API group firewall.metal-stack.io that
// firewall-controller reads: a Firewall for each MetalStackFirewall with a controller. It
// is only served, never written, so it has no internal version, defaults or conversions.
//
// The doc comments of its types are what `kubectl explain` prints.
package v2
