// SPDX-License-Identifier: Apache-2.0

package standalone

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/server"
	"k8s.io/client-go/tools/clientcmd"
	certutil "k8s.io/client-go/util/cert"
)

func TestAuthority_ReusesItselfAndServingCertificate(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	first, err := OpenAuthority(dir)
	require.NoError(t, err)
	certFile, keyFile, err := first.Serving("localhost", "127.0.0.1")
	require.NoError(t, err)
	cert, err := os.ReadFile(certFile)
	require.NoError(t, err)
	_, err = tls.LoadX509KeyPair(certFile, keyFile)
	require.NoError(t, err)

	second, err := OpenAuthority(dir)
	require.NoError(t, err)
	assert.Equal(t, first.Bundle(), second.Bundle())
	_, _, err = second.Serving("127.0.0.1")
	require.NoError(t, err)
	again, err := os.ReadFile(certFile)
	require.NoError(t, err)
	assert.Equal(t, cert, again)

	_, _, err = second.Serving("127.0.0.1", "10.0.0.1")
	require.NoError(t, err)
	other, err := os.ReadFile(certFile)
	require.NoError(t, err)
	assert.NotEqual(t, cert, other, "it does not cover the new address")

	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		info, err := e.Info()
		require.NoError(t, err)
		assert.Zero(t, info.Mode().Perm()&0o077, e.Name())
	}
}

func TestAuthority_RefusesForeignKey(t *testing.T) {
	t.Parallel()
	dir, other := t.TempDir(), t.TempDir()
	for _, d := range []string{dir, other} {
		_, err := OpenAuthority(d)
		require.NoError(t, err)
	}
	key, err := os.ReadFile(filepath.Join(other, "ca.key"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "ca.key"), key, 0o600))
	_, err = OpenAuthority(dir)
	assert.ErrorContains(t, err, "key does not belong to the certificate")
}

func TestWriteKubeconfig_ReplacesOnlyItsOwnFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	authority, err := OpenAuthority(dir)
	require.NoError(t, err)
	admin, err := authority.Admin()
	require.NoError(t, err)

	path := filepath.Join(dir, "sub", "kubeconfig")
	for _, url := range []string{"https://127.0.0.1:1", "https://127.0.0.1:2"} {
		require.NoError(t, WriteKubeconfig(path, url, authority.Bundle(), admin, "team-a"))
		config, err := clientcmd.LoadFromFile(path)
		require.NoError(t, err)
		assert.Equal(t, url, config.Clusters[kubeconfigName].Server)
		assert.Equal(t, "team-a", config.Contexts[config.CurrentContext].Namespace)
	}
	info, err := os.Stat(path)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())

	mine := filepath.Join(dir, "mine")
	const content = "apiVersion: v1\nkind: Config\nclusters: [{name: prod, cluster: {server: https://prod}}]\n"
	require.NoError(t, os.WriteFile(mine, []byte(content), 0o600))
	require.ErrorContains(t, WriteKubeconfig(mine, "https://127.0.0.1:1", authority.Bundle(), admin, ""), "not overwritten")
	kept, err := os.ReadFile(mine)
	require.NoError(t, err)
	assert.Equal(t, content, string(kept))
}

func TestManagementClusterID_IsStableAcrossRestarts(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	first, err := LoadOrCreateManagementClusterID(dir)
	require.NoError(t, err)
	second, err := LoadOrCreateManagementClusterID(dir)
	require.NoError(t, err)
	assert.Equal(t, first, second)
}

func TestManagementClusterID_DamagedFileIsReportedAndKept(t *testing.T) {
	t.Parallel()
	for name, content := range map[string]string{"empty": "", "cut short": "2294c949-88f6", "no id": "?"} {
		dir := t.TempDir()
		path := filepath.Join(dir, "management-cluster")
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		_, err := LoadOrCreateManagementClusterID(dir)
		require.ErrorContains(t, err, "invalid management cluster ID in "+path, name)
		require.ErrorContains(t, err, "restore the file", name)
		kept, err := os.ReadFile(path)
		require.NoError(t, err)
		assert.Equal(t, content, string(kept), name)
	}
}

func TestStandalone_AuthenticatesOnlyTheAdministrator(t *testing.T) {
	t.Parallel()
	authority, err := OpenAuthority(t.TempDir())
	require.NoError(t, err)
	otherAuthority, err := OpenAuthority(t.TempDir())
	require.NoError(t, err)
	var authentication server.AuthenticationInfo
	require.NoError(t, Authenticate(&authentication, &server.SecureServingInfo{}, authority))
	var authorization server.AuthorizationInfo
	require.NoError(t, Authorize(&authorization))

	for name, c := range map[string]struct {
		path     string
		from     *Authority
		known    bool
		decision authorizer.Decision
	}{
		"the administrator":              {"/apis", authority, true, authorizer.DecisionAllow},
		"another authority's":            {"/apis", otherAuthority, false, authorizer.DecisionNoOpinion},
		"no user":                        {"/apis", nil, false, authorizer.DecisionNoOpinion},
		"no user at a path below health": {"/readyz/ping", nil, false, authorizer.DecisionNoOpinion},
		"no user at a path of health":    {"/readyz", nil, false, authorizer.DecisionNoOpinion},
	} {
		req := httptest.NewRequest(http.MethodGet, c.path, nil)
		if c.from != nil {
			admin, err := c.from.Admin()
			require.NoError(t, err)
			certs, err := certutil.ParseCertsPEM(admin.Certificate)
			require.NoError(t, err)
			req.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{certs[0]}}
		}
		resp, known, _ := authentication.Authenticator.AuthenticateRequest(req)
		assert.Equal(t, c.known, known, name)
		if !known {
			continue
		}
		decision, _, err := authorization.Authorizer.Authorize(req.Context(), authorizer.AttributesRecord{User: resp.User, Path: c.path, Verb: "get"})
		require.NoError(t, err)
		assert.Equal(t, c.decision, decision, name)
	}
	decision, _, err := authorization.Authorizer.Authorize(t.Context(), authorizer.AttributesRecord{User: &user.DefaultInfo{Name: "other"}, Path: "/apis", Verb: "get"})
	require.NoError(t, err)
	assert.NotEqual(t, authorizer.DecisionAllow, decision)
}
