// SPDX-License-Identifier: Apache-2.0

package inflight

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/time/rate"
	"k8s.io/utils/clock"
	"k8s.io/utils/lru"
)

const (
	// maxTokens is how many accepted tokens are remembered, and maxAddresses the
	// number of client addresses with a rate limit of their own.
	maxTokens, maxAddresses = 1000, 1000
	// tokenTTL is how long a token is remembered after it was accepted last. It is
	// still reviewed as often as ever.
	tokenTTL = time.Hour
	// protocolPrefix begins the WebSocket protocol that carries a token.
	protocolPrefix = "base64url.bearer.authorization.k8s.io."
)

// tokens remembers accepted tokens, by their HMAC, and limits the rate at which others
// are reviewed.
type tokens struct {
	clock     clock.PassiveClock
	key       []byte
	accepted  *lru.Cache // from HMAC to when it is forgotten
	all       *rate.Limiter
	perSecond float64
	addresses *lru.Cache // from address to its *rate.Limiter
}

func newTokens(c clock.PassiveClock, all, perAddress float64) *tokens {
	key := make([]byte, sha256.Size)
	_, _ = rand.Read(key) // it never fails
	return &tokens{
		clock: c, key: key, accepted: lru.New(maxTokens), all: newRateLimiter(all),
		perSecond: perAddress, addresses: lru.New(maxAddresses),
	}
}

func newRateLimiter(perSecond float64) *rate.Limiter {
	return rate.NewLimiter(rate.Limit(perSecond), max(1, int(2*perSecond)))
}

func (t *tokens) sum(token string) [sha256.Size]byte {
	mac := hmac.New(sha256.New, t.key)
	mac.Write([]byte(token))
	return [sha256.Size]byte(mac.Sum(nil))
}

// credential returns a key for a request's token, or else for its client certificate.
func (t *tokens) credential(req *http.Request, token string) string {
	if token == "" && req.TLS != nil && len(req.TLS.PeerCertificates) > 0 {
		token = string(req.TLS.PeerCertificates[0].Raw)
	}
	sum := t.sum(token)
	return string(sum[:])
}

func (t *tokens) known(token string) bool {
	if token == "" {
		return false
	}
	until, found := t.accepted.Get(t.sum(token))
	return found && t.clock.Now().Before(until.(time.Time))
}

func (t *tokens) remember(token string) { t.accepted.Add(t.sum(token), t.clock.Now().Add(tokenTTL)) }

func (t *tokens) forget(token string) { t.accepted.Remove(t.sum(token)) }

// allow returns whether one more unknown token of an address may be reviewed now.
func (t *tokens) allow(address string) bool {
	now := t.clock.Now()
	own, found := t.addresses.Get(address)
	if !found {
		own = newRateLimiter(t.perSecond)
		t.addresses.Add(address, own)
	}
	return own.(*rate.Limiter).AllowN(now, 1) && t.all.AllowN(now, 1)
}

// bearerToken is the request's bearer token, or empty.
func bearerToken(req *http.Request) string {
	scheme, token, _ := strings.Cut(strings.TrimSpace(req.Header.Get("Authorization")), " ")
	if !strings.EqualFold(scheme, "bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

// hasToken returns whether the request has anything that may have to be reviewed.
func hasToken(req *http.Request) bool {
	if req.Header.Get("Authorization") != "" {
		return true
	}
	for _, protocol := range req.Header.Values("Sec-Websocket-Protocol") {
		if strings.Contains(protocol, protocolPrefix) {
			return true
		}
	}
	return false
}

// clientAddress identifies the client of a connection: its IPv4 address, or the /64
// network of its IPv6 address, since a client has any number of addresses in it.
func clientAddress(remote string) string {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		return remote
	}
	address, err := netip.ParseAddr(host)
	if err != nil {
		return host
	}
	if address = address.Unmap().WithZone(""); address.Is4() {
		return address.String()
	}
	prefix, _ := address.Prefix(64) // of IPv6 it never fails
	return prefix.String()
}
