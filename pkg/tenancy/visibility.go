package tenancy

import (
	"context"
	"sync"
	"time"
)

// Visibility is what one request is shown.
type Visibility struct {
	ctx      context.Context
	scope    *scope // nil if it shows all, and is no watch
	watching bool
	slack    time.Duration
	all      bool
	since    uint64

	ending  sync.Once
	over    chan struct{}
	err     error
	closing sync.Once
}

// All is true if all is shown that the request is about.
func (s *Visibility) All() bool { return s.all }

// Includes tells whether the objects of a namespace are shown. It may have to ask;
// if it gets no answer, the visibility ends, and what it said since is not to be
// relied on.
func (s *Visibility) Includes(namespace string) bool {
	if s.all {
		return true
	}
	if s.Err() != nil {
		return false
	}
	yes, err := s.scope.answer(s.ctx, namespace, s.slack)
	if err != nil {
		s.end(undecided(s.ctx, s.scope.request, err))
	}
	return yes
}

// Resume returns why a watch cannot go on from a revision, or nil: lists of that
// revision have shown what this shows.
func (s *Visibility) Resume(revision uint64) error {
	if s.scope.request.Namespace != "" || s.since != 0 && revision >= s.since {
		return nil // all of a namespace is the same always
	}
	return changed(s.scope.request)
}

// Done is closed when the visibility has ended.
func (s *Visibility) Done() <-chan struct{} { return s.over }

// Err is why the visibility has ended, or nil.
func (s *Visibility) Err() error {
	select {
	case <-s.over:
		return s.err
	default:
		return nil
	}
}

func (s *Visibility) end(cause error) {
	s.ending.Do(func() {
		s.err = cause
		close(s.over)
	})
}

// Close is to be called when the request has ended.
func (s *Visibility) Close() {
	s.closing.Do(func() {
		if s.scope != nil {
			s.scope.leave(s)
			s.scope.access.release(s.scope)
		}
	})
}
