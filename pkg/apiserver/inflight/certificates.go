// SPDX-License-Identifier: Apache-2.0

package inflight

import (
	"crypto/sha256"
	"net/http"
	"time"

	"k8s.io/apiserver/pkg/authentication/authenticator"
	x509request "k8s.io/apiserver/pkg/authentication/request/x509"
	"k8s.io/utils/clock"
	"k8s.io/utils/lru"
)

const (
	// maxCertificates is the number of certificates whose results are cached;
	// verifiedTTL and unverifiedTTL are for how long.
	maxCertificates = 1000
	verifiedTTL     = 10 * time.Second
	unverifiedTTL   = time.Second
)

// NewCertificateVerifier returns a function that verifies a request's client certificate
// against the authorities that options return, and the names, if there are any. It
// follows changes of both within 10 s.
func NewCertificateVerifier(options x509request.VerifyOptionFunc, names x509request.StringSliceProvider, c clock.PassiveClock) func(*http.Request) bool {
	verifier := x509request.NewDynamicCAVerifier(options, authenticator.RequestFunc(func(*http.Request) (*authenticator.Response, bool, error) {
		return nil, true, nil
	}), names)
	type result struct {
		verified bool
		until    time.Time
	}
	results := lru.New(maxCertificates)
	return func(req *http.Request) bool {
		if req.TLS == nil || len(req.TLS.PeerCertificates) == 0 {
			return false
		}
		// In the handshake the client has proved to have the key of this one.
		sum := sha256.Sum256(req.TLS.PeerCertificates[0].Raw)
		if found, ok := results.Get(sum); ok && c.Now().Before(found.(result).until) {
			return found.(result).verified
		}
		_, verified, err := verifier.AuthenticateRequest(req)
		verified = verified && err == nil
		until := c.Now().Add(unverifiedTTL)
		if verified {
			until = c.Now().Add(verifiedTTL)
		}
		results.Add(sum, result{verified, until})
		return verified
	}
}
