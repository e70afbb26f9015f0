package storage

import (
	"slices"
	"strings"

	"k8s.io/klog/v2"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// MetalChanged takes over what is newly known about refs. When it returns,
// every view shows it. Objects that are not seen to change get no event and no
// revision. The caller must hold no lock that a Joiner takes.
//
// While no revision can be reserved in the ledger it waits, until the backend
// stops. Before the start it only remembers that there is such metal.
func (b *Backend) MetalChanged(refs []metal.Ref) {
	for _, ref := range refs {
		if !b.awaitRevisions() {
			return
		}
		b.metalChanged(ref)
	}
}

func (b *Backend) metalChanged(ref metal.Ref) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if ref.Kind != metal.KindUID && ref.Kind != metal.KindAllocation {
		b.index.seen[ref] = struct{}{} // an identity alone is never shown
	}
	if !b.started.Load() {
		return
	}
	c := b.begin()
	c.refresh(ref)
	// Metal that carries an identity changes what is known of that, too.
	for _, s := range b.stores {
		for _, claim := range b.index.claims[shown{s, ref}] {
			c.refreshRecords(claim)
		}
	}
	c.publish()
}

func (c *commitment) refresh(ref metal.Ref) {
	c.refreshRecords(ref)
	for _, s := range c.b.stores {
		c.discover(s, ref)
	}
}

func (c *commitment) refreshRecords(ref metal.Ref) {
	for _, p := range c.b.index.named[ref] {
		c.reproject(p)
	}
}

// RejoinNamespace joins everything in a namespace again, and looks again at
// what is to be discovered, because the namespace's binding changed.
func (b *Backend) RejoinNamespace(namespace string) { b.rejoin(namespace + "/") }

// RejoinAll is RejoinNamespace for all namespaces.
func (b *Backend) RejoinAll() { b.rejoin("") }

func (b *Backend) rejoin(namespace string) {
	if b.serving() != nil {
		return
	}
	var places []place
	var refs []metal.Ref
	func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, s := range b.stores {
			if s.joiner == nil {
				continue
			}
			ascend(s.view.tree, s.prefix+namespace, "", func(e *entry) bool {
				places = append(places, place{s, e.key})
				return true
			})
		}
		for ref := range b.index.seen {
			refs = append(refs, ref)
		}
	}()
	slices.SortFunc(refs, func(a, b metal.Ref) int {
		return strings.Compare(string(a.Kind)+a.ID, string(b.Kind)+b.ID)
	})
	// One at a time: writers do not wait for the whole fleet.
	for _, p := range places {
		if !b.commitOne(func(c *commitment) { c.reproject(p) }) {
			return
		}
	}
	for _, ref := range refs {
		ok := b.commitOne(func(c *commitment) {
			for _, s := range b.stores {
				c.discover(s, ref)
			}
		})
		if !ok {
			return
		}
	}
}

func (b *Backend) commitOne(change func(*commitment)) bool {
	if !b.awaitRevisions() {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.begin()
	change(c)
	c.publish()
	return true
}

// awaitRevisions waits until revisions are left; it is false when nothing is to
// be shown any more.
func (b *Backend) awaitRevisions() bool {
	if !b.started.Load() {
		return true // none is needed
	}
	for b.serving() == nil {
		err := b.revisions.ensure(b.ctx)
		if err == nil {
			return true
		}
		klog.FromContext(b.ctx).Error(err, "What was observed cannot be shown yet")
	}
	return false
}
