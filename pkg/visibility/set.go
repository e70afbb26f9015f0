// SPDX-License-Identifier: Apache-2.0

package visibility

import (
	"context"
	"sync"
	"time"
)

// Set is the namespaces whose objects one request is shown.
type Set struct {
	ctx          context.Context
	entry        *entry // nil if it contains all, and is no watch's
	isWatch      bool
	maxStaleness time.Duration
	all          bool
	// unchangedSince is the revision since which the set has not changed, or 0.
	unchangedSince uint64

	endOnce   sync.Once
	done      chan struct{}
	err       error
	closeOnce sync.Once
}

// All reports whether all is shown that the request is about.
func (s *Set) All() bool { return s.all }

// Includes reports whether the objects of a namespace are shown. It may have to ask
// the authorizer; if that makes no decision, the set ends, and what Includes
// returns from then on must not be used.
func (s *Set) Includes(namespace string) bool {
	if s.all {
		return true
	}
	if s.Err() != nil {
		return false
	}
	allowed, err := s.entry.allowed(s.ctx, namespace, s.maxStaleness)
	if err != nil {
		s.end(authorizerUnavailable(s.ctx, s.entry.request, err))
	}
	return allowed
}

// CheckResume returns an API status if a watch cannot resume from a revision: it
// is not known that lists of that revision have shown this set.
func (s *Set) CheckResume(revision uint64) error {
	if s.entry.request.Namespace != "" || s.unchangedSince != 0 && revision >= s.unchangedSince {
		return nil // A single namespace is always shown completely.
	}
	return accessUnknown(s.entry.request, revision)
}

// Done is closed when the set has ended.
func (s *Set) Done() <-chan struct{} { return s.done }

// Err is why the set has ended, or nil.
func (s *Set) Err() error {
	select {
	case <-s.done:
		return s.err
	default:
		return nil
	}
}

func (s *Set) end(cause error) {
	s.endOnce.Do(func() {
		s.err = cause
		close(s.done)
	})
}

// Close releases the set. It must be called when the request has ended.
func (s *Set) Close() {
	s.closeOnce.Do(func() {
		if s.entry != nil {
			s.entry.detach(s)
			s.entry.resolver.release(s.entry)
		}
	})
}
