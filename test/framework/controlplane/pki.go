// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"k8s.io/client-go/util/cert"
	"k8s.io/client-go/util/keyutil"
)

// Files of the PKI, below the control plane's directory.
const (
	caFile             = "ca.crt"
	frontProxyCAFile   = "front-proxy-ca.crt"
	frontProxyFile     = "front-proxy-client" // .crt, .key
	servingFile        = "kube-apiserver"     // .crt, .key
	serviceAccountFile = "service-accounts.key"

	// frontProxyName is whom an aggregated server trusts to name users.
	frontProxyName = "front-proxy-client"
)

// pki is what a cluster's certificates come from: one authority for servers
// and users, another one for the front proxy, as in a production cluster.
type pki struct {
	ca authority
}

type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func newPKI(dir string, workload *Workload) (*pki, error) {
	hosts := []string{"127.0.0.1", "localhost", "kubernetes.default.svc"}
	ca, err := newAuthority("kubernetes")
	if workload != nil {
		ca, err = parseAuthority(workload.CA, workload.CAKey)
		hosts = append(hosts, workload.Hosts...)
	}
	if err != nil {
		return nil, err
	}
	frontProxy, err := newAuthority("front-proxy")
	if err != nil {
		return nil, err
	}
	if err := write(dir, caFile, ca.bundle()); err != nil {
		return nil, err
	}
	if err := write(dir, frontProxyCAFile, frontProxy.bundle()); err != nil {
		return nil, err
	}
	if err := frontProxy.issueTo(dir, frontProxyFile, cert.Config{CommonName: frontProxyName}); err != nil {
		return nil, err
	}
	if err := ca.issueTo(dir, servingFile, servingConfig(hosts...)); err != nil {
		return nil, err
	}
	key, err := keyutil.MakeEllipticPrivateKeyPEM()
	if err != nil {
		return nil, err
	}
	if workload != nil {
		key = workload.ServiceAccountKey
	}
	return &pki{ca: ca}, write(dir, serviceAccountFile, key)
}

// ServingCertificate is a certificate and its key, PEM, for a server under
// these names and addresses. CA verifies it.
func (c *ControlPlane) ServingCertificate(hosts ...string) (certificate, key []byte) {
	certificate, key, err := c.pki.ca.issue(servingConfig(hosts...))
	must(err)
	return certificate, key
}

// CA is the bundle, PEM, that verifies the kube-apiserver and what
// ServingCertificate makes.
func (c *ControlPlane) CA() []byte { return c.pki.ca.bundle() }

func servingConfig(hosts ...string) cert.Config {
	config := cert.Config{CommonName: hosts[0]}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			config.AltNames.IPs = append(config.AltNames.IPs, ip)
		} else {
			config.AltNames.DNSNames = append(config.AltNames.DNSNames, host)
		}
	}
	return config
}

func newAuthority(name string) (authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return authority{}, err
	}
	certificate, err := cert.NewSelfSignedCACert(cert.Config{CommonName: name}, key)
	return authority{cert: certificate, key: key}, err
}

func parseAuthority(certificate, key []byte) (authority, error) {
	certificates, err := cert.ParseCertsPEM(certificate)
	if err != nil {
		return authority{}, err
	}
	private, err := keyutil.ParsePrivateKeyPEM(key)
	if err != nil {
		return authority{}, err
	}
	signer, ok := private.(crypto.Signer)
	if !ok {
		return authority{}, fmt.Errorf("a key of type %T cannot sign", private)
	}
	return authority{cert: certificates[0], key: signer}, nil
}

func (a authority) bundle() []byte {
	bundle, err := cert.EncodeCertificates(a.cert)
	must(err)
	return bundle
}

// issue makes a certificate for servers and clients alike, and its key.
func (a authority) issue(config cert.Config) (certificate, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 64))
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: config.CommonName, Organization: config.Organization},
		DNSNames:     config.AltNames.DNSNames,
		IPAddresses:  config.AltNames.IPs,
		NotBefore:    a.cert.NotBefore,
		NotAfter:     time.Now().Add(24 * time.Hour),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, a.cert, private.Public(), a.key)
	if err != nil {
		return nil, nil, err
	}
	issued, err := x509.ParseCertificate(raw)
	if err != nil {
		return nil, nil, err
	}
	if certificate, err = cert.EncodeCertificates(issued); err != nil {
		return nil, nil, err
	}
	key, err = keyutil.MarshalPrivateKeyToPEM(private)
	return certificate, key, err
}

func (a authority) issueTo(dir, name string, config cert.Config) error {
	certificate, key, err := a.issue(config)
	if err != nil {
		return err
	}
	if err := write(dir, name+".crt", certificate); err != nil {
		return err
	}
	return write(dir, name+".key", key)
}

func write(dir, name string, data []byte) error {
	return os.WriteFile(filepath.Join(dir, name), data, 0o600)
}

// must is for what fails only on a machine without randomness or disk space.
func must(err error) {
	if err != nil {
		panic(fmt.Sprintf("controlplane: %v", err))
	}
}
