// SPDX-License-Identifier: Apache-2.0

package tenancy

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/client-go/kubernetes"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

// firewallUses are what the controller manager may do for the firewall-controllers of
// clusters.
func firewallUses(bound, unbound string) []use {
	const account, config, token = "x-firewall-controller", "x-firewall-workload-config", "x-firewall-workload-token"
	rule := func(group, resource, verb string, names ...string) rbacv1.PolicyRule {
		return rbacv1.PolicyRule{APIGroups: []string{group}, Resources: []string{resource}, Verbs: []string{verb}, ResourceNames: names}
	}
	firewall := "firewall.metal-stack.io"
	return []use{
		{"make a ServiceAccount for firewall-controllers", true, createAccount(bound, account, true)},
		{"make one without a cluster", false, createAccount(bound, account, false)},
		{"make one of another cluster", false, createAccount(bound, "y-firewall-controller", true)},
		{"make one in an unbound namespace", false, createAccount(unbound, account, true)},
		{"have its token written", true, createSecret(bound, account+"-token", corev1.SecretTypeServiceAccountToken, account, true)},
		{"have another token written", false, createSecret(bound, account+"-token", corev1.SecretTypeServiceAccountToken, "default", true)},
		{"write the kubeconfig of the workload cluster", true, createSecret(bound, config, corev1.SecretTypeOpaque, "", true)},
		{"write the token of the workload cluster", true, createSecret(bound, token, corev1.SecretTypeOpaque, "", true)},
		{"write them for another cluster", false, createSecret(bound, "y-firewall-workload-token", corev1.SecretTypeOpaque, "", true)},
		{"have a token written into that Secret", false, createSecret(bound, token, corev1.SecretTypeServiceAccountToken, "x-firewall-workload", true)},
		{"have a token written into the other one", false, createSecret(bound, config, corev1.SecretTypeServiceAccountToken, "default", true)},
		{"have that Secret applied to clusters", false, createSecret(bound, config, "addons.cluster.x-k8s.io/resource-set", "", true)},
		{"take over such a Secret that nothing controls", false, patchSecretOf(bound, "y-firewall-workload-token")},
		{"delete such a Secret that nothing controls", false, deleteSecretOf(bound, "y-firewall-workload-token")},
		{"grant reading Firewalls", true, createRoleOf(bound, account, rule(firewall, "firewalls", "watch"), rule(firewall, "firewalls/status", "get"))},
		{"grant reading the two Secrets", true, createRoleOf(bound, account, rule("", "secrets", "get", config, token))},
		{"grant reading those of another cluster", false, createRoleOf(bound, account, rule("", "secrets", "get", "y-firewall-workload-token"))},
		{"grant reading a Secret of a tenant", false, createRoleOf(bound, account, rule("", "secrets", "get", config, "a-bootstrap"))},
		{"grant reading all Secrets", false, createRoleOf(bound, account, rule("", "secrets", "get"))},
		{"grant deleting those Secrets", false, createRoleOf(bound, account, rule("", "secrets", "delete", config))},
		{"grant the metalapi by that Role", false, createRoleOf(bound, account, rule(infrastructure.GroupName, "metalstackclusters/metalapi", "get", "x"))},
		{"grant reading Firewalls by the Role for the metalapi", false, createRoleOf(bound, "x-metalapi", rule(firewall, "firewalls", "get"))},
		{"grant writing Firewalls", false, createRoleOf(bound, account, rule(firewall, "firewalls", "update"))},
		{"bind the Role", true, createRoleBinding(bound, "there-firewall-controller", rbacv1.RoleRef{Kind: "Role", Name: "there-firewall-controller"}, "there-firewall-controller")},
		{"bind it for another ServiceAccount", false, createRoleBinding(bound, "there-firewall-controller", rbacv1.RoleRef{Kind: "Role", Name: "there-firewall-controller"}, "default")},
		{"bind the Role for the metalapi for it", false, createRoleBinding(bound, account, rbacv1.RoleRef{Kind: "Role", Name: "there-metalapi"}, account)},
	}
}

func createRoleOf(namespace, name string, rules ...rbacv1.PolicyRule) func(context.Context, kubernetes.Interface) error {
	return func(ctx context.Context, c kubernetes.Interface) error {
		_, err := c.RbacV1().Roles(namespace).Create(ctx, &rbacv1.Role{ObjectMeta: metaOf(name, true), Rules: rules}, dryCreate)
		return err
	}
}
