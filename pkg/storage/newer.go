// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"fmt"
	"strings"
)

// Once a record of a newer format was met (ledger.Guarded), the views stay as they are:
// nothing is written, no record is taken over from the ledger, and no revision issued.
// Reads show the last known state, with a warning, except of what a newer server may
// have created: that must not look deleted.

// CheckWritable returns the answer to writes if nothing is written any more.
func (b *Backend) CheckWritable() error {
	if err := b.guard.Check(); err != nil {
		return retryLaterError(err.Error())
	}
	return nil
}

// CheckWritable is that of the backend, for dry runs that would not learn it otherwise: the
// generic store takes any error of the read that a dry run of a creation makes for a name that
// is free.
func (s *Store) CheckWritable() error { return s.backend.CheckWritable() }

// prepareWrite is prepareRequest for writes.
func (s *Store) prepareWrite(key string) (string, error) {
	if err := s.backend.CheckWritable(); err != nil {
		return "", err
	}
	return s.prepareRequest(key, false)
}

// checkShown returns an error if the record at key has a newer format, and the view,
// which has e there, no record of it.
func (s *Store) checkShown(key string, e *entry) error {
	newer := s.backend.guard.Newer()
	if _, found := newer[s.ledgerKey(key)]; !found || e != nil && e.rec != nil {
		return nil
	}
	return retryLaterError(fmt.Sprintf("%s %q cannot be read: %v", s.resource, s.name(key), s.backend.guard.Check()))
}

// checkAllShown is checkShown for all keys under a prefix, and the view t.
func (s *Store) checkAllShown(prefix string, t *tree) error {
	for ledgerKey := range s.backend.guard.Newer() {
		key := s.key(ledgerKey)
		if !strings.HasPrefix(ledgerKey, s.ledgerPrefix) || !strings.HasPrefix(key, prefix) {
			continue
		}
		if e, _ := t.Get(&entry{key: key}); e == nil || e.rec == nil {
			// Whoever lists may not see the object, so its name is left out.
			return retryLaterError(fmt.Sprintf("%s cannot be listed: %v", s.resource, s.backend.guard.Check()))
		}
	}
	return nil
}
