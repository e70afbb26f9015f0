// SPDX-License-Identifier: Apache-2.0

package capi

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	bootstrapv1 "sigs.k8s.io/cluster-api/api/bootstrap/kubeadm/v1beta2"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"metal-stack.io/infrastructure-apiserver/test/framework"
)

const (
	// outage is how long the metal-api is away in hard times.
	outage = 2 * time.Minute
	// hard is how long things may take in hard times: a call that a killed server
	// had begun can be at work for up to seven minutes, and may be waited for
	// (docs/allocation.md).
	hard = 12 * time.Minute
)

// TestOutages_ChangeNothingInTheEnd has a management cluster and a metal-api of
// its own: others need theirs. Our programs are killed over and over, the
// metal-api is away, the bootstrap provider is late, and the cluster is paused
// in the middle. No machine too many, none lost.
func TestOutages_ChangeNothingInTheEnd(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t, Options{
		// What is killed has not released its Lease.
		ManagerFlags: []string{"--leader-elect-lease-duration=8s", "--leader-elect-renew-deadline=6s", "--leader-elect-retry-period=500ms"},
	})
	namespace, projectMetal := env.team(t)
	before, start := projectMetal.Inventory(), projectMetal.Mark()

	// Bootstrap data are late: nothing is allocated for workers meanwhile.
	objects := env.Generate(t, Order{Namespace: namespace, Name: "thistle", ControlPlane: 1, Workers: 3})
	require.NoError(t, env.Apply(t.Context(), withPausedConfigs(t, objects)))
	c := env.Tenant(t, namespace, "thistle")
	framework.Eventually(t, slow, func(ctx context.Context) error {
		cluster, err := c.Cluster(ctx)
		if err == nil && !meta.IsStatusConditionTrue(cluster.Status.Conditions, clusterv1.ClusterControlPlaneAvailableCondition) {
			err = fmt.Errorf("the control plane is not available: %+v", cluster.Status.Conditions)
		}
		return err
	})
	assert.Equal(t, 1, projectMetal.Since(start, "machine").Allocated, "no machine without its user data")
	releaseConfigs(t, c)

	// From now on programs are killed all the time, until all is there.
	stopCrashes := crashLoop(t, env)
	c.AwaitMachines(t, hard, 1, 3)
	stopCrashes()

	// Paused in the middle of scaling.
	scaling := projectMetal.Mark()
	c.Scale(t, 6)
	pause(t, c, true)
	stopCrashes = crashLoop(t, env)
	pause(t, c, false)
	resume := env.Site.Metal.Sim.StopAnswering()
	stop := time.AfterFunc(outage, resume)
	t.Cleanup(func() {
		stop.Stop()
		resume()
	})
	c.AwaitMachines(t, outage+hard, 1, 6)
	stopCrashes()
	assert.Equal(t, 3, projectMetal.Since(scaling, "machine").Allocated, "each machine once")
	c.AwaitFirewall(t, hard)
	assert.Equal(t, Account{Allocated: 1, Most: 1}, projectMetal.Since(start, "firewall"), "and one firewall")

	stopCrashes = crashLoop(t, env)
	c.Delete(t, hard)
	stopCrashes()
	awaitProjectMetal(t, projectMetal, before)
	account := projectMetal.Since(start, "machine")
	assert.Equal(t, Account{Allocated: 7, Freed: 7, Most: 7}, account)
}

func pause(t *testing.T, c *Tenant, paused bool) {
	t.Helper()
	require.NoError(t, c.Client.Patch(t.Context(), &clusterv1.Cluster{ObjectMeta: c.named().ObjectMeta},
		client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"spec":{"paused":%v}}`, paused))))
}

// withPausedConfigs has the bootstrap provider not touch the workers' configs.
func withPausedConfigs(t *testing.T, objects string) string {
	t.Helper()
	var changed []string
	for document := range strings.SplitSeq(objects, "\n---\n") {
		obj := &unstructured.Unstructured{}
		require.NoError(t, yaml.Unmarshal([]byte(document), &obj.Object))
		if obj.GetKind() == "KubeadmConfigTemplate" {
			require.NoError(t, unstructured.SetNestedField(obj.Object, "", "spec", "template", "metadata", "annotations", clusterv1.PausedAnnotation))
		}
		text, err := yaml.Marshal(obj.Object)
		require.NoError(t, err)
		changed = append(changed, string(text))
	}
	return strings.Join(changed, "---\n")
}

// releaseConfigs takes that back, for the configs and their template.
func releaseConfigs(t *testing.T, c *Tenant) {
	t.Helper()
	list := &bootstrapv1.KubeadmConfigList{}
	require.NoError(t, c.Client.List(t.Context(), list, client.InNamespace(c.Key.Namespace)))
	off := client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"metadata":{"annotations":{%q:null}}}`, clusterv1.PausedAnnotation))
	for i := range list.Items {
		require.NoError(t, c.Client.Patch(t.Context(), &list.Items[i], off))
	}
	template := &bootstrapv1.KubeadmConfigTemplate{ObjectMeta: metav1.ObjectMeta{Namespace: c.Key.Namespace, Name: c.Key.Name + "-md-0"}}
	require.NoError(t, c.Client.Patch(t.Context(), template, client.RawPatch(types.MergePatchType,
		fmt.Appendf(nil, `{"spec":{"template":{"metadata":{"annotations":{%q:null}}}}}`, clusterv1.PausedAnnotation))))
}
