// SPDX-License-Identifier: Apache-2.0

package storage

import (
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// changeSet is a set of changes that become visible together, in each store
// at once. It is the only way into a view, for writes and for observations
// alike. It is made and published under the backend's mu.
type changeSet struct {
	b       *Backend
	changes []change
	// affected are refs that are referred to by other records than before, and which are not projected again
	// yet.
	affected []metal.Ref
	// dependents show holders that changed, and are not projected again yet.
	dependents []dependent
}

// change puts next in the place of prev; either may be nil.
type change struct {
	store      *Store
	prev, next *entry
	published  *event
}

func (b *Backend) newChangeSet() *changeSet { return &changeSet{b: b} }

// find is what will be at key.
func (c *changeSet) find(s *Store, key string) *entry {
	for i := len(c.changes) - 1; i >= 0; i-- {
		switch ch := c.changes[i]; {
		case ch.store != s:
		case ch.next != nil && ch.next.key == key:
			return ch.next
		case ch.next == nil && ch.prev.key == key:
			return nil
		}
	}
	return s.view.find(key)
}

// put replaces what is at next.key. An object of the same name that is another
// one, by its uid, takes its predecessor's place only after that is seen to go.
func (c *changeSet) put(s *Store, next *entry) {
	prev := c.find(s, next.key)
	if prev != nil && !sameUID(prev.obj, next.obj) {
		c.changes = append(c.changes, change{store: s, prev: prev})
		prev = nil
	}
	c.changes = append(c.changes, change{store: s, prev: prev, next: next})
}

func (c *changeSet) remove(s *Store, prev *entry) {
	c.changes = append(c.changes, change{store: s, prev: prev})
}

// putRecord makes rec, which may be nil, the record at key.
func (c *changeSet) putRecord(s *Store, key string, rec *record) {
	prev := c.find(s, key)
	var was, is []metal.Ref
	var previous runtime.Object
	if prev != nil && prev.rec != nil {
		was, previous = prev.rec.refs, prev.obj
	}
	if rec != nil {
		is = s.refs(rec.obj)
		rec.refs = is
	}
	// The references come first: so what is projected below sees them.
	changed := c.b.index.setRefs(storeKey{s, key}, was, is)
	c.b.index.holders.setRecord(storeKey{s, key}, rec)
	switch {
	case rec != nil:
		if prev != nil && prev.rec == nil {
			c.hide(s, prev)
			c.affected = append(c.affected, prev.ref)
		}
		c.put(s, &entry{key: key, rec: rec, obj: s.project(key, rec.obj, previous)})
	case prev != nil && prev.rec != nil:
		c.remove(s, prev)
		c.b.index.holders.track(dependent{store: s, key: key})
		c.unshadow(s, key)
	}
	for _, ref := range changed {
		c.markAffected(ref)
	}
	c.markDependents(is, changed)
}

// reproject projects the record at a place again, and changes nothing if nothing
// is seen to change.
func (c *changeSet) reproject(p storeKey) {
	prev := c.find(p.store, p.key)
	if prev == nil || prev.rec == nil {
		return
	}
	obj := p.store.project(p.key, prev.rec.obj, prev.obj)
	if same(prev.obj, obj) {
		return
	}
	c.put(p.store, &entry{key: p.key, rec: prev.rec, obj: obj})
}

// same compares what is shown with what would be, which it may modify.
func same(shown, next runtime.Object) bool {
	setRevision(next, revisionOf(shown))
	return apiequality.Semantic.DeepEqual(shown, next)
}

// publish issues the revisions, changes the views, and wakes who waits.
func (c *changeSet) publish() {
	c.propagate()
	for i := range c.changes {
		if c.changes[i].published == nil {
			c.publishStore(c.changes[i].store)
		}
	}
	if len(c.changes) > 0 {
		c.b.advanced.wake()
	}
}

func (c *changeSet) publishStore(s *Store) {
	now := c.b.clock.Now()
	s.view.mu.Lock()
	for i := range c.changes {
		ch := &c.changes[i]
		if ch.store != s {
			continue
		}
		e := &event{revision: c.b.revisions.next(), at: now, prev: ch.prev, next: ch.next}
		switch {
		case ch.next == nil:
			e.typ, e.key, e.obj = watch.Deleted, ch.prev.key, s.versioned(ch.prev.obj, e.revision)
		case ch.prev == nil:
			e.typ, e.key, e.obj = watch.Added, ch.next.key, ch.next.obj
		default:
			e.typ, e.key, e.obj = watch.Modified, ch.next.key, ch.next.obj
		}
		if ch.next != nil {
			s.setVersion(ch.next.obj, e.revision)
		}
		s.view.set(e)
		switch {
		case ch.prev == nil:
			c.b.encodings.objects.Add(1)
		case ch.next == nil:
			c.b.encodings.objects.Add(-1)
		}
		if ch.prev != nil {
			c.b.encodings.drop(ch.prev.caching.existing())
		}
		ch.published = e
		commits.WithLabelValues(s.resource.Resource, string(e.typ)).Inc()
	}
	s.view.mu.Unlock()
	s.view.changed.wake()
}

// commitRecord makes rec, or nil for none, the record at key, and returns the
// object as it is shown now, or as it was deleted.
func (b *Backend) commitRecord(s *Store, key string, rec *record) runtime.Object {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.newChangeSet()
	c.putRecord(s, key, rec)
	c.publish()
	for _, ch := range c.changes {
		if ch.store == s && ch.published.key == key && (ch.next != nil) == (rec != nil) {
			return ch.published.obj
		}
	}
	return nil
}
