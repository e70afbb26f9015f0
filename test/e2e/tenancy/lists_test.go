// SPDX-License-Identifier: Apache-2.0

package tenancy

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/test/framework"
	"metal-stack.io/infrastructure-apiserver/test/framework/objects"
)

var machinesGVR = v1alpha4.SchemeGroupVersion.WithResource("metalstackmachines")

func listAcrossNamespacesShowsTheTenantsOwn(t *testing.T, env *tenantsEnvironment) {
	for _, user := range []struct{ name, own, other string }{{"alice", teamA, teamB}, {"bob", teamB, teamA}} {
		for _, output := range []string{"wide", "yaml", "name"} {
			stdout, stderr, err := env.Kubectl(t, env.tenant(user.name), "get", "msm", "-A", "-o", output)
			require.NoError(t, err, stderr)
			for _, name := range namesOf(user.own) {
				assert.Contains(t, stdout, name, "-o %s", output)
			}
			assert.NotContains(t, stdout+stderr, user.other, "-o %s", output)
		}
		table, stderr, err := env.Kubectl(t, env.tenant(user.name), "get", "msm", "-A")
		require.NoError(t, err, stderr)
		assert.Len(t, lines(table), count+1, table)
		assert.Regexp(t, `^NAMESPACE\s+NAME\s+CLUSTER\s+READY\s+PHASE`, table)
		for selector, want := range map[string]int{
			"metadata.namespace=" + user.own: count, "metadata.namespace!=" + user.own: 0,
			"metadata.name=" + user.other + "-0": 0, "status.metal.phase=Pending": count,
		} {
			list, err := env.machines(t, env.tenant(user.name), "").List(t.Context(), metav1.ListOptions{FieldSelector: selector})
			require.NoError(t, err, selector)
			assert.Len(t, list.Items, want, selector)
		}
	}
	stdout, stderr, err := env.Kubectl(t, env.tenant("nobody"), "get", "msm", "-A")
	require.NoError(t, err, stderr)
	assert.Empty(t, stdout)
	assert.Contains(t, stderr, "No resources found")

	_, stderr, err = env.Kubectl(t, env.User("stranger"), "get", "msm", "-A")
	require.Error(t, err)
	assert.Contains(t, stderr, "Forbidden", "who is no tenant may not list across namespaces")
}

func listPagesAreExact(t *testing.T, env *tenantsEnvironment) {
	bob := env.machines(t, env.tenant("bob"), "")
	for size := int64(1); size <= count+1; size++ {
		var got []string
		options := metav1.ListOptions{Limit: size}
		for pages := 1; ; pages++ {
			page, err := bob.List(t.Context(), options)
			require.NoError(t, err)
			got = append(got, collect(page.Items, nameOf)...)
			left := int64(count - len(got))
			if page.Continue == "" {
				assert.Zero(t, left)
				assert.EqualValues(t, pages, (count+size-1)/size, "no page is short, and none is empty")
				break
			}
			assert.Equal(t, left, ptr.Deref(page.RemainingItemCount, -1))
			options.Continue = page.Continue
		}
		assert.Equal(t, namesOf(teamB), got)
	}
	stdout, stderr, err := env.Kubectl(t, env.tenant("bob"), "get", "msm", "-A", "--chunk-size=2", "-o", "name")
	require.NoError(t, err, stderr)
	assert.Len(t, lines(stdout), count)
}

func partialObjectMetadataIsScoped(t *testing.T, env *tenantsEnvironment) {
	client, err := metadata.NewForConfig(env.tenant("alice"))
	require.NoError(t, err)
	list, err := client.Resource(machinesGVR).List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	assert.Equal(t, namesOf(teamA), collect(list.Items, func(m metav1.PartialObjectMetadata) string { return m.Name }))
	watch, err := client.Resource(machinesGVR).Watch(t.Context(), metav1.ListOptions{SendInitialEvents: ptr.To(true), ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan, AllowWatchBookmarks: true})
	require.NoError(t, err)
	defer watch.Stop()
	for _, name := range append(namesOf(teamA), "") {
		event := <-watch.ResultChan()
		assert.Equal(t, name, event.Object.(*metav1.PartialObjectMetadata).Name, "%v", event.Type)
	}
}

// foreignNamespaceIsForbiddenWhetherOrNotItExists compares all answers about a
// namespace of another tenant with those about one that does not exist.
func foreignNamespaceIsForbiddenWhetherOrNotItExists(t *testing.T, env *tenantsEnvironment) {
	for what, ask := range map[string]func(namespace string) error{
		"list": func(namespace string) error {
			_, err := env.machines(t, env.tenant("alice"), namespace).List(t.Context(), metav1.ListOptions{})
			return err
		},
		"list by field": func(namespace string) error {
			_, err := env.machines(t, env.tenant("alice"), "").List(t.Context(), metav1.ListOptions{FieldSelector: "metadata.namespace=" + namespace})
			return err
		},
		"list one": func(namespace string) error {
			_, err := env.machines(t, env.tenant("alice"), namespace).List(t.Context(), metav1.ListOptions{FieldSelector: "metadata.name=" + teamB + "-0"})
			return err
		},
		"watch": func(namespace string) error {
			_, err := env.machines(t, env.tenant("alice"), namespace).Watch(t.Context(), metav1.ListOptions{})
			return err
		},
		"get": func(namespace string) error {
			_, err := env.machines(t, env.tenant("alice"), namespace).Get(t.Context(), teamB+"-0", metav1.GetOptions{})
			return err
		},
		"delete": func(namespace string) error {
			return env.machines(t, env.tenant("alice"), namespace).DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{})
		},
	} {
		theirs, none := ask(teamB), ask("nowhere")
		require.True(t, apierrors.IsForbidden(theirs), "%s: %v", what, theirs)
		assert.Equal(t, strings.ReplaceAll(none.Error(), "nowhere", teamB), theirs.Error(), what)
	}
	_, stderr, err := env.Kubectl(t, env.tenant("alice"), "get", "msm", "-n", teamB)
	require.Error(t, err)
	assert.Contains(t, stderr, "kubectl create rolebinding NAME --clusterrole=view --user='alice' --namespace="+teamB)
}

// clusterWideReaderSeesAll: the kube-controller-manager and its controllers
// work from informers that may list and watch whatever there is, not all of
// them get it.
func clusterWideReaderSeesAll(t *testing.T, env *tenantsEnvironment) {
	system := func(name string) *rest.Config { return env.ServiceAccount(t, "kube-system", name) }
	for name, config := range map[string]*rest.Config{
		"administrator":           env.Admin(),
		"kube-controller-manager": env.User("system:kube-controller-manager"),
		"garbage collector":       system("generic-garbage-collector"),
		"namespace controller":    system("namespace-controller"),
		"quota controller":        system("resourcequota-controller"),
	} {
		list, err := env.machines(t, config, "").List(t.Context(), metav1.ListOptions{})
		require.NoError(t, err, name)
		seen := map[string]int{}
		for _, m := range list.Items {
			seen[m.Namespace]++
		}
		assert.GreaterOrEqual(t, seen[teamA], count, name)
		assert.GreaterOrEqual(t, seen[teamB], count, name)
		_, err = env.machines(t, config, teamB).List(t.Context(), metav1.ListOptions{})
		assert.NoError(t, err, name)
	}
}

// garbageCollectorSeesDependentsAndOwners: an object of ours whose owner goes
// is deleted, and so is one whose owner is an object of ours.
func garbageCollectorSeesDependentsAndOwners(t *testing.T, env *tenantsEnvironment) {
	templates := env.Metalstack(t, env.Admin()).InfrastructureV1alpha4().MetalStackMachineTemplates(teamA)
	owners := env.Client().CoreV1().ConfigMaps(teamA) // and their dependents
	ours := func(name string, owners ...metav1.OwnerReference) types.UID {
		template := &v1alpha4.MetalStackMachineTemplate{ObjectMeta: metav1.ObjectMeta{Name: name, OwnerReferences: owners}}
		template.Spec.Template.Spec = objects.Machine("").Spec
		created, err := templates.Create(t.Context(), template, metav1.CreateOptions{})
		require.NoError(t, err)
		return created.UID
	}
	theirs := func(name string, refs ...metav1.OwnerReference) types.UID {
		created, err := owners.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, OwnerReferences: refs}}, metav1.CreateOptions{})
		require.NoError(t, err)
		return created.UID
	}
	owner := theirs("gc-owner")
	ours("gc-dependent", metav1.OwnerReference{APIVersion: "v1", Kind: "ConfigMap", Name: "gc-owner", UID: owner})
	owner = ours("gc-owner")
	theirs("gc-dependent", metav1.OwnerReference{APIVersion: v1alpha4.SchemeGroupVersion.String(), Kind: "MetalStackMachineTemplate", Name: "gc-owner", UID: owner})
	require.NoError(t, owners.Delete(t.Context(), "gc-owner", metav1.DeleteOptions{}))
	require.NoError(t, templates.Delete(t.Context(), "gc-owner", metav1.DeleteOptions{}))
	framework.Eventually(t, limit, func(ctx context.Context) error {
		_, ours := templates.Get(ctx, "gc-dependent", metav1.GetOptions{})
		_, theirs := owners.Get(ctx, "gc-dependent", metav1.GetOptions{})
		if apierrors.IsNotFound(ours) && apierrors.IsNotFound(theirs) {
			return nil
		}
		return fmt.Errorf("of the dependents, ours: %v, theirs: %v", ours, theirs)
	})
}
