// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
)

// MayHaveRecords returns whether a namespace has an object with a record, of any
// resource, or may have one because of an uncertain write.
func (b *Backend) MayHaveRecords(namespace string) bool {
	for _, p := range b.uncertain.keys() {
		if strings.HasPrefix(p.key, p.store.prefix+namespace+"/") {
			return true
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.stores {
		found := false
		ascend(s.view.tree, s.prefix+namespace+"/", "", func(e *entry) bool {
			found = e.rec != nil
			return !found
		})
		if found {
			return true
		}
	}
	return false
}

// OldestCreationTime returns the creationTimestamp of the oldest object of a namespace that
// has a record; zero if there is none.
func (b *Backend) OldestCreationTime(namespace string) (oldest time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.stores {
		ascend(s.view.tree, s.prefix+namespace+"/", "", func(e *entry) bool {
			if e.rec == nil {
				return true
			}
			if m, err := meta.Accessor(e.rec.obj); err == nil {
				if created := m.GetCreationTimestamp().Time; oldest.IsZero() || created.Before(oldest) {
					oldest = created
				}
			}
			return true
		})
	}
	return oldest
}
