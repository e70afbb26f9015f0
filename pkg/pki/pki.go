// SPDX-License-Identifier: Apache-2.0

// Package pki generates certificate authorities and the certificates that they sign. It
// must never store anything, or use a clock other than the caller's.
package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net"
	"slices"
	"time"

	certutil "k8s.io/client-go/util/cert"
	"k8s.io/client-go/util/keyutil"
)

// skew is how long before now certificates become valid: clocks differ.
const skew = time.Hour

// Pair is a certificate and its key, PEM-encoded.
type Pair struct {
	Certificate, Key []byte
}

// Parse returns the first certificate and the key, if they match.
func (p Pair) Parse() (*x509.Certificate, crypto.Signer, error) {
	certs, err := certutil.ParseCertsPEM(p.Certificate)
	if err != nil {
		return nil, nil, err
	}
	key, err := keyutil.ParsePrivateKeyPEM(p.Key)
	if err != nil {
		return nil, nil, err
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, nil, fmt.Errorf("key of type %T cannot sign", key)
	}
	public, ok := certs[0].PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(signer.Public()) {
		return nil, nil, errors.New("key does not belong to the certificate")
	}
	return certs[0], signer, nil
}

// NewAuthority generates a certificate authority.
func NewAuthority(name string, now time.Time, lifetime time.Duration) (Pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Pair{}, err
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             now.Add(-skew),
		NotAfter:              now.Add(lifetime),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	return sign(template, template, key, key)
}

// ServingCertificate generates a server certificate for hosts, which are names and
// addresses, signed by the authority. It expires no later than the authority.
func ServingCertificate(authority Pair, name string, hosts []string, now time.Time, lifetime time.Duration) (Pair, error) {
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: name},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	return issue(authority, template, now, lifetime)
}

// ClientCertificate generates a client certificate of a user, signed by the authority.
func ClientCertificate(authority Pair, user string, groups []string, now time.Time, lifetime time.Duration) (Pair, error) {
	return issue(authority, &x509.Certificate{
		Subject:     pkix.Name{CommonName: user, Organization: groups},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, now, lifetime)
}

// Serves returns whether the pair is a server certificate for all hosts, signed by one
// of the authorities, and valid from now to until.
func (p Pair) Serves(hosts []string, authorities []*x509.Certificate, now, until time.Time) bool {
	cert, _, err := p.Parse()
	if err != nil || now.Before(cert.NotBefore) || until.After(cert.NotAfter) {
		return false
	}
	signed := slices.ContainsFunc(authorities, func(ca *x509.Certificate) bool { return cert.CheckSignatureFrom(ca) == nil })
	return signed && !slices.ContainsFunc(hosts, func(host string) bool { return cert.VerifyHostname(host) != nil })
}

func issue(authority Pair, template *x509.Certificate, now time.Time, lifetime time.Duration) (Pair, error) {
	parent, parentKey, err := authority.Parse()
	if err != nil {
		return Pair{}, fmt.Errorf("failed to parse the certificate authority: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Pair{}, err
	}
	template.NotBefore, template.NotAfter = now.Add(-skew), now.Add(lifetime)
	if template.NotAfter.After(parent.NotAfter) {
		template.NotAfter = parent.NotAfter
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.BasicConstraintsValid = true
	return sign(template, parent, key, parentKey)
}

func sign(template, parent *x509.Certificate, key, parentKey crypto.Signer) (Pair, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return Pair{}, err
	}
	template.SerialNumber = serial
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), parentKey)
	if err != nil {
		return Pair{}, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return Pair{}, err
	}
	certPEM, err := certutil.EncodeCertificates(cert)
	if err != nil {
		return Pair{}, err
	}
	keyPEM, err := keyutil.MarshalPrivateKeyToPEM(key)
	if err != nil {
		return Pair{}, err
	}
	return Pair{Certificate: certPEM, Key: keyPEM}, nil
}
