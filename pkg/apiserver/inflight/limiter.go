// SPDX-License-Identifier: Apache-2.0

// Package inflight limits the requests of clients that connect to the server
// directly, before they are authenticated. The kube-apiserver's own requests, which
// have its front-proxy certificate, are not limited: it has priority and fairness, and
// the limits of the generic server follow.
//
// It must never authenticate or authorize a client: whether it is known only selects
// the share in which the request is served.
package inflight

import (
	"context"
	"net/http"
	"strings"

	"k8s.io/utils/clock"
)

// Limits are the numbers of concurrent direct requests. A request counts until its
// handler and its TokenReview have ended, also when its client has disconnected.
type Limits struct {
	// Unknown bounds requests without a verified certificate and without a
	// token that was accepted before, and UnknownPerAddress those of one
	// client address (IPv6: of one /64 network).
	Unknown, UnknownPerAddress int
	// TokensPerSecond limits the tokens that are reviewed for unknown clients,
	// and TokensPerAddress those of one client address. Twice as many may come
	// at once.
	TokensPerSecond, TokensPerAddress float64
	// Known bounds requests with a verified certificate, or a token that was
	// accepted before. Watches bounds their long-running requests, which do not
	// count for Known, and Metrics their requests for /metrics, which do not
	// either, and MetricsPerClient those of one token or certificate.
	Known, Watches, Metrics, MetricsPerClient int
	// ProbesPerConnection bounds health probes without credentials on one
	// connection.
	ProbesPerConnection int
	// Connections bounds the connections that have not carried a request of the
	// kube-apiserver. Beyond it, one is closed of the client address that has
	// most of them. A client that has more requests than streams on a connection
	// opens many connections at once, so it must not be small.
	Connections int
}

// DefaultLimits are the limits of a server that does not set its own.
var DefaultLimits = Limits{
	Unknown: 20, UnknownPerAddress: 5,
	TokensPerSecond: 50, TokensPerAddress: 25,
	Known: 50, Watches: 200, Metrics: 5, MetricsPerClient: 2,
	ProbesPerConnection: 2,
	Connections:         1000,
}

// Options configure a Limiter.
type Options struct {
	// Limits; each of them must be positive.
	Limits Limits
	// FromKubeAPIServer returns whether a request was sent by the kube-apiserver,
	// HasClientCertificate whether it has a client certificate of a trusted authority.
	FromKubeAPIServer, HasClientCertificate func(*http.Request) bool
	// LongRunning returns whether a request is long-running, as a watch is.
	LongRunning func(*http.Request) bool
	// Clock defaults to the real one.
	Clock clock.PassiveClock
}

// Limiter limits direct requests. Its parts are at four places: Listener under TLS,
// WithLimits in front of all other handlers, Authenticator around the authenticator,
// and WithRetainedSlot around the innermost handler.
type Limiter struct {
	Options
	tokens      *tokens
	connections *connections
	addresses   keyedLimit
	probes      keyedLimit
	scrapes     keyedLimit

	unknown, known, watches, metrics slots
}

// New returns a Limiter.
func New(o Options) *Limiter {
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	registerMetrics()
	return &Limiter{
		Options: o,
		tokens:  newTokens(o.Clock, o.Limits.TokensPerSecond, o.Limits.TokensPerAddress), connections: newConnections(o.Limits.Connections),
		addresses: keyedLimit{limit: o.Limits.UnknownPerAddress}, probes: keyedLimit{limit: o.Limits.ProbesPerConnection},
		scrapes: keyedLimit{limit: o.Limits.MetricsPerClient},
		unknown: make(slots, o.Limits.Unknown), known: make(slots, o.Limits.Known),
		watches: make(slots, o.Limits.Watches), metrics: make(slots, o.Limits.Metrics),
	}
}

// reservationKey is the context key of a request's reservation.
type reservationKey struct{}

// WithLimits returns the handler in front of next. Health probes without
// credentials are answered by health, and never by next; it has to be cheap.
func (l *Limiter) WithLimits(next, health http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if l.FromKubeAPIServer(req) {
			l.connections.trust(req.RemoteAddr)
			next.ServeHTTP(w, req)
			return
		}
		hasCertificate := l.HasClientCertificate(req)
		if !hasCertificate && !hasToken(req) && isProbe(req) {
			if !l.probes.tryAcquire(req.RemoteAddr) {
				reject(w, "probes")
				return
			}
			defer l.probes.release(req.RemoteAddr)
			health.ServeHTTP(w, req)
			return
		}
		r, share := l.acquire(req, hasCertificate)
		if r == nil {
			reject(w, share)
			return
		}
		defer r.release()
		next.ServeHTTP(w, req.WithContext(context.WithValue(req.Context(), reservationKey{}, r)))
	})
}

// acquire acquires a slot for a request, or returns which share has none.
func (l *Limiter) acquire(req *http.Request, hasCertificate bool) (r *reservation, share string) {
	if token := bearerToken(req); hasCertificate || l.tokens.known(token) {
		release, share := l.acquireKnown(req, token)
		if release == nil {
			return nil, share
		}
		return newReservation(release), ""
	}
	address := clientAddress(req.RemoteAddr)
	if !l.addresses.tryAcquire(address) {
		return nil, "address"
	}
	if !l.unknown.tryAcquire() {
		l.addresses.release(address)
		return nil, "unknown"
	}
	release := func() {
		l.unknown.release()
		l.addresses.release(address)
	}
	if hasToken(req) && !l.tokens.allow(address) {
		release()
		return nil, "tokens"
	}
	return newReservation(release), ""
}

// acquireKnown acquires a slot for the request of a known client; token may be empty. It
// returns the function that releases it, or nil if there is no slot, and the share.
func (l *Limiter) acquireKnown(req *http.Request, token string) (release func(), share string) {
	slots, share := l.known, "known"
	switch {
	case req.URL.Path == metricsPath:
		return l.acquireMetrics(req, token), "metrics"
	case l.LongRunning(req):
		slots, share = l.watches, "watches"
	}
	if !slots.tryAcquire() {
		return nil, share
	}
	return slots.release, share
}

func (l *Limiter) acquireMetrics(req *http.Request, token string) (release func()) {
	client := l.tokens.credential(req, token)
	if !l.scrapes.tryAcquire(client) {
		return nil
	}
	if !l.metrics.tryAcquire() {
		l.scrapes.release(client)
		return nil
	}
	return func() {
		l.metrics.release()
		l.scrapes.release(client)
	}
}

// metricsPath is what Prometheus scrapes.
const metricsPath = "/metrics"

// retryAfterSeconds is the Retry-After of rejected requests.
const retryAfterSeconds = "1"

// reject answers a request that has no slot. The response has no body, so that it
// never waits for the client to read it.
func reject(w http.ResponseWriter, share string) {
	rejectedTotal.WithLabelValues(share).Inc()
	w.Header().Set("Retry-After", retryAfterSeconds)
	w.Header().Set("Content-Length", "0")
	w.WriteHeader(http.StatusTooManyRequests)
}

// isProbe returns whether a request is a health probe.
func isProbe(req *http.Request) bool {
	for _, path := range HealthPaths {
		if rest, ok := strings.CutPrefix(req.URL.Path, path); ok && (rest == "" || rest[0] == '/') {
			return true
		}
	}
	return false
}

// HealthPaths are the paths of health checks.
var HealthPaths = []string{"/healthz", "/livez", "/readyz"}
