// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	apistorage "k8s.io/apiserver/pkg/storage"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/oneline/warning"
)

const (
	// revisionTimeout is how long a read waits for a revision that was not
	// issued yet.
	revisionTimeout = 3 * time.Second
	// revisionRetrySeconds is the Retry-After of the answer after that.
	revisionRetrySeconds = 1
	// maxWaiting is how many reads and watches may wait for a revision at a time.
	// Any client can ask for one that will not be issued, and each that waits
	// takes one of the server's requests in flight (400 that read).
	maxWaiting = 50
	// maxRefreshing is how many reads and watches may wait for a refresh at a time,
	// half of the requests in flight. Those beyond it are answered like those
	// whose refresh takes too long: with a warning.
	maxRefreshing = 200
)

// errTooManyRefreshes is why a read is stale.
var errTooManyRefreshes = errors.New("too many requests wait for the metal-api: retry")

// Get implements storage.Interface. A resource version of "" is the most
// recent state, "0" the view as it is, and N the view as soon as it has
// reached N.
func (s *Store) Get(ctx context.Context, key string, opts apistorage.GetOptions, out runtime.Object) error {
	key, err := s.prepareRequest(key, false)
	if err != nil {
		return err
	}
	revision, err := s.parse(opts.ResourceVersion)
	if err != nil {
		return err
	}
	if opts.ResourceVersion == "" && isDryRunWrite(ctx) {
		return s.getForWrite(ctx, key, opts, out)
	}
	if opts.ResourceVersion == "" && !s.isHidden(ctx, key) {
		s.resolveUncertainForRead(ctx, key)
		s.refresh(ctx, key, false)
	}
	if err := s.backend.awaitRevision(ctx, revision); err != nil {
		return err
	}
	e := s.view.get(key)
	switch {
	case e != nil && !s.isHidden(ctx, key):
		if l := listingOf(ctx); l != nil {
			l.objects = append(l.objects, e.listed(s.backend.encodings))
			return nil
		}
		return copyInto(out, e.obj)
	case opts.IgnoreNotFound:
		return runtime.SetZeroValue(out)
	}
	return apistorage.NewKeyNotFoundError(key, 0)
}

func (s *Store) parse(resourceVersion string) (uint64, error) {
	revision, err := s.versioner.ParseResourceVersion(resourceVersion)
	if err != nil {
		return 0, apierrors.NewBadRequest(fmt.Sprintf("invalid resource version: %v", err))
	}
	return revision, nil
}

// refresh makes the view of what is under key the most recent state. If that
// cannot be had in time the client is warned; the view still answers.
func (s *Store) refresh(ctx context.Context, key string, recursive bool) {
	f := s.backend.refresher.Load()
	if _, isStatic := s.projector.(Static); f == nil || s.projector == nil || isStatic {
		return
	}
	limited, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer s.backend.refreshing.Add(-1)
	if s.backend.refreshing.Add(1) > maxRefreshing {
		cancel(errTooManyRefreshes)
	}
	since, cause := (*f).Refresh(limited, s.scope(key, recursive))
	if errors.Is(cause, context.Canceled) && ctx.Err() == nil {
		cause = errTooManyRefreshes
	}
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

// scope is what a read of key is about to see.
func (s *Store) scope(key string, recursive bool) Scope {
	rest := strings.TrimPrefix(key, s.prefix)
	namespace, _, _ := strings.Cut(rest, "/")
	if _, recordsOnly := s.projector.(RecordsOnly); recordsOnly {
		namespace = ""
	} else if recursive && rest == "" {
		return Scope{AllNamespaces: true}
	}
	if !recursive {
		if e := s.view.get(key); e != nil {
			return Scope{Refs: e.metalRefs()}
		}
		return Scope{Namespace: namespace}
	}
	scope := Scope{Namespace: namespace}
	t, _, _ := s.view.current(&s.backend.revisions)
	seen := map[metal.Ref]struct{}{}
	ascend(t, key, "", func(e *entry) bool {
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

// metalRefs is what the object shows.
func (e *entry) metalRefs() []metal.Ref {
	if e.rec == nil {
		return []metal.Ref{e.ref}
	}
	return slices.Clone(e.rec.refs)
}
