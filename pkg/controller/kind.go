// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"k8s.io/utils/ptr"
	"sigs.k8s.io/cluster-api/util/conditions"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

// metalObject is an object that holds metal, or shall.
type metalObject interface {
	client.Object
	conditions.Setter
}

// A kind is what the reconcilers have to know of a kind that holds metal.
type kind struct {
	name      string // as in logs: machine
	kind      string // as in manifests: MetalStackMachine
	resource  string // as in URLs: metalstackmachines
	finalizer string
	object    func() metalObject
	list      func() client.ObjectList
}

var (
	clusters = kind{
		name: "cluster", kind: "MetalStackCluster", resource: "metalstackclusters", finalizer: infrastructure.ClusterFinalizer,
		object: func() metalObject { return &v1alpha4.MetalStackCluster{} },
		list:   func() client.ObjectList { return &v1alpha4.MetalStackClusterList{} },
	}
	machines = kind{
		name: "machine", kind: "MetalStackMachine", resource: "metalstackmachines", finalizer: infrastructure.MachineFinalizer,
		object: func() metalObject { return &v1alpha4.MetalStackMachine{} },
		list:   func() client.ObjectList { return &v1alpha4.MetalStackMachineList{} },
	}
	firewalls = kind{
		name: "firewall", kind: "MetalStackFirewall", resource: "metalstackfirewalls", finalizer: infrastructure.FirewallFinalizer,
		object: func() metalObject { return &v1alpha4.MetalStackFirewall{} },
		list:   func() client.ObjectList { return &v1alpha4.MetalStackFirewallList{} },
	}
	networks = kind{
		name: "network", kind: "MetalStackNetwork", resource: "metalstacknetworks", finalizer: infrastructure.NetworkFinalizer,
		object: func() metalObject { return &v1alpha4.MetalStackNetwork{} },
		list:   func() client.ObjectList { return &v1alpha4.MetalStackNetworkList{} },
	}
	ips = kind{
		name: "ip", kind: "MetalStackIP", resource: "metalstackips", finalizer: infrastructure.IPFinalizer,
		object: func() metalObject { return &v1alpha4.MetalStackIP{} },
		list:   func() client.ObjectList { return &v1alpha4.MetalStackIPList{} },
	}
)

// metalKinds are the kinds whose objects hold metal.
var metalKinds = []kind{clusters, machines, firewalls, networks, ips}

// isClaim is whether the objects of a kind hold one network or address, for themselves.
func (k kind) isClaim() bool { return k.name == networks.name || k.name == ips.name }

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
	case *v1alpha4.MetalStackNetwork:
		if a := o.Status.Allocation; a != nil {
			return a.AllocationState
		}
	case *v1alpha4.MetalStackIP:
		if a := o.Status.Allocation; a != nil {
			return a.AllocationState
		}
	}
	return v1alpha4.AllocationState{}
}

// deletionOf returns the record of who asked for the object's deletion, if there
// is one.
func deletionOf(obj client.Object) *v1alpha4.Deletion {
	switch o := obj.(type) {
	case *v1alpha4.MetalStackCluster:
		return o.Status.Deletion
	case *v1alpha4.MetalStackMachine:
		return o.Status.Deletion
	case *v1alpha4.MetalStackFirewall:
		return o.Status.Deletion
	case *v1alpha4.MetalStackNetwork:
		return o.Status.Deletion
	case *v1alpha4.MetalStackIP:
		return o.Status.Deletion
	}
	return nil
}

// isProvisioned returns whether the metal was there for the first time.
func isProvisioned(obj client.Object) bool {
	switch o := obj.(type) {
	case *v1alpha4.MetalStackCluster:
		return ptr.Deref(o.Status.Initialization.Provisioned, false)
	case *v1alpha4.MetalStackMachine:
		return ptr.Deref(o.Status.Initialization.Provisioned, false)
	case *v1alpha4.MetalStackFirewall:
		return ptr.Deref(o.Status.Initialization.Provisioned, false)
	}
	return false
}

// metalIDs returns the ids of the metal that the object holds, for logs.
func metalIDs(obj client.Object) []any {
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
	case *v1alpha4.MetalStackNetwork:
		if a := o.Status.Allocation; a != nil {
			return []any{"network", a.NetworkID}
		}
	case *v1alpha4.MetalStackIP:
		if a := o.Status.Allocation; a != nil {
			return []any{"address", a.Address}
		}
	}
	return nil
}

// describeMetal describes the same in a message.
func describeMetal(obj client.Object) string {
	switch o := obj.(type) {
	case *v1alpha4.MetalStackCluster:
		if a := o.Status.Allocation; a != nil && a.IPAddress != "" {
			return "network " + a.NetworkID + " and address " + a.IPAddress
		} else if a != nil {
			return "network " + a.NetworkID
		}
	case *v1alpha4.MetalStackMachine:
		if a := o.Status.Allocation; a != nil {
			return "machine " + a.MachineID
		}
	case *v1alpha4.MetalStackFirewall:
		if a := o.Status.Allocation; a != nil {
			return "machine " + a.MachineID
		}
	case *v1alpha4.MetalStackNetwork:
		if a := o.Status.Allocation; a != nil {
			return "network " + a.NetworkID
		}
	case *v1alpha4.MetalStackIP:
		if a := o.Status.Allocation; a != nil {
			return "address " + a.Address
		}
	}
	return "nothing"
}

func hasKey(m map[string]string, key string) bool {
	_, ok := m[key]
	return ok
}
