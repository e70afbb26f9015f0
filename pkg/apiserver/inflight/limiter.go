// Package inflight bounds the requests of clients that connect to the server
// directly, before these are authenticated. The kube-apiserver's own requests,
// which carry its front-proxy certificate, pass unbounded: it has priority and
// fairness, and the limits of the generic server come after.
//
// It must never authenticate or authorize anybody: what it takes for a known
// client only chooses the share from which the request is served.
package inflight

import (
	"context"
	"net/http"
	"strings"

	"k8s.io/utils/clock"
)

// Limits are how many direct requests are served at a time. A request counts
// until its handler and its TokenReview have ended, also when its client has
// gone away before.
type Limits struct {
	// Unknown bounds requests without a verified certificate and without a
	// token that was accepted before, and UnknownPerAddress those of one
	// client address (IPv6: of one /64 network).
	Unknown, UnknownPerAddress int
	// TokensPerSecond bounds the tokens that are looked up for unknown clients,
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

// Options are what a Limiter is made of.
type Options struct {
	// Limits; each of them must be positive.
	Limits Limits
	// Trusted tells whether a request is the kube-apiserver's. Verified tells
	// whether its client certificate is verified by any authority that counts.
	Trusted, Verified func(*http.Request) bool
	// LongRunning tells whether a request is a watch or the like.
	LongRunning func(*http.Request) bool
	// Clock defaults to the real one.
	Clock clock.PassiveClock
}

// Limiter bounds direct requests. Its parts stand at four places: Listener
// under TLS, Before in front of all other handlers, Authenticator around the
// authenticator, and Inside around the innermost handler.
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

// reservationKey is the context key of a request's ticket.
type reservationKey struct{}

// WithLimits returns the handler in front of next. Health probes without
// credentials are answered by health, and never by next; it has to be cheap.
func (l *Limiter) WithLimits(next, health http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if l.Trusted(req) {
			l.connections.trust(req.RemoteAddr)
			next.ServeHTTP(w, req)
			return
		}
		verified := l.Verified(req)
		if !verified && !hasToken(req) && isProbe(req) {
			if !l.probes.tryAcquire(req.RemoteAddr) {
				reject(w, "probes")
				return
			}
			defer l.probes.release(req.RemoteAddr)
			health.ServeHTTP(w, req)
			return
		}
		t, why := l.admit(req, verified)
		if t == nil {
			reject(w, why)
			return
		}
		defer t.release()
		next.ServeHTTP(w, req.WithContext(context.WithValue(req.Context(), reservationKey{}, t)))
	})
}

// admit takes a slot for a request, or tells which share has none.
func (l *Limiter) admit(req *http.Request, verified bool) (t *reservation, why string) {
	if token := bearerToken(req); verified || l.tokens.known(token) {
		give, share := l.acquireKnown(req, token)
		if give == nil {
			return nil, share
		}
		return newReservation(give), ""
	}
	address := clientAddress(req.RemoteAddr)
	if !l.addresses.tryAcquire(address) {
		return nil, "address"
	}
	if !l.unknown.tryAcquire() {
		l.addresses.release(address)
		return nil, "unknown"
	}
	give := func() {
		l.unknown.release()
		l.addresses.release(address)
	}
	if hasToken(req) && !l.tokens.allow(address) {
		give()
		return nil, "tokens"
	}
	return newReservation(give), ""
}

// acquireKnown takes a slot for a known client's request with a token, or none. It
// returns what gives the slot back, nil if there is none, and the share.
func (l *Limiter) acquireKnown(req *http.Request, token string) (give func(), share string) {
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

func (l *Limiter) acquireMetrics(req *http.Request, token string) (give func()) {
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

// metricsPath is where Prometheus reads.
const metricsPath = "/metrics"

// retryAfterSeconds is when refused clients shall come again.
const retryAfterSeconds = "1"

// reject answers a request that has no slot. Without a body the answer never
// waits for the client to read it.
func reject(w http.ResponseWriter, share string) {
	rejectedTotal.WithLabelValues(share).Inc()
	w.Header().Set("Retry-After", retryAfterSeconds)
	w.Header().Set("Content-Length", "0")
	w.WriteHeader(http.StatusTooManyRequests)
}

// isProbe is whether a request is for health.
func isProbe(req *http.Request) bool {
	for _, path := range HealthPaths {
		if rest, ok := strings.CutPrefix(req.URL.Path, path); ok && (rest == "" || rest[0] == '/') {
			return true
		}
	}
	return false
}

// HealthPaths are where health is told.
var HealthPaths = []string{"/healthz", "/livez", "/readyz"}
