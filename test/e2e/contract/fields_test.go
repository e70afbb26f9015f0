// SPDX-License-Identifier: Apache-2.0

package contract_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
	"metal-stack.io/infrastructure-apiserver/test/framework/objects"
)

// addressTypes are those that Cluster API knows. (InfraMachine: addresses)
var addressTypes = []string{"Hostname", "ExternalIP", "InternalIP", "ExternalDNS", "InternalDNS"}

func TestCluster_ServesContractFields(t *testing.T) {
	t.Parallel()
	env := start(t)
	env.cluster("c")
	var c *unstructured.Unstructured
	require.Eventually(t, func() bool {
		c = env.read("metalstackclusters", "c")
		provisioned, _, err := unstructured.NestedBool(c.Object, "status", "initialization", "provisioned")
		return err == nil && provisioned
	}, limit, glance)
	assert.NotEmpty(t, at[string](t, c, "spec", "controlPlaneEndpoint", "host"))
	assert.EqualValues(t, 6443, at[int64](t, c, "spec", "controlPlaneEndpoint", "port"))
	domains := at[[]any](t, c, "status", "failureDomains")
	assert.Equal(t, []any{map[string]any{"name": simulator.DefaultPartition, "controlPlane": true}}, domains, "a list, not a map")
	readyIsACondition(t, c)
	noTerminalFailures(t, c)
}

func TestMachine_ServesContractFields(t *testing.T) {
	t.Parallel()
	env := start(t)
	env.cluster("c")
	id := env.machine("m", "c").Status.Allocation.MachineID
	m := env.read("metalstackmachines", "m")
	assert.Equal(t, "metal://"+simulator.DefaultPartition+"/"+id, at[string](t, m, "spec", "providerID"), "as metal-ccm writes it on the Node")
	assert.True(t, at[bool](t, m, "status", "initialization", "provisioned"))
	assert.Equal(t, simulator.DefaultPartition, at[string](t, m, "status", "failureDomain"))
	addresses := at[[]any](t, m, "status", "addresses")
	assert.NotEmpty(t, addresses)
	for _, a := range addresses {
		address := a.(map[string]any)
		assert.True(t, slices.Contains(addressTypes, address["type"].(string)), "%v", address)
		assert.NotEmpty(t, address["address"])
	}
	// The old field would win over the Machine's; the other would have Cluster
	// API think that the machine may vanish at any time.
	missing(t, m, "spec", "failureDomain")
	missing(t, m, "status", "interruptible")
	readyIsACondition(t, m)
	noTerminalFailures(t, m)
}

func readyIsACondition(t *testing.T, obj *unstructured.Unstructured) {
	t.Helper()
	for _, c := range at[[]any](t, obj, "status", "conditions") {
		condition := &unstructured.Unstructured{Object: c.(map[string]any)}
		if at[string](t, condition, "type") != infrastructure.ConditionReady {
			continue
		}
		assert.Equal(t, "True", at[string](t, condition, "status"))
		for _, field := range []string{"reason", "message", "lastTransitionTime"} {
			assert.NotEmpty(t, at[string](t, condition, field))
		}
		return
	}
	t.Errorf("there is no condition Ready")
}

func noTerminalFailures(t *testing.T, obj *unstructured.Unstructured) {
	t.Helper()
	missing(t, obj, "status", "failureReason")
	missing(t, obj, "status", "failureMessage")
}

func TestMachineTemplate_ReportsCapacityAndIsImmutable(t *testing.T) {
	t.Parallel()
	env := start(t)
	templates := env.api.MetalStackMachineTemplates(team)
	template := &v1alpha4.MetalStackMachineTemplate{ObjectMeta: metav1.ObjectMeta{Name: "t"}}
	template.Spec.Template.ObjectMeta = v1alpha4.TemplateMeta{Labels: map[string]string{"a": "b"}, Annotations: map[string]string{"c": "d"}}
	template.Spec.Template.Spec = objects.Machine("").Spec
	_, err := templates.Create(t.Context(), template, metav1.CreateOptions{})
	require.NoError(t, err)
	read := env.read("metalstackmachinetemplates", "t")
	assert.Equal(t, map[string]any{"a": "b"}, at[map[string]any](t, read, "spec", "template", "metadata", "labels"))
	assert.Equal(t, map[string]any{"c": "d"}, at[map[string]any](t, read, "spec", "template", "metadata", "annotations"))
	for _, resource := range []string{"cpu", "memory"} {
		assert.NotEmpty(t, at[string](t, read, "status", "capacity", resource))
	}
	assert.Equal(t, "amd64", at[string](t, read, "status", "nodeInfo", "architecture"))
	assert.Equal(t, "linux", at[string](t, read, "status", "nodeInfo", "operatingSystem"))

	// Server-side apply in a dry run, as the topology controller does it.
	other := func(annotations map[string]string, dryRun ...string) error {
		config, err := json.Marshal(map[string]any{
			"apiVersion": v1alpha4.SchemeGroupVersion.String(), "kind": "MetalStackMachineTemplate",
			"metadata": map[string]any{"name": "t", "annotations": annotations},
			"spec":     map[string]any{"template": map[string]any{"spec": map[string]any{"image": "ubuntu-22.04"}}},
		})
		require.NoError(t, err)
		force := true
		_, err = templates.Patch(t.Context(), "t", types.ApplyPatchType, config, metav1.PatchOptions{FieldManager: "capi-topology", Force: &force, DryRun: dryRun})
		return err
	}
	asks := map[string]string{infrastructure.TopologyDryRunAnnotation: ""}
	require.NoError(t, other(asks, metav1.DryRunAll))
	for _, err := range []error{other(nil), other(asks), other(nil, metav1.DryRunAll)} {
		require.True(t, apierrors.IsInvalid(err), "%v", err)
	}
	after := env.read("metalstackmachinetemplates", "t")
	assert.Equal(t, read.GetResourceVersion(), after.GetResourceVersion(), "a dry run changes nothing")
}

func TestMachine_KeepsClusterAPIMetadata(t *testing.T) {
	t.Parallel()
	env := start(t)
	machines := env.api.MetalStackMachines(team)
	cloned := map[string]string{
		"cluster.x-k8s.io/cloned-from-name":      "t",
		"cluster.x-k8s.io/cloned-from-groupkind": "MetalStackMachineTemplate." + v1alpha4.GroupName,
	}
	config, err := json.Marshal(map[string]any{
		"apiVersion": v1alpha4.SchemeGroupVersion.String(), "kind": "MetalStackMachine",
		"metadata": map[string]any{"name": "m", "annotations": cloned},
		"spec":     map[string]any{"image": simulator.MachineImage, "machineType": simulator.SmallSize},
	})
	require.NoError(t, err)
	force := true
	m, err := machines.Patch(t.Context(), "m", types.ApplyPatchType, config, metav1.PatchOptions{FieldManager: "capi-machineset", Force: &force})
	require.NoError(t, err, "server-side apply creates")

	// As Cluster API sorts the managers of what it has created.
	require.NotEmpty(t, m.ManagedFields)
	sorted := slices.Clone(m.ManagedFields[:1])
	sorted[0].Manager = "capi-machineset-metadata"
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"managedFields": sorted, "resourceVersion": m.ResourceVersion}})
	require.NoError(t, err)
	m, err = machines.Patch(t.Context(), "m", types.MergePatchType, patch, metav1.PatchOptions{FieldManager: "manager"})
	require.NoError(t, err)
	managers := func(m *v1alpha4.MetalStackMachine) (names []string) {
		for _, f := range m.ManagedFields {
			names = append(names, f.Manager)
		}
		return names
	}
	require.Contains(t, managers(m), "capi-machineset-metadata")

	env.Kill()
	env.Restart()
	after, err := machines.Get(t.Context(), "m", metav1.GetOptions{})
	require.NoError(t, err)
	assert.Equal(t, managers(m), managers(after))
	assert.Equal(t, cloned, after.Annotations)
}

// As Kamaji's provider patches the infrastructure of other providers: the whole endpoint, by
// a merge patch of what it read.
func TestCluster_EndpointArrivesFromOutside(t *testing.T) {
	t.Parallel()
	env := start(t)
	env.cluster("c", func(c *v1alpha4.MetalStackCluster) {
		c.Spec.ControlPlaneEndpointProvider = v1alpha4.EndpointOfControlPlane
		c.Spec.PublicNetworkID = ""
	})
	provisioned := func() *unstructured.Unstructured {
		var c *unstructured.Unstructured
		require.Eventually(t, func() bool {
			c = env.read("metalstackclusters", "c")
			provisioned, _, err := unstructured.NestedBool(c.Object, "status", "initialization", "provisioned")
			return err == nil && provisioned
		}, limit, glance)
		return c
	}
	c := provisioned()
	missing(t, c, "spec", "controlPlaneEndpoint")
	missing(t, c, "status", "controlPlaneIP")
	readyIsACondition(t, c)
	assert.True(t, at[bool](t, c, "status", "ready"))

	clusters := env.Dynamic().Resource(v1alpha4.SchemeGroupVersion.WithResource("metalstackclusters")).Namespace(team)
	for _, endpoint := range []string{`{"host":"203.0.113.7","port":6443}`, `{"host":"api.example.org","port":443}`} {
		_, err := clusters.Patch(t.Context(), "c", types.MergePatchType, []byte(`{"spec":{"controlPlaneEndpoint":`+endpoint+`}}`), metav1.PatchOptions{})
		require.NoError(t, err)
	}
	c = provisioned()
	assert.Equal(t, "api.example.org", at[string](t, c, "spec", "controlPlaneEndpoint", "host"))
	assert.EqualValues(t, 443, at[int64](t, c, "spec", "controlPlaneEndpoint", "port"))
	m := env.machine("m", "c")
	inventory := env.Metal.Sim.Inventory()
	state, found := inventory.Machine(m.Status.Allocation.MachineID)
	require.True(t, found)
	assert.Contains(t, state.Networks, at[string](t, c, "status", "network", "id"))
	for _, ip := range inventory.IPs {
		for _, tag := range ip.Tags {
			assert.NotContains(t, tag, string(c.GetUID()), "no address is allocated for the cluster: %s", ip.Address)
		}
	}
}

func TestExternallyManagedCluster_ReadyFollowsProvisioned(t *testing.T) {
	t.Parallel()
	env := start(t)
	network := env.privateNetwork()
	clusters := env.api.MetalStackClusters(team)
	c, err := clusters.Create(t.Context(), objects.Cluster("c", func(c *v1alpha4.MetalStackCluster) {
		c.Labels = map[string]string{infrastructure.ManagedByAnnotation: "terraform"}
		c.Spec.PrivateNetworkID = network
		c.Spec.ControlPlaneEndpoint = v1alpha4.APIEndpoint{Host: "api.example.org", Port: 443}
	}), metav1.CreateOptions{})
	require.NoError(t, err)
	assert.Empty(t, c.Finalizers, "whoever manages it decides how long it stays")
	assert.True(t, meta.IsStatusConditionFalse(c.Status.Conditions, infrastructure.ConditionReady))
	c = env.setProvisioned("c", new(true))
	assert.True(t, meta.IsStatusConditionTrue(c.Status.Conditions, infrastructure.ConditionReady), "%+v", c.Status.Conditions)
	read := env.read("metalstackclusters", "c")
	assert.True(t, at[bool](t, read, "status", "initialization", "provisioned"))
	assert.EqualValues(t, 443, at[int64](t, read, "spec", "controlPlaneEndpoint", "port"))
	assert.NotEmpty(t, at[[]any](t, read, "status", "failureDomains"))

	m := env.machine("m", "c")
	state, found := env.Metal.Sim.Inventory().Machine(m.Status.Allocation.MachineID)
	require.True(t, found)
	assert.Contains(t, state.Networks, network)

	require.NoError(t, clusters.Delete(t.Context(), "c", metav1.DeleteOptions{}))
	_, err = clusters.Get(t.Context(), "c", metav1.GetOptions{})
	assert.True(t, apierrors.IsNotFound(err), "%v", err)
}

func TestExternallyManagedCluster_IsHeldAfterHandover(t *testing.T) {
	t.Parallel()
	env := start(t)
	clusters := env.api.MetalStackClusters(team)
	_, err := clusters.Create(t.Context(), objects.Cluster("c", func(c *v1alpha4.MetalStackCluster) {
		c.Annotations = map[string]string{infrastructure.ManagedByAnnotation: "terraform"}
	}), metav1.CreateOptions{})
	require.NoError(t, err)
	c, err := clusters.Patch(t.Context(), "c", types.MergePatchType,
		fmt.Appendf(nil, `{"metadata":{"annotations":{%q:null}}}`, infrastructure.ManagedByAnnotation), metav1.PatchOptions{})
	require.NoError(t, err)
	assert.Contains(t, c.Finalizers, infrastructure.ClusterFinalizer)
}

func TestCluster_ProvisionedNeverGoesBack(t *testing.T) {
	t.Parallel()
	env := start(t)
	c := env.cluster("c")
	provisioned := func(c *v1alpha4.MetalStackCluster) bool {
		return c.Status.Initialization.Provisioned != nil && *c.Status.Initialization.Provisioned
	}
	read := func() *v1alpha4.MetalStackCluster {
		c, err := env.api.MetalStackClusters(team).Get(t.Context(), "c", metav1.GetOptions{})
		require.NoError(t, err)
		return c
	}
	require.Eventually(t, func() bool { return provisioned(read()) }, limit, 20*time.Millisecond)
	_, err := env.metal.FreeIP(t.Context(), c.Status.Allocation.IPAddress)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return !read().Status.Ready }, limit, 20*time.Millisecond)
	assert.True(t, provisioned(read()))
	for _, said := range []*bool{nil, new(false)} {
		assert.True(t, provisioned(env.setProvisioned("c", said)))
	}
}
