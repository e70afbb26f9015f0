package storage

import "k8s.io/apimachinery/pkg/runtime/schema"

// RejoinResource joins every record of one resource again, because something
// has changed that is no metal. Objects that are not seen to change get no
// event and no revision.
func (b *Backend) RejoinResource(resource schema.GroupResource) {
	s := b.Store(resource)
	if s == nil || s.joiner == nil {
		return
	}
	var places []place
	b.mu.Lock()
	ascend(s.view.tree, s.prefix, "", func(e *entry) bool {
		places = append(places, place{s, e.key})
		return true
	})
	b.mu.Unlock()
	for _, p := range places {
		if !b.commitOne(func(c *commitment) { c.reproject(p) }) {
			return
		}
	}
}
