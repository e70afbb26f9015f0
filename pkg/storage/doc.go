// SPDX-License-Identifier: Apache-2.0

// Package storage implements k8s.io/apiserver/pkg/storage.Interface, once, for
// all kinds: over records in a ledger and over metal as it is observed.
//
// The way through it: a write swaps a record in the ledger (write.go), then
// commit.go puts the projected object into the view and an event into the ring;
// an observation of metal (observe.go) enters at the same commit. Lists
// (list.go) and watches (watch.go) are answered from the view and the ring and
// from nothing else.
//
// It must never change metal, never answer with an empty list because something
// is unavailable, and never issue a revision twice.
package storage
