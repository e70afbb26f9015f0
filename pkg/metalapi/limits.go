// SPDX-License-Identifier: Apache-2.0

package metalapi

import (
	"fmt"
	"net/http"
	"sync"
	"time"

	"golang.org/x/time/rate"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
)

// What each cluster may ask for per second, and how much at once. metal-ccm makes two
// requests a minute, some for each Node every other minute, and ten for a new Service.
const (
	requestRate, requestBurst = 20, 200
	writeRate, writeBurst     = 1, 30
)

// limits are the limits of all clusters.
type limits struct {
	clock clock.Clock

	mu       sync.Mutex
	clusters map[types.NamespacedName]*clusterLimits
}

type clusterLimits struct {
	requests, writes *rate.Limiter
	used             time.Time
}

// limitsIdle is after what time without requests all that a cluster spent is there again.
const limitsIdle = time.Minute

func newLimits(c clock.Clock) *limits {
	return &limits{clock: c, clusters: map[types.NamespacedName]*clusterLimits{}}
}

// take counts a request, or refuses it.
func (l *limits) take(cluster Cluster, isWrite bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.clock.Now()
	c := l.clusters[cluster.NamespacedName]
	if c == nil {
		for other, limits := range l.clusters {
			if now.Sub(limits.used) > limitsIdle {
				delete(l.clusters, other)
			}
		}
		c = &clusterLimits{requests: rate.NewLimiter(requestRate, requestBurst), writes: rate.NewLimiter(writeRate, writeBurst)}
		l.clusters[cluster.NamespacedName] = c
	}
	c.used = now
	if !c.requests.AllowN(now, 1) {
		return tooMany("requests", requestRate, requestBurst)
	}
	if isWrite && !c.writes.AllowN(now, 1) {
		return tooMany("changes of addresses", writeRate, writeBurst)
	}
	return nil
}

func tooMany(what string, perSecond, burst int) error {
	return &limitedError{apiError{http.StatusTooManyRequests, fmt.Sprintf("too many %s for one cluster: the limit is %d per second, with a burst of %d", what, perSecond, burst)}, time.Second}
}
