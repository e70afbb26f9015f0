// Package standalone is what a server needs when there is no Kubernetes around
// it: a certificate authority of its own, one administrator, a kubeconfig that
// carries the administrator's certificate, and an authenticator and authorizer
// that know nobody else.
package standalone

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"k8s.io/apiserver/pkg/authentication/user"
	certutil "k8s.io/client-go/util/cert"
	"k8s.io/client-go/util/keyutil"
)

const (
	authorityLifetime = 10 * 365 * 24 * time.Hour
	leafLifetime      = 365 * 24 * time.Hour
	// renewBefore is how much of its lifetime a certificate that is used again
	// must have left: a server that runs for months needs no restart for it.
	renewBefore = 90 * 24 * time.Hour

	// AdminName is the common name of the administrator's certificate.
	AdminName = "metalstack-admin"
)

// Pair is a certificate and its key, PEM-encoded.
type Pair struct {
	Certificate, Key []byte
}

// Authority is a certificate authority kept in a directory.
type Authority struct {
	dir  string
	now  time.Time
	pair Pair
	cert *x509.Certificate
	key  crypto.Signer
}

// OpenAuthority reads the authority that dir holds, or makes one.
func OpenAuthority(dir string) (*Authority, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	a := &Authority{dir: dir, now: time.Now()}
	pair, err := a.load("ca")
	if errors.Is(err, fs.ErrNotExist) {
		if pair, err = a.create(); err == nil {
			err = a.save("ca", pair)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("certificate authority in %s: %w", dir, err)
	}
	a.pair = pair
	if a.cert, a.key, err = parse(pair); err != nil {
		return nil, fmt.Errorf("certificate authority in %s: %w", dir, err)
	}
	if a.now.After(a.cert.NotAfter) {
		return nil, fmt.Errorf("certificate authority in %s expired on %s: remove ca.crt and ca.key to have a new one made", dir, a.cert.NotAfter.Format(time.DateOnly))
	}
	return a, nil
}

// Bundle is what clients must trust, PEM-encoded.
func (a *Authority) Bundle() []byte { return a.pair.Certificate }

// Serving returns the paths of a serving certificate for hosts (names and
// addresses), made anew when the one in the directory does not cover them or
// is about to expire.
func (a *Authority) Serving(hosts ...string) (certFile, keyFile string, err error) {
	certFile, keyFile = a.path("server", ".crt"), a.path("server", ".key")
	if pair, err := a.load("server"); err == nil && a.covers(pair, hosts) {
		return certFile, keyFile, nil
	}
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: "metalstack-apiserver"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	pair, err := a.issue(template)
	if err != nil {
		return "", "", err
	}
	return certFile, keyFile, a.save("server", pair)
}

// Admin returns a new client certificate of the group that may do everything.
// It is not kept here: who has it is the administrator.
func (a *Authority) Admin() (Pair, error) {
	return a.issue(&x509.Certificate{
		Subject:     pkix.Name{CommonName: AdminName, Organization: []string{user.SystemPrivilegedGroup}},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
}

func (a *Authority) create() (Pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Pair{}, err
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "metalstack-apiserver-ca"},
		NotBefore:             a.now.Add(-time.Hour),
		NotAfter:              a.now.Add(authorityLifetime),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	return sign(template, template, key, key)
}

func (a *Authority) issue(template *x509.Certificate) (Pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Pair{}, err
	}
	template.NotBefore = a.now.Add(-time.Hour)
	template.NotAfter = a.now.Add(leafLifetime)
	if template.NotAfter.After(a.cert.NotAfter) {
		template.NotAfter = a.cert.NotAfter
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.BasicConstraintsValid = true
	return sign(template, a.cert, key, a.key)
}

// covers is false for whatever is wrong with a kept certificate: it is cheap
// to make another.
func (a *Authority) covers(pair Pair, hosts []string) bool {
	cert, _, err := parse(pair)
	if err != nil || a.now.Add(renewBefore).After(cert.NotAfter) {
		return false
	}
	if cert.CheckSignatureFrom(a.cert) != nil {
		return false
	}
	return !slices.ContainsFunc(hosts, func(host string) bool { return cert.VerifyHostname(host) != nil })
}

func (a *Authority) path(name, ext string) string { return filepath.Join(a.dir, name+ext) }

func (a *Authority) load(name string) (pair Pair, err error) {
	if pair.Certificate, err = os.ReadFile(a.path(name, ".crt")); err != nil {
		return Pair{}, err
	}
	pair.Key, err = os.ReadFile(a.path(name, ".key"))
	return pair, err
}

// save writes the key first: a certificate without its key would be taken for
// a pair by load.
func (a *Authority) save(name string, pair Pair) error {
	if err := writePrivate(a.path(name, ".key"), pair.Key); err != nil {
		return err
	}
	return writePrivate(a.path(name, ".crt"), pair.Certificate)
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

func parse(pair Pair) (*x509.Certificate, crypto.Signer, error) {
	certs, err := certutil.ParseCertsPEM(pair.Certificate)
	if err != nil {
		return nil, nil, err
	}
	key, err := keyutil.ParsePrivateKeyPEM(pair.Key)
	if err != nil {
		return nil, nil, err
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, nil, fmt.Errorf("a key of type %T cannot sign", key)
	}
	public, ok := certs[0].PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(signer.Public()) {
		return nil, nil, errors.New("the key is not the certificate's")
	}
	return certs[0], signer, nil
}

// writePrivate replaces a file that only its owner may read, whole or not at all.
func writePrivate(path string, content []byte) error {
	// CreateTemp makes files of mode 0600.
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	if _, err := tmp.Write(content); err != nil {
		tmp.Close()
		return err
	}
	if err := tmp.Close(); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}
