// SPDX-License-Identifier: Apache-2.0

package inflight

import (
	"crypto/tls"
	"crypto/x509"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	x509request "k8s.io/apiserver/pkg/authentication/request/x509"
	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"

	"metal-stack.io/infrastructure-apiserver/pkg/pki"
)

func TestCertificateVerifier_FollowsAuthoritiesAndNames(t *testing.T) {
	t.Parallel()
	now := time.Now()
	newAuthority := func() (pki.Pair, *x509.CertPool) {
		authority, err := pki.NewAuthority("front-proxy", now, time.Hour)
		require.NoError(t, err)
		cert, _, err := authority.Parse()
		require.NoError(t, err)
		pool := x509.NewCertPool()
		pool.AddCert(cert)
		return authority, pool
	}
	first, firstPool := newAuthority()
	second, secondPool := newAuthority()
	pool, names := firstPool, []string{"front-proxy-client"}
	fake := clocktesting.NewFakePassiveClock(now)
	var c clock.PassiveClock = fake
	verified := NewCertificateVerifier(func() (x509.VerifyOptions, bool) {
		return x509.VerifyOptions{Roots: pool, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, pool != nil
	}, x509request.StringSliceProviderFunc(func() []string { return names }), c)
	from := func(authority pki.Pair, name string) func() bool {
		pair, err := pki.ClientCertificate(authority, name, nil, now, time.Hour)
		require.NoError(t, err)
		cert, _, err := pair.Parse()
		require.NoError(t, err)
		req := request("/apis", "10.0.0.1:1")
		req.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert}}
		return func() bool { return verified(req) }
	}
	old, renewed, other := from(first, "front-proxy-client"), from(second, "front-proxy-client"), from(first, "mallory")
	assert.False(t, verified(request("/apis", "10.0.0.1:1")), "no certificate")
	assert.True(t, old())
	assert.False(t, renewed())
	assert.False(t, other())

	pool = secondPool
	fake.SetTime(now.Add(verifiedTTL))
	assert.False(t, old())
	assert.True(t, renewed())
	pool = nil
	fake.SetTime(now.Add(2 * verifiedTTL))
	assert.False(t, renewed(), "no authorities")
	pool, names = secondPool, []string{"another"}
	fake.SetTime(now.Add(3 * verifiedTTL))
	assert.False(t, renewed(), "no name of the list")
}
