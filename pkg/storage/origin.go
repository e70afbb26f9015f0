// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	apistorage "k8s.io/apiserver/pkg/storage"
)

// completePause is the pause between two records that are completed: each is a
// write, and a change that is shown to all who watch the object.
const completePause = 100 * time.Millisecond

// Origin is what a record says of the Namespace that it is of. It does not change
// once it is known: a Namespace of another uid is another one, even if it has the
// name. The zero value is that of a record that says nothing, as of an older
// server, or of one without Namespaces.
type Origin struct {
	// UID is the Namespace's.
	UID types.UID `json:"uid"`
	// Project is the project that the Namespace was bound to.
	Project string `json:"project"`
}

// origin is what the record at key is to say: what it says already, or else what
// is known of its namespace. An object that is older than the Namespace may be of
// an earlier one.
func (s *Store) origin(key string, cur *entry) Origin {
	switch {
	case cur != nil && cur.rec.origin != Origin{}:
		return cur.rec.origin
	case s.backend == nil || s.backend.origin == nil:
		return Origin{}
	}
	origin, since := s.backend.origin(namespaceOf(s.prefix, key))
	if cur != nil {
		if m, err := meta.Accessor(cur.rec.obj); err != nil || m.GetCreationTimestamp().Time.Before(since) {
			return Origin{}
		}
	}
	return origin
}

// Origins returns all that records say of the Namespaces that they are of, by
// name: of most one thing, and nothing of those whose records say nothing. Before
// the start it is nothing.
func (b *Backend) Origins() map[string][]Origin {
	b.mu.Lock()
	stores := b.stores
	b.mu.Unlock()
	type said struct {
		namespace string
		origin    Origin
	}
	seen, origins := map[said]struct{}{}, map[string][]Origin{}
	for _, s := range stores {
		t, _, _ := s.view.current(&b.revisions)
		ascend(t, s.prefix, "", func(e *entry) bool {
			if e.rec == nil || e.rec.origin == (Origin{}) {
				return true
			}
			says := said{namespaceOf(s.prefix, e.key), e.rec.origin}
			if _, known := seen[says]; !known {
				seen[says] = struct{}{}
				origins[says.namespace] = append(origins[says.namespace], says.origin)
			}
			return true
		})
	}
	return origins
}

// CompleteOrigins writes into records that say nothing of their Namespace, as
// those of an older server, what is known of it by now: one after the other, with
// pauses. It returns with the first error of a write, when ctx ends, and at once
// if this process is not the one that answers.
func (b *Backend) CompleteOrigins(ctx context.Context) error {
	b.mu.Lock()
	stores := b.stores
	b.mu.Unlock()
	mayWrite := func() bool { return b.checkServing() == nil && b.CheckWritable() == nil }
	if !mayWrite() {
		return nil
	}
	for _, s := range stores {
		for _, key := range s.incomplete() {
			if !mayWrite() {
				return nil
			}
			if err := s.completeOrigin(ctx, key); err != nil {
				return fmt.Errorf("failed to complete record %s: %w", key, err)
			}
			timer := b.clock.NewTimer(completePause)
			select {
			case <-timer.C():
			case <-ctx.Done():
				timer.Stop()
				return ctx.Err()
			}
		}
	}
	return nil
}

// incomplete are the keys of records that could say more of their Namespace.
func (s *Store) incomplete() (keys []string) {
	t, _, _ := s.view.current(&s.backend.revisions)
	ascend(t, s.prefix, "", func(e *entry) bool {
		if e.rec != nil && e.rec.origin != s.origin(e.key, e) {
			keys = append(keys, e.key)
		}
		return true
	})
	return keys
}

// completeOrigin writes the record at key as it is.
func (s *Store) completeOrigin(ctx context.Context, key string) error {
	asItIs := apistorage.SimpleUpdate(func(obj runtime.Object) (runtime.Object, error) { return obj, nil })
	err := s.GuaranteedUpdate(ctx, key, s.newFunc(), false, nil, asItIs, nil)
	if apistorage.IsNotFound(err) {
		return nil
	}
	return err
}
