// SPDX-License-Identifier: Apache-2.0

package capi

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metal-stack.io/infrastructure-apiserver/test/e2e/capi/firewallcontroller"
	"metal-stack.io/infrastructure-apiserver/test/framework"
)

// everyVerb are those of requests for resources.
var everyVerb = []string{"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection", "impersonate", "bind", "escalate"}

// firewallMayDoNothingElse asks each cluster for every right that there is, with the tokens
// of a firewall.
func firewallMayDoNothingElse(t *testing.T, env *environment, c *Tenant, firewall *Firewall) {
	t.Helper()
	infra, err := c.Infrastructure(t.Context())
	require.NoError(t, err)
	seed, err := clientcmd.RESTConfigFromKubeConfig(firewall.Kubeconfig())
	require.NoError(t, err)
	const read = "get list watch"
	// All who are authenticated may read these; they show the same to all.
	catalogue := map[string]string{}
	for _, resource := range []string{"metalstackimages", "metalstackpartitions", "metalstacksizes"} {
		catalogue[resource+".infrastructure.cluster.x-k8s.io"] = read
	}
	inNamespace := maps.Clone(catalogue)
	inNamespace["firewalls.firewall.metal-stack.io"], inNamespace["firewalls.firewall.metal-stack.io/status"] = read, read
	assert.Equal(t, inNamespace, rightsOf(t, seed, c.Key.Namespace), "in its namespace")
	assert.Equal(t, catalogue, rightsOf(t, seed, "default"), "in another namespace")
	assert.Equal(t, catalogue, clusterRightsOf(t, seed, slices.Collect(maps.Keys(catalogue))), "in the cluster, where it has no more than in each namespace")
	secrets, err := kubernetes.NewForConfig(seed)
	require.NoError(t, err)
	allowed := []string{infra.Name + "-firewall-workload-config", infra.Name + "-firewall-workload-token"}
	list := &corev1.SecretList{}
	require.NoError(t, c.Client.List(t.Context(), list, client.InNamespace(c.Key.Namespace)))
	require.Greater(t, len(list.Items), len(allowed))
	for _, secret := range list.Items {
		_, err := secrets.CoreV1().Secrets(secret.Namespace).Get(t.Context(), secret.Name, metav1.GetOptions{})
		assert.Equal(t, slices.Contains(allowed, secret.Name), err == nil, "%s: %v", secret.Name, err)
	}

	token := &corev1.Secret{}
	require.NoError(t, c.Client.Get(t.Context(), client.ObjectKey{Namespace: c.Key.Namespace, Name: allowed[1]}, token))
	workload := rest.AnonymousClientConfig(c.Workload(t).c.Admin())
	workload.BearerToken = string(token.Data["token"])
	everything := strings.Join(everyVerb, " ")
	want := map[string]string{
		"pods": read, "secrets": read, "services": "get list watch create update", "endpoints": "get list watch create update",
		"networkpolicies.networking.k8s.io":                read,
		"customresourcedefinitions.apiextensions.k8s.io":   "get list watch create update",
		"clusterwidenetworkpolicies.metal-stack.io":        everything,
		"clusterwidenetworkpolicies.metal-stack.io/status": everything,
		"firewallmonitors.firewall.metal-stack.io":         everything,
	}
	for name, verbs := range rightsOf(t, workload, firewallcontroller.WorkloadNamespace) {
		if strings.HasPrefix(name, "events") {
			continue
		}
		assert.Equal(t, want[name], verbs, name)
		delete(want, name)
	}
	assert.Empty(t, want)
}

// rightsOf are the verbs that a client may use in a namespace, by resource that is served,
// beyond those of everybody who has a credential. A right in the whole cluster is one in
// each namespace, too.
func rightsOf(t *testing.T, config *rest.Config, namespace string) map[string]string {
	t.Helper()
	c := unlimitedClient(t, config)
	// All rules in one request: to ask for each verb of each resource takes two thousand.
	var review *authorizationv1.SelfSubjectRulesReview
	framework.Eventually(t, slow, func(ctx context.Context) (err error) { // A connection may be lost.
		review, err = c.AuthorizationV1().SelfSubjectRulesReviews().Create(ctx, &authorizationv1.SelfSubjectRulesReview{
			Spec: authorizationv1.SelfSubjectRulesReviewSpec{Namespace: namespace},
		}, metav1.CreateOptions{})
		return err
	})
	require.False(t, review.Status.Incomplete, "rules that are not listed: %s", review.Status.EvaluationError)
	require.NotEmpty(t, review.Status.ResourceRules)
	// Some group may be unavailable: it is that of another test.
	_, lists, _ := c.Discovery().ServerGroupsAndResources()
	require.NotEmpty(t, lists)
	rights := map[string]string{}
	for _, l := range lists {
		group, _, named := strings.Cut(l.GroupVersion, "/")
		if !named {
			group = ""
		}
		if group == authorizationv1.GroupName || group == "authentication.k8s.io" {
			continue
		}
		for _, resource := range l.APIResources {
			var verbs []string
			for _, verb := range everyVerb {
				if slices.ContainsFunc(review.Status.ResourceRules, func(rule authorizationv1.ResourceRule) bool {
					return allows(&rule, verb, group, resource.Name)
				}) {
					verbs = append(verbs, verb)
				}
			}
			if len(verbs) > 0 {
				rights[rightsKey(group, resource.Name)] = strings.Join(verbs, " ")
			}
		}
	}
	return rights
}

// rightsKey names a resource or subresource: resource.group/subresource.
func rightsKey(group, resource string) string {
	name, subresource, _ := strings.Cut(resource, "/")
	if group != "" {
		name += "." + group
	}
	if subresource != "" {
		name += "/" + subresource
	}
	return name
}

// allows returns whether a rule allows a verb for all objects of a resource or subresource.
func allows(rule *authorizationv1.ResourceRule, verb, group, resource string) bool {
	if len(rule.ResourceNames) > 0 {
		return false
	}
	names := []string{rbacv1.ResourceAll, resource}
	if _, subresource, found := strings.Cut(resource, "/"); found {
		names = append(names, "*/"+subresource)
	}
	has := func(list []string, of ...string) bool {
		return slices.ContainsFunc(list, func(s string) bool { return slices.Contains(of, s) })
	}
	return has(rule.Verbs, rbacv1.VerbAll, verb) && has(rule.APIGroups, rbacv1.APIGroupAll, group) && has(rule.Resources, names...)
}

// clusterRightsOf are the verbs that a client may use in the whole cluster, for each of some
// resources.
func clusterRightsOf(t *testing.T, config *rest.Config, resources []string) map[string]string {
	t.Helper()
	c := unlimitedClient(t, config)
	rights := map[string]string{}
	for _, key := range resources {
		resource, group, _ := strings.Cut(key, ".")
		var verbs []string
		for _, verb := range everyVerb {
			var review *authorizationv1.SelfSubjectAccessReview
			framework.Eventually(t, slow, func(ctx context.Context) (err error) { // A connection may be lost.
				review, err = c.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, &authorizationv1.SelfSubjectAccessReview{
					Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &authorizationv1.ResourceAttributes{
						Verb: verb, Group: group, Resource: resource,
					}},
				}, metav1.CreateOptions{})
				return err
			})
			if review.Status.Allowed {
				verbs = append(verbs, verb)
			}
		}
		rights[key] = strings.Join(verbs, " ")
	}
	return rights
}

// unlimitedClient is one without a limit of its own.
func unlimitedClient(t *testing.T, config *rest.Config) *kubernetes.Clientset {
	t.Helper()
	config = rest.CopyConfig(config)
	config.QPS = -1
	c, err := kubernetes.NewForConfig(config)
	require.NoError(t, err)
	return c
}
