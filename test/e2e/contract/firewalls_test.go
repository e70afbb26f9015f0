// SPDX-License-Identifier: Apache-2.0

package contract_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	firewallv2 "metal-stack.io/infrastructure-apiserver/pkg/apis/firewall/v2"
	"metal-stack.io/infrastructure-apiserver/pkg/apiserver/registration"
	"metal-stack.io/infrastructure-apiserver/test/framework"
	"metal-stack.io/infrastructure-apiserver/test/framework/cluster"
	"metal-stack.io/infrastructure-apiserver/test/framework/controlplane"
	"metal-stack.io/infrastructure-apiserver/test/framework/objects"
)

const firewallVersion = "v2.firewall.metal-stack.io"

// firewallDefinition is one as firewall-controller-manager has it.
func firewallDefinition() *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
		"metadata": map[string]any{"name": "firewalls.firewall.metal-stack.io"},
		"spec": map[string]any{
			"group": firewallv2.GroupName, "scope": "Namespaced",
			"names": map[string]any{"kind": "Firewall", "listKind": "FirewallList", "plural": "firewalls", "singular": "firewall"},
			"versions": []any{map[string]any{
				"name": "v2", "served": true, "storage": true,
				"schema": map[string]any{"openAPIV3Schema": map[string]any{"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
			}},
		},
	}}
}

// firewallEnvironment is a cluster of which some of the group-version is served by others.
type firewallEnvironment struct {
	*cluster.Cluster
	client dynamic.Interface
}

// awaitServer waits until the APIService is ours, with our label, or the kube-apiserver's.
func (env *firewallEnvironment) awaitServer(t *testing.T, ours bool) (uid string) {
	t.Helper()
	framework.Eventually(t, limit, func(ctx context.Context) error {
		service, err := env.client.Resource(controlplane.APIServices).Get(ctx, firewallVersion, metav1.GetOptions{})
		if err != nil {
			return err
		}
		_, isForwarded, _ := unstructured.NestedMap(service.Object, "spec", "service")
		if labelled := service.GetLabels()[registration.RegisteredByLabel] == cluster.Namespace; labelled != ours || isForwarded != ours {
			return fmt.Errorf("forwarded: %v, labelled: %v", isForwarded, labelled)
		}
		uid = string(service.GetUID())
		return nil
	})
	env.WaitAvailable(t, firewallv2.SchemeGroupVersion, true)
	return uid
}

// awaitConflict waits for an Event about a conflict of an APIService.
func (env *firewallEnvironment) awaitConflict(t *testing.T, uid string) {
	t.Helper()
	env.awaitEvent(t, registration.ReasonVersionTaken, uid)
}

func (env *firewallEnvironment) awaitEvent(t *testing.T, reason, uid string) {
	t.Helper()
	framework.Eventually(t, limit, func(ctx context.Context) error {
		events, err := env.Client().CoreV1().Events("").List(ctx, metav1.ListOptions{FieldSelector: "reason=" + reason})
		if err != nil {
			return err
		}
		for _, e := range events.Items {
			if e.InvolvedObject.Name == firewallVersion && string(e.InvolvedObject.UID) == uid {
				return nil
			}
		}
		return errors.New("no Event " + reason)
	})
}

// theirFirewall is one that is stored in etcd.
func (env *firewallEnvironment) theirFirewall() error {
	_, err := env.client.Resource(firewallv2.SchemeGroupVersion.WithResource("firewalls")).Namespace("default").Get(context.Background(), "theirs", metav1.GetOptions{})
	return err
}

func TestFirewallVersion_OfOthersIsLeftAlone(t *testing.T) {
	t.Parallel()
	plane := controlplane.Start(t)
	client, err := dynamic.NewForConfig(plane.Admin())
	require.NoError(t, err)
	_, err = client.Resource(definitions).Create(t.Context(), firewallDefinition(), metav1.CreateOptions{})
	require.NoError(t, err)
	plane.WaitAvailable(t, firewallv2.SchemeGroupVersion, true)
	framework.Eventually(t, limit, func(ctx context.Context) error {
		_, err := client.Resource(firewallv2.SchemeGroupVersion.WithResource("firewalls")).Namespace("default").Create(ctx, &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": firewallv2.SchemeGroupVersion.String(), "kind": "Firewall", "metadata": map[string]any{"name": "theirs"}, "spec": map[string]any{},
		}}, metav1.CreateOptions{})
		return err
	})
	env := &firewallEnvironment{cluster.Start(t, cluster.Options{ControlPlane: plane}), client}

	theirs := env.awaitServer(t, false)
	env.awaitConflict(t, theirs)
	require.NoError(t, env.theirFirewall(), "theirs are served as before")

	// They go, and ours comes.
	require.NoError(t, client.Resource(definitions).Delete(t.Context(), "firewalls.firewall.metal-stack.io", metav1.DeleteOptions{}))
	ours := env.awaitServer(t, true)
	framework.Eventually(t, limit, func(context.Context) error {
		if err := env.theirFirewall(); !apierrors.IsNotFound(err) {
			return fmt.Errorf("theirs: %w", err)
		}
		return nil
	})

	// They come later: firewall-controllers of ours are not to find their Firewalls gone.
	_, err = client.Resource(definitions).Create(t.Context(), firewallDefinition(), metav1.CreateOptions{})
	require.NoError(t, err)
	env.awaitConflict(t, ours)
	require.Equal(t, ours, env.awaitServer(t, true))

	// With the flag, they get it.
	env.Servers[0].Stop(t)
	env.Cluster = cluster.Start(t, cluster.Options{ControlPlane: plane, Metal: env.Metal, Installed: true, Flags: []string{"--serve-firewalls=false"}})
	env.awaitServer(t, false)
}

func TestFirewallVersion_FlagRemovesItWhenFirewallControllersDoNotReadIt(t *testing.T) {
	t.Parallel()
	var opts cluster.Options
	team := opts.AddTeams(1)[0]
	c := cluster.Start(t, opts)
	c.Bind(t, team.Namespace, team.Project)
	client, err := dynamic.NewForConfig(c.Admin())
	require.NoError(t, err)
	env := &firewallEnvironment{c, client}
	ours := env.awaitServer(t, true)
	clusters := c.Metalstack(t, c.Admin()).InfrastructureV1alpha4().MetalStackClusters(team.Namespace)
	setConditions := func(conditions string) {
		_, err := clusters.Patch(t.Context(), "rose", types.MergePatchType, []byte(`{"status":{"conditions":`+conditions+`}}`), metav1.PatchOptions{}, "status")
		require.NoError(t, err)
	}
	framework.Eventually(t, limit, func(ctx context.Context) error {
		_, err := clusters.Create(ctx, objects.Cluster("rose"), metav1.CreateOptions{})
		return err
	})
	setConditions(`[{"type":"FirewallControllerReady","status":"True","reason":"Ready","message":"","lastTransitionTime":"2026-11-29T10:00:00Z"}]`)

	env.Servers[0].Stop(t)
	cluster.Start(t, cluster.Options{ControlPlane: c.ControlPlane, Metal: c.Metal, Installed: true, Flags: []string{"--serve-firewalls=false"}})
	env.awaitEvent(t, registration.ReasonVersionInUse, ours)
	service, err := client.Resource(controlplane.APIServices).Get(t.Context(), firewallVersion, metav1.GetOptions{})
	require.NoError(t, err)
	require.Equal(t, ours, string(service.GetUID()))

	setConditions("[]")
	_, err = client.Resource(controlplane.APIServices).Patch(t.Context(), firewallVersion, types.MergePatchType, []byte(`{"metadata":{"annotations":{"reconcile":"now"}}}`), metav1.PatchOptions{})
	require.NoError(t, err)
	framework.Eventually(t, limit, func(ctx context.Context) error {
		_, err := client.Resource(controlplane.APIServices).Get(ctx, firewallVersion, metav1.GetOptions{})
		if !apierrors.IsNotFound(err) {
			return fmt.Errorf("still registered: %w", err)
		}
		return nil
	})
}
