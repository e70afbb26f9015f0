// SPDX-License-Identifier: Apache-2.0

package operation

import (
	"net/http"
	"sync"
	"time"

	"golang.org/x/time/rate"
	"k8s.io/utils/clock"

	"metal-stack.io/infrastructure-apiserver/pkg/allocation"
)

// How many operations there may be, of those that are not answered from a record. Each costs the
// metal-api a read and a call, some 10 ms together, and each power action wears hardware.
const (
	objectLimit, namespaceLimit = 10, 120 // per minute, and at once
	// maxBuckets is how many objects, and how many namespaces, are distinguished. Beyond, those
	// that are new share one.
	maxBuckets = 4096
)

// limits are the token buckets of objects and namespaces.
type limits struct {
	clock clock.PassiveClock

	mu                  sync.Mutex
	objects, namespaces buckets
}

func newLimits(c clock.PassiveClock) *limits {
	return &limits{clock: c, objects: newBuckets(objectLimit), namespaces: newBuckets(namespaceLimit)}
}

// acquire takes a token of the object and one of its namespace, or refuses with 429.
func (l *limits) acquire(t Target) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.clock.Now()
	object, namespace := l.objects.of(keyOf(t), now), l.namespaces.of(t.Namespace, now)
	if wait := untilToken(object, now); wait > 0 {
		return allocation.Refuse(http.StatusTooManyRequests, wait, "too many operations of this object: the limit is %d per minute", objectLimit)
	}
	if wait := untilToken(namespace, now); wait > 0 {
		return allocation.Refuse(http.StatusTooManyRequests, wait, "too many operations in namespace %q: the limit is %d per minute", t.Namespace, namespaceLimit)
	}
	object.AllowN(now, 1)
	namespace.AllowN(now, 1)
	return nil
}

// untilToken is how long it takes until a bucket has a token.
func untilToken(b *rate.Limiter, now time.Time) time.Duration {
	r := b.ReserveN(now, 1)
	defer r.CancelAt(now)
	return r.DelayFrom(now)
}

type buckets struct {
	perMinute int
	all       map[string]*rate.Limiter
	// others is shared by what there is no room for.
	others *rate.Limiter
	// evicted is when room was made last.
	evicted time.Time
}

// evictInterval is the least time between two searches for buckets that are full again.
const evictInterval = time.Second

func newBuckets(perMinute int) buckets {
	b := buckets{perMinute: perMinute, all: map[string]*rate.Limiter{}}
	b.others = b.full()
	return b
}

func (b *buckets) full() *rate.Limiter {
	return rate.NewLimiter(rate.Limit(float64(b.perMinute)/time.Minute.Seconds()), b.perMinute)
}

// of returns the bucket of a key. It deletes full buckets when there are too many.
func (b *buckets) of(key string, now time.Time) *rate.Limiter {
	if l := b.all[key]; l != nil {
		return l
	}
	if len(b.all) >= maxBuckets && now.Sub(b.evicted) >= evictInterval {
		b.evicted = now
		for k, l := range b.all {
			if l.TokensAt(now) >= float64(b.perMinute) {
				delete(b.all, k)
			}
		}
	}
	if len(b.all) >= maxBuckets {
		return b.others
	}
	l := b.full()
	b.all[key] = l
	return l
}
