// SPDX-License-Identifier: Apache-2.0

package capi

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/types"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/test/framework"
)

func clusterClassCreatesAndChangesClusters(t *testing.T, env *environment, namespace string, projectMetal ProjectMetal) {
	before := projectMetal.Inventory()
	c := env.Order(t, Order{Namespace: namespace, Name: "aster", Flavor: "topology", ControlPlane: 1, Workers: 2, Variables: map[string]string{
		"METAL_MANAGEMENT_PORT": "6444", "METAL_ADDITIONAL_NETWORKS": tinyNetwork, "METAL_FIREWALL_NETWORKS": tinyNetwork, "UNHEALTHY_TIMEOUT": "900",
		"FIREWALL_CONTROLLER_INTERVAL": "15s", "FIREWALL_SSH_KEYS": firewallKey, "WORKER_REMEDIATION_TEMPLATE": RemediationTemplate("aster-md-0"), "REMEDIATION_RETRY_LIMIT": "2",
	}})
	c.AwaitMachines(t, slow, 1, 2)
	variablesAreApplied(t, c)
	variableChangesTheFirewall(t, c, projectMetal)

	// A moment of rest: what Cluster API asks for in dry runs, for every
	// reconcile, leaves no trace.
	templates := func() map[string]string {
		list := &v1alpha4.MetalStackMachineTemplateList{}
		require.NoError(t, c.Client.List(t.Context(), list, client.InNamespace(namespace)))
		found := map[string]string{}
		for _, template := range list.Items {
			found[template.Name] = fmt.Sprint(template.Generation)
		}
		return found
	}
	rest := templates()
	start := projectMetal.Mark()
	require.NoError(t, c.Client.Patch(t.Context(), c.named(), client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"annotations":{"example.org/touched":"1"}}}`))))

	// Another image for workers, and one worker more.
	ordered, err := c.Cluster(t.Context())
	require.NoError(t, err)
	patched := ordered.DeepCopy()
	setVariable(patched, "worker", fmt.Sprintf(`{"image": "ubuntu-22.04", "size": %q}`, Variables["WORKER_MACHINE_SIZE"]))
	three := int32(3)
	patched.Spec.Topology.Workers.MachineDeployments[0].Replicas = &three
	require.NoError(t, c.Client.Patch(t.Context(), patched, client.MergeFrom(ordered)))
	framework.Eventually(t, slow, func(ctx context.Context) error {
		hardware, err := c.Hardware(ctx)
		if err != nil {
			return err
		}
		rolled := 0
		for _, h := range hardware {
			if h.Spec.Image == "ubuntu-22.04" && h.Status.Ready {
				rolled++
			}
		}
		if rolled != 3 || len(hardware) != 4 {
			return fmt.Errorf("%d of %d machines have the new image", rolled, len(hardware))
		}
		return nil
	})
	c.AwaitMachines(t, slow, 1, 3)
	account := projectMetal.Since(start, "machine")
	assert.Equal(t, 3, account.Allocated)
	assert.Equal(t, 2, account.Freed)
	for name, generation := range templates() {
		if old, found := rest[name]; found {
			assert.Equal(t, old, generation, "template %s is what it was", name)
		}
	}
	c.Delete(t, slow)
	awaitProjectMetal(t, projectMetal, before)
}

func (tenant *Tenant) named() *clusterv1.Cluster {
	cluster := &clusterv1.Cluster{}
	cluster.Namespace, cluster.Name = tenant.Key.Namespace, tenant.Key.Name
	return cluster
}

// tinyNetwork is an external network of the data centre, beside the internet.
const tinyNetwork = "tiny-" + Partition

// firewallKey may log in to firewalls.
const firewallKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f you@example.org"

func setVariable(cluster *clusterv1.Cluster, name, value string) {
	for i := range cluster.Spec.Topology.Variables {
		if v := &cluster.Spec.Topology.Variables[i]; v.Name == name {
			v.Value.Raw = []byte(value)
		}
	}
}

// variableChangesTheFirewall: what its firewall-controller does is changed, and no other
// firewall is allocated.
func variableChangesTheFirewall(t *testing.T, c *Tenant, projectMetal ProjectMetal) {
	t.Helper()
	mark := projectMetal.Mark()
	ordered, err := c.Cluster(t.Context())
	require.NoError(t, err)
	patched := ordered.DeepCopy()
	network := Variables["METAL_PUBLIC_NETWORK"]
	setVariable(patched, "firewallController", fmt.Sprintf(`{"interval":"15s","rateLimits":[{"networkID":%q,"rate":5}],"allowedNetworks":{"ingress":["0.0.0.0/0"],"egress":["0.0.0.0/0"]}}`, network))
	require.NoError(t, c.Client.Patch(t.Context(), patched, client.MergeFrom(ordered)))
	framework.Eventually(t, slow, func(ctx context.Context) error {
		all, err := c.Firewalls(ctx)
		if err != nil {
			return err
		}
		if len(all) != 1 || all[0].Spec.Controller == nil || len(all[0].Spec.Controller.RateLimits) != 1 || len(all[0].Spec.Controller.AllowedNetworks.Egress) != 1 {
			return fmt.Errorf("firewalls: %s", describeFirewalls(all))
		}
		return nil
	})
	assert.Equal(t, Account{Most: 1}, projectMetal.Since(mark, "firewall"))
}

// variablesAreApplied: what the template passes to the class is in the objects.
func variablesAreApplied(t *testing.T, c *Tenant) {
	t.Helper()
	infra, err := c.Infrastructure(t.Context())
	require.NoError(t, err)
	require.NotNil(t, infra.Spec.MetalAPIAccess)
	assert.Equal(t, []string{tinyNetwork}, infra.Spec.MetalAPIAccess.AdditionalNetworkIDs)
	require.NotNil(t, infra.Spec.FirewallSpec)
	assert.Equal(t, []string{tinyNetwork}, infra.Spec.FirewallSpec.Networks)
	var ports []int32
	for _, rule := range infra.Spec.FirewallSpec.Rules.Egress {
		ports = append(ports, rule.Ports...)
	}
	assert.Equal(t, []int32{80, 443, 53, 53, 123, 6444}, ports)
	assert.Len(t, infra.Spec.FirewallSpec.Rules.Ingress, 1)
	assert.Equal(t, []string{firewallKey}, infra.Spec.FirewallSpec.SSHKeys)
	require.NotNil(t, infra.Spec.FirewallSpec.Controller)
	assert.Equal(t, "15s", infra.Spec.FirewallSpec.Controller.Interval.Duration.String())
	checks := &clusterv1.MachineHealthCheckList{}
	require.NoError(t, c.Client.List(t.Context(), checks, c.mine(), client.InNamespace(c.Key.Namespace)))
	require.Len(t, checks.Items, 1)
	assert.EqualValues(t, 900, *checks.Items[0].Spec.Checks.UnhealthyNodeConditions[0].TimeoutSeconds)
	remediation := &v1alpha4.MetalStackRemediationTemplate{}
	template := checks.Items[0].Spec.Remediation.TemplateRef
	assert.Equal(t, "MetalStackRemediationTemplate", template.Kind)
	require.NoError(t, c.Client.Get(t.Context(), client.ObjectKey{Namespace: c.Key.Namespace, Name: template.Name}, remediation))
	assert.EqualValues(t, 2, remediation.Spec.Template.Spec.Strategy.RetryLimit)
}
