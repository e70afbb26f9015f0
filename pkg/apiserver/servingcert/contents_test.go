// SPDX-License-Identifier: Apache-2.0

package servingcert

import (
	"crypto/x509"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	certutil "k8s.io/client-go/util/cert"
)

const host = "metalstack-apiserver.metal-stack-system.svc"

var begin = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func renew(t *testing.T, c contents, now time.Time) (contents, []string) {
	t.Helper()
	renewed, news, err := c.renew([]string{host}, now)
	require.NoError(t, err)
	return renewed, news
}

// trusts is whether a client that trusts bundle accepts the certificate of c.
func trusts(bundle []byte, c contents, now time.Time) error {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(bundle)
	cert, _, err := c.leaf.Parse()
	if err != nil {
		return err
	}
	_, err = cert.Verify(x509.VerifyOptions{Roots: roots, DNSName: host, CurrentTime: now})
	return err
}

func TestContents_AreTrustedByClientsADayBehind(t *testing.T) {
	t.Parallel()
	c, _ := renew(t, contents{}, begin)
	const day = 24 * time.Hour
	authorities, certificates := 1, 1
	heard, renewed := c.bundle, true
	for now := begin; now.Before(begin.Add(3 * authorityLifetime)); now = now.Add(day) {
		next, news := renew(t, c, now)
		// What is valid on the first and on the last day without a change is so in
		// between.
		if len(news) > 0 {
			require.NoError(t, trusts(c.bundle, c, now.Add(-day)), "on the day before %s", now)
		}
		if len(news) > 0 || renewed {
			require.NoError(t, trusts(heard, next, now), "on %s", now)
		}
		renewed = len(news) > 0
		cert, _, err := next.leaf.Parse()
		require.NoError(t, err)
		require.Greater(t, cert.NotAfter.Sub(now), leafRenewal-day, "renewed well before it expires")
		for _, what := range news {
			switch what {
			case "authority":
				authorities++
			case "certificate":
				certificates++
			}
		}
		heard, c = next.bundle, next
	}
	require.NoError(t, trusts(heard, c, begin.Add(3*authorityLifetime-day)), "on the last day")
	assert.Equal(t, 4, authorities, "thirty years, each authority followed after nine")
	assert.Greater(t, certificates, 3*authorities)
	certs, err := certutil.ParseCertsPEM(c.bundle)
	require.NoError(t, err)
	assert.LessOrEqual(t, len(certs), maxAuthorities)
}

func TestContents_ValidOnesAreKept(t *testing.T) {
	t.Parallel()
	c, news := renew(t, contents{}, begin)
	assert.Equal(t, []string{"authority", "certificate"}, news)
	again, news := renew(t, c, begin.Add(time.Hour))
	assert.Empty(t, news)
	assert.True(t, c.equal(again))
	assert.True(t, c.equal(contentsOf(c.data())), "what is stored is what was made")
}

func TestContents_MissingOrInvalidOnesAreRenewed(t *testing.T) {
	t.Parallel()
	c, _ := renew(t, contents{}, begin)
	other, _ := renew(t, contents{}, begin)
	for name, test := range map[string]struct {
		damage     func(*contents)
		news       []string
		stillGoods bool // clients that know c's bundle accept the new certificate
	}{
		"no certificate":    {func(c *contents) { c.leaf.Certificate = nil }, []string{"certificate"}, true},
		"another's key":     {func(c *contents) { c.leaf.Key = other.leaf.Key }, []string{"certificate"}, true},
		"another's leaf":    {func(c *contents) { c.leaf = other.leaf }, []string{"certificate"}, true},
		"no authority key":  {func(c *contents) { c.authorityKey = nil }, []string{"authority"}, true},
		"another authority": {func(c *contents) { c.authorityKey = other.authorityKey }, []string{"authority"}, true},
		"no bundle":         {func(c *contents) { c.bundle = nil }, []string{"authority", "certificate"}, false},
		"a damaged bundle":  {func(c *contents) { c.bundle = []byte("-----BEGIN") }, []string{"authority", "certificate"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			damaged := c
			test.damage(&damaged)
			healed, news := renew(t, damaged, begin)
			assert.Equal(t, test.news, news)
			require.NoError(t, trusts(healed.bundle, healed, begin))
			if test.stillGoods {
				require.NoError(t, trusts(c.bundle, healed, begin), "clients that have heard of nothing yet")
			}
		})
	}
}

func TestContents_CertificateIsRenewedForOtherNames(t *testing.T) {
	t.Parallel()
	c, _ := renew(t, contents{}, begin)
	renewed, news, err := c.renew([]string{"other." + host, "127.0.0.1"}, begin)
	require.NoError(t, err)
	assert.Equal(t, []string{"certificate"}, news)
	cert, _, err := renewed.leaf.Parse()
	require.NoError(t, err)
	require.NoError(t, cert.VerifyHostname("127.0.0.1"))
	assert.Error(t, cert.VerifyHostname(host))
}
