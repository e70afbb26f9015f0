// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"slices"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// expansions are the refs as which others are shown. They are guarded by the backend's mu.
type expansions struct {
	// refs are those that a ref was expanded to, and origins the inverse.
	refs    map[discoveredKey][]metal.Ref
	origins map[discoveredKey]*metal.Ref
	// kinds are the kinds of expanded refs: one that is none any more is not shown.
	kinds map[metal.RefKind]struct{}
}

func newExpansions() expansions {
	return expansions{refs: map[discoveredKey][]metal.Ref{}, origins: map[discoveredKey]*metal.Ref{}, kinds: map[metal.RefKind]struct{}{}}
}

// isStale returns whether ref was expanded from another one, and is not any more.
func (x *expansions) isStale(m discoveredKey) bool {
	if _, expanded := x.kinds[m.ref.Kind]; !expanded {
		return false
	}
	return x.origins[m] == nil
}

// set replaces the refs that m is expanded to, and returns those that it is not expanded to any
// more.
func (x *expansions) set(m discoveredKey, next []metal.Ref) (removed []metal.Ref) {
	old := x.refs[m]
	if slices.Equal(old, next) {
		return nil
	}
	kept := make(map[metal.Ref]struct{}, len(next))
	for _, ref := range next {
		kept[ref] = struct{}{}
		x.kinds[ref.Kind] = struct{}{}
		x.origins[discoveredKey{m.store, ref}] = &m.ref
	}
	for _, ref := range old {
		if _, found := kept[ref]; !found {
			delete(x.origins, discoveredKey{m.store, ref})
			removed = append(removed, ref)
		}
	}
	if len(next) == 0 {
		delete(x.refs, m)
	} else {
		x.refs[m] = slices.Clone(next)
	}
	return removed
}

// discoverExpanded is discover for ref and all that it is expanded to.
func (c *changeSet) discoverExpanded(s *Store, ref metal.Ref) {
	c.discover(s, ref)
	expander, ok := s.projector.(Expander)
	if !ok {
		return
	}
	next := expander.Expand(ref)
	for _, removed := range c.b.index.expansions.set(discoveredKey{s, ref}, next) {
		c.discover(s, removed)
	}
	for _, r := range next {
		c.discover(s, r)
	}
}
