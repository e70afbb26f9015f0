// SPDX-License-Identifier: Apache-2.0

package tenancy

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/tenancy"
	"metal-stack.io/infrastructure-apiserver/test/framework"
	"metal-stack.io/infrastructure-apiserver/test/framework/objects"
)

func labelBindsNamespace(t *testing.T, env *environment) {
	found, _ := env.byHand(t, project("c"))
	env.Bind(t, "free", "")
	client, config := env.tenant(t, "carol", "free")
	machines := client.InfrastructureV1alpha4().MetalStackMachines("free")
	list, err := machines.List(soon(t), metav1.ListOptions{})
	require.NoError(t, err)
	assert.Empty(t, list.Items)
	_, err = machines.Create(soon(t), objects.Machine("node-1"), metav1.CreateOptions{})
	require.True(t, apierrors.IsForbidden(err), "%v", err)
	require.ErrorContains(t, err, `the namespace "free" is not bound to a metal-stack project`)
	require.ErrorContains(t, err, "kubectl label namespace free "+infrastructure.ProjectLabel+"=<project id>")

	_, stderr, err := env.Kubectl(t, env.Admin(), "label", "namespace", "free", infrastructure.ProjectLabel+"="+project("c"))
	require.NoError(t, err, stderr)
	_, err = machines.Create(soon(t), objects.Machine("node-1"), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	require.NoError(t, err, "what is bound takes objects at once")
	env.shows(t, "free", found)
	env.event(t, "free", tenancy.ReasonBound)
	m, err := machines.Get(soon(t), found, metav1.GetOptions{})
	require.NoError(t, err)
	assert.False(t, m.Status.Metal.Managed)

	_, stderr, err = env.Kubectl(t, config, "-n", "free", "label", "namespace", "free", infrastructure.ProjectLabel+"="+project("d"))
	require.Error(t, err, "no tenant labels a namespace")
	assert.Contains(t, stderr, "Forbidden")

	// Nothing that has a record is in it, so the label alone decides.
	env.label(t, "free", "")
	env.shows(t, "free")
	env.event(t, "free", tenancy.ReasonUnbound)
}

func labelThatCannotBindIsRefused(t *testing.T, env *environment) {
	env.Bind(t, "first", project("d"))
	env.shows(t, "first")
	env.Bind(t, "second", project("d"))
	assert.Contains(t, env.event(t, "second", tenancy.ReasonTaken), `is bound to the namespace "first" already`)
	client, _ := env.tenant(t, "dave", "second")
	_, err := client.InfrastructureV1alpha4().MetalStackClusters("second").Create(soon(t), objects.Cluster("c"), metav1.CreateOptions{})
	require.True(t, apierrors.IsForbidden(err), "%v", err)
	require.ErrorContains(t, err, "belongs to another namespace of this cluster")
	assert.NotContains(t, err.Error(), "first", "which one is none of a tenant's business")
	env.shows(t, "second")

	env.label(t, "second", "team-d")
	assert.Contains(t, env.event(t, "second", tenancy.ReasonInvalid), "a UUID in lower case")
	framework.Eventually(t, limit, func(context.Context) error {
		_, err = client.InfrastructureV1alpha4().MetalStackClusters("second").Create(t.Context(), objects.Cluster("c"), metav1.CreateOptions{})
		if !apierrors.IsForbidden(err) {
			return fmt.Errorf("created: %w", err)
		}
		return nil
	})
	require.ErrorContains(t, err, `is "team-d", and must be the id of a metal-stack project`)

	// Its turn comes by itself.
	env.label(t, "second", project("d"))
	env.label(t, "first", "")
	framework.Eventually(t, limit, func(context.Context) error {
		_, err := client.InfrastructureV1alpha4().MetalStackClusters("second").Create(t.Context(), objects.Cluster("c"), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		return err
	})
}

func bindingStaysWhileObjectsExist(t *testing.T, env *environment) {
	old, _ := env.byHand(t, project("f"))
	env.Bind(t, "steady", project("f"))
	_, config := env.tenant(t, "frank", "steady")
	warned := &warnings{}
	config.WarningHandler = warned
	clusters := env.Metalstack(t, config).InfrastructureV1alpha4().MetalStackClusters("steady")
	c := objects.Cluster("kept")
	// Nobody allocates anything for it.
	c.Annotations = map[string]string{infrastructure.PausedAnnotation: ""}
	_, err := clusters.Create(soon(t), c, metav1.CreateOptions{})
	require.NoError(t, err)
	env.shows(t, "steady", old)
	warned.take()

	env.label(t, "steady", project("c"))
	note := env.event(t, "steady", tenancy.ReasonStillBound)
	assert.Contains(t, note, "the project "+project("f")+" stays bound")
	assert.Contains(t, note, "delete these objects: the binding then changes")
	require.NoError(t, env.Client().EventsV1().Events(metav1.NamespaceDefault).DeleteCollection(soon(t), metav1.DeleteOptions{}, metav1.ListOptions{}))

	env.Servers[0].Stop(t)
	env.Servers[0].Start(t)
	env.Servers[0].AwaitReady(t)
	env.AwaitAvailable(t)
	assert.Contains(t, env.event(t, "steady", tenancy.ReasonStillBound), project("f"), "a server that knows only the label as it is now says so, too")
	env.shows(t, "steady", old)

	created, err := clusters.Create(soon(t), objects.Cluster("late"), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	require.NoError(t, err, "what is there may need more")
	assert.Equal(t, project("f"), created.Spec.ProjectID)
	texts := warned.take()
	require.NotEmpty(t, texts)
	assert.Contains(t, texts[0], `the namespace "steady" stays bound to the project `+project("f"))

	require.NoError(t, clusters.Delete(soon(t), "kept", metav1.DeleteOptions{}))
	_, err = clusters.Patch(soon(t), "kept", "application/merge-patch+json", []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{})
	require.NoError(t, err)
	framework.Eventually(t, limit, func(context.Context) error {
		created, err := clusters.Create(t.Context(), objects.Cluster("late"), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		if err == nil && created.Spec.ProjectID != project("c") {
			err = fmt.Errorf("bound to %s", created.Spec.ProjectID)
		}
		return err
	})
	env.event(t, "steady", tenancy.ReasonBound)
	found, err := names(soon(t), env.admin(t), "steady", metav1.ListOptions{})
	require.NoError(t, err)
	assert.NotContains(t, found, old)
	assert.Len(t, found, 1, "the metal of the project that it is bound to now")
}
