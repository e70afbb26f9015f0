// SPDX-License-Identifier: Apache-2.0

package servingcert

import (
	"bytes"
	"crypto/x509"
	"time"

	certutil "k8s.io/client-go/util/cert"

	"metal-stack.io/infrastructure-apiserver/pkg/pki"
)

// The keys of the Secret. To have the certificate renewed at once, remove tls.crt; the
// CA, ca.key.
const (
	// BundleKey has the CA's certificate, followed by those of its predecessors, which
	// clients still trust.
	BundleKey       = "ca.crt"
	authorityKeyKey = "ca.key"
	certificateKey  = "tls.crt"
	keyKey          = "tls.key"
)

const (
	authorityName = "metalstack-apiserver-ca"
	leafName      = "metalstack-apiserver"

	// A CA is renewed long before it expires. The serving certificate stays signed by
	// the old one until it is renewed itself: by then all clients trust the new CA.
	authorityLifetime = 10 * 365 * 24 * time.Hour
	authorityRenewal  = 365 * 24 * time.Hour
	// leafRenewal is how long before its expiry a certificate is renewed: long enough
	// for administrators to notice that it was not.
	leafLifetime = 90 * 24 * time.Hour
	leafRenewal  = 30 * 24 * time.Hour
	// maxAuthorities is how many CAs are in the bundle at most.
	maxAuthorities = 3
)

// contents are those of the Secret.
type contents struct {
	bundle       []byte
	authorityKey []byte
	leaf         pki.Pair
}

func contentsOf(data map[string][]byte) contents {
	return contents{
		bundle: data[BundleKey], authorityKey: data[authorityKeyKey],
		leaf: pki.Pair{Certificate: data[certificateKey], Key: data[keyKey]},
	}
}

func (c contents) data() map[string][]byte {
	return map[string][]byte{
		BundleKey: c.bundle, authorityKeyKey: c.authorityKey,
		certificateKey: c.leaf.Certificate, keyKey: c.leaf.Key,
	}
}

func (c contents) equal(other contents) bool {
	return bytes.Equal(c.bundle, other.bundle) && bytes.Equal(c.authorityKey, other.authorityKey) &&
		bytes.Equal(c.leaf.Certificate, other.leaf.Certificate) && bytes.Equal(c.leaf.Key, other.leaf.Key)
}

// renew returns the contents with what is missing, invalid or about to expire renewed,
// and the names of what was renewed.
func (c contents) renew(hosts []string, now time.Time) (_ contents, renewed []string, err error) {
	trusted := unexpired(c.bundle, now)
	authority := pki.Pair{Certificate: c.bundle, Key: c.authorityKey}
	if ca, _, err := authority.Parse(); err != nil || now.Add(authorityRenewal).After(ca.NotAfter) {
		if authority, err = pki.NewAuthority(authorityName, now, authorityLifetime); err != nil {
			return c, nil, err
		}
		ca, _, err := authority.Parse()
		if err != nil {
			return c, nil, err
		}
		trusted = append([]*x509.Certificate{ca}, trusted...)
		trusted = trusted[:min(len(trusted), maxAuthorities)]
		c.authorityKey = authority.Key
		renewed = append(renewed, "authority")
		if c.bundle, err = certutil.EncodeCertificates(trusted...); err != nil {
			return c, nil, err
		}
	}
	if !c.leaf.Serves(hosts, trusted, now, now.Add(leafRenewal)) {
		if c.leaf, err = pki.ServingCertificate(authority, leafName, hosts, now, leafLifetime); err != nil {
			return c, nil, err
		}
		renewed = append(renewed, "certificate")
	}
	return c, renewed, nil
}

// unexpired returns the CAs of a bundle that have not expired; none if the bundle is
// malformed.
func unexpired(bundle []byte, now time.Time) []*x509.Certificate {
	certs, err := certutil.ParseCertsPEM(bundle)
	if err != nil {
		return nil
	}
	var valid []*x509.Certificate
	for _, cert := range certs {
		if cert.IsCA && now.Before(cert.NotAfter) {
			valid = append(valid, cert)
		}
	}
	return valid
}
