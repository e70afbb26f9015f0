// SPDX-License-Identifier: Apache-2.0

package visibility

import (
	"context"
	"sync"
	"time"

	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
)

const (
	// decisionTTL is how long a decision is used before the authorizer is asked
	// again. The authorizer has a cache of its own.
	decisionTTL = 5 * time.Second
	// deniedPerSecond is how many decisions per second one scope may ask for about
	// namespaces that the user may not see: where there are many, they are refreshed
	// less often. So a user always loses a namespace within seconds, and gains one
	// within seconds where there are up to a hundred.
	deniedPerSecond = 20
	// maxStaleness is how much older than that a decision may be for a watch, since
	// it is refreshed in the background; but not if there was no watch for a while.
	maxStaleness = 2 * refreshInterval
	// revisionTimeout is how long a list waits for a revision.
	revisionTimeout = time.Second
)

// allNamespaces is the key of the decision that makes all others unnecessary: that
// the user may see all that the request is about.
const allNamespaces = ""

// decision is the authorizer's.
type decision struct {
	allowed bool
	at      time.Time
}

// scope is what one user may see of one resource, as far as it was requested.
type scope struct {
	resolver *Resolver
	key      string
	request  Request

	// Guarded by the resolver's mu.
	references int
	lastUsed   time.Time

	// authorizing is held while the authorizer is asked: however often a user lists,
	// one decision is asked for at a time, and those that wait share it.
	authorizing chan struct{}

	mu        sync.RWMutex
	decisions map[string]decision // by namespace
	watches   map[*Set]struct{}
	// unchangedSince is the revision since which no decision has changed; 0 if there
	// is no such revision.
	unchangedSince uint64
	// revisionFailed is when the last revision could not be issued, or zero.
	revisionFailed time.Time
	// failingSince is since when the authorizer makes no decision, or zero.
	failingSince time.Time
}

func newScope(r *Resolver, key string, request Request) *scope {
	return &scope{
		resolver: r, key: key, request: request,
		authorizing: make(chan struct{}, 1),
		decisions:   map[string]decision{}, watches: map[*Set]struct{}{},
	}
}

// setUser keeps the newest credentials of the user.
func (s *scope) setUser(u user.Info) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.request.User = u
}

func (s *scope) user() user.Info {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.request.User
}

// ensureRevision has a revision issued, unless there is one since which the
// decisions are known. Without one lists go on, and watches have to begin with a
// list.
func (s *scope) ensureRevision(ctx context.Context) {
	if s.request.Namespace != "" || !s.lock(ctx) {
		return
	}
	defer s.unlock()
	s.issueRevision(ctx)
}

// issueRevision is ensureRevision for the holder of the lock.
func (s *scope) issueRevision(ctx context.Context) {
	s.mu.RLock()
	known, now := s.unchangedSince != 0, s.resolver.clock.Now()
	failedRecently := !s.revisionFailed.IsZero() && now.Sub(s.revisionFailed) < decisionTTL
	s.mu.RUnlock()
	if known || failedRecently {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, revisionTimeout)
	defer cancel()
	revision, err := s.resolver.revision(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.revisionFailed = (time.Time{}); err != nil {
		s.revisionFailed = now
		return
	}
	s.unchangedSince = revision
}

// lock allows to ask the authorizer. It returns false if ctx ends first.
func (s *scope) lock(ctx context.Context) bool {
	select {
	case s.authorizing <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (s *scope) unlock() { <-s.authorizing }

// allowed returns whether the namespace may be seen. It asks the authorizer if
// there is no decision, or one that is stale by more than maxStaleness.
func (s *scope) allowed(ctx context.Context, namespace string, maxStaleness time.Duration) (bool, error) {
	cached := func() (d decision, ok bool) {
		s.mu.RLock()
		defer s.mu.RUnlock()
		d, ok = s.decisions[namespace]
		return d, ok && !s.isStale(namespace, d, maxStaleness)
	}
	if d, ok := cached(); ok {
		return d.allowed, nil
	}
	if !s.lock(ctx) {
		return false, ctx.Err()
	}
	defer s.unlock()
	if d, ok := cached(); ok {
		return d.allowed, nil
	}
	return s.authorize(ctx, namespace)
}

// isStale reports whether a decision is to be refreshed. The caller holds mu.
func (s *scope) isStale(namespace string, d decision, maxStaleness time.Duration) bool {
	age := s.resolver.clock.Since(d.at) - maxStaleness
	if d.allowed || namespace == allNamespaces {
		return age >= decisionTTL
	}
	return age >= max(decisionTTL, time.Duration(len(s.decisions))*time.Second/deniedPerSecond)
}

// authorize asks the authorizer, keeps its decision, and ends the watches if it
// has changed. The caller holds the lock.
func (s *scope) authorize(ctx context.Context, namespace string) (bool, error) {
	now := s.resolver.clock.Now()
	var allowed bool
	var err error
	request := s.request
	if request.User = s.user(); namespace == allNamespaces {
		allowed, err = s.resolver.mayGetAll(ctx, request)
	} else {
		allowed, err = s.resolver.authorize(ctx, authorizer.AttributesRecord{
			User: request.User, Verb: "get", Namespace: namespace,
			APIGroup: request.Resource.Group, Resource: request.Resource.Resource,
		})
	}
	s.mu.Lock()
	if err != nil {
		if s.failingSince.IsZero() && ctx.Err() == nil {
			s.failingSince = now
		}
		s.mu.Unlock()
		return false, err
	}
	s.failingSince = time.Time{}
	old, known := s.decisions[namespace]
	changed := known && old.allowed != allowed
	if changed {
		s.unchangedSince = 0
		s.endWatches(accessChanged(request))
		if namespace == allNamespaces {
			clear(s.decisions)
		}
	}
	s.decisions[namespace] = decision{allowed: allowed, at: now}
	s.mu.Unlock()
	if changed && request.Namespace == "" {
		s.issueRevision(ctx)
	}
	return allowed, nil
}

// attach completes a set with what is known, and has a watch's end when that
// changes.
func (s *scope) attach(set *Set) {
	s.mu.Lock()
	defer s.mu.Unlock()
	set.all, set.unchangedSince = s.decisions[allNamespaces].allowed, s.unchangedSince
	if set.isWatch {
		s.watches[set] = struct{}{}
	}
}

func (s *scope) detach(set *Set) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.watches, set)
}

// endWatches ends the sets of all watches. The caller holds mu.
func (s *scope) endWatches(cause error) {
	for set := range s.watches {
		set.end(cause)
	}
	clear(s.watches)
}
