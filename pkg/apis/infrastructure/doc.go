// SPDX-License-Identifier: Apache-2.0

// +k8s:deepcopy-gen=package
// +groupName=infrastructure.cluster.x-k8s.io

// Package infrastructure has the internal types of the API: the hub that the
// served versions convert to and from, and the form that everything in the
// server works on. It is never serialized.
//
// An object has two halves. The Kubernetes half, which is metadata, spec,
// conditions and the allocation record, is kept in the ledger. The metal half
// (Ready, Addresses, Metal, Network, ControlPlaneIP) is read from the metal-api,
// and not stored.
package infrastructure
