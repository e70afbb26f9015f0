// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"slices"
	"strings"

	"k8s.io/klog/v2"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// MetalChanged takes over what is newly known about refs. When it returns,
// every view shows it. Objects that are not seen to change get no event and no
// revision. The caller must hold no lock that a Projector takes.
//
// While no revision can be reserved in the ledger it waits, until the backend
// stops. After a record of a newer format was met it changes nothing. Before the
// start it only remembers that there is such metal.
func (b *Backend) MetalChanged(refs []metal.Ref) {
	for _, ref := range refs {
		if !b.awaitReserved() {
			return
		}
		b.metalChanged(ref)
	}
}

func (b *Backend) metalChanged(ref metal.Ref) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if ref.Kind != metal.KindUID && ref.Kind != metal.KindAllocation {
		b.index.observed[ref] = struct{}{} // an identity alone is never shown
	}
	if !b.started.Load() {
		return
	}
	c := b.newChangeSet()
	c.refreshMetal(ref)
	// Metal that carries an identity changes what is known of that, too.
	for _, s := range b.stores {
		for _, other := range b.index.discoveredRefs[discoveredKey{s, ref}] {
			c.refreshRecords(other)
		}
	}
	c.publish()
}

func (c *changeSet) refreshMetal(ref metal.Ref) {
	c.refreshRecords(ref)
	for _, s := range c.b.stores {
		c.discoverExpanded(s, ref)
	}
}

func (c *changeSet) refreshRecords(ref metal.Ref) {
	for _, p := range c.b.index.recordsByRef[ref] {
		c.reproject(p)
	}
}

// ReprojectNamespace projects everything in a namespace again, including what is
// discovered, because the namespace's binding changed.
func (b *Backend) ReprojectNamespace(namespace string) { b.reproject(namespace + "/") }

// ReprojectAll is ReprojectNamespace for all namespaces.
func (b *Backend) ReprojectAll() { b.reproject("") }

func (b *Backend) reproject(namespace string) {
	if b.checkServing() != nil {
		return
	}
	var places []storeKey
	var refs []metal.Ref
	func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, s := range b.stores {
			if s.projector == nil {
				continue
			}
			ascend(s.view.tree, s.prefix+namespace, "", func(e *entry) bool {
				places = append(places, storeKey{s, e.key})
				return true
			})
		}
		for ref := range b.index.observed {
			refs = append(refs, ref)
		}
	}()
	slices.SortFunc(refs, func(a, b metal.Ref) int {
		return strings.Compare(string(a.Kind)+a.ID, string(b.Kind)+b.ID)
	})
	// One at a time: writers do not wait for the whole fleet.
	for _, p := range places {
		if !b.commitOne(func(c *changeSet) { c.reproject(p) }) {
			return
		}
	}
	for _, ref := range refs {
		ok := b.commitOne(func(c *changeSet) {
			for _, s := range b.stores {
				c.discoverExpanded(s, ref)
			}
		})
		if !ok {
			return
		}
	}
}

func (b *Backend) commitOne(change func(*changeSet)) bool {
	if !b.awaitReserved() {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.newChangeSet()
	change(c)
	c.publish()
	return true
}

// awaitReserved waits until revisions are left; it is false when nothing is to
// be shown any more.
func (b *Backend) awaitReserved() bool {
	if !b.started.Load() {
		return true // none is needed
	}
	for b.checkServing() == nil && b.CheckWritable() == nil {
		err := b.revisions.ensureReserved(b.ctx)
		if err == nil {
			return true
		}
		klog.FromContext(b.ctx).Error(err, "Failed to reserve revisions: observed changes are not shown until that succeeds")
	}
	return false
}
