package storage

import "strings"

// Holds tells whether a namespace has an object with a record, of whatever
// resource, or may have one, because it is not known what became of a write.
func (b *Backend) Holds(namespace string) bool {
	for _, p := range b.doubts.places() {
		if strings.HasPrefix(p.key, p.store.prefix+namespace+"/") {
			return true
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.stores {
		holds := false
		ascend(s.view.tree, s.prefix+namespace+"/", "", func(e *entry) bool {
			holds = e.rec != nil
			return !holds
		})
		if holds {
			return true
		}
	}
	return false
}
