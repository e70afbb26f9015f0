// SPDX-License-Identifier: Apache-2.0

// Package ledger stores records: the part of an object that the metal-api cannot
// hold. A ledger is a key-value store with compare-and-swap and five
// verbs, and nothing else; it does not interpret values.
package ledger

import (
	"context"
	"errors"
	"fmt"
)

// MaxKeyBytes is how long a key may be.
const MaxKeyBytes = 512

// Record is one entry.
type Record struct {
	// Key names the record, e.g. "metalstackmachines/team-a/node-1". At most
	// 512 bytes, path segments joined by slashes.
	Key string
	// Value is opaque.
	Value []byte
	// Version is the compare-and-swap token of this state of the record; it
	// is never used again for another state of the same key.
	Version string
}

// Errors of a ledger. They come wrapped; use errors.Is.
var (
	// ErrExists: Create found the key taken.
	ErrExists = errors.New("record already exists")
	// ErrNotFound: Get, Update or Delete found no such key.
	ErrNotFound = errors.New("record not found")
	// ErrConflict: the record is not at the version that was named.
	ErrConflict = errors.New("record changed")

	// ErrNotWritten: the write was not done and will not be, for a reason that
	// has nothing to do with the record that is there; the text gives it.
	ErrNotWritten = errors.New("nothing was written")
	// ErrFenced is the ErrNotWritten of a process that may not write any more,
	// because another one does.
	ErrFenced = fmt.Errorf("not the active process: %w", ErrNotWritten)
	// ErrTooLarge is the ErrNotWritten of a value that is larger than the ledger
	// takes.
	ErrTooLarge = fmt.Errorf("value too large: %w", ErrNotWritten)
)

// Ledger is the store of records. What it acknowledged survives a crash. Any
// other error than those above leaves it open whether the write was done.
type Ledger interface {
	// List returns every record, in key order.
	List(ctx context.Context) ([]Record, error)
	// Get returns the record of a key as List would: one that was acknowledged
	// before the call is found.
	Get(ctx context.Context, key string) (Record, error)
	// Create adds a record and returns its version.
	Create(ctx context.Context, key string, value []byte) (version string, err error)
	// Update replaces the value of a record that is at version, and returns
	// the new version.
	Update(ctx context.Context, key, version string, value []byte) (newVersion string, err error)
	// Delete removes a record that is at version.
	Delete(ctx context.Context, key, version string) error
}

// ChangeLister is a Ledger that lists what has changed for less than it lists everything.
type ChangeLister interface {
	Ledger
	// ListChanged returns every record, as List does, but without the value if the
	// record is at the version that known has for its key. It shows every write
	// that was acknowledged before the call; later ones may be shown in part.
	ListChanged(ctx context.Context, known map[string]string) ([]Record, error)
}

// ListChanged lists what has changed since versions were known, by key, if l can; or else
// everything.
func ListChanged(ctx context.Context, l Ledger, known map[string]string) ([]Record, error) {
	if c, ok := l.(ChangeLister); ok && len(known) > 0 {
		return c.ListChanged(ctx, known)
	}
	return l.List(ctx)
}

// CheckKey returns an error if key is none that a ledger takes.
func CheckKey(key string) error {
	if key == "" || len(key) > MaxKeyBytes {
		return fmt.Errorf("invalid key %.60q of %d bytes: must have 1 to %d bytes", key, len(key), MaxKeyBytes)
	}
	return nil
}
