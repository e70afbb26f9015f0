// SPDX-License-Identifier: Apache-2.0

package capi

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/test/framework"
)

// Firewalls lists the MetalStackFirewalls.
func (tenant *Tenant) Firewalls(ctx context.Context) ([]v1alpha4.MetalStackFirewall, error) {
	list := &v1alpha4.MetalStackFirewallList{}
	err := tenant.Client.List(ctx, list, tenant.mine(), client.InNamespace(tenant.Key.Namespace))
	return list.Items, err
}

// orderChanged orders a cluster of which a text of the template is another one.
func (m *Management) orderChanged(t testing.TB, o Order, old, changed string) *Tenant {
	t.Helper()
	objects := m.Generate(t, o)
	require.Contains(t, objects, old)
	require.NoError(t, m.Apply(t.Context(), strings.Replace(objects, old, changed, 1)))
	return m.Tenant(t, o.Namespace, o.Name)
}

// AwaitFirewall waits until the cluster has exactly one firewall, which has all the traffic
// and whose firewall-controller has connected, and returns what runs on it.
func (tenant *Tenant) AwaitFirewall(t testing.TB, limit time.Duration) (firewall *Firewall) {
	t.Helper()
	return tenant.awaitConnected(t, limit, "")
}

// AwaitOtherFirewall is AwaitFirewall for one that is not a former one.
func (tenant *Tenant) AwaitOtherFirewall(t testing.TB, limit time.Duration, former *Firewall) *Firewall {
	t.Helper()
	return tenant.awaitConnected(t, limit, former.state.AllocationUUID)
}

func (tenant *Tenant) awaitConnected(t testing.TB, limit time.Duration, former string) (firewall *Firewall) {
	t.Helper()
	framework.Eventually(t, limit, func(ctx context.Context) error {
		all, err := tenant.Firewalls(ctx)
		if err != nil {
			return err
		}
		if len(all) != 1 {
			return fmt.Errorf("there are %d firewalls:%s", len(all), describeFirewalls(all))
		}
		f := &all[0]
		if f.Status.Metal == nil || !f.Status.Ready || f.Status.Distance != 0 || !meta.IsStatusConditionTrue(f.Status.Conditions, infrastructure.ConditionControllerConnected) {
			return fmt.Errorf("not connected:%s", describeFirewalls(all))
		}
		firewall, err = tenant.m.Site.Firewall(f.Status.Metal.MachineID)
		if err == nil && firewall.state.AllocationUUID == former {
			err = fmt.Errorf("it is still the same:%s", describeFirewalls(all))
		}
		return err
	})
	return firewall
}

// describeFirewalls says how firewalls are.
func describeFirewalls(all []v1alpha4.MetalStackFirewall) (text string) {
	for i := range all {
		f := &all[i]
		text += fmt.Sprintf("\n%s: ready %v, distance %d, controller %+v, management %+v, workload %+v", f.Name, f.Status.Ready, f.Status.Distance, f.Status.Controller, f.Status.ManagementAccess, f.Status.WorkloadAccess)
		for _, c := range f.Status.Conditions {
			text += fmt.Sprintf("\n  %s %s %s: %s", c.Type, c.Status, c.Reason, c.Message)
		}
	}
	return text
}
