// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"sync"
	"time"
)

// serviceAddressKey identifies the address that a Service asks for.
type serviceAddressKey struct{ project, network, kind, family, tag string }

// uncertainAddresses are the allocations for Services of which the answer was lost, until
// they can be in flight no longer.
type uncertainAddresses struct {
	mu    sync.Mutex
	calls map[serviceAddressKey]time.Time
}

func (u *uncertainAddresses) add(key serviceAddressKey, until time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.calls == nil {
		u.calls = map[serviceAddressKey]time.Time{}
	}
	u.calls[key] = until
}

func (u *uncertainAddresses) forget(key serviceAddressKey) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.calls, key)
}

// until reports whether a call may still be in flight, and until when; what is over is
// forgotten.
func (u *uncertainAddresses) until(key serviceAddressKey, now time.Time) (time.Time, bool) {
	return u.last(now, func(k serviceAddressKey) bool { return k == key })
}

// ofServices is until for all Services of a cluster.
func (u *uncertainAddresses) ofServices(c *serviceCluster, now time.Time) (time.Time, bool) {
	return u.last(now, func(k serviceAddressKey) bool { return k.project == c.project && c.isServiceTag(k.tag) })
}

func (u *uncertainAddresses) last(now time.Time, is func(serviceAddressKey) bool) (until time.Time, uncertain bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for key, end := range u.calls {
		switch {
		case !now.Before(end):
			delete(u.calls, key)
		case is(key) && end.After(until):
			until, uncertain = end, true
		}
	}
	return until, uncertain
}
