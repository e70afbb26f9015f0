package storage

import (
	"context"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

type withHiddenKey struct{}

// WithHidden makes reads and writes reach the records of hidden namespaces, too.
// It is for the allocation protocol, which has to know every record, and not for
// what answers a request.
func WithHidden(ctx context.Context) context.Context {
	return context.WithValue(ctx, withHiddenKey{}, true)
}

// hidden are the namespaces of which nothing is shown in ctx.
func (b *Backend) hidden(ctx context.Context) map[string]struct{} {
	if b.hiddenNamespaces == nil || ctx.Value(withHiddenKey{}) != nil {
		return nil
	}
	return b.hiddenNamespaces()
}

// hides tells whether what is at key is in a hidden namespace.
func (s *Store) hides(ctx context.Context, key string) bool {
	hidden := s.backend.hidden(ctx)
	if len(hidden) == 0 {
		return false
	}
	_, hides := hidden[namespaceOf(s.prefix, key)]
	return hides
}

// namespaceOf is the namespace of a key.
func namespaceOf(prefix, key string) string {
	namespace, _, _ := strings.Cut(strings.TrimPrefix(key, prefix), "/")
	return namespace
}

// HiddenChanged makes clients list again, because Options.Hidden answers
// otherwise than before: watches end, and none goes on from a revision up to
// here, whose events tell of objects that are hidden now, or tell nothing of
// those that are shown now.
func (b *Backend) HiddenChanged() {
	if !b.started.Load() || !b.awaitRevisions() {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	revision := b.revisions.take()
	for _, s := range b.stores {
		s.view.startAnew(revision)
	}
	b.advanced.wake()
}

// startAnew forgets all events up to revision, and ends the watches that began
// before.
func (v *view) startAnew(revision uint64) {
	v.mu.Lock()
	v.ring.compact(revision)
	v.era++
	v.mu.Unlock()
	v.changed.wake()
}

// currentEra is which of the times between calls of startAnew it is.
func (v *view) currentEra() uint64 {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.era
}

// errOtherEra tells a client why its watch ends.
func errOtherEra() error {
	return apierrors.NewResourceExpired("the set of visible namespaces has changed; list again")
}
