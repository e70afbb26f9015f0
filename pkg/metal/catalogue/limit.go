// SPDX-License-Identifier: Apache-2.0

package catalogue

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/time/rate"
	"k8s.io/utils/clock"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// What the lookups of single entities may come to. Only those count that the
// metal-api is asked for: what is cached, or being read already, costs nothing.
// Lists are shared by all and have their own least gap.
const (
	// lookupsPerRequest is more than a valid spec needs: twelve networks of a firewall, the
	// two of a cluster, twelve of its part of the metal-api, a machine, the address of the
	// control plane and sixteen source addresses.
	lookupsPerRequest = 48
	// Of one namespace: a restore of some hundred objects, each with a machine of
	// its own, waits at the limit, and its client comes again.
	lookupRate  = 2
	lookupBurst = 100
	// Of all namespaces together. A get takes about 4 ms of the metal-api's time,
	// so that is at most 8 % of it.
	serverLookupRate  = 20
	serverLookupBurst = 400
	// Of projects, by all reads of them together: they are read again and again, so they do not
	// share what specs are validated with. A get takes about 4 ms, so that is at most 2 %.
	projectRate  = 5
	projectBurst = 200
	// maxNamespaces is how many namespaces are distinguished.
	maxNamespaces = 1024
)

// errRequestLimit is the cause where one request asks for too much.
var errRequestLimit = fmt.Errorf("lookup limit of one request exceeded (at most %d networks, machines and addresses)", lookupsPerRequest)

// errServerLimit is the cause where all namespaces together ask for too much.
var errServerLimit = errors.New("server-wide lookup limit exceeded: retry")

// lookupAllowance is what one request may still look up.
type lookupAllowance struct {
	namespace string

	mu   sync.Mutex
	left int
}

type lookupAllowanceKey struct{}

// WithAllowance returns a context for one request of a namespace, whose lookups
// count. Those of a context without an allowance are not limited.
func (c *Catalogue) WithAllowance(ctx context.Context, namespace string) context.Context {
	return context.WithValue(ctx, lookupAllowanceKey{}, &lookupAllowance{namespace: namespace, left: lookupsPerRequest})
}

// lookupLimits are the token buckets.
type lookupLimits struct {
	clock clock.PassiveClock
	all   *rate.Limiter

	mu          sync.Mutex
	byNamespace map[string]*rate.Limiter
}

func newLookupLimits(c clock.PassiveClock) *lookupLimits {
	return &lookupLimits{clock: c, all: rate.NewLimiter(serverLookupRate, serverLookupBurst), byNamespace: map[string]*rate.Limiter{}}
}

// acquire takes a token for one get. Where the namespace has none left, the error
// is a *metal.LookupLimitError: its requests are refused. Where all together have none
// left, it is not: requests of other namespaces must not be refused for that.
func (l *lookupLimits) acquire(ctx context.Context) error {
	a, limited := ctx.Value(lookupAllowanceKey{}).(*lookupAllowance)
	if l == nil || !limited {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.left == 0 {
		return errRequestLimit
	}
	now := l.clock.Now()
	if own := l.namespaceLimiter(a.namespace, now); own != nil {
		r := own.ReserveN(now, 1)
		if wait := r.DelayFrom(now); wait > 0 {
			r.CancelAt(now)
			return &metal.LookupLimitError{Namespace: a.namespace, Rate: lookupRate, Burst: lookupBurst, RetryAfter: wait}
		}
	}
	if !l.all.AllowN(now, 1) {
		return errServerLimit
	}
	a.left--
	return nil
}

// namespaceLimiter returns the bucket of a namespace. If there are too many, those go that are
// full again; if none is, it returns nil, and only the limit of all is left.
func (l *lookupLimits) namespaceLimiter(namespace string, now time.Time) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	if b := l.byNamespace[namespace]; b != nil {
		return b
	}
	if len(l.byNamespace) >= maxNamespaces {
		for n, b := range l.byNamespace {
			if b.TokensAt(now) >= lookupBurst {
				delete(l.byNamespace, n)
			}
		}
	}
	if len(l.byNamespace) >= maxNamespaces {
		return nil
	}
	b := rate.NewLimiter(lookupRate, lookupBurst)
	l.byNamespace[namespace] = b
	return b
}
