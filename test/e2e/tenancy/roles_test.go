// SPDX-License-Identifier: Apache-2.0

package tenancy

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	typed "metal-stack.io/infrastructure-apiserver/generated/clientset/versioned/typed/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/test/framework/objects"
)

var roles = []string{"view", "edit", "admin"}

// user is a user with one of the built-in roles in a busy team.
func (env *tenantsEnvironment) user(t *testing.T, purpose, role string) typed.MetalStackMachineInterface {
	t.Helper()
	name := purpose + "-" + role
	env.admin(t, "create", "rolebinding", name, "--clusterrole="+role, "--user="+name, "-n", busy)
	machines := env.machines(t, env.User(name), busy)
	awaitLists(t, machines)
	return machines
}

func rolesAllowTenants(t *testing.T, env *tenantsEnvironment) {
	for _, role := range roles {
		machines := env.user(t, "allowed", role)
		list, err := machines.List(t.Context(), metav1.ListOptions{})
		require.NoError(t, err, role)
		assert.Subset(t, collect(list.Items, nameOf), namesOf(busy), role)
		_, err = machines.Get(t.Context(), busy+"-0", metav1.GetOptions{})
		require.NoError(t, err, role)
		watching, err := machines.Watch(t.Context(), metav1.ListOptions{})
		require.NoError(t, err, role)
		watching.Stop()

		name := "of-" + role
		_, err = machines.Create(t.Context(), objects.Machine(name), metav1.CreateOptions{})
		if role == "view" {
			require.True(t, apierrors.IsForbidden(err), "%v", err)
			require.True(t, apierrors.IsForbidden(machines.Delete(t.Context(), busy+"-0", metav1.DeleteOptions{})))
			continue
		}
		require.NoError(t, err, role)
		_, err = machines.Patch(t.Context(), name, types.MergePatchType, []byte(`{"metadata":{"labels":{"a":"b"},"finalizers":null}}`), metav1.PatchOptions{})
		require.NoError(t, err, role)
		updated, err := machines.Get(t.Context(), name, metav1.GetOptions{})
		require.NoError(t, err, role)
		updated.Labels = nil
		_, err = machines.Update(t.Context(), updated, metav1.UpdateOptions{})
		require.NoError(t, err, role)
		require.NoError(t, machines.Delete(t.Context(), name, metav1.DeleteOptions{}), role)
	}
	client, err := kubernetes.NewForConfig(env.User("allowed-edit"))
	require.NoError(t, err)
	for _, resource := range []string{"metalstackclusters", "metalstackclustertemplates", "metalstackfirewalls", "metalstackips", "metalstackmachines", "metalstackmachinetemplates", "metalstacknetworks"} {
		for _, verb := range []string{"create", "update", "patch", "delete", "deletecollection", "get", "list", "watch"} {
			review, err := client.AuthorizationV1().SelfSubjectAccessReviews().Create(t.Context(), &authorizationv1.SelfSubjectAccessReview{
				Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &authorizationv1.ResourceAttributes{
					Namespace: busy, Verb: verb, Group: v1alpha4.SchemeGroupVersion.Group, Resource: resource,
				}},
			}, metav1.CreateOptions{})
			require.NoError(t, err)
			assert.True(t, review.Status.Allowed, "%s %s", verb, resource)
		}
	}
}

func rolesRefuseAllocationAndStatus(t *testing.T, env *tenantsEnvironment) {
	for _, role := range roles {
		name := "refused-" + role
		env.user(t, "refused", role)
		client := env.Metalstack(t, env.User(name)).InfrastructureV1alpha4().RESTClient()
		m, err := env.machines(t, env.User(name), busy).Get(t.Context(), busy+"-0", metav1.GetOptions{})
		require.NoError(t, err)
		for _, resource := range []string{"metalstackclusters", "metalstackfirewalls", "metalstackmachines"} {
			for _, err := range []error{
				client.Post().Namespace(busy).Resource(resource).Name(m.Name).SubResource("allocation").Body([]byte("{}")).Do(t.Context()).Error(),
				client.Delete().Namespace(busy).Resource(resource).Name(m.Name).SubResource("allocation").Do(t.Context()).Error(),
				client.Put().Namespace(busy).Resource(resource).Name(m.Name).SubResource("status").Body(m).Do(t.Context()).Error(),
				client.Patch(types.MergePatchType).Namespace(busy).Resource(resource).Name(m.Name).SubResource("status").Body([]byte("{}")).Do(t.Context()).Error(),
			} {
				assert.True(t, apierrors.IsForbidden(err), "%s, %s: %v", role, resource, err)
			}
		}
	}
}

// The metal-api of a cluster is for whoever a role of its own names, and by its name.
func rolesForMetalAPIOfCluster(t *testing.T, env *tenantsEnvironment) {
	const owner, other = "of-metalapi", "of-metalapi-2"
	admin := env.Metalstack(t, env.Admin()).InfrastructureV1alpha4().MetalStackClusters(teamA)
	for _, name := range []string{owner, other} {
		_, err := admin.Create(t.Context(), objects.Cluster(name), metav1.CreateOptions{})
		require.NoError(t, err)
		_, err = admin.Allocate(t.Context(), name, &v1alpha4.Allocation{}, metav1.CreateOptions{})
		require.NoError(t, err)
	}
	find := func(user, cluster string) error {
		client := env.Metalstack(t, env.User(user)).InfrastructureV1alpha4().RESTClient()
		return client.Post().Namespace(teamA).Resource("metalstackclusters").Name(cluster).SubResource("metalapi").Suffix("v1", "machine", "find").
			SetHeader("Content-Type", "application/json").Body([]byte("{}")).Do(t.Context()).Error()
	}
	for _, role := range roles {
		env.admin(t, "create", "rolebinding", "metalapi-"+role, "--clusterrole="+role, "--user=metalapi-"+role, "-n", teamA)
		err := find("metalapi-"+role, owner)
		require.True(t, apierrors.IsForbidden(err), "%s: %v", role, err)
	}
	env.admin(t, "create", "role", "metalapi", "-n", teamA, "--verb=get,create,update,delete",
		"--resource=metalstackclusters.infrastructure.cluster.x-k8s.io/metalapi", "--resource-name="+owner)
	env.admin(t, "create", "rolebinding", "metalapi", "--role=metalapi", "--user=metal-ccm", "-n", teamA)
	require.Eventually(t, func() bool { return find("metal-ccm", owner) == nil }, time.Minute, 100*time.Millisecond)
	err := find("metal-ccm", other)
	require.True(t, apierrors.IsForbidden(err), "%v", err)
	_, err = env.Metalstack(t, env.User("metal-ccm")).InfrastructureV1alpha4().MetalStackClusters(teamA).Get(t.Context(), owner, metav1.GetOptions{})
	require.True(t, apierrors.IsForbidden(err), "it reads the metal-api of the cluster, and not the cluster: %v", err)
	env.admin(t, "create", "rolebinding", "metalapi-all", "--clusterrole=metalstack-metalapi", "--user=people", "-n", teamA)
	require.Eventually(t, func() bool { return find("people", other) == nil }, time.Minute, 100*time.Millisecond)
}
