// SPDX-License-Identifier: Apache-2.0

package tenancy

import (
	"crypto/tls"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/client-go/rest"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/pki"
)

// paths are asked for past the kube-apiserver.
var paths = []string{
	"/apis/" + v1alpha4.SchemeGroupVersion.String() + "/metalstackmachines",
	"/apis/" + v1alpha4.SchemeGroupVersion.String() + "/namespaces/" + teamA + "/metalstackmachines/" + teamA + "-0",
	"/apis/" + v1alpha4.SchemeGroupVersion.String(),
	"/openapi/v3",
	"/metrics",
	"/version",
	"/",
}

// forged are the headers by which the kube-apiserver names users.
var forged = http.Header{
	"X-Remote-User":  {"admin"},
	"X-Remote-Group": {"system:masters", "system:authenticated"},
	"X-Remote-Uid":   {"1"},
	"X-Remote-Extra-Authentication.kubernetes.io%2fcredential-Id": {"1"},
}

// impersonating are the headers by which users ask to act as another user.
var impersonating = http.Header{"Impersonate-User": {"admin"}, "Impersonate-Group": {"system:masters"}}

// past asks the server itself, as whoever reaches its port can.
func past(t *testing.T, env *tenantsEnvironment, path string, certificate *tls.Certificate, headers ...http.Header) (int, string) {
	t.Helper()
	// Whom the client talks to is not the point.
	config := &tls.Config{InsecureSkipVerify: true}
	if certificate != nil {
		config.Certificates = []tls.Certificate{*certificate}
	}
	transport := &http.Transport{TLSClientConfig: config}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, env.Servers[0].URL+path, nil)
	require.NoError(t, err)
	for _, header := range headers {
		for key, values := range header {
			request.Header[http.CanonicalHeaderKey(key)] = values
		}
	}
	client := http.Client{Transport: transport, Timeout: limit}
	response, err := client.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response.StatusCode, string(body)
}

func bearer(token string) http.Header { return http.Header{"Authorization": {"Bearer " + token}} }

// certificateOf is the client certificate of a user of the cluster.
func certificateOf(t *testing.T, config *rest.Config) *tls.Certificate {
	t.Helper()
	pair, err := tls.X509KeyPair(config.CertData, config.KeyData)
	require.NoError(t, err)
	return &pair
}

// selfMade is a client certificate of an authority that nobody trusts.
func selfMade(t *testing.T, name string, groups ...string) *tls.Certificate {
	t.Helper()
	authority, err := pki.NewAuthority("front-proxy", time.Now(), time.Hour)
	require.NoError(t, err)
	made, err := pki.ClientCertificate(authority, name, groups, time.Now(), time.Hour)
	require.NoError(t, err)
	pair, err := tls.X509KeyPair(made.Certificate, made.Key)
	require.NoError(t, err)
	return &pair
}

func directAccessUnknownClientsAreUnauthorized(t *testing.T, env *tenantsEnvironment) {
	for _, path := range paths {
		for what, try := range map[string]func() (int, string){
			"no credentials": func() (int, string) { return past(t, env, path, nil) },
			"forged headers": func() (int, string) { return past(t, env, path, nil, forged) },
			"a wrong token":  func() (int, string) { return past(t, env, path, nil, bearer("wrong")) },
			"all of these":   func() (int, string) { return past(t, env, path, nil, bearer("wrong"), forged, impersonating) },
			"a password": func() (int, string) {
				return past(t, env, path, nil, http.Header{"Authorization": {"Basic YWRtaW46YWRtaW4="}})
			},
			"an own proxy":               func() (int, string) { return past(t, env, path, selfMade(t, "front-proxy-client"), forged) },
			"an own admin":               func() (int, string) { return past(t, env, path, selfMade(t, "admin", "system:masters")) },
			"an own admin, with headers": func() (int, string) { return past(t, env, path, selfMade(t, "admin", "system:masters"), forged) },
		} {
			status, body := try()
			assert.Equal(t, http.StatusUnauthorized, status, "%s, %s: %s", path, what, body)
			assert.NotContains(t, body, teamA, "%s, %s", path, what)
		}
	}
	for _, path := range []string{"/livez", "/readyz", "/healthz"} {
		status, _ := past(t, env, path, nil)
		assert.Equal(t, http.StatusOK, status, path)
	}
}

// directAccessKnownClientsMayNoMore: credentials of the cluster count on the
// port itself, and headers beside them do not.
func directAccessKnownClientsMayNoMore(t *testing.T, env *tenantsEnvironment) {
	pod := bearer(env.ServiceAccount(t, teamB, "default").BearerToken)
	list, one := paths[0], paths[1]
	for _, path := range []string{list, one} {
		status, body := past(t, env, path, certificateOf(t, env.Admin()))
		assert.Equal(t, http.StatusOK, status, "the administrator: %s", body)
		for _, headers := range []http.Header{{}, forged, impersonating} {
			status, body = past(t, env, path, nil, pod, headers)
			assert.Equal(t, http.StatusForbidden, status, "an unprivileged pod: %s", body)
			// A user's certificate is not that of the proxy, even of this name.
			for _, name := range []string{"mallory", "front-proxy-client"} {
				status, body = past(t, env, path, certificateOf(t, env.User(name)), headers)
				assert.Equal(t, http.StatusForbidden, status, "%s: %s", name, body)
			}
		}
	}
	status, body := past(t, env, list, certificateOf(t, env.tenant("alice")), forged)
	assert.Equal(t, http.StatusOK, status)
	assert.Contains(t, body, teamA+"-0")
	assert.NotContains(t, body, teamB)
}
