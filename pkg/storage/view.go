// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"strings"
	"sync"
	"time"

	"github.com/google/btree"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// treeDegree is that of the API server's own watch cache.
const treeDegree = 32

// entry is one object in the view. It is immutable, but for the reference to what
// watches send.
type entry struct {
	key     string
	obj     runtime.Object // projected, with its revision
	rec     *record        // nil if the object is discovered
	ref     metal.Ref      // of a discovered object
	origin  *metal.Ref     // that ref was expanded from, or nil
	caching cachingRef
}

// cacheable returns the object as all watches send it when it changes.
func (e *entry) cacheable(cache *encodingCache) *cachingEvent { return e.caching.eventOf(e.obj, cache) }

// listed returns the object as lists send it, whose encodings are kept.
func (e *entry) listed(cache *encodingCache) *cachingObject {
	o := e.caching.objectOf(e.obj, cache)
	o.kept.Store(true)
	return o
}

type tree = btree.BTreeG[*entry]

func newTree() *tree {
	return btree.NewG(treeDegree, func(a, b *entry) bool { return a.key < b.key })
}

// view is what is shown of one resource. Only the backend's commit changes it.
//
// Revisions are issued while mu is held for writing. So a holder of the read
// lock sees all events of the resource up to the revision issued last, by
// whichever resource, and none will come that has a lower one.
type view struct {
	mu      sync.RWMutex
	tree    *tree
	ring    ring
	shared  *tree // a clone of tree that readers share; nil after a change
	records int   // how many entries have a record
	bytes   int64 // the size of all records
	snaps   snapshots
	changed broadcast
	epoch   uint64 // counts beginEpoch
}

// get returns the entry at key, or nil.
func (v *view) get(key string) *entry {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.find(key)
}

// find is get for those who hold mu, or are the only one who changes the view.
func (v *view) find(key string) *entry {
	e, _ := v.tree.Get(&entry{key: key})
	return e
}

// current returns the view as it is, to be kept, with the revision that it is
// consistent at and the position of the next event.
func (v *view) current(revs *revisions) (t *tree, revision, position uint64) {
	v.mu.RLock()
	if v.shared != nil {
		defer v.mu.RUnlock()
		return v.shared, revs.last.Load(), v.ring.end()
	}
	v.mu.RUnlock()
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.clone(), revs.last.Load(), v.ring.end()
}

func (v *view) clone() *tree {
	if v.shared == nil {
		v.shared = v.tree.Clone()
	}
	return v.shared
}

// atRevision returns the view as it was at revision, which has been issued. It is
// false if that is not known any more.
func (v *view) atRevision(revision uint64) (*tree, bool) {
	v.mu.Lock()
	if snap := v.snaps.get(revision); snap != nil {
		v.mu.Unlock()
		return snap, true
	}
	position, ok := v.ring.after(revision)
	if !ok {
		v.mu.Unlock()
		return nil, false
	}
	undo := append([]*event(nil), v.ring.events[position-v.ring.start:]...)
	if len(undo) == 0 {
		defer v.mu.Unlock()
		return v.clone(), true
	}
	t := v.tree.Clone()
	v.mu.Unlock()
	for i := len(undo) - 1; i >= 0; i-- {
		if e := undo[i]; e.prev == nil {
			t.Delete(e.next)
		} else {
			t.ReplaceOrInsert(e.prev)
		}
	}
	return t, true
}

// keepSnapshot retains t, the view at revision, for those who page through it.
func (v *view) keepSnapshot(revision uint64, t *tree, now time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.snaps.add(revision, t, now)
}

// set puts next, which may be nil, in the place of prev, which may be nil, and
// appends the event. The caller holds mu.
func (v *view) set(e *event) {
	v.shared = nil
	if e.prev != nil && e.prev.rec != nil {
		v.records--
		v.bytes -= int64(e.prev.rec.size)
	}
	switch {
	case e.typ == watch.Deleted:
		v.tree.Delete(e.prev)
	default:
		v.tree.ReplaceOrInsert(e.next)
	}
	if e.next != nil && e.next.rec != nil {
		v.records++
		v.bytes += int64(e.next.rec.size)
	}
	v.ring.append(e)
	v.snaps.expire(e.at)
}

// ascend calls visit with the entries of t under prefix, from the key start on.
func ascend(t *tree, prefix, start string, visit func(*entry) bool) {
	t.AscendGreaterOrEqual(&entry{key: max(prefix, start)}, func(e *entry) bool {
		return strings.HasPrefix(e.key, prefix) && visit(e)
	})
}
