// SPDX-License-Identifier: Apache-2.0

package options

import (
	"crypto/ecdsa"
	"crypto/x509"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/server/healthz"
	certutil "k8s.io/client-go/util/cert"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/scheme"
)

func TestLoopback_CertificateIsTrustedUntilItExpires(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	o, config := New(), server.NewConfig(scheme.Codecs)
	var err error
	o.SecureServing.Listener, err = net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer o.SecureServing.Listener.Close()
	o.SecureServing.BindAddress = net.IPv4(127, 0, 0, 1)
	require.NoError(t, o.applyServing(config, func() time.Time { return now }))

	certificate, _ := config.SecureServing.SNICerts[0].CurrentCertKeyContent()
	shown, err := certutil.ParseCertsPEM(certificate)
	require.NoError(t, err)
	assert.IsType(t, &ecdsa.PublicKey{}, shown[0].PublicKey)
	trusted, err := certutil.NewPoolFromBytes(config.LoopbackClientConfig.CAData)
	require.NoError(t, err)
	_, err = shown[0].Verify(x509.VerifyOptions{Roots: trusted, DNSName: config.LoopbackClientConfig.ServerName, CurrentTime: now})
	require.NoError(t, err)
	assert.Equal(t, now.Add(loopbackLifetime), shown[0].NotAfter)
	assert.NotEmpty(t, config.LoopbackClientConfig.BearerToken)

	for _, checks := range [][]healthz.HealthChecker{config.HealthzChecks, config.LivezChecks} {
		last := checks[len(checks)-1]
		now = shown[0].NotAfter
		require.NoError(t, last.Check(nil))
		now = now.Add(time.Second)
		require.ErrorIs(t, last.Check(nil), errLoopbackExpired)
	}
}
