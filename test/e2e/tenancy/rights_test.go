// SPDX-License-Identifier: Apache-2.0

package tenancy

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	corev1apply "k8s.io/client-go/applyconfigurations/core/v1"
	rbacapply "k8s.io/client-go/applyconfigurations/rbac/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/test/framework"
	"metal-stack.io/infrastructure-apiserver/test/framework/cluster"
)

const (
	bootstrapRole = "metalstack-bootstrap-data"
	accessRole    = "metalstack-metalapi-access"
	servingSecret = "metalstack-apiserver-serving"
	activeLabel   = "metal-stack." + infrastructure.GroupName + "/active"
)

// use is one thing that a thief of a service account's token may try.
type use struct {
	what    string
	allowed bool
	try     func(ctx context.Context, c kubernetes.Interface) error
}

// serviceAccountsRights tries with the token of each service account
// what docs/security.md says of it, against the real authorizer and admission.
// Everything is a dry run, so that what is allowed changes nothing.
func serviceAccountsRights(t *testing.T, env *environment) {
	bound, unbound := "rights-bound", "rights-unbound"
	env.Bind(t, bound, project("8"))
	env.Bind(t, unbound, "")
	for _, namespace := range []string{bound, unbound, cluster.Namespace} {
		_, err := env.Client().CoreV1().Secrets(namespace).Create(soon(t), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "a-bootstrap"}}, metav1.CreateOptions{})
		require.NoError(t, err)
	}
	for name, labels := range map[string]map[string]string{"y-metal-ccm": nil, "restored-metal-ccm": {infrastructure.ClusterNameLabel: "restored"}} {
		_, err := env.Client().CoreV1().Secrets(bound).Create(soon(t), &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}, Type: "addons.cluster.x-k8s.io/resource-set",
		}, metav1.CreateOptions{})
		require.NoError(t, err)
	}
	_, err := env.Client().CoreV1().Secrets(bound).Create(soon(t), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "y-firewall-workload-token"}}, metav1.CreateOptions{})
	require.NoError(t, err)
	t.Run("ControllerManager", func(t *testing.T) {
		account, err := kubernetes.NewForConfig(env.ControllerManager.Account)
		require.NoError(t, err)
		framework.Eventually(t, limit, func(context.Context) error { return getSecret(bound, "a-bootstrap")(t.Context(), account) })
		framework.Eventually(t, limit, func(context.Context) error { return createAccount(bound, "x-metalapi", true)(t.Context(), account) })
		// Only a Role that exists can be bound.
		for _, name := range []string{"there-metalapi", "there-firewall-controller"} {
			_, err = env.Client().RbacV1().Roles(bound).Create(soon(t), &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
			require.NoError(t, err)
		}
		attemptAll(t, env.ControllerManager.Account, slices.Concat(controllerManagerUses(bound, unbound), firewallUses(bound, unbound), otherUses(bound, unbound)))
	})
	t.Run("Server", func(t *testing.T) {
		attemptAll(t, env.Servers[0].Account, serverUses(env.Servers[0].Name, bound, unbound))
	})
	t.Run("Server_CreatesNoTokenFromSecret", func(t *testing.T) {
		account, err := kubernetes.NewForConfig(env.Servers[0].Account)
		require.NoError(t, err)
		var last error
		// The type of a Secret that is there cannot be changed, and the server
		// writes it again.
		framework.Eventually(t, limit, func(context.Context) error {
			err := env.Client().CoreV1().Secrets(cluster.Namespace).Delete(t.Context(), servingSecret, metav1.DeleteOptions{})
			if err != nil && !apierrors.IsNotFound(err) {
				return err
			}
			_, last = account.CoreV1().Secrets(cluster.Namespace).Apply(t.Context(), corev1apply.Secret(servingSecret, cluster.Namespace).
				WithType(corev1.SecretTypeServiceAccountToken).WithAnnotations(map[string]string{corev1.ServiceAccountNameKey: cluster.Manager}), dryApply)
			if !apierrors.IsForbidden(last) {
				return fmt.Errorf("a Secret that Kubernetes writes the controller manager's token into: %v", last)
			}
			return nil
		})
		assert.ErrorContains(t, last, "of the type Opaque")
	})
	t.Run("RoleBinding_FollowsLabel", func(t *testing.T) {
		account, err := kubernetes.NewForConfig(env.ControllerManager.Account)
		require.NoError(t, err)
		bindings := env.Client().RbacV1().RoleBindings(bound)
		for _, role := range []string{bootstrapRole, accessRole} {
			// Each of the two lets the controller manager read Secrets, so one of them may be missing yet.
			framework.Eventually(t, limit, func(context.Context) error { return bindings.Delete(t.Context(), role, metav1.DeleteOptions{}) })
			framework.Eventually(t, limit, func(context.Context) error {
				_, err := bindings.Get(t.Context(), role, metav1.GetOptions{})
				return err
			})
		}
		env.label(t, bound, "")
		framework.Eventually(t, limit, func(context.Context) error {
			if err := getSecret(bound, "a-bootstrap")(t.Context(), account); !apierrors.IsForbidden(err) {
				return fmt.Errorf("the controller manager reads on: %v", err)
			}
			return nil
		})
	})
}

func attemptAll(t *testing.T, config *rest.Config, uses []use) {
	t.Helper()
	client, err := kubernetes.NewForConfig(config)
	require.NoError(t, err)
	for _, u := range uses {
		err := u.try(soon(t), client)
		if u.allowed {
			assert.NoError(t, err, u.what)
		} else {
			assert.True(t, apierrors.IsForbidden(err), "%s: %v", u.what, err)
		}
	}
}

var (
	dryCreate = metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}
	dryPatch  = metav1.PatchOptions{DryRun: []string{metav1.DryRunAll}}
	dryDelete = metav1.DeleteOptions{DryRun: []string{metav1.DryRunAll}}
	dryApply  = metav1.ApplyOptions{DryRun: []string{metav1.DryRunAll}, FieldManager: "thief", Force: true}
)

func getSecret(namespace, name string) func(context.Context, kubernetes.Interface) error {
	return func(ctx context.Context, c kubernetes.Interface) error {
		_, err := c.CoreV1().Secrets(namespace).Get(ctx, name, metav1.GetOptions{})
		return err
	}
}

// secretUses are what neither account may do with Secrets.
func secretUses(bound, unbound string) []use {
	return []use{
		{"read the metal-api's key", false, getSecret(cluster.Namespace, "metal-api")},
		{"read a Secret of the server's namespace", false, getSecret(cluster.Namespace, "a-bootstrap")},
		{"read a Secret of an unbound namespace", false, getSecret(unbound, "a-bootstrap")},
		{"read a Secret of kube-system", false, getSecret(metav1.NamespaceSystem, "any")},
		{"list the Secrets of all namespaces", false, func(ctx context.Context, c kubernetes.Interface) error {
			_, err := c.CoreV1().Secrets("").List(ctx, metav1.ListOptions{})
			return err
		}},
		{"list the Secrets of a bound namespace", false, func(ctx context.Context, c kubernetes.Interface) error {
			_, err := c.CoreV1().Secrets(bound).List(ctx, metav1.ListOptions{})
			return err
		}},
		{"write a Secret of a bound namespace", false, func(ctx context.Context, c kubernetes.Interface) error {
			_, err := c.CoreV1().Secrets(bound).Patch(ctx, "a-bootstrap", types.MergePatchType, []byte(`{"data":{"value":"eA=="}}`), dryPatch)
			return err
		}},
		{"mint a token", false, func(ctx context.Context, c kubernetes.Interface) error {
			return c.CoreV1().RESTClient().Post().Namespace(cluster.Namespace).Resource("serviceaccounts").Name(cluster.APIServer).SubResource("token").Do(ctx).Error()
		}},
	}
}

func controllerManagerUses(bound, unbound string) []use {
	return append(secretUses(bound, unbound), []use{
		{"read a Secret of a bound namespace", true, getSecret(bound, "a-bootstrap")},
		{"read the server's serving certificate", false, getSecret(cluster.Namespace, servingSecret)},
		{"read records", false, func(ctx context.Context, c kubernetes.Interface) error {
			_, err := c.CoreV1().ConfigMaps(cluster.Namespace).List(ctx, metav1.ListOptions{})
			return err
		}},
		{"write a record", false, writeConfigMap(cluster.Namespace, "record-x")},
		{"write a ConfigMap of a tenant", false, writeConfigMap(bound, "x")},
		{"label a Pod", false, patchPod(cluster.Namespace, "any", `{"metadata":{"labels":{"`+activeLabel+`":"true"}}}`)},
		{"bind its role in another namespace", false, bind(unbound, roleBinding(bootstrapRole, bootstrapRole, cluster.Manager, cluster.Namespace))},
		{"bind its role in a bound namespace", false, bind(bound, roleBinding(bootstrapRole, bootstrapRole, cluster.Manager, cluster.Namespace))},
		{"make a ServiceAccount of a cluster", true, createAccount(bound, "x-metalapi", true)},
		{"make a ServiceAccount without a cluster", false, createAccount(bound, "x-metalapi", false)},
		{"make another ServiceAccount", false, createAccount(bound, "x", true)},
		{"make a ServiceAccount of another name than its cluster", false, createAccount(bound, "y-metalapi", true)},
		{"mint a token of a ServiceAccount of a bound namespace", false, func(ctx context.Context, c kubernetes.Interface) error {
			_, err := c.CoreV1().ServiceAccounts(bound).CreateToken(ctx, "default", &authenticationv1.TokenRequest{}, dryCreate)
			return err
		}},
		{"take over a Secret that nothing controls", false, patchSecretOf(bound, "y-metal-ccm")},
		{"delete a Secret that nothing controls", false, deleteSecretOf(bound, "y-metal-ccm")},
		{"adopt a Secret that a restore left without a controller", true, patchSecretOf(bound, "restored-metal-ccm")},
		{"delete a Secret that a restore left without a controller", true, deleteSecretOf(bound, "restored-metal-ccm")},
		{"take over a tenant's Secret", false, patchSecretOf(bound, "a-bootstrap")},
		{"make a ServiceAccount in an unbound namespace", false, createAccount(unbound, "x-metalapi", true)},
		{"have the token of a cluster's ServiceAccount written", true, createSecret(bound, "x-metalapi-token", corev1.SecretTypeServiceAccountToken, "x-metalapi", true)},
		{"have a token written that its ServiceAccount controls", true, createTokenOf(bound, "x-metalapi-token", "x-metalapi")},
		{"have a token written that another ServiceAccount controls", false, createTokenOf(bound, "x-metalapi-token", "default")},
		{"have another token written", false, createSecret(bound, "x-metalapi-token", corev1.SecretTypeServiceAccountToken, "default", true)},
		{"have a token written into a Secret of another name", false, createSecret(bound, "x", corev1.SecretTypeServiceAccountToken, "x-metalapi", true)},
		{"have a token written that no cluster controls", false, createSecret(bound, "x-metalapi-token", corev1.SecretTypeServiceAccountToken, "x-metalapi", false)},
		{"have a token written in an unbound namespace", false, createSecret(unbound, "x-metalapi-token", corev1.SecretTypeServiceAccountToken, "x-metalapi", true)},
		{"configure a cluster's metal-ccm", true, createSecret(bound, "x-metal-ccm", "addons.cluster.x-k8s.io/resource-set", "", true)},
		{"write another Secret under that name", false, createSecret(bound, "x-metal-ccm", corev1.SecretTypeOpaque, "", true)},
		{"delete a tenant's Secret", false, func(ctx context.Context, c kubernetes.Interface) error {
			return c.CoreV1().Secrets(bound).Delete(ctx, "a-bootstrap", dryDelete)
		}},
		{"grant the metalapi of a cluster", true, createRole(bound, "x-metalapi", "x", "metalstackclusters/metalapi")},
		{"grant that of another cluster", false, createRole(bound, "x-metalapi", "y", "metalstackclusters/metalapi")},
		{"grant the release of metal", false, createRole(bound, "x-metalapi", "x", "metalstackclusters/allocation")},
		{"bind such a Role", true, createRoleBinding(bound, "there-metalapi", rbacv1.RoleRef{Kind: "Role", Name: "there-metalapi"}, "there-metalapi")},
		{"bind it for another ServiceAccount", false, createRoleBinding(bound, "there-metalapi", rbacv1.RoleRef{Kind: "Role", Name: "there-metalapi"}, "default")},
		{"bind it under another name", false, createRoleBinding(bound, "x-metalapi", rbacv1.RoleRef{Kind: "Role", Name: "there-metalapi"}, "x-metalapi")},
		{"bind its own role for a tenant's ServiceAccount", false, createRoleBinding(bound, "x-metalapi", rbacv1.RoleRef{Kind: "ClusterRole", Name: accessRole}, "x-metalapi")},
	}...)
}

// otherUses are what the controller manager may do with what is not Secrets or rights.
func otherUses(bound, unbound string) []use {
	return []use{
		{"bind a namespace to a project", false, func(ctx context.Context, c kubernetes.Interface) error {
			_, err := c.CoreV1().Namespaces().Patch(ctx, unbound, types.MergePatchType, []byte(`{"metadata":{"labels":{"`+infrastructure.ProjectLabel+`":"x"}}}`), dryPatch)
			return err
		}},
		{"take the server's Lease", false, patchLease(cluster.APIServer)},
		{"renew its own Lease", true, func(ctx context.Context, c kubernetes.Interface) error {
			return allowed(ctx, c, authorizationv1.ResourceAttributes{Namespace: cluster.Namespace, Verb: "update", Group: "coordination.k8s.io", Resource: "leases", Name: cluster.Manager})
		}},
		{"create a machine", false, func(ctx context.Context, c kubernetes.Interface) error {
			return allowed(ctx, c, authorizationv1.ResourceAttributes{Namespace: bound, Verb: "create", Group: infrastructure.GroupName, Resource: "metalstackmachines"})
		}},
		{"impersonate", false, func(ctx context.Context, c kubernetes.Interface) error {
			return allowed(ctx, c, authorizationv1.ResourceAttributes{Verb: "impersonate", Resource: "users", Name: "admin"})
		}},
	}
}

// metaOf is the metadata of an object that a MetalStackCluster x controls, or no one; of
// one whose name begins with there-, it is MetalStackCluster there.
func metaOf(name string, controlled bool) metav1.ObjectMeta {
	m := metav1.ObjectMeta{Name: name}
	owner := "x"
	if strings.HasPrefix(name, "there-") {
		owner = "there"
	}
	if controlled {
		m.OwnerReferences = []metav1.OwnerReference{{
			APIVersion: infrastructure.GroupName + "/v1alpha4", Kind: "MetalStackCluster", Name: owner, UID: "1", Controller: new(true),
		}}
	}
	return m
}

func createAccount(namespace, name string, controlled bool) func(context.Context, kubernetes.Interface) error {
	return func(ctx context.Context, c kubernetes.Interface) error {
		_, err := c.CoreV1().ServiceAccounts(namespace).Create(ctx, &corev1.ServiceAccount{ObjectMeta: metaOf(name, controlled)}, dryCreate)
		return err
	}
}

func createSecret(namespace, name string, kind corev1.SecretType, account string, controlled bool) func(context.Context, kubernetes.Interface) error {
	secret := &corev1.Secret{ObjectMeta: metaOf(name, controlled), Type: kind}
	if account != "" {
		secret.Annotations = map[string]string{corev1.ServiceAccountNameKey: account}
	}
	return func(ctx context.Context, c kubernetes.Interface) error {
		_, err := c.CoreV1().Secrets(namespace).Create(ctx, secret, dryCreate)
		return err
	}
}

// patchSecretOf has a MetalStackCluster control a Secret that is there, and changes it.
func patchSecretOf(namespace, name string) func(context.Context, kubernetes.Interface) error {
	return func(ctx context.Context, c kubernetes.Interface) error {
		_, err := c.CoreV1().Secrets(namespace).Patch(ctx, name, types.MergePatchType, fmt.Appendf(nil,
			`{"data":{"x":"eA=="},"metadata":{"ownerReferences":[{"apiVersion":"%s/v1alpha4","kind":"MetalStackCluster","name":"x","uid":"1","controller":true}]}}`, infrastructure.GroupName), dryPatch)
		return err
	}
}

func deleteSecretOf(namespace, name string) func(context.Context, kubernetes.Interface) error {
	return func(ctx context.Context, c kubernetes.Interface) error {
		return c.CoreV1().Secrets(namespace).Delete(ctx, name, dryDelete)
	}
}

// createTokenOf creates a Secret for the token of x-metalapi that a ServiceAccount controls.
func createTokenOf(namespace, name, controller string) func(context.Context, kubernetes.Interface) error {
	return func(ctx context.Context, c kubernetes.Interface) error {
		_, err := c.CoreV1().Secrets(namespace).Create(ctx, &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{
				Name: name, Annotations: map[string]string{corev1.ServiceAccountNameKey: "x-metalapi"},
				OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "ServiceAccount", Name: controller, UID: "1", Controller: new(true)}},
			},
			Type: corev1.SecretTypeServiceAccountToken,
		}, dryCreate)
		return err
	}
}

func createRole(namespace, name, of, resource string) func(context.Context, kubernetes.Interface) error {
	return func(ctx context.Context, c kubernetes.Interface) error {
		_, err := c.RbacV1().Roles(namespace).Create(ctx, &rbacv1.Role{ObjectMeta: metaOf(name, true), Rules: []rbacv1.PolicyRule{{
			APIGroups: []string{infrastructure.GroupName}, Resources: []string{resource}, ResourceNames: []string{of}, Verbs: []string{"get", "create", "update", "delete"},
		}}}, dryCreate)
		return err
	}
}

func createRoleBinding(namespace, name string, role rbacv1.RoleRef, account string) func(context.Context, kubernetes.Interface) error {
	role.APIGroup = rbacv1.GroupName
	return func(ctx context.Context, c kubernetes.Interface) error {
		_, err := c.RbacV1().RoleBindings(namespace).Create(ctx, &rbacv1.RoleBinding{
			ObjectMeta: metaOf(name, true), RoleRef: role, Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Name: account, Namespace: namespace}},
		}, dryCreate)
		return err
	}
}

func roleBinding(name, role, account, namespace string) *rbacapply.RoleBindingApplyConfiguration {
	return rbacapply.RoleBinding(name, "").
		WithLabels(map[string]string{"app.kubernetes.io/managed-by": cluster.APIServer}).
		WithRoleRef(rbacapply.RoleRef().WithAPIGroup(rbacv1.GroupName).WithKind("ClusterRole").WithName(role)).
		WithSubjects(rbacapply.Subject().WithKind("ServiceAccount").WithName(account).WithNamespace(namespace))
}

func bind(namespace string, b *rbacapply.RoleBindingApplyConfiguration) func(context.Context, kubernetes.Interface) error {
	return func(ctx context.Context, c kubernetes.Interface) error {
		_, err := c.RbacV1().RoleBindings(namespace).Apply(ctx, b.WithNamespace(namespace), dryApply)
		return err
	}
}

func patchSecret(patch string) func(context.Context, kubernetes.Interface) error {
	return func(ctx context.Context, c kubernetes.Interface) error {
		_, err := c.CoreV1().Secrets(cluster.Namespace).Patch(ctx, servingSecret, types.MergePatchType, []byte(patch), dryPatch)
		return err
	}
}

func patchPod(namespace, name, patch string) func(context.Context, kubernetes.Interface) error {
	return func(ctx context.Context, c kubernetes.Interface) error {
		_, err := c.CoreV1().Pods(namespace).Patch(ctx, name, types.StrategicMergePatchType, []byte(patch), dryPatch)
		return err
	}
}

func writeConfigMap(namespace, name string) func(context.Context, kubernetes.Interface) error {
	return func(ctx context.Context, c kubernetes.Interface) error {
		_, err := c.CoreV1().ConfigMaps(namespace).Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}, dryCreate)
		return err
	}
}

func patchLease(name string) func(context.Context, kubernetes.Interface) error {
	return func(ctx context.Context, c kubernetes.Interface) error {
		_, err := c.CoordinationV1().Leases(cluster.Namespace).Update(ctx,
			&coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.UpdateOptions{DryRun: []string{metav1.DryRunAll}})
		return err
	}
}

// allowed asks the authorizer what cannot be tried without doing it.
func allowed(ctx context.Context, c kubernetes.Interface, what authorizationv1.ResourceAttributes) error {
	review, err := c.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, &authorizationv1.SelfSubjectAccessReview{
		Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &what},
	}, metav1.CreateOptions{})
	if err == nil && !review.Status.Allowed {
		err = apierrors.NewForbidden(corev1.Resource(what.Resource), what.Name, fmt.Errorf("%s", review.Status.Reason))
	}
	return err
}
