// SPDX-License-Identifier: Apache-2.0

package storage

import "k8s.io/apimachinery/pkg/runtime/schema"

// ReprojectResource projects every record of one resource again, because something
// other than metal has changed. Objects whose projection is unchanged get no event and
// no revision.
func (b *Backend) ReprojectResource(resource schema.GroupResource) {
	s := b.Store(resource)
	if s == nil || s.projector == nil {
		return
	}
	var places []storeKey
	b.mu.Lock()
	ascend(s.view.tree, s.prefix, "", func(e *entry) bool {
		places = append(places, storeKey{s, e.key})
		return true
	})
	b.mu.Unlock()
	for _, p := range places {
		if !b.commitOne(func(c *changeSet) { c.reproject(p) }) {
			return
		}
	}
}
