// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"cmp"
	"slices"

	"k8s.io/apimachinery/pkg/runtime"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// dependent is what shows the holders of metal: the record at a key, or what is discovered of a ref.
type dependent struct {
	store *Store
	key   string
	ref   metal.Ref
}

// holderIndex knows the records by which metal is held, and what shows them. It is guarded by the
// backend's mu.
type holderIndex struct {
	// records are those that name metal.
	records map[storeKey]*record
	// requested are the refs whose holders were requested since the last call of track.
	requested []metal.Ref
	// refs are those whose holders a dependent shows, and dependents the inverse.
	refs       map[dependent][]metal.Ref
	dependents map[metal.Ref][]dependent
}

func newHolderIndex() holderIndex {
	return holderIndex{records: map[storeKey]*record{}, refs: map[dependent][]metal.Ref{}, dependents: map[metal.Ref][]dependent{}}
}

// setRecord makes rec, or nil for none, the record at a place.
func (h *holderIndex) setRecord(p storeKey, rec *record) {
	if rec == nil || len(rec.refs) == 0 {
		delete(h.records, p)
		return
	}
	h.records[p] = rec
}

// track notes that d shows the holders that were requested since the last call.
func (h *holderIndex) track(d dependent) {
	requested := h.requested
	h.requested = h.requested[:0]
	old := h.refs[d]
	if slices.Equal(old, requested) {
		return
	}
	for _, ref := range old {
		removeValue(h.dependents, ref, d)
	}
	if len(requested) == 0 {
		delete(h.refs, d)
		return
	}
	h.refs[d] = slices.Clone(requested)
	for _, ref := range requested {
		h.dependents[ref] = append(h.dependents[ref], d)
	}
}

// holders returns the records that name ref, for a HolderAware projector.
func (b *Backend) holders(ref metal.Ref) []runtime.Object {
	h := &b.index.holders
	if !slices.Contains(h.requested, ref) {
		h.requested = append(h.requested, ref)
	}
	places := slices.Clone(b.index.recordsByRef[ref])
	slices.SortFunc(places, func(a, b storeKey) int {
		return cmp.Or(cmp.Compare(a.store.ledgerPrefix, b.store.ledgerPrefix), cmp.Compare(a.key, b.key))
	})
	var objs []runtime.Object
	for _, p := range places {
		if rec := h.records[p]; rec != nil {
			objs = append(objs, rec.obj)
		}
	}
	return objs
}

// markDependents notes that the holders of refs changed.
func (c *changeSet) markDependents(refs ...[]metal.Ref) {
	for _, list := range refs {
		for _, ref := range list {
			c.dependents = append(c.dependents, c.b.index.holders.dependents[ref]...)
		}
	}
}

// refreshDependent projects again what shows holders.
func (c *changeSet) refreshDependent(d dependent) {
	if d.key != "" {
		c.reproject(storeKey{d.store, d.key})
		return
	}
	c.discover(d.store, d.ref)
}
