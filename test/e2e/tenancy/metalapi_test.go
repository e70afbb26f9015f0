// SPDX-License-Identifier: Apache-2.0

package tenancy

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	metalgo "github.com/metal-stack/metal-go"
	"github.com/metal-stack/metal-go/api/client/health"
	"github.com/metal-stack/metal-go/api/client/ip"
	"github.com/metal-stack/metal-go/api/models"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/test/framework"
	"metal-stack.io/infrastructure-apiserver/test/framework/objects"
)

// A token for the metal-api of one cluster works with metal-go as metalctl uses it, and no
// path leads from there to another cluster: the kube-apiserver authorizes what the path says
// before the first of its dots.
func metalAPIOfClusterByToken(t *testing.T, env *tenantsEnvironment) {
	const owner, other = "by-token", "by-token-2"
	admin := env.Metalstack(t, env.Admin()).InfrastructureV1alpha4().MetalStackClusters(teamA)
	for _, name := range []string{owner, other} {
		_, err := admin.Create(t.Context(), objects.Cluster(name), metav1.CreateOptions{})
		require.NoError(t, err)
		_, err = admin.Allocate(t.Context(), name, &v1alpha4.Allocation{}, metav1.CreateOptions{})
		require.NoError(t, err)
	}
	env.admin(t, "create", "serviceaccount", "by-token", "-n", teamA)
	env.admin(t, "create", "role", "by-token", "-n", teamA, "--verb=get,create,update,delete",
		"--resource=metalstackclusters.infrastructure.cluster.x-k8s.io/metalapi", "--resource-name="+owner)
	env.admin(t, "create", "rolebinding", "by-token", "--role=by-token", "--serviceaccount="+teamA+":by-token", "-n", teamA)
	token, stderr, err := env.Kubectl(t, env.Admin(), "create", "token", "by-token", "-n", teamA)
	require.NoError(t, err, stderr)
	token = strings.TrimSpace(token)

	anonymous := rest.AnonymousClientConfig(env.Admin())
	tlsConfig, err := rest.TLSConfigFor(anonymous)
	require.NoError(t, err)
	path := func(cluster string) string {
		return "/apis/infrastructure.cluster.x-k8s.io/v1alpha4/namespaces/" + teamA + "/metalstackclusters/" + cluster + "/metalapi"
	}
	client := func(cluster string) metalgo.Client {
		c, err := metalgo.NewClient(anonymous.Host+path(cluster), metalgo.HMACAuth("", ""), metalgo.BearerToken(token), metalgo.TLSClientConfig(tlsConfig))
		require.NoError(t, err)
		return c
	}
	framework.Eventually(t, limit, func(context.Context) error {
		_, err := client(owner).Health().Health(health.NewHealthParams(), nil)
		return err
	})
	found, err := client(owner).IP().FindIPs(ip.NewFindIPsParams().WithBody(&models.V1IPFindRequest{Tags: []string{}}), nil)
	require.NoError(t, err)
	assert.NotEmpty(t, found.Payload)
	_, err = client(other).Health().Health(health.NewHealthParams(), nil)
	require.Error(t, err)

	anonymous.BearerToken = token
	httpClient, err := rest.HTTPClientFor(anonymous)
	require.NoError(t, err)
	for _, trick := range []string{
		path(owner) + "/../../" + other + "/metalapi/v1/health",
		path(owner) + "/%2e%2e/%2e%2e/" + other + "/metalapi/v1/health",
		path(owner) + "/..%2f..%2f" + other + "%2fmetalapi%2fv1%2fhealth",
		path(owner) + "%2f..%2f..%2f" + other + "%2fmetalapi%2fv1%2fhealth",
		path(owner+"/metalapi/../../"+other) + "/v1/health",
		path(owner) + "//../" + other + "/metalapi/v1/health",
		path(owner) + "/..",
		path(owner) + "?path=/../../" + other + "/metalapi/v1/health",
		path("./"+other) + "/v1/health",
		path(other) + "/v1/health",
		strings.ToUpper(path(other)) + "/v1/health",
		strings.Replace(path(other), "v1alpha4", "v1alpha3", 1) + "/v1/health",
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, anonymous.Host+trick, nil)
		require.NoError(t, err)
		response, err := httpClient.Do(req)
		require.NoError(t, err)
		answer, err := io.ReadAll(response.Body)
		response.Body.Close()
		require.NoError(t, err)
		assert.GreaterOrEqual(t, response.StatusCode, 400, "%s: %s", trick, answer)
		assert.NotContains(t, string(answer), "healthy", trick)
	}
}
