// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/authorization/authorizerfactory"
	"k8s.io/apiserver/pkg/util/webhook"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// recorder is a plugin that wants what initializers give.
type recorder struct {
	*admission.Handler

	client   kubernetes.Interface
	resolver webhook.AuthenticationInfoResolver
}

func (r *recorder) SetExternalKubeClientSet(client kubernetes.Interface) { r.client = client }

func (r *recorder) SetAuthenticationInfoResolverWrapper(wrapper webhook.AuthenticationInfoResolverWrapper) {
	ofAccount := func() (*rest.Config, error) { return &rest.Config{BearerToken: "token of this server"}, nil }
	r.resolver = wrapper(&webhook.AuthenticationInfoResolverDelegator{
		ClientConfigForFunc:        func(string) (*rest.Config, error) { return ofAccount() },
		ClientConfigForServiceFunc: func(string, string, int) (*rest.Config, error) { return ofAccount() },
	})
}

func (*recorder) ValidateInitialization() error { return nil }

func newRecorder(t *testing.T) (*Admission, *recorder) {
	t.Helper()
	a, err := New(Options{Config: &rest.Config{Host: "https://127.0.0.1:1"}, Authorizer: authorizerfactory.NewAlwaysAllowAuthorizer(), Drained: make(chan struct{})})
	require.NoError(t, err)
	r := &recorder{}
	a.initializers().Initialize(r)
	return a, r
}

func TestInitializers_HaveWebhooksCalledWithoutCredentials(t *testing.T) {
	t.Parallel()
	_, r := newRecorder(t)
	require.NotNil(t, r.resolver)
	check := func(config *rest.Config, err error) {
		t.Helper()
		require.NoError(t, err)
		assert.Empty(t, config.BearerToken)
		assert.Empty(t, config.BearerTokenFile)
		assert.Equal(t, 30*time.Second, config.Timeout)
	}
	check(r.resolver.ClientConfigForService("kubernetes", "default", 443))
	check(r.resolver.ClientConfigFor("kubernetes.default.svc:443"))
}

func TestInitializers_LimitLookupsOfPlugins(t *testing.T) {
	t.Parallel()
	a, r := newRecorder(t)
	timeout := func(client kubernetes.Interface) time.Duration {
		c, is := client.CoreV1().RESTClient().(*rest.RESTClient)
		require.True(t, is)
		if c.Client == nil || c.Client == http.DefaultClient {
			return 0
		}
		return c.Client.Timeout
	}
	assert.Equal(t, lookupTimeout, timeout(r.client))
	assert.Zero(t, timeout(a.kubernetes), "watches of informers are long")
}
