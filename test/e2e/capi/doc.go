// SPDX-License-Identifier: Apache-2.0

// Package capi runs Cluster API for tests, as it is used: clusterctl installs
// its managers and our provider from a local repository into a real control
// plane, and the real managers and our real programs run against a simulated
// metal-api, with the rights that their components give them.
//
// What a data centre does besides is played by the Site: a machine that phoned
// home boots what its user data says, so that a real kube-apiserver with the
// cluster's own authorities is at the control plane's address, Nodes appear,
// and etcd has members. Cluster API sees no difference.
package capi
