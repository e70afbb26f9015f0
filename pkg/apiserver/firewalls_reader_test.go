// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"testing"

	"github.com/stretchr/testify/assert"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

func TestFirewallsReader_HasAccessOrConfiguration(t *testing.T) {
	t.Parallel()
	named := metav1.ObjectMeta{Namespace: "team-a", Name: "rose"}
	type firewall = infrastructure.MetalStackFirewall
	for name, c := range map[string]struct {
		conditions []metav1.Condition
		change     func(*firewall)
		want       string
	}{
		"cluster with access":    {[]metav1.Condition{{Type: infrastructure.ConditionFirewallControllerReady, Status: metav1.ConditionFalse}}, func(*firewall) {}, "MetalStackCluster team-a/rose"},
		"firewall":               {nil, func(*firewall) {}, "MetalStackFirewall team-a/rose"},
		"firewall not observed":  {nil, func(f *firewall) { f.Status.Metal = &infrastructure.Metal{Phase: infrastructure.PhaseUnknown} }, "MetalStackFirewall team-a/rose"},
		"firewall without metal": {nil, func(f *firewall) { f.Status.Allocation = nil }, ""},
		"controller was removed": {nil, func(f *firewall) { f.Spec.Controller = nil }, ""},
		"cluster without access": {[]metav1.Condition{{Type: infrastructure.ConditionFirewallReady}}, func(f *firewall) { f.Spec.Controller = nil }, ""},
	} {
		f := &firewall{
			ObjectMeta: named, Spec: infrastructure.MetalStackFirewallSpec{Controller: &infrastructure.FirewallController{}},
			Status: infrastructure.MetalStackFirewallStatus{
				Metal:            &infrastructure.Metal{Hostname: "fw"},
				ManagementAccess: &infrastructure.FirewallManagementAccess{URL: "https://management"},
				Allocation:       &infrastructure.MachineAllocation{AllocationState: infrastructure.AllocationState{Phase: infrastructure.AllocationAllocated}},
			},
		}
		c.change(f)
		cluster := &infrastructure.MetalStackCluster{ObjectMeta: named, Status: infrastructure.MetalStackClusterStatus{Conditions: c.conditions}}
		assert.Equal(t, c.want, firewallsReaderAmong([]*infrastructure.MetalStackCluster{cluster}, []*firewall{f}), name)
	}
}
