// SPDX-License-Identifier: Apache-2.0

// Package metalccm plays metal-ccm, metal-stack's cloud controller manager, in a workload
// cluster. It is configured by the environment of metal-ccm's container, asks the metal-api
// what metal-ccm v0.9.10 asks, in the same order, by metal-go, and does with the answers
// what that does, what it does wrong included: it gives Nodes their provider IDs,
// addresses and labels, and Services of type LoadBalancer their addresses.
//
// MetalLB is not played: what metal-ccm configures it with is kept (Announcements).
//
// It must never know anything that is not in its environment or in the workload cluster.
package metalccm
