// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"sync"
	"time"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// serviceAddressKey identifies what a call for a Service of a cluster is about: an
// allocation by what the Service asks for, an update or a free by the address in the
// allocation that it had.
type serviceAddressKey struct {
	project, cluster           string
	network, kind, family, tag string
	address, allocationUUID    string
}

// uncertainAddresses are the calls for Services of which the answer was lost, until they
// can be in flight no longer.
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

// untilOfAddress reports the same of the updates and frees of an address, whichever
// cluster's they are.
func (u *uncertainAddresses) untilOfAddress(ip *metal.IP, now time.Time) (time.Time, bool) {
	return u.last(now, func(k serviceAddressKey) bool {
		return k.project == ip.Project && k.address == ip.Address && k.allocationUUID == ip.AllocationUUID
	})
}

// untilOfCluster reports the same of all calls for Services of a cluster.
func (u *uncertainAddresses) untilOfCluster(c *serviceCluster, now time.Time) (time.Time, bool) {
	return u.last(now, func(k serviceAddressKey) bool { return k.project == c.project && k.cluster == c.id })
}

// untilOfNetwork reports the same of the allocations in a network of a project.
func (u *uncertainAddresses) untilOfNetwork(project, network string, now time.Time) (time.Time, bool) {
	return u.last(now, func(k serviceAddressKey) bool { return k.project == project && k.network == network })
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
