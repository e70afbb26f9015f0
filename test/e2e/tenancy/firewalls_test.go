// SPDX-License-Identifier: Apache-2.0

package tenancy

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	firewallv2 "metal-stack.io/infrastructure-apiserver/pkg/apis/firewall/v2"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
	"metal-stack.io/infrastructure-apiserver/test/framework"
	"metal-stack.io/infrastructure-apiserver/test/framework/objects"
)

// firewalls is a client of what firewall-controllers read; an empty namespace is all.
func (env *tenantsEnvironment) firewalls(t *testing.T, config *rest.Config, namespace string) dynamic.ResourceInterface {
	t.Helper()
	client, err := dynamic.NewForConfig(config)
	require.NoError(t, err)
	return client.Resource(firewallv2.SchemeGroupVersion.WithResource("firewalls")).Namespace(namespace)
}

// newFirewall allocates a firewall with a firewall-controller, and returns its hostname.
func (env *tenantsEnvironment) newFirewall(t *testing.T, namespace string) (hostname string) {
	t.Helper()
	api := env.Metalstack(t, env.Admin()).InfrastructureV1alpha4()
	_, err := api.MetalStackClusters(namespace).Create(t.Context(), objects.Cluster("of-firewall"), metav1.CreateOptions{})
	require.NoError(t, err)
	_, err = api.MetalStackClusters(namespace).Allocate(t.Context(), "of-firewall", &v1alpha4.Allocation{}, metav1.CreateOptions{})
	require.NoError(t, err)
	_, err = api.MetalStackFirewalls(namespace).Create(t.Context(), objects.Firewall("fw", func(f *v1alpha4.MetalStackFirewall) {
		f.Spec.Controller, f.Spec.Partition = &v1alpha4.FirewallController{}, simulator.DefaultPartition
	}), metav1.CreateOptions{})
	require.NoError(t, err)
	f, err := api.MetalStackFirewalls(namespace).Allocate(t.Context(), "fw", &v1alpha4.Allocation{
		ClusterRef: &v1alpha4.LocalReference{Name: "of-firewall"}, UserData: []byte(`{"ignition":{"version":"2.3.0"}}`),
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	return f.Status.Metal.Hostname
}

func shownFirewalls(list *unstructured.UnstructuredList, err error) ([]string, error) {
	if err != nil {
		return nil, err
	}
	names := []string{}
	for _, item := range list.Items {
		names = append(names, item.GetNamespace()+"/"+item.GetName())
	}
	return names, nil
}

func firewallsOfNamespaceForFirewallController(t *testing.T, env *tenantsEnvironment) {
	ofA, ofB := env.newFirewall(t, teamA), env.newFirewall(t, teamB)
	const account = "firewall-controller-test"
	_, err := env.Client().CoreV1().ServiceAccounts(teamA).Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: account}}, metav1.CreateOptions{})
	require.NoError(t, err)
	env.admin(t, "create", "role", account, "-n", teamA, "--verb=get,list,watch", "--resource=firewalls.firewall.metal-stack.io,firewalls.firewall.metal-stack.io/status")
	env.admin(t, "create", "rolebinding", account, "-n", teamA, "--role="+account, "--serviceaccount="+teamA+":"+account)
	controller := env.ServiceAccount(t, teamA, account)
	framework.Eventually(t, limit, func(ctx context.Context) error {
		names, err := shownFirewalls(env.firewalls(t, controller, teamA).List(ctx, metav1.ListOptions{}))
		if err == nil && (len(names) != 1 || names[0] != teamA+"/"+ofA) {
			err = fmt.Errorf("%q", names)
		}
		return err
	})
	own := env.firewalls(t, controller, teamA)
	for _, subresource := range []string{"", "status"} {
		obj, err := own.Get(t.Context(), ofA, metav1.GetOptions{}, nonempty(subresource)...)
		require.NoError(t, err)
		assert.Equal(t, ofA, obj.GetName())
	}
	events, err := own.Watch(t.Context(), metav1.ListOptions{FieldSelector: "metadata.name=" + ofA})
	require.NoError(t, err)
	event := <-events.ResultChan()
	events.Stop()
	assert.Equal(t, ofA, event.Object.(*unstructured.Unstructured).GetName())

	foreign, everywhere := env.firewalls(t, controller, teamB), env.firewalls(t, controller, "")
	mine := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "firewall.metal-stack.io/v2", "kind": "Firewall", "metadata": map[string]any{"name": ofA}}}
	for name, try := range map[string]func() error{
		"get of another namespace":   func() error { _, err := foreign.Get(t.Context(), ofB, metav1.GetOptions{}); return err },
		"list of another namespace":  func() error { _, err := foreign.List(t.Context(), metav1.ListOptions{}); return err },
		"watch of another namespace": func() error { _, err := foreign.Watch(t.Context(), metav1.ListOptions{}); return err },
		"list of all":                func() error { _, err := everywhere.List(t.Context(), metav1.ListOptions{}); return err },
		"create":                     func() error { _, err := own.Create(t.Context(), mine, metav1.CreateOptions{}); return err },
		"update":                     func() error { _, err := own.Update(t.Context(), mine, metav1.UpdateOptions{}); return err },
		"patch": func() error {
			_, err := own.Patch(t.Context(), ofA, types.MergePatchType, []byte(`{"distance":8}`), metav1.PatchOptions{})
			return err
		},
		"patch of status": func() error {
			_, err := own.Patch(t.Context(), ofA, types.MergePatchType, []byte(`{}`), metav1.PatchOptions{}, "status")
			return err
		},
		"delete":     func() error { return own.Delete(t.Context(), ofA, metav1.DeleteOptions{}) },
		"delete all": func() error { return own.DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{}) },
		"the MetalStackFirewall": func() error {
			_, err := env.Metalstack(t, controller).InfrastructureV1alpha4().MetalStackFirewalls(teamA).Get(t.Context(), "fw", metav1.GetOptions{})
			return err
		},
		"MetalStackFirewalls": func() error {
			_, err := env.Metalstack(t, controller).InfrastructureV1alpha4().MetalStackFirewalls(teamA).List(t.Context(), metav1.ListOptions{})
			return err
		},
	} {
		err := try()
		assert.True(t, apierrors.IsForbidden(err), "%s: %v", name, err)
	}

	firewallsAreShownToTenants(t, env, ofA, ofB)
}

// firewallsAreShownToTenants: a tenant of one namespace sees nothing of the other, and not even
// an administrator writes.
func firewallsAreShownToTenants(t *testing.T, env *tenantsEnvironment, ofA, ofB string) {
	env.admin(t, "create", "rolebinding", "firewalls-carol", "--clusterrole=edit", "--user=carol", "-n", teamA)
	carol := env.tenant("carol")
	framework.Eventually(t, limit, func(ctx context.Context) error {
		names, err := shownFirewalls(env.firewalls(t, carol, "").List(ctx, metav1.ListOptions{}))
		if err == nil && (len(names) != 1 || names[0] != teamA+"/"+ofA) {
			err = fmt.Errorf("%q", names)
		}
		return err
	})
	_, err := env.firewalls(t, carol, teamA).Get(t.Context(), ofA, metav1.GetOptions{})
	require.NoError(t, err)
	for _, namespace := range []string{teamB, "nowhere"} {
		_, err = env.firewalls(t, carol, namespace).List(t.Context(), metav1.ListOptions{})
		require.True(t, apierrors.IsForbidden(err), "%v", err)
		_, err = env.firewalls(t, carol, namespace).Get(t.Context(), ofB, metav1.GetOptions{})
		require.True(t, apierrors.IsForbidden(err), "%v", err)
		_, err = env.firewalls(t, carol, "").List(t.Context(), metav1.ListOptions{FieldSelector: "metadata.namespace=" + namespace})
		require.True(t, apierrors.IsForbidden(err), "%v", err)
	}
	require.True(t, apierrors.IsForbidden(env.firewalls(t, carol, teamA).Delete(t.Context(), ofA, metav1.DeleteOptions{})))
	err = env.firewalls(t, env.Admin(), teamA).Delete(t.Context(), ofA, metav1.DeleteOptions{})
	require.True(t, apierrors.IsMethodNotSupported(err), "%v", err)
	all, err := shownFirewalls(env.firewalls(t, env.Admin(), "").List(t.Context(), metav1.ListOptions{}))
	require.NoError(t, err)
	assert.Subset(t, all, []string{teamA + "/" + ofA, teamB + "/" + ofB})
	out, stderr, err := env.Kubectl(t, carol, "get", "fw", "-n", teamA)
	require.NoError(t, err, stderr)
	assert.Contains(t, out, ofA)
}

func nonempty(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}
