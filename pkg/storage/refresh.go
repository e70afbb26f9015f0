// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	apistorage "k8s.io/apiserver/pkg/storage"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/oneline/warning"
)

// maxRefreshing is how many reads and watches may wait for a refresh at a time,
// half of the requests in flight. Those beyond it are answered like those
// whose refresh takes too long: with a warning.
const maxRefreshing = 200

// managedField is the field by which resources with a Kind distinguish records from what is
// discovered.
const managedField = "status.managed"

// errTooManyRefreshes is why a read is stale.
var errTooManyRefreshes = errors.New("too many requests wait for the metal-api: retry")

// readOf is what a read is about to see.
type readOf struct {
	key       string
	recursive bool
	// recordsOnly reads show nothing that is discovered.
	recordsOnly bool
	// consistent reads are of the most recent state.
	consistent bool
}

type recordsOnlyKey struct{}

// WithRecordsOnly makes reads of resources with a Kind leave out what is discovered, and have
// nothing observed.
func WithRecordsOnly(ctx context.Context) context.Context {
	return context.WithValue(ctx, recordsOnlyKey{}, true)
}

// IsRecordsOnly returns whether the context is one of WithRecordsOnly.
func IsRecordsOnly(ctx context.Context) bool { return ctx.Value(recordsOnlyKey{}) != nil }

// leavesOutDiscovered returns whether a read leaves out what is discovered.
func (s *Store) leavesOutDiscovered(ctx context.Context) bool {
	return s.kind != "" && IsRecordsOnly(ctx)
}

// selectsRecordsOnly returns whether a predicate selects nothing that is discovered.
func (s *Store) selectsRecordsOnly(p *apistorage.SelectionPredicate) bool {
	if s.kind == "" || p.Field == nil {
		return false
	}
	managed, required := p.Field.RequiresExactMatch(managedField)
	return required && managed == "true"
}

// awaitObserved makes the view of what a consistent read covers the most recent state. If that
// cannot be had in time the client is warned; the view still answers. It returns 503 if what is
// read was never observed: then the view has nothing of it, which is not to be taken for an
// answer, whatever state was requested.
func (s *Store) awaitObserved(ctx context.Context, r readOf) error {
	f := s.refresher()
	if f == nil || !r.consistent && s.kind == "" || s.leavesOutDiscovered(ctx) {
		return nil
	}
	if err := s.backend.guard.Check(); err != nil {
		if s.mayBeUnknown(ctx, r) && !f.Known(s.scope(r)) {
			return retryLaterError(fmt.Sprintf("%s: not observed since the server started: %v", s.resource.Resource, err))
		}
		staleReads.WithLabelValues(s.resource.Resource).Inc()
		warning.Add(ctx, "%s: stale: %v", s.resource.Resource, err)
		return nil
	}
	scope := s.scope(r)
	mayBeUnknown := s.mayBeUnknown(ctx, r)
	if !r.consistent && (!mayBeUnknown || f.Known(scope)) {
		return nil
	}
	since, cause := s.refresh(ctx, f, scope)
	if mayBeUnknown && !f.Known(scope) {
		if cause == nil {
			cause = errors.New("not observed yet")
		}
		return retryLaterError(fmt.Sprintf("%s: not observed since the server started: %v: retry", s.resource.Resource, cause))
	}
	s.warnIfStale(ctx, since, cause)
	return nil
}

// refresher returns what the views of this resource are refreshed by; nil if nothing.
func (s *Store) refresher() Refresher {
	f := s.backend.refresher.Load()
	if _, isStatic := s.projector.(Static); f == nil || s.projector == nil || isStatic {
		return nil
	}
	return *f
}

// mayBeUnknown returns whether a read covers what was perhaps never observed.
func (s *Store) mayBeUnknown(ctx context.Context, r readOf) bool {
	if s.kind == "" || r.recordsOnly || ctx.Value(hiddenNamespacesKey{}) != nil {
		return false
	}
	return r.recursive || s.view.get(r.key) == nil
}

func (s *Store) refresh(ctx context.Context, f Refresher, scope Scope) (since time.Time, cause error) {
	limited, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer s.backend.refreshing.Add(-1)
	if s.backend.refreshing.Add(1) > maxRefreshing {
		cancel(errTooManyRefreshes)
	}
	since, cause = f.Refresh(limited, scope)
	if errors.Is(cause, context.Canceled) && ctx.Err() == nil {
		cause = errTooManyRefreshes
	}
	return since, cause
}

func (s *Store) warnIfStale(ctx context.Context, since time.Time, cause error) {
	if cause == nil {
		return
	}
	staleReads.WithLabelValues(s.resource.Resource).Inc()
	if since.IsZero() {
		warning.Add(ctx, "%s: stale: not observed since the server started: %v", s.resource.Resource, cause)
		return
	}
	warning.Add(ctx, "%s: stale: last observed at %s: %v", s.resource.Resource, since.UTC().Format(time.RFC3339), cause)
}

// scope is what a read is about to see.
func (s *Store) scope(r readOf) Scope {
	scope := s.place(r)
	switch {
	case scope.AllNamespaces:
		return scope
	case !r.recursive:
		if e := s.view.get(r.key); e != nil {
			return Scope{Kind: s.kind, Refs: e.metalRefs()}
		}
		return scope
	case s.kind != "" && !r.recordsOnly:
		// All of the kind in the namespace, whichever they are.
		return scope
	}
	t, _, _ := s.view.current(&s.backend.revisions)
	seen := map[metal.Ref]struct{}{}
	ascend(t, r.key, "", func(e *entry) bool {
		if e.rec == nil && r.recordsOnly {
			return true
		}
		for _, ref := range e.metalRefs() {
			if _, found := seen[ref]; !found {
				seen[ref] = struct{}{}
				scope.Refs = append(scope.Refs, ref)
			}
		}
		return true
	})
	return scope
}

// place is a scope without refs.
func (s *Store) place(r readOf) Scope {
	rest := strings.TrimPrefix(r.key, s.prefix)
	if _, recordsOnly := s.projector.(RecordsOnly); recordsOnly || r.recordsOnly {
		return Scope{Kind: s.kind}
	}
	if r.recursive && rest == "" {
		return Scope{Kind: s.kind, AllNamespaces: true}
	}
	if s.clusterScoped {
		return Scope{Kind: s.kind}
	}
	namespace, _, _ := strings.Cut(rest, "/")
	return Scope{Kind: s.kind, Namespace: namespace}
}

// watching has what a watch shows kept observed until stop is called.
func (s *Store) watching(ctx context.Context, r readOf) (stop func()) {
	if observer, ok := s.refresher().(WatchObserver); ok && s.kind != "" && !r.recordsOnly && !IsRecordsOnly(ctx) {
		return observer.Watching(s.place(r))
	}
	return func() {}
}

// metalRefs is what the object shows.
func (e *entry) metalRefs() []metal.Ref {
	switch {
	case e.rec != nil:
		return slices.Clone(e.rec.refs)
	case e.origin != nil:
		return []metal.Ref{*e.origin}
	}
	return []metal.Ref{e.ref}
}
