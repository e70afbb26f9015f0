package storage

import (
	"slices"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// place is where an object is, or would be: a key in a store.
type place struct {
	store *Store
	key   string
}

// shown is metal in a store that shows it as long as nobody claims it.
type shown struct {
	store *Store
	ref   metal.Ref
}

// index knows which record names which metal, over all resources. It is
// guarded by the backend's mu.
type index struct {
	// named are the records that name a ref: they are projected again when it
	// changes, and metal of which a claim is named is not discovered.
	named map[metal.Ref][]place
	// seen is all metal that was ever reported changed, for when it begins to
	// be shown for another reason than a change.
	seen map[metal.Ref]struct{}
	// at is where unclaimed metal is shown.
	at map[shown]string
	// claims are the refs by which metal that would be shown is claimed, and
	// dependents is their inverse.
	claims     map[shown][]metal.Ref
	dependents map[metal.Ref][]shown
	// shadowed is metal that is not shown because its key is taken.
	shadowed map[place][]metal.Ref
}

func newIndex() index {
	return index{
		named:      map[metal.Ref][]place{},
		seen:       map[metal.Ref]struct{}{},
		at:         map[shown]string{},
		claims:     map[shown][]metal.Ref{},
		dependents: map[metal.Ref][]shown{},
		shadowed:   map[place][]metal.Ref{},
	}
}

// claimed reports whether a record names one of claims.
func (x *index) claimed(claims []metal.Ref) bool {
	for _, claim := range claims {
		if len(x.named[claim]) > 0 {
			return true
		}
	}
	return false
}

// rename replaces the refs that the record at p names, and returns those that
// it names no more or names now.
func (x *index) rename(p place, from, to []metal.Ref) []metal.Ref {
	var changed []metal.Ref
	for _, ref := range from {
		if !slices.Contains(to, ref) {
			without(x.named, ref, p)
			changed = append(changed, ref)
		}
	}
	for _, ref := range to {
		if !slices.Contains(from, ref) && !slices.Contains(x.named[ref], p) {
			x.named[ref] = append(x.named[ref], p)
			changed = append(changed, ref)
		}
	}
	return changed
}

// depend replaces the claims of shown metal.
func (x *index) depend(m shown, claims []metal.Ref) {
	old := x.claims[m]
	if slices.Equal(old, claims) {
		return
	}
	for _, claim := range old {
		without(x.dependents, claim, m)
	}
	if len(claims) == 0 {
		delete(x.claims, m)
		return
	}
	x.claims[m] = slices.Clone(claims)
	for _, claim := range claims {
		if !slices.Contains(x.dependents[claim], m) {
			x.dependents[claim] = append(x.dependents[claim], m)
		}
	}
}

func without[K, V comparable](m map[K][]V, key K, value V) {
	if i := slices.Index(m[key], value); i >= 0 {
		m[key] = slices.Delete(m[key], i, i+1)
	}
	if len(m[key]) == 0 {
		delete(m, key)
	}
}
