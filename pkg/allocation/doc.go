// SPDX-License-Identifier: Apache-2.0

// Package allocation allocates metal for claims and releases it, exactly once
// (docs/allocation.md). It is the only caller of the metal-api's dangerous
// verbs: allocate and free. It must never trust that a call that failed did
// nothing.
//
// Every dangerous call lies between two compare-and-swaps of the record, so
// that a later operation, after a crash or on another server, knows that it
// may have been made, and reads before it calls. A call belongs to the
// Protocol, not to the request that asked for it. User data goes from the
// request to the metal-api and into nothing else.
//
// A request's way: Protocol.AllocateMachine (protocol.go), one operation of an
// object at a time (exclusive.go), what the spec asks for (plan.go),
// machine_allocate.go, and ensureAllocated (ensure_allocated.go), which is the
// same for machines, networks and addresses. Each compare-and-swap on this way
// is a method of operation (operation.go).
package allocation
