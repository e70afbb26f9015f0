// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/runtime"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// Projector combines the two halves of the objects of one resource. Its methods
// answer from what is known at the moment and never call out.
type Projector interface {
	// Refs names the metal that the record shows or refers to, and depends on
	// nothing but the record: when a fact about one of them changes, the record
	// is projected again.
	Refs(record runtime.Object) []metal.Ref
	// Project returns a new object: the record with its metal half filled in.
	// It must modify neither record nor previous, which is what the view shows
	// now, or nil. Asked twice about the same, it answers the same.
	Project(record, previous runtime.Object) runtime.Object
	// Strip clears the metal half of obj, in place: what is left is recorded.
	Strip(obj runtime.Object)
	// Discovered returns the new object by which the metal ref is shown while
	// no record, of any resource, has one of refs among its Refs; nil if it
	// is not shown in this resource. It, too, answers the same about the same.
	Discovered(ref metal.Ref) (obj runtime.Object, refs []metal.Ref)
}

// A Static projector projects objects that stand for no metal, with what else is
// known: reads of them wait for no refresh.
type Static interface {
	Projector
	Static()
}

// A RecordsOnly projector shows no metal but what records refer to, so that reads of
// its resource wait for the observation of that alone.
type RecordsOnly interface {
	Projector
	RecordsOnly()
}

// An Expander projector shows some metal as several objects, such as a network that several
// namespaces can use: each of them stands for a ref of its own.
type Expander interface {
	Projector
	// Expand returns what Discovered is asked for when ref has changed, besides ref itself. What it
	// returned before and does not return any more is hidden. For what is equal to what it returned
	// before, Discovered is asked only if records change that refer to it.
	Expand(ref metal.Ref) []metal.ExpandedRef
}

// A DiscoveredRefs projector knows the refs that Discovered returns without making the object,
// which is not needed while a record has one of them. It is not HolderAware.
type DiscoveredRefs interface {
	Projector
	// DiscoveredRefs returns the refs that Discovered would return now.
	DiscoveredRefs(ref metal.Ref) []metal.Ref
}

// A HolderAware projector shows which records name metal.
type HolderAware interface {
	Projector
	// SetHolders is called once, before anything is projected. holders returns the records, of
	// all resources, that have ref among their Refs, ordered by resource, namespace and name.
	// They are shared: do not modify them. Only Project and Discovered may call it; what they
	// returned is projected again when these records change.
	SetHolders(holders func(ref metal.Ref) []runtime.Object)
}

// A Kinded projector shows metal of another kind than machines. A read never takes for empty what
// was not observed yet.
type Kinded interface {
	Projector
	Kind() metal.RefKind
}

// Scope is what a read is about to see. A scope that is empty is an object
// that stands for no metal yet.
type Scope struct {
	// Kind is what the read is about; machines and what belongs to them if it is empty.
	Kind metal.RefKind
	// AllNamespaces is true for a list across namespaces of what may be discovered; the
	// rest is empty then.
	AllNamespaces bool
	// Namespace is set for a list of one namespace, and for a get of an object
	// that the view does not have: it may be metal that was allocated just now.
	Namespace string
	// Refs is the metal of the objects in scope that the view has.
	Refs []metal.Ref
}

// Refresher makes reads most recent.
type Refresher interface {
	// Refresh returns after the metal of the scope was observed by an observation
	// that began after the call, and after every change that it showed was
	// handed to Backend.MetalChanged. Otherwise, after its limit, or when the
	// metal-api does not answer, it returns when the scope was last
	// observed, and why it is stale.
	Refresh(ctx context.Context, scope Scope) (lastObserved time.Time, cause error)
	// Known returns whether the scope was observed once. It is called for a scope with a Kind only.
	Known(scope Scope) bool
}

// A WatchObserver is a Refresher that has what watches show observed.
type WatchObserver interface {
	// Watching is called when a watch of a scope with a Kind begins, and stop when it ends.
	Watching(scope Scope) (stop func())
}
