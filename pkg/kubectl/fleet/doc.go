// SPDX-License-Identifier: Apache-2.0

// Package fleet reads and operates machines and firewalls for kubectl metal, as one kind of
// object, through the Kubernetes API. It holds no credential of the metal-api, and repeats no
// request that changes metal.
package fleet
