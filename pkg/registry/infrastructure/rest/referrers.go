// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"context"

	"k8s.io/apimachinery/pkg/api/meta"
	metainternalversion "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/endpoints/request"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/providerid"
	"metal-stack.io/infrastructure-apiserver/pkg/registry"
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/references"
)

// machineReferrers finds the objects that name a machine among those that are shown.
type machineReferrers []*registry.REST

var _ references.Referrers = machineReferrers{}

// Referrer implements references.Referrers.
func (m machineReferrers) Referrer(ctx context.Context, namespace, machineID string, asking references.Referrer) (referrer references.Referrer, found bool, err error) {
	for _, r := range m {
		list, err := r.Store.List(request.WithNamespace(ctx, namespace), &metainternalversion.ListOptions{
			ResourceVersion: "0", FieldSelector: registry.ManagedSelector,
		})
		if err != nil {
			return references.Referrer{}, false, err
		}
		err = meta.EachListItem(list, func(item runtime.Object) error {
			name, id := machineOf(item)
			candidate := references.Referrer{Resource: r.DefaultQualifiedResource.Resource, Name: name}
			if id == machineID && candidate != asking {
				referrer, found = candidate, true
			}
			return nil
		})
		if err != nil || found {
			return referrer, found, err
		}
	}
	return references.Referrer{}, false, nil
}

// machineOf returns the machine that an object holds or asks for; none if it
// gave its machine back.
func machineOf(obj runtime.Object) (name, machineID string) {
	var providerID string
	var allocation *infrastructure.MachineAllocation
	switch o := obj.(type) {
	case *infrastructure.MetalStackMachine:
		name, providerID, allocation = o.Name, o.Spec.ProviderID, o.Status.Allocation
	case *infrastructure.MetalStackFirewall:
		name, providerID, allocation = o.Name, o.Spec.ProviderID, o.Status.Allocation
	}
	if allocation != nil && allocation.Phase == infrastructure.AllocationReleased {
		return name, ""
	}
	id, err := providerid.Parse(providerID)
	if err != nil {
		return name, ""
	}
	return name, id.MachineID
}
