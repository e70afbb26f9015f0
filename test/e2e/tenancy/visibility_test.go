// SPDX-License-Identifier: Apache-2.0

package tenancy

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	typed "metal-stack.io/infrastructure-apiserver/generated/clientset/versioned/typed/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
	"metal-stack.io/infrastructure-apiserver/test/framework"
	"metal-stack.io/infrastructure-apiserver/test/framework/cluster"
	"metal-stack.io/infrastructure-apiserver/test/framework/objects"
)

const (
	teamA, teamB = "team-a", "team-b"
	// busy and passing are of tests that create machines.
	busy, passing = "team-busy", "team-passing"
	// tenants is the group that the ClusterRole for tenants is bound to.
	tenants = "tenants"
	// count is how many machines each team has.
	count = 5
)

// TestTenants runs the tests of what tenants see across namespaces, what their
// roles let them do, and that nobody gets past the kube-apiserver, all in one
// cluster: each of them has users of its own.
func TestTenants(t *testing.T) {
	t.Parallel()
	env := startTenants(t)
	for name, test := range map[string]func(*testing.T, *tenantsEnvironment){
		"List_AcrossNamespacesShowsTheTenantsOwn":          listAcrossNamespacesShowsTheTenantsOwn,
		"List_PagesAreExact":                               listPagesAreExact,
		"PartialObjectMetadata_IsScoped":                   partialObjectMetadataIsScoped,
		"ForeignNamespace_IsForbiddenWhetherOrNotItExists": foreignNamespaceIsForbiddenWhetherOrNotItExists,
		"Informer_FollowsGainedAndLostNamespaces":          informerFollowsGainedAndLostNamespaces,
		"Watch_OfNamespaceEndsWithItsPermission":           watchOfNamespaceEndsWithItsPermission,
		"ClusterWideReader_SeesAll":                        clusterWideReaderSeesAll,
		"GarbageCollector_SeesDependentsAndOwners":         garbageCollectorSeesDependentsAndOwners,
		"Roles_AllowTenants":                               rolesAllowTenants,
		"Roles_RefuseAllocationAndStatus":                  rolesRefuseAllocationAndStatus,
		"Roles_MetalAPIOfClusterByName":                    rolesForMetalAPIOfCluster,
		"Token_ReachesMetalAPIOfItsClusterOnly":            metalAPIOfClusterByToken,
		"FirewallController_ReadsFirewallsOfItsNamespace":  firewallsOfNamespaceForFirewallController,
		"DirectAccess_UnknownClientsAreUnauthorized":       directAccessUnknownClientsAreUnauthorized,
		"DirectAccess_KnownClientsMayNoMore":               directAccessKnownClientsMayNoMore,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, env)
		})
	}
}

// projects are what the namespaces are bound to.
var projects = map[string]string{
	teamA: simulator.ProjectA, teamB: simulator.ProjectB,
	busy: "10000000-0000-4000-8000-00000000000c", passing: "10000000-0000-4000-8000-00000000000d",
}

// tenantsEnvironment is an installation with two teams.
type tenantsEnvironment struct {
	*cluster.Cluster
}

// startTenants installs the server with two teams, and gives each of them a
// user with the role edit in the team's namespace, as docs/tenancy.md says.
func startTenants(t *testing.T) *tenantsEnvironment {
	t.Helper()
	// Seconds are enough for a test.
	flags := []string{"--authorization-webhook-cache-authorized-ttl=1s", "--authorization-webhook-cache-unauthorized-ttl=1s"}
	env := &tenantsEnvironment{cluster.Start(t, cluster.Options{Flags: flags})}
	env.admin(t, "create", "clusterrolebinding", "metalstack-tenants", "--clusterrole=metalstack-tenant", "--group="+tenants)
	for namespace, project := range projects {
		env.Bind(t, namespace, project)
	}
	env.awaitRoles(t)
	env.admin(t, "create", "rolebinding", "alice", "--clusterrole=edit", "--user=alice", "-n", teamA)
	env.admin(t, "create", "rolebinding", "bob", "--clusterrole=edit", "--user=bob", "-n", teamB)
	awaitLists(t, env.machines(t, env.tenant("alice"), teamA))
	awaitLists(t, env.machines(t, env.tenant("bob"), teamB))
	for namespace, user := range map[string]*rest.Config{teamA: env.tenant("alice"), teamB: env.tenant("bob"), busy: env.Admin(), passing: env.Admin()} {
		for i := range count {
			_, err := env.machines(t, user, namespace).Create(t.Context(), objects.Machine(fmt.Sprintf("%s-%d", namespace, i)), metav1.CreateOptions{})
			require.NoError(t, err)
		}
	}
	return env
}

// admin runs kubectl as the administrator.
func (env *tenantsEnvironment) admin(t *testing.T, args ...string) {
	t.Helper()
	_, stderr, err := env.Kubectl(t, env.Admin(), args...)
	require.NoError(t, err, stderr)
}

// tenant is the configuration of a user in the group of tenants.
func (env *tenantsEnvironment) tenant(name string) *rest.Config { return env.User(name, tenants) }

func (env *tenantsEnvironment) machines(t *testing.T, config *rest.Config, namespace string) typed.MetalStackMachineInterface {
	t.Helper()
	return env.Metalstack(t, config).InfrastructureV1alpha4().MetalStackMachines(namespace)
}

// awaitRoles waits until the built-in roles have taken in ours.
func (env *tenantsEnvironment) awaitRoles(t *testing.T) {
	t.Helper()
	for _, name := range []string{"view", "edit", "admin"} {
		framework.Eventually(t, limit, func(ctx context.Context) error {
			role, err := env.Client().RbacV1().ClusterRoles().Get(ctx, name, metav1.GetOptions{})
			if err == nil && !mentions(role) {
				err = fmt.Errorf("the ClusterRole %s says nothing of our group", name)
			}
			return err
		})
	}
}

// awaitLists waits until a user's role has taken effect: the kube-apiserver learns of a
// RoleBinding some time after it is created.
func awaitLists(t *testing.T, machines typed.MetalStackMachineInterface) {
	t.Helper()
	framework.Eventually(t, limit, func(ctx context.Context) error {
		_, err := machines.List(ctx, metav1.ListOptions{})
		return err
	})
}

func mentions(role *rbacv1.ClusterRole) bool {
	for _, rule := range role.Rules {
		for _, group := range rule.APIGroups {
			if group == v1alpha4.SchemeGroupVersion.Group {
				return true
			}
		}
	}
	return false
}

// namesOf are the names of a team's machines.
func namesOf(team string) []string {
	names := make([]string, count)
	for i := range names {
		names[i] = fmt.Sprintf("%s-%d", team, i)
	}
	return names
}

func nameOf(m v1alpha4.MetalStackMachine) string { return m.Name }

func collect[T any](items []T, name func(T) string) []string {
	names := []string{}
	for _, item := range items {
		names = append(names, name(item))
	}
	return names
}

// lines are the lines of a text.
func lines(text string) []string { return strings.Split(strings.TrimSpace(text), "\n") }
