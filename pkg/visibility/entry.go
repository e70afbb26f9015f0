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
	// deniedPerSecond is how many decisions per second one entry may ask for about
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

// entry is the decisions about one user and one resource, as far as they were requested.
type entry struct {
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

func newEntry(r *Resolver, key string, request Request) *entry {
	return &entry{
		resolver: r, key: key, request: request,
		authorizing: make(chan struct{}, 1),
		decisions:   map[string]decision{}, watches: map[*Set]struct{}{},
	}
}

// setUser keeps the newest credentials of the user.
func (e *entry) setUser(u user.Info) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.request.User = u
}

func (e *entry) user() user.Info {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.request.User
}

// ensureRevision has a revision issued, unless there is one since which the
// decisions are known. Without one lists go on, and watches have to begin with a
// list.
func (e *entry) ensureRevision(ctx context.Context) {
	if e.request.Namespace != "" || !e.lock(ctx) {
		return
	}
	defer e.unlock()
	e.issueRevision(ctx)
}

// issueRevision is ensureRevision for the holder of the lock.
func (e *entry) issueRevision(ctx context.Context) {
	e.mu.RLock()
	known, now := e.unchangedSince != 0, e.resolver.clock.Now()
	failedRecently := !e.revisionFailed.IsZero() && now.Sub(e.revisionFailed) < decisionTTL
	e.mu.RUnlock()
	if known || failedRecently {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, revisionTimeout)
	defer cancel()
	revision, err := e.resolver.revision(ctx)
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.revisionFailed = (time.Time{}); err != nil {
		e.revisionFailed = now
		return
	}
	e.unchangedSince = revision
}

// lock allows to ask the authorizer. It returns false if ctx ends first.
func (e *entry) lock(ctx context.Context) bool {
	select {
	case e.authorizing <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (e *entry) unlock() { <-e.authorizing }

// allowed returns whether the namespace may be seen. It asks the authorizer if
// there is no decision, or one that is stale by more than maxStaleness.
func (e *entry) allowed(ctx context.Context, namespace string, maxStaleness time.Duration) (bool, error) {
	cached := func() (d decision, ok bool) {
		e.mu.RLock()
		defer e.mu.RUnlock()
		d, ok = e.decisions[namespace]
		return d, ok && !e.isStale(namespace, d, maxStaleness)
	}
	if d, ok := cached(); ok {
		return d.allowed, nil
	}
	if !e.lock(ctx) {
		return false, ctx.Err()
	}
	defer e.unlock()
	if d, ok := cached(); ok {
		return d.allowed, nil
	}
	return e.authorize(ctx, namespace)
}

// isStale reports whether a decision is to be refreshed. The caller holds mu.
func (e *entry) isStale(namespace string, d decision, maxStaleness time.Duration) bool {
	age := e.resolver.clock.Since(d.at) - maxStaleness
	if d.allowed || namespace == allNamespaces {
		return age >= decisionTTL
	}
	return age >= max(decisionTTL, time.Duration(len(e.decisions))*time.Second/deniedPerSecond)
}

// authorize asks the authorizer, keeps its decision, and ends the watches if it
// has changed. The caller holds the lock.
func (e *entry) authorize(ctx context.Context, namespace string) (bool, error) {
	now := e.resolver.clock.Now()
	var allowed bool
	var err error
	request := e.request
	if request.User = e.user(); namespace == allNamespaces {
		allowed, err = e.resolver.mayGetAll(ctx, request)
	} else {
		allowed, err = e.resolver.authorize(ctx, authorizer.AttributesRecord{
			User: request.User, Verb: "get", Namespace: namespace,
			APIGroup: request.Resource.Group, Resource: request.Resource.Resource,
		})
	}
	e.mu.Lock()
	if err != nil {
		if e.failingSince.IsZero() && ctx.Err() == nil {
			e.failingSince = now
		}
		e.mu.Unlock()
		return false, err
	}
	e.failingSince = time.Time{}
	old, known := e.decisions[namespace]
	changed := known && old.allowed != allowed
	if changed {
		e.unchangedSince = 0
		e.endWatches(accessChanged(request))
		if namespace == allNamespaces {
			clear(e.decisions)
		}
	}
	e.decisions[namespace] = decision{allowed: allowed, at: now}
	e.mu.Unlock()
	if changed && request.Namespace == "" {
		e.issueRevision(ctx)
	}
	return allowed, nil
}

// attach completes a set with what is known, and has a watch's end when that
// changes.
func (e *entry) attach(set *Set) {
	e.mu.Lock()
	defer e.mu.Unlock()
	set.all, set.unchangedSince = e.decisions[allNamespaces].allowed, e.unchangedSince
	if set.isWatch {
		e.watches[set] = struct{}{}
	}
}

func (e *entry) detach(set *Set) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.watches, set)
}

// endWatches ends the sets of all watches. The caller holds mu.
func (e *entry) endWatches(cause error) {
	for set := range e.watches {
		set.end(cause)
	}
	clear(e.watches)
}
