// SPDX-License-Identifier: Apache-2.0

package firewall

import (
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/authentication/serviceaccount"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/utils/ptr"

	firewallv2 "metal-stack.io/infrastructure-apiserver/pkg/apis/firewall/v2"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/projection"
	"metal-stack.io/infrastructure-apiserver/pkg/registry"
)

// DerivedResource is the resource that firewall-controllers read.
const DerivedResource = "firewalls"

type derived = firewallv2.Firewall

// DerivedKind returns the kind that firewall-controllers read: what follows from
// MetalStackFirewalls.
func DerivedKind() *registry.DerivedKind[*object, *derived] {
	return &registry.DerivedKind[*object, *derived]{
		Resource: firewallv2.Resource(DerivedResource), Singular: "firewall", ShortNames: []string{"fw"},
		New:     func() *derived { return &derived{} },
		NewList: func() runtime.Object { return &firewallv2.FirewallList{} },
		Name:    projection.FirewallName,
		Unknown: projection.IsFirewallUnknown,
		Keeps:   isFirewallControllerOf,
		Derive:  projection.Firewall,
		Columns: []registry.Column[*derived]{
			{Name: "Machine", Description: "Machine of the firewall in metal-stack.", Cell: func(f *derived) any { return registry.OrNone(machineOf(f).MachineID) }},
			{Name: "Last Event", Description: "Last provisioning event of the machine.", Cell: func(f *derived) any {
				if e := machineOf(f).LastEvent; e != nil {
					return registry.OrNone(e.Event)
				}
				return registry.OrNone("")
			}},
			{Name: "Distance", Type: "integer", Description: "Distance of the firewall: that with the shortest has the traffic.", Cell: func(f *derived) any { return f.Distance }},
			registry.Age[*derived](),
			{Name: "Interval", Description: "How often the firewall-controller computes its rules.", Wide: true, Cell: func(f *derived) any { return f.Spec.Interval }},
			{Name: "Version", Description: "Version that the firewall-controller updates itself to.", Wide: true, Cell: func(f *derived) any { return registry.OrNone(f.Spec.ControllerVersion) }},
		},
	}
}

// machineOf returns what is known of a Firewall's machine. A bookmark has none.
func machineOf(f *derived) firewallv2.MachineStatus {
	return ptr.Deref(f.Status.MachineStatus, firewallv2.MachineStatus{})
}

// isFirewallControllerOf is whether a user is an account of firewall-controllers in the
// namespace of a firewall. A firewall-controller that is told that its Firewall is gone drops
// its rules, and the machine still runs then: until it was reset after its release, or for
// another management cluster.
func isFirewallControllerOf(u user.Info, f *object) bool {
	namespace, name, err := serviceaccount.SplitUsername(u.GetName())
	return err == nil && namespace == f.Namespace && strings.HasSuffix(name, infrastructure.FirewallControllerSuffix)
}
