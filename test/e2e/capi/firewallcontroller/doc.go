// SPDX-License-Identifier: Apache-2.0

// Package firewallcontroller plays firewall-controller, which runs on metal-stack's
// firewalls. It has a kubeconfig of the management cluster from the firewall's user data,
// finds its Firewall there, reads what that refers to, and does what firewall-controller
// v2 does: it makes rules of ClusterwideNetworkPolicies and Services of the workload
// cluster, and reports in a FirewallMonitor. Requests, what causes them and what breaks
// them are those of the real one, its mistakes included.
//
// nftables and FRR are not played: what they would be configured with is kept (Host).
//
// It must never know anything that is not in that kubeconfig or read with it.
package firewallcontroller
