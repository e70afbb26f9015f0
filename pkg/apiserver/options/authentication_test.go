// SPDX-License-Identifier: Apache-2.0

package options

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/authenticatorfactory"
	"k8s.io/apiserver/pkg/authentication/request/headerrequest"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"

	"metal-stack.io/infrastructure-apiserver/pkg/pki"
)

func TestProxiedUsers_AreThoseThatTheFrontProxyNames(t *testing.T) {
	t.Parallel()
	now := time.Now()
	frontProxy, err := pki.NewAuthority("front-proxy", now, time.Hour)
	require.NoError(t, err)
	other, err := pki.NewAuthority("other", now, time.Hour)
	require.NoError(t, err)
	ca, err := dynamiccertificates.NewStaticCAContent("front-proxy", frontProxy.Certificate)
	require.NoError(t, err)
	next := authenticator.RequestFunc(func(*http.Request) (*authenticator.Response, bool, error) {
		return &authenticator.Response{User: &user.DefaultInfo{Name: "next"}}, true, nil
	})
	authenticate := rejectAnonymous(withProxiedUsers(next, &authenticatorfactory.RequestHeaderConfig{
		UsernameHeaders:     headerrequest.StaticStringSlice{"X-Remote-User"},
		UIDHeaders:          headerrequest.StaticStringSlice{"X-Remote-Uid"},
		GroupHeaders:        headerrequest.StaticStringSlice{"X-Remote-Group"},
		ExtraHeaderPrefixes: headerrequest.StaticStringSlice{"X-Remote-Extra-"},
		CAContentProvider:   ca,
		AllowedClientNames:  headerrequest.StaticStringSlice{"front-proxy-client"},
	}))
	for name, test := range map[string]struct {
		authority pki.Pair
		client    string
		user      string
		want      string
	}{
		"front proxy":                   {frontProxy, "front-proxy-client", "alice", "alice"},
		"front proxy without a user":    {frontProxy, "front-proxy-client", "", "next"},
		"front proxy, anonymous":        {frontProxy, "front-proxy-client", user.Anonymous, ""},
		"other name of the authority":   {frontProxy, "mallory", "alice", "next"},
		"same name of other authority":  {other, "front-proxy-client", "alice", "next"},
		"no certificate, but a user":    {pki.Pair{}, "", "alice", "next"},
		"no certificate, and anonymous": {pki.Pair{}, "", user.Anonymous, "next"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var peers []*x509.Certificate
			if test.client != "" {
				pair, err := pki.ClientCertificate(test.authority, test.client, nil, now, time.Hour)
				require.NoError(t, err)
				cert, _, err := pair.Parse()
				require.NoError(t, err)
				peers = append(peers, cert)
			}
			for range 2 { // The second is answered from the cache of certificates.
				req := httptest.NewRequest(http.MethodGet, "/apis", nil)
				req.TLS = &tls.ConnectionState{PeerCertificates: peers}
				if test.user != "" {
					req.Header.Set("X-Remote-User", test.user)
					req.Header.Set("X-Remote-Group", "team-a")
				}
				response, ok, err := authenticate.AuthenticateRequest(req)
				require.NoError(t, err)
				require.Equal(t, test.want != "", ok)
				if !ok {
					continue
				}
				assert.Equal(t, test.want, response.User.GetName())
				if test.want != "next" {
					assert.Equal(t, []string{"team-a", user.AllAuthenticated}, response.User.GetGroups())
					assert.Empty(t, req.Header.Get("X-Remote-User"), "handlers must not see credentials")
				}
			}
		})
	}
}
