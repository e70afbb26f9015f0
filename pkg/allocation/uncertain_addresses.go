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
	u.mu.Lock()
	defer u.mu.Unlock()
	for other, until := range u.calls {
		if !now.Before(until) {
			delete(u.calls, other)
		}
	}
	until, uncertain := u.calls[key]
	return until, uncertain
}
