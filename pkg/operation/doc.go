// SPDX-License-Identifier: Apache-2.0

// Package operation operates metal that is allocated: power, chassis LED, console password,
// provisioning events, reinstallation, lock. It stands behind the subresources of machines and
// firewalls. Each operation is for metal that the object holds, which is read right before, with
// the identity checks of a release, or for a discovered machine of the namespace's project.
//
// It must never call twice for one request of a power action or a reinstallation, and never let a
// console password get anywhere but into the answer. docs/machine-operations.md has the protocol.
package operation
