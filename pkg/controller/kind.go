package controller

import (
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

// A kind is what the reconcilers have to know of a kind that holds metal.
type kind struct {
	name      string // as in logs: machine
	resource  string // as in URLs: metalstackmachines
	finalizer string
	object    func() client.Object
	list      func() client.ObjectList
}

var (
	clusters = kind{
		name: "cluster", resource: "metalstackclusters", finalizer: v1alpha4.ClusterFinalizer,
		object: func() client.Object { return &v1alpha4.MetalStackCluster{} },
		list:   func() client.ObjectList { return &v1alpha4.MetalStackClusterList{} },
	}
	machines = kind{
		name: "machine", resource: "metalstackmachines", finalizer: v1alpha4.MachineFinalizer,
		object: func() client.Object { return &v1alpha4.MetalStackMachine{} },
		list:   func() client.ObjectList { return &v1alpha4.MetalStackMachineList{} },
	}
	firewalls = kind{
		name: "firewall", resource: "metalstackfirewalls", finalizer: v1alpha4.FirewallFinalizer,
		object: func() client.Object { return &v1alpha4.MetalStackFirewall{} },
		list:   func() client.ObjectList { return &v1alpha4.MetalStackFirewallList{} },
	}
)

// allocationOf returns how far the object's allocation has got; the zero
// state if it has not begun.
func allocationOf(obj client.Object) v1alpha4.AllocationState {
	switch o := obj.(type) {
	case *v1alpha4.MetalStackCluster:
		if a := o.Status.Allocation; a != nil {
			return a.AllocationState
		}
	case *v1alpha4.MetalStackMachine:
		if a := o.Status.Allocation; a != nil {
			return a.AllocationState
		}
	case *v1alpha4.MetalStackFirewall:
		if a := o.Status.Allocation; a != nil {
			return a.AllocationState
		}
	}
	return v1alpha4.AllocationState{}
}

// holds returns the ids of the metal that the object holds, for logs.
func holds(obj client.Object) []any {
	switch o := obj.(type) {
	case *v1alpha4.MetalStackCluster:
		if a := o.Status.Allocation; a != nil {
			return []any{"network", a.NetworkID, "address", a.IPAddress}
		}
	case *v1alpha4.MetalStackMachine:
		if a := o.Status.Allocation; a != nil {
			return []any{"machineID", a.MachineID}
		}
	case *v1alpha4.MetalStackFirewall:
		if a := o.Status.Allocation; a != nil {
			return []any{"machineID", a.MachineID}
		}
	}
	return nil
}
