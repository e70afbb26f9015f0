// SPDX-License-Identifier: Apache-2.0

package api

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/retry"

	typed "metal-stack.io/infrastructure-apiserver/generated/clientset/versioned/typed/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
	"metal-stack.io/infrastructure-apiserver/test/framework/objects"
)

func (env *environment) metalStackFirewalls(namespace string) typed.MetalStackFirewallInterface {
	return env.client.InfrastructureV1alpha4().MetalStackFirewalls(namespace)
}

// apply applies fields of a firewall of team A that was created before.
func (env *environment) apply(t *testing.T, name, fields string, subresources ...string) (*v1alpha4.MetalStackFirewall, error) {
	t.Helper()
	body := `{"apiVersion":"` + v1alpha4.SchemeGroupVersion.String() + `","kind":"MetalStackFirewall","metadata":{"name":"` + name + `"},` + fields + `}`
	return env.metalStackFirewalls(teamA).Patch(t.Context(), name, types.ApplyPatchType, []byte(body), metav1.PatchOptions{FieldManager: "test"}, subresources...)
}

// update changes a firewall of team A, although its metal may be observed meanwhile.
func (env *environment) update(t *testing.T, name string, change func(*v1alpha4.MetalStackFirewallSpec)) (f *v1alpha4.MetalStackFirewall, err error) {
	t.Helper()
	firewalls := env.metalStackFirewalls(teamA)
	err = retry.RetryOnConflict(retry.DefaultRetry, func() error {
		f, err = firewalls.Get(t.Context(), name, metav1.GetOptions{})
		require.NoError(t, err)
		change(&f.Spec)
		f, err = firewalls.Update(t.Context(), f, metav1.UpdateOptions{})
		return err
	})
	return f, err
}

// What a firewall-controller does is configured while the firewall runs, by any way of
// writing, and no metal is touched.
func TestFirewallController_IsConfiguredWhileTheFirewallRuns(t *testing.T) {
	t.Parallel()
	env := start(t, noSweep)
	ctx := t.Context()
	env.allocate(t, "node-1")
	_, err := env.metalStackFirewalls(teamA).Create(ctx, objects.Firewall("fw", func(f *v1alpha4.MetalStackFirewall) {
		f.Spec.Partition, f.Spec.Networks = partition, []string{simulator.InternetNetwork}
	}), metav1.CreateOptions{})
	require.NoError(t, err)
	allocated, err := env.metalStackFirewalls(teamA).Allocate(ctx, "fw", &v1alpha4.Allocation{ClusterRef: &v1alpha4.LocalReference{Name: "of-node-1"}}, metav1.CreateOptions{})
	require.NoError(t, err)
	own, err := env.sim.AllocateIPFor(projectA, simulator.InternetNetwork, "own", nil)
	require.NoError(t, err)
	theirs, err := env.sim.AllocateIPFor(projectB, simulator.InternetNetwork, "theirs", nil)
	require.NoError(t, err)
	calls := func() int {
		return env.sim.CallsOf("firewall-allocate") + env.sim.CallsOf("machine-allocate") + env.sim.CallsOf("machine-free") + env.sim.CallsOf("ip-allocate")
	}
	before := calls()

	egress := func(ip string) string {
		return `"spec":{"controller":{"egressIPs":[{"networkID":"` + simulator.InternetNetwork + `","ips":["` + ip + `"]}]}}`
	}
	env.warnings.reset()
	f, err := env.apply(t, "fw", egress(own))
	require.NoError(t, err)
	require.Equal(t, []string{own}, f.Spec.Controller.EgressIPs[0].IPs)
	require.Contains(t, env.warnings.all(), "has no kubeconfig for its firewall-controller")
	require.Contains(t, env.warnings.all(), infrastructure.ReplaceAnnotation)

	_, err = env.apply(t, "fw", egress(theirs))
	require.True(t, apierrors.IsInvalid(err), "%v", err)
	require.ErrorContains(t, err, "spec.controller.egressIPs[0].ips[0]")
	_, free := env.apply(t, "fw", egress("203.0.113.250"))
	require.Equal(t, strings.ReplaceAll(err.Error(), theirs, "203.0.113.250"), free.Error(), "what another project has is answered as what is free")

	f, err = env.apply(t, "fw", `"spec":{"controller":{"interval":"30s","rateLimits":[{"networkID":"`+simulator.InternetNetwork+`","rate":10}]},"provisioningTimeout":"2h","autoUpdate":{}}`)
	require.NoError(t, err)
	require.Empty(t, f.Spec.Controller.EgressIPs, "it is no longer applied")
	require.NotNil(t, f.Spec.AutoUpdate)
	for _, wrong := range []string{`"10"`, `"10 s"`, `10`, `"1d"`} {
		_, err = env.apply(t, "fw", `"spec":{"controller":{"interval":`+wrong+`}}`)
		require.True(t, apierrors.IsInvalid(err), "%v", err)
		require.ErrorContains(t, err, "spec.controller.interval")
	}
	f, err = env.update(t, "fw", func(spec *v1alpha4.MetalStackFirewallSpec) {
		spec.Controller, spec.ProvisioningTimeout, spec.AutoUpdate = nil, nil, nil
	})
	require.NoError(t, err)
	require.Equal(t, allocated.Spec, f.Spec)
	_, err = env.update(t, "fw", func(spec *v1alpha4.MetalStackFirewallSpec) { spec.Image = firewallImage + ".20260101" })
	require.True(t, apierrors.IsInvalid(err), "%v", err)
	require.Equal(t, before, calls())
}

func TestFirewallController_ReportIsAppliedToTheStatus(t *testing.T) {
	t.Parallel()
	env := start(t, noSweep)
	_, err := env.metalStackFirewalls(teamA).Create(t.Context(), objects.Firewall("fw"), metav1.CreateOptions{})
	require.NoError(t, err)
	f, err := env.apply(t, "fw", `"status":{"distance":3,"ready":true,"controller":{"version":"v2.4.1","distance":0},"workloadAccess":{"tokenSecretName":"token"},
		"managementAccess":{"url":"https://kubernetes.example.org"},"metal":{"rack":"none"},"conditions":[
		{"type":"ControllerConnected","status":"True","reason":"Connected","message":"","lastTransitionTime":"2026-01-01T00:00:00Z"},
		{"type":"ImageUpToDate","status":"True","reason":"Lie","message":"","lastTransitionTime":"2026-01-01T00:00:00Z"}]}`, "status")
	require.NoError(t, err)
	require.EqualValues(t, 3, f.Status.Distance)
	require.Equal(t, "v2.4.1", f.Status.Controller.Version)
	require.Equal(t, new(int32(0)), f.Status.Controller.Distance)
	require.Equal(t, "token", f.Status.WorkloadAccess.TokenSecretName)
	require.Equal(t, "https://kubernetes.example.org", f.Status.ManagementAccess.URL)
	require.False(t, f.Status.Ready)
	require.True(t, meta.IsStatusConditionTrue(f.Status.Conditions, infrastructure.ConditionControllerConnected))
	require.Nil(t, meta.FindStatusCondition(f.Status.Conditions, infrastructure.ConditionImageUpToDate))

	var fields struct {
		Status map[string]any `json:"f:status"`
	}
	for _, owner := range f.ManagedFields {
		if owner.Manager == "test" {
			require.NoError(t, json.Unmarshal(owner.FieldsV1.GetRawBytes(), &fields))
		}
	}
	for _, owned := range []string{"f:distance", "f:controller", "f:workloadAccess", "f:managementAccess"} {
		require.Contains(t, fields.Status, owned)
	}
	for _, other := range []string{"f:ready", "f:metal"} {
		require.NotContains(t, fields.Status, other, "no manager owns what it cannot set")
	}
	require.NotContains(t, fields.Status["f:conditions"], `k:{"type":"ImageUpToDate"}`)

	_, err = env.apply(t, "fw", `"status":{"distance":9}`, "status")
	require.True(t, apierrors.IsInvalid(err), "%v", err)
	f, err = env.apply(t, "fw", `"status":{}`, "status")
	require.NoError(t, err)
	require.Zero(t, f.Status.Distance)
	require.Nil(t, f.Status.Controller)
}
