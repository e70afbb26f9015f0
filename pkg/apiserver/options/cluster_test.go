// SPDX-License-Identifier: Apache-2.0

package options

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/client-go/rest"
)

func TestLeaseClient_SharesNoConnectionAndNoRateLimit(t *testing.T) {
	t.Parallel()
	shared := &rest.Config{Host: "https://127.0.0.1:1", QPS: clientQPS, Burst: clientBurst}
	transport := func(config *rest.Config) any {
		config = rest.CopyConfig(config)
		tls, err := rest.TLSConfigFor(config)
		require.NoError(t, err)
		require.Nil(t, tls)
		transport, err := rest.TransportFor(config)
		require.NoError(t, err)
		return transport
	}
	assert.Same(t, transport(shared), transport(shared), "configurations that are alike share one transport")
	assert.NotSame(t, transport(shared), transport(leaseConfig(shared)))
	assert.Nil(t, leaseConfig(shared).RateLimiter)
	assert.Nil(t, shared.Dial, "the shared configuration is unchanged")
}

func TestAuthorization_CacheTTLsMatchTenancyDocs(t *testing.T) {
	t.Parallel()
	// 10 s is how old a decision of pkg/visibility gets: 5 s, and 5 s until it is asked.
	assert.LessOrEqual(t, New().Authorization.AllowCacheTTL+10*time.Second, 15*time.Second)
	assert.Empty(t, New().Authorization.AlwaysAllowPaths)
}
