// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// discover shows ref in s if it is to be shown there and no record, of any
// resource, refers to it; otherwise it hides it.
func (c *changeSet) discover(s *Store, ref metal.Ref) {
	if s.projector == nil {
		return
	}
	x := &c.b.index
	m := discoveredKey{s, ref}
	var obj runtime.Object
	var refs []metal.Ref
	if !x.expansions.isStale(m) {
		obj, refs = c.discovered(s, ref)
	}
	x.holders.track(dependent{store: s, ref: ref})
	x.setDiscoveredRefs(m, refs)
	key, visible := "", obj != nil && !x.isReferenced(refs)
	if visible {
		key, visible = s.keyOf(obj)
	}
	if at, found := x.discoveredAt[m]; found && (!visible || at != key) {
		c.hide(s, c.find(s, at))
		c.unshadow(s, at)
	}
	if visible {
		c.show(m, key, obj)
	}
}

// discovered returns what Discovered does, but perhaps no object if a record has one of the
// refs.
func (c *changeSet) discovered(s *Store, ref metal.Ref) (runtime.Object, []metal.Ref) {
	if p, ok := s.projector.(DiscoveredRefs); ok {
		if refs := p.DiscoveredRefs(ref); c.b.index.isReferenced(refs) {
			return nil, refs
		}
	}
	return s.projector.Discovered(ref)
}

func (c *changeSet) show(m discoveredKey, key string, obj runtime.Object) {
	x := &c.b.index
	prev := c.find(m.store, key)
	if prev != nil && (prev.rec != nil || prev.ref != m.ref) {
		p := storeKey{m.store, key}
		removeValue(x.shadowed, p, m.ref)
		x.shadowed[p] = append(x.shadowed[p], m.ref)
		return
	}
	if prev != nil && same(prev.obj, obj) {
		return
	}
	x.discoveredAt[m] = key
	c.put(m.store, &entry{key: key, ref: m.ref, origin: x.expansions.origins[m], obj: obj})
}

// hide removes a discovered object.
func (c *changeSet) hide(s *Store, e *entry) {
	delete(c.b.index.discoveredAt, discoveredKey{s, e.ref})
	c.remove(s, e)
}

// unshadow lets metal be shown whose key was taken.
func (c *changeSet) unshadow(s *Store, key string) {
	p := storeKey{s, key}
	c.affected = append(c.affected, c.b.index.shadowed[p]...)
	delete(c.b.index.shadowed, p)
}

// markAffected notes that the references to ref changed.
func (c *changeSet) markAffected(ref metal.Ref) {
	c.affected = append(c.affected, ref)
	for _, m := range c.b.index.discoveredByRef[ref] {
		c.affected = append(c.affected, m.ref)
	}
}

// propagate projects everything that was affected, and what that affects.
func (c *changeSet) propagate() {
	for len(c.affected) > 0 || len(c.dependents) > 0 {
		if len(c.affected) == 0 {
			d := c.dependents[0]
			c.dependents = c.dependents[1:]
			c.refreshDependent(d)
			continue
		}
		ref := c.affected[0]
		c.affected = c.affected[1:]
		for _, s := range c.b.stores {
			c.discover(s, ref)
		}
	}
}

// isPathSegment returns whether a name can be that of an object, in its URL and in its key.
func isPathSegment(name string) bool {
	return name != "" && name != "." && name != ".." && !strings.ContainsAny(name, "/%")
}

// keyOf is the key of an object that is shown without a record.
func (s *Store) keyOf(obj runtime.Object) (string, bool) {
	m, err := meta.Accessor(obj)
	if err != nil || !isPathSegment(m.GetName()) || s.clusterScoped != (m.GetNamespace() == "") {
		return "", false
	}
	if s.clusterScoped {
		return s.prefix + m.GetName(), true
	}
	return s.prefix + m.GetNamespace() + "/" + m.GetName(), true
}
