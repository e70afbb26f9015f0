// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"slices"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// expansions are the refs as which others are shown. They are guarded by the backend's mu.
type expansions struct {
	// expanded is what a ref was expanded to, and origins the inverse.
	expanded map[discoveredKey][]metal.ExpandedRef
	origins  map[discoveredKey]*metal.Ref
	// kinds are the kinds of expanded refs: one that is none any more is not shown.
	kinds map[metal.RefKind]struct{}
}

func newExpansions() expansions {
	return expansions{expanded: map[discoveredKey][]metal.ExpandedRef{}, origins: map[discoveredKey]*metal.Ref{}, kinds: map[metal.RefKind]struct{}{}}
}

// isStale returns whether ref was expanded from another one, and is not any more.
func (x *expansions) isStale(m discoveredKey) bool {
	if _, expanded := x.kinds[m.ref.Kind]; !expanded {
		return false
	}
	return x.origins[m] == nil
}

// set replaces what m is expanded to, and returns the refs of what differs from before; what m is
// not expanded to any more comes first: its name is free for what is.
func (x *expansions) set(m discoveredKey, next []metal.ExpandedRef) (changed []metal.Ref) {
	old := x.expanded[m]
	if slices.Equal(old, next) {
		return nil
	}
	before := make(map[metal.Ref]metal.ExpandedRef, len(old))
	for _, e := range old {
		before[e.Ref] = e
	}
	var differs []metal.Ref
	for _, e := range next {
		if was, found := before[e.Ref]; !found || was != e {
			differs = append(differs, e.Ref)
		}
		delete(before, e.Ref)
		x.kinds[e.Ref.Kind] = struct{}{}
		x.origins[discoveredKey{m.store, e.Ref}] = &m.ref
	}
	for _, e := range old {
		if _, removed := before[e.Ref]; removed {
			delete(x.origins, discoveredKey{m.store, e.Ref})
			changed = append(changed, e.Ref)
		}
	}
	if len(next) == 0 {
		delete(x.expanded, m)
	} else {
		x.expanded[m] = slices.Clone(next)
	}
	return append(changed, differs...)
}

// discoverExpanded is discover for ref, and for what it is expanded to as far as that has changed.
func (c *changeSet) discoverExpanded(s *Store, ref metal.Ref) {
	c.discover(s, ref)
	expander, ok := s.projector.(Expander)
	if !ok {
		return
	}
	for _, changed := range c.b.index.expansions.set(discoveredKey{s, ref}, expander.Expand(ref)) {
		c.discover(s, changed)
	}
}
