// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

type hiddenNamespacesKey struct{}

// WithHiddenNamespaces makes reads and writes reach the records of hidden namespaces, too.
// It is for the allocation protocol, which has to know every record, and not for
// what answers a request.
func WithHiddenNamespaces(ctx context.Context) context.Context {
	return context.WithValue(ctx, hiddenNamespacesKey{}, true)
}

// hiddenFrom are the namespaces of which nothing is shown in ctx.
func (b *Backend) hiddenFrom(ctx context.Context) map[string]struct{} {
	if b.hiddenNamespaces == nil || ctx.Value(hiddenNamespacesKey{}) != nil {
		return nil
	}
	return b.hiddenNamespaces()
}

// isHidden returns whether what is at key is in a hidden namespace.
func (s *Store) isHidden(ctx context.Context, key string) bool {
	hidden := s.backend.hiddenFrom(ctx)
	if len(hidden) == 0 || s.clusterScoped {
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

// HiddenNamespacesChanged makes clients list again, because Options.HiddenNamespaces answers
// otherwise than before: watches end, and none goes on from a revision up to
// here, whose events are about objects that are hidden now, or lack
// those that are shown now.
func (b *Backend) HiddenNamespacesChanged() {
	if !b.started.Load() || !b.awaitReserved() {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	revision := b.revisions.next()
	for _, s := range b.stores {
		s.view.beginEpoch(revision)
	}
	b.advanced.wake()
}

// beginEpoch forgets all events up to revision, and ends the watches that began
// before.
func (v *view) beginEpoch(revision uint64) {
	v.mu.Lock()
	v.ring.compact(revision)
	v.epoch++
	v.mu.Unlock()
	v.changed.wake()
}

// currentEpoch is which of the times between calls of beginEpoch it is.
func (v *view) currentEpoch() uint64 {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.epoch
}

// epochEndedError is why watches of an earlier epoch end.
func epochEndedError() error {
	return apierrors.NewResourceExpired("set of visible namespaces changed: relist")
}
