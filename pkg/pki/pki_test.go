// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto/tls"
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// now is not the time of any real clock.
var now = time.Date(2040, 1, 2, 3, 4, 5, 0, time.UTC)

func newAuthority(t *testing.T, name string) (Pair, *x509.Certificate) {
	t.Helper()
	pair, err := NewAuthority(name, now, 24*time.Hour)
	require.NoError(t, err)
	return pair, parse(t, pair)
}

func parse(t *testing.T, pair Pair) *x509.Certificate {
	t.Helper()
	cert, _, err := pair.Parse()
	require.NoError(t, err)
	return cert
}

// verify verifies a certificate at the time of the tests.
func verify(cert, authority *x509.Certificate, usage x509.ExtKeyUsage) error {
	roots := x509.NewCertPool()
	roots.AddCert(authority)
	_, err := cert.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{usage}})
	return err
}

func TestNewAuthority_SignsAndIsValidByTheCallersClock(t *testing.T) {
	t.Parallel()
	_, ca := newAuthority(t, "ca")
	assert.True(t, ca.IsCA)
	assert.NotZero(t, ca.KeyUsage&x509.KeyUsageCertSign)
	assert.Equal(t, "ca", ca.Subject.CommonName)
	assert.Equal(t, now.Add(-time.Hour), ca.NotBefore, "clocks differ")
	assert.Equal(t, now.Add(24*time.Hour), ca.NotAfter)
}

func TestServingCertificate_IsForServersAndItsHostsOnly(t *testing.T) {
	t.Parallel()
	authority, ca := newAuthority(t, "ca")
	pair, err := ServingCertificate(authority, "server", []string{"server.example.org", "192.0.2.1"}, now, time.Hour)
	require.NoError(t, err)
	cert := parse(t, pair)
	require.NoError(t, verify(cert, ca, x509.ExtKeyUsageServerAuth))
	require.Error(t, verify(cert, ca, x509.ExtKeyUsageClientAuth))
	require.NoError(t, cert.VerifyHostname("server.example.org"))
	require.NoError(t, cert.VerifyHostname("192.0.2.1"))
	require.Error(t, cert.VerifyHostname("other.example.org"))
	assert.False(t, cert.IsCA)
	assert.Equal(t, now.Add(-time.Hour), cert.NotBefore)
	assert.Equal(t, now.Add(time.Hour), cert.NotAfter)
}

func TestClientCertificate_IsForClientsAndNamesUserAndGroups(t *testing.T) {
	t.Parallel()
	authority, ca := newAuthority(t, "ca")
	pair, err := ClientCertificate(authority, "jane", []string{"admins", "team-a"}, now, time.Hour)
	require.NoError(t, err)
	cert := parse(t, pair)
	require.NoError(t, verify(cert, ca, x509.ExtKeyUsageClientAuth))
	require.Error(t, verify(cert, ca, x509.ExtKeyUsageServerAuth))
	assert.False(t, cert.IsCA)
	assert.Equal(t, "jane", cert.Subject.CommonName)
	assert.ElementsMatch(t, []string{"admins", "team-a"}, cert.Subject.Organization)
}

func TestCertificates_ExpireNoLaterThanTheirAuthority(t *testing.T) {
	t.Parallel()
	authority, ca := newAuthority(t, "ca")
	pair, err := ServingCertificate(authority, "server", nil, now, 48*time.Hour)
	require.NoError(t, err)
	assert.Equal(t, ca.NotAfter, parse(t, pair).NotAfter)
}

func TestCertificates_DifferInSerialNumberAndKey(t *testing.T) {
	t.Parallel()
	authority, _ := newAuthority(t, "ca")
	one, err := ClientCertificate(authority, "jane", nil, now, time.Hour)
	require.NoError(t, err)
	two, err := ClientCertificate(authority, "jane", nil, now, time.Hour)
	require.NoError(t, err)
	assert.NotEqual(t, parse(t, one).SerialNumber, parse(t, two).SerialNumber)
	assert.NotEqual(t, one.Key, two.Key)
}

func TestParse_RefusesWhatDoesNotBelongTogether(t *testing.T) {
	t.Parallel()
	one, _ := newAuthority(t, "one")
	two, _ := newAuthority(t, "two")
	for name, pair := range map[string]Pair{
		"key of another certificate": {one.Certificate, two.Key},
		"no certificate":             {nil, one.Key},
		"no key":                     {one.Certificate, nil},
	} {
		_, _, err := pair.Parse()
		require.Error(t, err, name)
		_, err = ServingCertificate(pair, "server", nil, now, time.Hour)
		require.ErrorContains(t, err, "failed to parse the certificate authority", name)
	}
}

func TestServes_EachConditionIsRequired(t *testing.T) {
	t.Parallel()
	authority, ca := newAuthority(t, "ca")
	_, other := newAuthority(t, "ca")
	pair, err := ServingCertificate(authority, "server", []string{"a", "b"}, now, time.Hour)
	require.NoError(t, err)
	until := now.Add(time.Hour)
	hosts, authorities := []string{"a", "b"}, []*x509.Certificate{other, ca}

	assert.True(t, pair.Serves(hosts, authorities, now, until))
	assert.False(t, pair.Serves([]string{"a", "c"}, authorities, now, until), "another host")
	assert.False(t, pair.Serves(hosts, []*x509.Certificate{other}, now, until), "an authority of the same name")
	assert.False(t, pair.Serves(hosts, authorities, now.Add(-time.Hour-time.Second), until), "not valid yet")
	assert.False(t, pair.Serves(hosts, authorities, now, until.Add(time.Second)), "not valid for long enough")
	assert.False(t, Pair{pair.Certificate, authority.Key}.Serves(hosts, authorities, now, until), "another key")
}

func TestCipherSuites_AreSecureOnesOfTLS12WithoutCBC(t *testing.T) {
	t.Parallel()
	suites := CipherSuites()
	require.NotEmpty(t, suites)
	secure := map[uint16]bool{}
	for _, s := range tls.CipherSuites() {
		secure[s.ID] = true
	}
	for _, s := range suites {
		assert.True(t, secure[s.ID], s.Name)
		assert.Contains(t, s.SupportedVersions, uint16(tls.VersionTLS12), s.Name)
		assert.False(t, strings.Contains(s.Name, "CBC"), s.Name)
	}
}
