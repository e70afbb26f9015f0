// SPDX-License-Identifier: Apache-2.0

package tenancy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/yaml"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	api "metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
	"metal-stack.io/infrastructure-apiserver/test/framework"
	"metal-stack.io/infrastructure-apiserver/test/framework/objects"
)

const accessTeam = "access"

// access is what a workload cluster is given.
type access struct{ url, token, ca string }

// metalAPIAccessLastsAsLongAsItsCluster has the controller manager give a cluster access to
// its metal-api with the rights that it has in an installation.
func metalAPIAccessLastsAsLongAsItsCluster(t *testing.T, env *environment) {
	env.Bind(t, accessTeam, project("7"))
	clusters := env.admin(t).MetalStackClusters(accessTeam)
	framework.Eventually(t, limit, func(context.Context) error {
		_, err := clusters.Create(t.Context(), objects.Cluster("rose", func(c *api.MetalStackCluster) { c.Spec.MetalAPIAccess = &api.MetalAPIAccess{} }), metav1.CreateOptions{})
		if apierrors.IsAlreadyExists(err) {
			return nil
		}
		return err
	})
	_, err := clusters.Create(soon(t), objects.Cluster("rose-2"), metav1.CreateOptions{})
	require.NoError(t, err)
	first := env.provided(t, "")

	// The token opens one metal-api, and nothing else.
	framework.Eventually(t, limit, func(context.Context) error { return first.ask(t.Context(), "/v1/health", http.StatusOK) })
	require.NoError(t, first.ask(soon(t), "/v1/machine", http.StatusOK))
	another := access{strings.Replace(first.url, "/rose/", "/rose-2/", 1), first.token, first.ca}
	require.NotEqual(t, first.url, another.url)
	require.NoError(t, another.ask(soon(t), "/v1/health", http.StatusForbidden))
	cluster := access{strings.TrimSuffix(first.url, "/metalapi"), first.token, first.ca}
	require.NoError(t, cluster.ask(soon(t), "", http.StatusForbidden))
	host, _, _ := strings.Cut(first.url, "/apis/")
	require.NoError(t, access{host + "/api/v1/namespaces/" + accessTeam + "/secrets", first.token, first.ca}.ask(soon(t), "", http.StatusForbidden))

	// docs/tenancy.md: edit includes Secrets, and so this token; view does not.
	for role, may := range map[string]bool{"edit": true, "view": false} {
		_, err := env.Client().RbacV1().RoleBindings(accessTeam).Create(soon(t), &rbacv1.RoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: "access-" + role}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
			Subjects: []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: "access-" + role}},
		}, metav1.CreateOptions{})
		require.NoError(t, err)
		client, err := kubernetes.NewForConfig(env.User("access-" + role))
		require.NoError(t, err)
		framework.Eventually(t, limit, func(context.Context) error {
			_, err := client.CoreV1().ConfigMaps(accessTeam).List(t.Context(), metav1.ListOptions{})
			return err
		})
		err = getSecret(accessTeam, "rose-metalapi-token")(soon(t), client)
		assert.Equal(t, may, err == nil, "%s: %v", role, err)
	}

	// Without its ServiceAccount the token is worth nothing, and another one is made. A changed
	// spec is not waited for.
	require.NoError(t, env.Client().CoreV1().ServiceAccounts(accessTeam).Delete(soon(t), "rose-metalapi", metav1.DeleteOptions{}))
	env.patchAccess(t, `{"additionalNetworkIDs":["tiny-`+simulator.DefaultPartition+`"]}`)
	second := env.provided(t, first.token)
	framework.Eventually(t, limit, func(context.Context) error { return second.ask(t.Context(), "/v1/health", http.StatusOK) })
	framework.Eventually(t, limit, func(context.Context) error { return first.ask(t.Context(), "/v1/health", http.StatusUnauthorized) })

	env.patchAccess(t, "null")
	env.awaitNoAccess(t)
	framework.Eventually(t, limit, func(context.Context) error { return second.ask(t.Context(), "/v1/health", http.StatusUnauthorized) })

	// A ClusterResourceSet is a second owner of what it applies.
	env.patchAccess(t, "{}")
	env.provided(t, second.token)
	_, err = env.Client().CoreV1().ConfigMaps(accessTeam).Create(soon(t), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "second-owner"}}, metav1.CreateOptions{})
	require.NoError(t, err)
	owner, err := env.Client().CoreV1().ConfigMaps(accessTeam).Get(soon(t), "second-owner", metav1.GetOptions{})
	require.NoError(t, err)
	_, err = env.Client().CoreV1().Secrets(accessTeam).Patch(soon(t), "rose-metal-ccm", types.JSONPatchType, fmt.Appendf(nil,
		`[{"op":"add","path":"/metadata/ownerReferences/-","value":{"apiVersion":"v1","kind":"ConfigMap","name":"second-owner","uid":%q}}]`, owner.UID), metav1.PatchOptions{})
	require.NoError(t, err)
	require.NoError(t, clusters.Delete(soon(t), "rose", metav1.DeleteOptions{}))
	env.awaitNoAccess(t)
	framework.Eventually(t, limit, func(context.Context) error {
		_, err := clusters.Get(t.Context(), "rose", metav1.GetOptions{})
		if !apierrors.IsNotFound(err) {
			return fmt.Errorf("the cluster is still there: %v", err)
		}
		return nil
	})
	require.NoError(t, clusters.Delete(soon(t), "rose-2", metav1.DeleteOptions{}))
}

// provided waits until cluster rose has access, with another token than before.
func (env *environment) provided(t *testing.T, before string) (a access) {
	t.Helper()
	framework.Eventually(t, limit, func(context.Context) error {
		c, err := env.admin(t).MetalStackClusters(accessTeam).Get(t.Context(), "rose", metav1.GetOptions{})
		if err != nil {
			return err
		}
		condition := meta.FindStatusCondition(c.Status.Conditions, infrastructure.ConditionMetalAPIAccessReady)
		if condition == nil || condition.Status != metav1.ConditionTrue {
			return fmt.Errorf("MetalAPIAccessReady: %+v", condition)
		}
		secret, err := env.Client().CoreV1().Secrets(accessTeam).Get(t.Context(), "rose-metal-ccm", metav1.GetOptions{})
		if err != nil {
			return err
		}
		delivered := &corev1.Secret{}
		if err := yaml.UnmarshalStrict(secret.Data["metal-ccm.yaml"], delivered); err != nil {
			return err
		}
		a = access{delivered.StringData["url"], delivered.StringData["token"], delivered.StringData["ca.crt"]}
		assert.Equal(t, project("7"), delivered.StringData["project"])
		assert.Equal(t, c.Status.ClusterID, delivered.StringData["cluster"])
		if a.token == before {
			return fmt.Errorf("still the token of before")
		}
		return nil
	})
	return a
}

func (env *environment) patchAccess(t *testing.T, value string) {
	t.Helper()
	_, err := env.admin(t).MetalStackClusters(accessTeam).Patch(soon(t), "rose", types.MergePatchType, []byte(`{"spec":{"metalAPIAccess":`+value+`}}`), metav1.PatchOptions{})
	require.NoError(t, err)
}

// awaitNoAccess waits until nothing is left of what cluster rose was given.
func (env *environment) awaitNoAccess(t *testing.T) {
	t.Helper()
	core, rbac := env.Client().CoreV1(), env.Client().RbacV1()
	for what, get := range map[string]func(context.Context) error{
		"RoleBinding": func(ctx context.Context) error {
			_, err := rbac.RoleBindings(accessTeam).Get(ctx, "rose-metalapi", metav1.GetOptions{})
			return err
		},
		"Role": func(ctx context.Context) error {
			_, err := rbac.Roles(accessTeam).Get(ctx, "rose-metalapi", metav1.GetOptions{})
			return err
		},
		"ServiceAccount": func(ctx context.Context) error {
			_, err := core.ServiceAccounts(accessTeam).Get(ctx, "rose-metalapi", metav1.GetOptions{})
			return err
		},
		"token": func(ctx context.Context) error {
			_, err := core.Secrets(accessTeam).Get(ctx, "rose-metalapi-token", metav1.GetOptions{})
			return err
		},
		"config": func(ctx context.Context) error {
			_, err := core.Secrets(accessTeam).Get(ctx, "rose-metal-ccm", metav1.GetOptions{})
			return err
		},
	} {
		framework.Eventually(t, limit, func(context.Context) error {
			if err := get(t.Context()); !apierrors.IsNotFound(err) {
				return fmt.Errorf("%s is still there: %v", what, err)
			}
			return nil
		})
	}
}

// ask asks with the token and the authority that the cluster was given, and nothing else.
func (a access) ask(ctx context.Context, path string, status int) error {
	authorities := x509.NewCertPool()
	if !authorities.AppendCertsFromPEM([]byte(a.ca)) {
		return fmt.Errorf("no authority: %q", a.ca)
	}
	client := &http.Client{
		Timeout:   30 * time.Second,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: authorities, MinVersion: tls.VersionTLS12}, DisableKeepAlives: true},
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, a.url+path, nil)
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+a.token)
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != status {
		text, _ := io.ReadAll(response.Body)
		return fmt.Errorf("GET %s%s: %s: %s", a.url, path, response.Status, text)
	}
	return nil
}
