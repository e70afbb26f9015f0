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
	assert.Equal(t, catalogue, rightsOf(t, seed, ""), "in the cluster")
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

// rightsOf are the verbs that a client may use, by resource, beyond those of everybody who
// has a credential.
func rightsOf(t *testing.T, config *rest.Config, namespace string) map[string]string {
	t.Helper()
	config = rest.CopyConfig(config)
	config.QPS = -1
	c, err := kubernetes.NewForConfig(config)
	require.NoError(t, err)
	// Some group may be unavailable: it is that of another test.
	_, lists, _ := c.Discovery().ServerGroupsAndResources()
	require.NotEmpty(t, lists)
	found := map[string][]string{}
	for _, l := range lists {
		group, _, named := strings.Cut(l.GroupVersion, "/")
		if !named {
			group = ""
		}
		if group == authorizationv1.GroupName || group == "authentication.k8s.io" {
			continue
		}
		for _, resource := range l.APIResources {
			name, subresource, _ := strings.Cut(resource.Name, "/")
			key := name
			if group != "" {
				key += "." + group
			}
			if subresource != "" {
				key += "/" + subresource
			}
			if found[key] != nil {
				continue
			}
			found[key] = []string{}
			for _, verb := range everyVerb {
				var review *authorizationv1.SelfSubjectAccessReview
				framework.Eventually(t, slow, func(ctx context.Context) (err error) { // A connection may be lost.
					review, err = c.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, &authorizationv1.SelfSubjectAccessReview{
						Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &authorizationv1.ResourceAttributes{
							Namespace: namespace, Verb: verb, Group: group, Resource: name, Subresource: subresource,
						}},
					}, metav1.CreateOptions{})
					return err
				})
				if review.Status.Allowed {
					found[key] = append(found[key], verb)
				}
			}
		}
	}
	rights := map[string]string{}
	for key, verbs := range found {
		if len(verbs) > 0 {
			rights[key] = strings.Join(verbs, " ")
		}
	}
	return rights
}
