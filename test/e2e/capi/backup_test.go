// SPDX-License-Identifier: Apache-2.0

package capi

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/test/framework"
)

// backupRestoresNamespaces: a namespace that Velero restores has objects
// without owners and status, and with new uids. Nothing is done by hand, and no
// machine is touched.
func backupRestoresNamespaces(t *testing.T, env *environment, namespace string, projectMetal ProjectMetal) {
	before := projectMetal.Inventory()
	c := env.Order(t, Order{Namespace: namespace, Name: "tulip", ControlPlane: 1, Workers: 1})
	c.AwaitMachines(t, slow, 1, 1)
	held, firewalls, mark := projectMetal.Inventory(), c.firewalls(t.Context(), t), projectMetal.Mark()

	for _, how := range []struct {
		name   string
		change func(*unstructured.Unstructured)
		after  func()
	}{
		{"with finalizers", func(*unstructured.Unstructured) {}, func() {}},
		{"without finalizers, and paused at first", func(obj *unstructured.Unstructured) {
			obj.SetFinalizers(nil)
			if obj.GroupVersionKind().GroupKind() == clusterv1.GroupVersion.WithKind("Cluster").GroupKind() {
				require.NoError(t, unstructured.SetNestedField(obj.Object, true, "spec", "paused"))
			}
		}, func() {
			paused := &clusterv1.Cluster{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: c.Key.Name}}
			require.NoError(t, c.Client.Patch(t.Context(), paused, client.RawPatch(types.MergePatchType, []byte(`{"spec":{"paused":false}}`))))
		}},
	} {
		t.Log(how.name)
		backup := env.Backup(t, namespace)
		backup.Lose(t)
		backup.Restore(t, how.change)
		how.after()
		c.AwaitMachines(t, slow, 1, 1)
		statusIsComplete(t, c)
		c.awaitFirewall(t, firewalls)
		for _, kind := range []string{"machine", "firewall"} {
			account := projectMetal.Since(mark, kind)
			assert.Zero(t, account.Allocated, "%s: no other %s", how.name, kind)
			assert.Zero(t, account.Freed, "%s: every %s is kept", how.name, kind)
		}
		assert.Equal(t, held, projectMetal.Inventory(), how.name)
	}

	// It goes on working. The token that metal-ccm has ended with its service account.
	c.RestartMetalCCM(t, slow)
	c.Scale(t, 2)
	c.AwaitMachines(t, slow, 1, 2)
	c.Delete(t, slow)
	awaitProjectMetal(t, projectMetal, before)
}

// firewalls are the names of the cluster's firewalls.
func (tenant *Tenant) firewalls(ctx context.Context, t *testing.T) []string {
	t.Helper()
	list := &v1alpha4.MetalStackFirewallList{}
	require.NoError(t, tenant.Client.List(ctx, list, tenant.mine(), client.InNamespace(tenant.Key.Namespace)))
	var names []string
	for _, f := range list.Items {
		names = append(names, f.Name)
	}
	return names
}

// awaitFirewall waits until the cluster controls its firewalls, which are these,
// and says that one serves.
func (tenant *Tenant) awaitFirewall(t *testing.T, names []string) {
	t.Helper()
	framework.Eventually(t, slow, func(ctx context.Context) error {
		infra := &v1alpha4.MetalStackCluster{}
		if err := tenant.Client.Get(ctx, tenant.Key, infra); err != nil {
			return err
		}
		for _, name := range names {
			f := &v1alpha4.MetalStackFirewall{}
			if err := tenant.Client.Get(ctx, types.NamespacedName{Namespace: tenant.Key.Namespace, Name: name}, f); err != nil {
				return err
			}
			if !metav1.IsControlledBy(f, infra) {
				return fmt.Errorf("%s is controlled by %v", name, f.OwnerReferences)
			}
		}
		if !meta.IsStatusConditionTrue(infra.Status.Conditions, infrastructure.ConditionFirewallReady) {
			return fmt.Errorf("no firewall is ready: %+v", infra.Status.Conditions)
		}
		return nil
	})
	assert.Equal(t, names, tenant.firewalls(t.Context(), t))
}
