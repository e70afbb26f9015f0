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

// Scope is what a read is about to see. A scope that is empty is an object
// that stands for no metal yet.
type Scope struct {
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
}
