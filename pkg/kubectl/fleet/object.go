// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

// Object is what MetalStackMachines and MetalStackFirewalls have in common.
type Object struct {
	Kind Kind
	metav1.ObjectMeta

	// Image, Size, Partition and ProviderID are those of the spec.
	Image, Size, Partition, ProviderID string

	Addresses     []v1alpha4.MachineAddress
	Conditions    []metav1.Condition
	Metal         *v1alpha4.Metal
	Allocation    *v1alpha4.MachineAllocation
	LastOperation *v1alpha4.MachineOperation

	// Source is the object itself, with apiVersion and kind.
	Source runtime.Object
}

func fromMachine(m *v1alpha4.MetalStackMachine) *Object {
	m.SetGroupVersionKind(v1alpha4.SchemeGroupVersion.WithKind(Machine.Name))
	return &Object{
		Kind: Machine, ObjectMeta: m.ObjectMeta, Source: m,
		Image: m.Spec.Image, Size: m.Spec.MachineType, Partition: m.Spec.Partition, ProviderID: m.Spec.ProviderID,
		Addresses: m.Status.Addresses, Conditions: m.Status.Conditions, Metal: m.Status.Metal,
		Allocation: m.Status.Allocation, LastOperation: m.Status.LastOperation,
	}
}

func fromFirewall(f *v1alpha4.MetalStackFirewall) *Object {
	f.SetGroupVersionKind(v1alpha4.SchemeGroupVersion.WithKind(Firewall.Name))
	return &Object{
		Kind: Firewall, ObjectMeta: f.ObjectMeta, Source: f,
		Image: f.Spec.Image, Size: f.Spec.MachineType, Partition: f.Spec.Partition, ProviderID: f.Spec.ProviderID,
		Addresses: f.Status.Addresses, Conditions: f.Status.Conditions, Metal: f.Status.Metal,
		Allocation: f.Status.Allocation, LastOperation: f.Status.LastOperation,
	}
}

// fromRuntime returns nil for any other kind.
func fromRuntime(obj runtime.Object) *Object {
	switch o := obj.(type) {
	case *v1alpha4.MetalStackMachine:
		return fromMachine(o)
	case *v1alpha4.MetalStackFirewall:
		return fromFirewall(o)
	}
	return nil
}

// Reference returns the object's name and kind.
func (o *Object) Reference() Reference { return Reference{Kind: o.Kind, Name: o.Name} }

// Condition returns the condition of a type, or nil.
func (o *Object) Condition(conditionType string) *metav1.Condition {
	return meta.FindStatusCondition(o.Conditions, conditionType)
}

// IsTrue returns whether the condition of a type is True.
func (o *Object) IsTrue(conditionType string) bool {
	return meta.IsStatusConditionTrue(o.Conditions, conditionType)
}

// Phase returns the phase of the metal.
func (o *Object) Phase() string {
	if o.Metal == nil || o.Metal.Phase == "" {
		return infrastructure.PhasePending
	}
	return o.Metal.Phase
}

// Discovered returns whether the object has no record.
func (o *Object) Discovered() bool {
	return o.Metal != nil && o.Metal.MachineID != "" && !o.Metal.Managed
}

// Cluster returns the name of the Cluster, or "".
func (o *Object) Cluster() string { return o.Labels[infrastructure.ClusterNameLabel] }

// Machine returns the name of the Machine of Cluster API that owns the object, or "".
func (o *Object) Machine() string {
	for _, owner := range o.OwnerReferences {
		if owner.Kind == "Machine" {
			return owner.Name
		}
	}
	return ""
}

// Address returns an address to show: the internal one of a machine, the external one of a
// firewall, or else any IP address.
func (o *Object) Address() string {
	best := v1alpha4.MachineInternalIP
	if o.Kind == Firewall {
		best = v1alpha4.MachineExternalIP
	}
	other := ""
	for _, a := range o.Addresses {
		switch a.Type {
		case best:
			return a.Address
		case v1alpha4.MachineInternalIP, v1alpha4.MachineExternalIP:
			if other == "" {
				other = a.Address
			}
		}
	}
	return other
}
