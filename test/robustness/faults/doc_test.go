// SPDX-License-Identifier: Apache-2.0

// Package faults_test plays histories in which whatever can go wrong does: the
// metal-api, the ledger, the Lease, the clocks, and other clients. Servers are
// the real code on a simulated metal-api, and are killed at any step. After
// each history, and at the end of all that follows from it, the invariants are
// checked against the simulator's inventory. docs/faults.md says what is tried
// and how a history is seen again.
package faults_test
