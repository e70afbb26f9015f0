// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"slices"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// storeKey is where an object is, or would be: a key in a store.
type storeKey struct {
	store *Store
	key   string
}

// discoveredKey is metal in a store that shows it as long as no record refers to it.
type discoveredKey struct {
	store *Store
	ref   metal.Ref
}

// index knows which record names which metal, over all resources. It is
// guarded by the backend's mu.
type index struct {
	// recordsByRef are the records that name a ref: they are projected again when it
	// changes, and metal that they refer to is not discovered.
	recordsByRef map[metal.Ref][]storeKey
	// changedRefs are the keys of recordsByRef that were added or removed last, and
	// changedRefsStart is the position of the first of them.
	changedRefs      []metal.Ref
	changedRefsStart uint64
	// observed is all metal that was ever reported as changed: it may have to be shown
	// later without a change of its own, such as when its project is bound to a
	// Namespace.
	observed map[metal.Ref]struct{}
	// discoveredAt is where metal is shown that no record refers to.
	discoveredAt map[discoveredKey]string
	// discoveredRefs are the refs of discoverable metal: it is shown while no record has
	// one of them. discoveredByRef is the inverse.
	discoveredRefs  map[discoveredKey][]metal.Ref
	discoveredByRef map[metal.Ref][]discoveredKey
	// shadowed is metal that is not shown because its key is taken.
	shadowed   map[storeKey][]metal.Ref
	holders    holderIndex
	expansions expansions
}

// maxChangedRefs is how many changes of recordsByRef are remembered.
const maxChangedRefs = 4096

func newIndex() index {
	return index{
		recordsByRef: map[metal.Ref][]storeKey{},
		// Positions begin with 1, so that 0 is none.
		changedRefsStart: 1,

		observed:        map[metal.Ref]struct{}{},
		discoveredAt:    map[discoveredKey]string{},
		discoveredRefs:  map[discoveredKey][]metal.Ref{},
		discoveredByRef: map[metal.Ref][]discoveredKey{},
		shadowed:        map[storeKey][]metal.Ref{},
		holders:         newHolderIndex(),
		expansions:      newExpansions(),
	}
}

// isReferenced reports whether a record names one of refs.
func (i *index) isReferenced(refs []metal.Ref) bool {
	for _, ref := range refs {
		if len(i.recordsByRef[ref]) > 0 {
			return true
		}
	}
	return false
}

// setRefs replaces the refs that the record at p names, and returns those that
// it names no more or names now.
func (i *index) setRefs(p storeKey, from, to []metal.Ref) []metal.Ref {
	var changed []metal.Ref
	for _, ref := range from {
		if !slices.Contains(to, ref) {
			removeValue(i.recordsByRef, ref, p)
			if len(i.recordsByRef[ref]) == 0 {
				i.logChangedRef(ref)
			}
			changed = append(changed, ref)
		}
	}
	for _, ref := range to {
		if !slices.Contains(from, ref) && !slices.Contains(i.recordsByRef[ref], p) {
			i.recordsByRef[ref] = append(i.recordsByRef[ref], p)
			if len(i.recordsByRef[ref]) == 1 {
				i.logChangedRef(ref)
			}
			changed = append(changed, ref)
		}
	}
	return changed
}

func (i *index) logChangedRef(ref metal.Ref) {
	if len(i.changedRefs) == maxChangedRefs {
		i.changedRefs = slices.Delete(i.changedRefs, 0, maxChangedRefs/2)
		i.changedRefsStart += maxChangedRefs / 2
	}
	i.changedRefs = append(i.changedRefs, ref)
}

// forgetChangedRefs discards the history: no change since an earlier position is known.
func (i *index) forgetChangedRefs() {
	i.changedRefsStart = i.refsPosition() + 1
	i.changedRefs = nil
}

// refsPosition is the position after the latest change.
func (i *index) refsPosition() uint64 { return i.changedRefsStart + uint64(len(i.changedRefs)) }

// refsChangedSince returns the refs that were added or removed since position; false if
// that is not known.
func (i *index) refsChangedSince(position uint64) (changed []metal.Ref, ok bool) {
	if position < i.changedRefsStart || position > i.refsPosition() {
		return nil, false
	}
	return i.changedRefs[position-i.changedRefsStart:], true
}

// setDiscoveredRefs replaces the refs by which records refer to shown metal.
func (i *index) setDiscoveredRefs(m discoveredKey, refs []metal.Ref) {
	old := i.discoveredRefs[m]
	if slices.Equal(old, refs) {
		return
	}
	for _, ref := range old {
		removeValue(i.discoveredByRef, ref, m)
	}
	if len(refs) == 0 {
		delete(i.discoveredRefs, m)
		return
	}
	i.discoveredRefs[m] = slices.Clone(refs)
	for _, ref := range refs {
		if !slices.Contains(i.discoveredByRef[ref], m) {
			i.discoveredByRef[ref] = append(i.discoveredByRef[ref], m)
		}
	}
}

func removeValue[K, V comparable](m map[K][]V, key K, value V) {
	if i := slices.Index(m[key], value); i >= 0 {
		m[key] = slices.Delete(m[key], i, i+1)
	}
	if len(m[key]) == 0 {
		delete(m, key)
	}
}
