// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"context"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

// The resources that hold metal.
var (
	machineResource  = infrastructure.SchemeGroupVersion.WithResource("metalstackmachines").GroupResource()
	firewallResource = infrastructure.SchemeGroupVersion.WithResource("metalstackfirewalls").GroupResource()
	clusterResource  = infrastructure.SchemeGroupVersion.WithResource("metalstackclusters").GroupResource()
	networkResource  = infrastructure.SchemeGroupVersion.WithResource("metalstacknetworks").GroupResource()
	ipResource       = infrastructure.SchemeGroupVersion.WithResource("metalstackips").GroupResource()
)

var metalResources = []schema.GroupResource{machineResource, firewallResource, clusterResource, networkResource, ipResource}

// objectRef names an object that holds metal, or asks for it.
type objectRef struct {
	resource        schema.GroupResource
	namespace, name string
}

// kind is the kind of the object.
func (ref objectRef) kind() string {
	switch ref.resource {
	case machineResource:
		return "MetalStackMachine"
	case firewallResource:
		return "MetalStackFirewall"
	case networkResource:
		return networkKind
	case ipResource:
		return ipKind
	}
	return "MetalStackCluster"
}

func (ref objectRef) String() string {
	return ref.resource.Resource + "/" + ref.namespace + "/" + ref.name
}

// record is what the records of all kinds have in common. What it returns
// points into the object.
type record interface {
	objectMeta() *metav1.ObjectMeta
	conditions() *[]metav1.Condition
	// state is never nil; it is of the object only if that has an allocation.
	state() *infrastructure.AllocationState
	// initAllocation makes an allocation if the object has none.
	initAllocation()
}

// provisionedRecord is a record of an object that was ready once or never.
type provisionedRecord interface {
	record
	ready() bool
	initialization() *infrastructure.Initialization
}

// recordStore is Records, of what the protocol makes of the objects.
type recordStore[R record] interface {
	get(ctx context.Context, namespace, name string) (R, error)
	update(ctx context.Context, namespace, name string, change func(R) error) (R, error)
	list(ctx context.Context) ([]R, error)
	changes() func() (changed []types.NamespacedName, ok bool)
}

// recordAdapter makes a recordStore of Records.
type recordAdapter[T runtime.Object, R record] struct {
	records Records[T]
	wrap    func(T) R
}

func (a recordAdapter[T, R]) get(ctx context.Context, namespace, name string) (R, error) {
	obj, err := a.records.Get(ctx, namespace, name)
	if err != nil {
		return *new(R), err
	}
	return a.wrap(obj), nil
}

func (a recordAdapter[T, R]) update(ctx context.Context, namespace, name string, change func(R) error) (R, error) {
	obj, err := a.records.Update(ctx, namespace, name, func(obj T) error { return change(a.wrap(obj)) })
	if err != nil {
		return *new(R), err
	}
	return a.wrap(obj), nil
}

func (a recordAdapter[T, R]) list(ctx context.Context) ([]R, error) {
	objs, err := a.records.List(ctx)
	if err != nil {
		return nil, err
	}
	all := make([]R, 0, len(objs))
	for _, obj := range objs {
		all = append(all, a.wrap(obj))
	}
	return all, nil
}

func (a recordAdapter[T, R]) changes() func() ([]types.NamespacedName, bool) {
	return a.records.Changes()
}
