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
	"metal-stack.io/infrastructure-apiserver/pkg/oneline"
)

const (
	// revisionPatience is how long a read waits for a revision that was not
	// issued yet.
	revisionPatience = 3 * time.Second
	// revisionRetrySeconds is what its client is told after that.
	revisionRetrySeconds = 1
	// maxWaiting is how many reads and watches may wait for a revision at a time.
	// Any client can ask for one that will not be issued, and each that waits
	// takes one of the server's requests in flight (400 that read).
	maxWaiting = 50
	// maxConfirming is how many reads and watches may wait for a look at metal at
	// a time, half of the requests in flight. Those beyond it are answered as
	// they are when a look takes too long: with a warning.
	maxConfirming = 200
)

// errTooManyConfirm is why a read is not confirmed.
var errTooManyConfirm = errors.New("too many requests wait for the metal-api: try again")

// Get implements storage.Interface. A resource version of "" is the most
// recent state, "0" the view as it is, and N the view as soon as it has
// reached N.
func (s *Store) Get(ctx context.Context, key string, opts apistorage.GetOptions, out runtime.Object) error {
	key, err := s.enter(key, false)
	if err != nil {
		return err
	}
	revision, err := s.parse(opts.ResourceVersion)
	if err != nil {
		return err
	}
	if opts.ResourceVersion == "" && insteadOfWrite(ctx) {
		return s.getForWrite(ctx, key, opts, out)
	}
	if opts.ResourceVersion == "" && !s.hides(ctx, key) {
		s.settleForRead(ctx, key)
		s.confirm(ctx, key, false)
	}
	if err := s.backend.reached(ctx, revision); err != nil {
		return err
	}
	e := s.view.get(key)
	switch {
	case e != nil && !s.hides(ctx, key):
		return fill(out, e.obj)
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

// confirm makes the view of what is under key the most recent state. If that
// cannot be had in time the client is warned; the view still answers.
func (s *Store) confirm(ctx context.Context, key string, recursive bool) {
	f := s.backend.freshener.Load()
	if _, metalless := s.joiner.(Metalless); f == nil || s.joiner == nil || metalless {
		return
	}
	limited, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer s.backend.confirming.Add(-1)
	if s.backend.confirming.Add(1) > maxConfirming {
		cancel(errTooManyConfirm)
	}
	since, cause := (*f).Confirm(limited, s.scope(key, recursive))
	if errors.Is(cause, context.Canceled) && ctx.Err() == nil {
		cause = errTooManyConfirm
	}
	if cause == nil {
		return
	}
	unconfirmedReads.WithLabelValues(s.resource.Resource).Inc()
	if since.IsZero() {
		oneline.Warn(ctx, "%s: the state was never confirmed: %v", s.resource.Resource, cause)
		return
	}
	oneline.Warn(ctx, "%s: the state is unconfirmed since %s: %v", s.resource.Resource, since.UTC().Format(time.RFC3339), cause)
}

// scope is what a read of key is about to see.
func (s *Store) scope(key string, recursive bool) Scope {
	rest := strings.TrimPrefix(key, s.prefix)
	if recursive && rest == "" {
		return Scope{Fleet: true}
	}
	namespace, _, _ := strings.Cut(rest, "/")
	if !recursive {
		if e := s.view.get(key); e != nil {
			return Scope{Refs: e.metal()}
		}
		return Scope{Namespace: namespace}
	}
	scope := Scope{Namespace: namespace}
	t, _, _ := s.view.now(&s.backend.revisions)
	seen := map[metal.Ref]struct{}{}
	ascend(t, key, "", func(e *entry) bool {
		for _, ref := range e.metal() {
			if _, found := seen[ref]; !found {
				seen[ref] = struct{}{}
				scope.Refs = append(scope.Refs, ref)
			}
		}
		return true
	})
	return scope
}

// metal is what the object shows.
func (e *entry) metal() []metal.Ref {
	if e.rec == nil {
		return []metal.Ref{e.ref}
	}
	return slices.Clone(e.rec.refs)
}
