// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
)

// Records returns the objects that have a record, of all namespaces, as they are shown at the
// moment. They are shared: do not modify them.
func (s *Store) Records(ctx context.Context) ([]runtime.Object, error) {
	if err := s.backend.checkServing(); err != nil {
		return nil, err
	}
	t, _, _ := s.view.current(&s.backend.revisions)
	hidden := s.backend.hiddenFrom(ctx)
	objs := make([]runtime.Object, 0, t.Len())
	ascend(t, s.prefix, "", func(e *entry) bool {
		if _, hides := hidden[namespaceOf(s.prefix, e.key)]; e.rec != nil && !hides {
			objs = append(objs, e.obj)
		}
		return true
	})
	return objs, nil
}

// Changes returns which objects changed, by a write or because of metal, since a call that returned
// position, and the next position. The first call has position 0. It is false if there may be
// more: then all objects are to be read.
func (s *Store) Changes(position uint64) (changed []types.NamespacedName, next uint64, ok bool) {
	s.view.mu.RLock()
	defer s.view.mu.RUnlock()
	// Positions begin with 1 here, so that 0 is none.
	next = s.view.ring.end() + 1
	if position == 0 || position-1 < s.view.ring.start {
		return nil, next, false
	}
	for _, e := range s.view.ring.events[position-1-s.view.ring.start:] {
		namespace, name, _ := strings.Cut(strings.TrimPrefix(e.key, s.prefix), "/")
		changed = append(changed, types.NamespacedName{Namespace: namespace, Name: name})
	}
	return changed, next, true
}
