// SPDX-License-Identifier: Apache-2.0

// Package standalone is what a server needs without a Kubernetes cluster: a certificate
// authority of its own, one administrator, a kubeconfig with the administrator's
// certificate, an authenticator and an authorizer for the administrator only, and what
// kubectl requests of any cluster. It must never accept another user.
package standalone

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"k8s.io/apiserver/pkg/authentication/user"

	"metal-stack.io/infrastructure-apiserver/pkg/pki"
)

const (
	authorityLifetime = 10 * 365 * 24 * time.Hour
	leafLifetime      = 365 * 24 * time.Hour
	// renewBefore is the minimum remaining lifetime of a certificate that is reused: a
	// server can run for that long without a restart.
	renewBefore = 90 * 24 * time.Hour

	// AdminName is the common name of the administrator's certificate.
	AdminName = "metalstack-admin"
)

// Authority is a certificate authority that is stored in a directory.
type Authority struct {
	dir  string
	now  time.Time
	pair pki.Pair
	cert *x509.Certificate
}

// OpenAuthority reads the authority in dir, or generates one.
func OpenAuthority(dir string) (*Authority, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	a := &Authority{dir: dir, now: time.Now()}
	pair, err := a.load("ca")
	if errors.Is(err, fs.ErrNotExist) {
		if pair, err = pki.NewAuthority("metalstack-apiserver-ca", a.now, authorityLifetime); err == nil {
			err = a.save("ca", pair)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("failed to load the certificate authority in %s: %w", dir, err)
	}
	a.pair = pair
	if a.cert, _, err = pair.Parse(); err != nil {
		return nil, fmt.Errorf("failed to load the certificate authority in %s: %w", dir, err)
	}
	if a.now.After(a.cert.NotAfter) {
		return nil, fmt.Errorf("certificate authority in %s expired on %s: remove ca.crt and ca.key to have a new one generated", dir, a.cert.NotAfter.Format(time.DateOnly))
	}
	return a, nil
}

// Bundle is the PEM-encoded CA bundle that clients must trust.
func (a *Authority) Bundle() []byte { return a.pair.Certificate }

// Serving returns the paths of a serving certificate for hosts (names and addresses). It
// is generated if the one in the directory does not cover them or is about to expire.
func (a *Authority) Serving(hosts ...string) (certFile, keyFile string, err error) {
	certFile, keyFile = a.path("server", ".crt"), a.path("server", ".key")
	// Whatever is wrong with the stored one: another is cheap to generate.
	if pair, err := a.load("server"); err == nil && pair.Serves(hosts, []*x509.Certificate{a.cert}, a.now, a.now.Add(renewBefore)) {
		return certFile, keyFile, nil
	}
	pair, err := pki.ServingCertificate(a.pair, "metalstack-apiserver", hosts, a.now, leafLifetime)
	if err != nil {
		return "", "", err
	}
	return certFile, keyFile, a.save("server", pair)
}

// Admin returns a new client certificate of the administrators' group. It is not stored
// in the directory.
func (a *Authority) Admin() (pki.Pair, error) {
	return pki.ClientCertificate(a.pair, AdminName, []string{user.SystemPrivilegedGroup}, a.now, leafLifetime)
}

func (a *Authority) path(name, ext string) string { return filepath.Join(a.dir, name+ext) }

func (a *Authority) load(name string) (pair pki.Pair, err error) {
	if pair.Certificate, err = os.ReadFile(a.path(name, ".crt")); err != nil {
		return pki.Pair{}, err
	}
	pair.Key, err = os.ReadFile(a.path(name, ".key"))
	return pair, err
}

// save writes the key first: load takes a certificate for that of a complete pair.
func (a *Authority) save(name string, pair pki.Pair) error {
	if err := writePrivate(a.path(name, ".key"), pair.Key); err != nil {
		return err
	}
	return writePrivate(a.path(name, ".crt"), pair.Certificate)
}

// writePrivate atomically replaces a file that only its owner may read.
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
