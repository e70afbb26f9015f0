// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

func TestRulesPolicies_AllowWhatRulesDo(t *testing.T) {
	t.Parallel()
	specs := func(rules *v1alpha4.FirewallRules) map[string]any {
		found := map[string]any{}
		for _, p := range rulesPolicies(rules) {
			assert.Equal(t, "firewall", p.GetNamespace())
			spec := p.Object["spec"].(map[string]any)
			delete(spec, "description")
			found[p.GetName()] = spec
		}
		return found
	}
	none := map[string]any{"metal-stack-egress": map[string]any{}, "metal-stack-ingress": map[string]any{}}
	assert.Equal(t, none, specs(nil))
	port := func(protocol string, port int64) map[string]any {
		return map[string]any{"protocol": protocol, "port": port}
	}
	assert.Equal(t, map[string]any{
		"metal-stack-egress": map[string]any{"egress": []any{
			map[string]any{"ports": []any{port("TCP", 80), port("TCP", 443)}, "to": []any{map[string]any{"cidr": "0.0.0.0/0"}}},
			map[string]any{"ports": []any{port("UDP", 53)}, "to": []any{map[string]any{"cidr": "198.51.100.0/24"}}},
		}},
		"metal-stack-ingress": map[string]any{"ingress": []any{
			map[string]any{"ports": []any{port("TCP", 6443)}, "from": []any{map[string]any{"cidr": "0.0.0.0/0"}}},
		}},
	}, specs(&v1alpha4.FirewallRules{
		Egress: []v1alpha4.FirewallEgressRule{
			{Ports: []int32{80, 443}, To: []string{"0.0.0.0/0"}}, {Protocol: "udp", Ports: []int32{0, 53}, To: []string{"198.51.100.0/24"}},
		},
		Ingress: []v1alpha4.FirewallIngressRule{{Protocol: "tcp", Ports: []int32{6443}, From: []string{"0.0.0.0/0"}}},
	}))
	// What a policy cannot say, or would say of more.
	assert.Equal(t, none, specs(&v1alpha4.FirewallRules{
		Egress: []v1alpha4.FirewallEgressRule{{Ports: []int32{80}, To: []string{"2001:db8::/32"}}, {Ports: []int32{0}, To: []string{"0.0.0.0/0"}}},
		Ingress: []v1alpha4.FirewallIngressRule{
			{Ports: []int32{80}, From: []string{"0.0.0.0/0"}, To: []string{"10.0.0.1/32"}}, {Ports: []int32{80}, From: []string{"::/0"}},
		},
	}))
}

// TestRulesPolicies_ComeBeforeTheAccess: with access and without policies, a firewall-controller
// would cut the workload cluster off from the management cluster.
func TestRulesPolicies_ComeBeforeTheAccess(t *testing.T) {
	t.Parallel()
	h := newWorkloadHarness(t)
	h.provideFirewallAccess("the-token")
	h.writeKubeconfig(workloadKubeconfigText)
	for _, refused := range []string{egressPolicy, ingressPolicy} {
		h.refuseApply = func(name string) error {
			if name == refused {
				return errors.New("refused")
			}
			return nil
		}
		h.visit(maxWorkloadRetry * 2)
		assert.Nil(t, h.firewall().Status.WorkloadAccess)
		assert.False(t, h.find(accessCluster+"-firewall-workload-token", &corev1.Secret{}))
		assert.Equal(t, metav1.ConditionFalse, h.firewallCondition().Status)
	}
	h.refuseApply = nil
	h.visit(maxWorkloadRetry * 2)
	require.NotNil(t, h.firewall().Status.WorkloadAccess)

	for _, name := range []string{egressPolicy, ingressPolicy} {
		policy := &unstructured.Unstructured{}
		policy.SetGroupVersionKind(policyKind)
		require.True(t, h.inWorkload(policy, "firewall", name))
		require.NoError(t, h.workload.Delete(t.Context(), policy))
		h.visit(workloadCheckInterval)
		assert.True(t, h.inWorkload(policy, "firewall", name), "restored")
	}
}
