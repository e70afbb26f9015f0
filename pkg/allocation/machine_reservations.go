// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"sync"

	"k8s.io/apimachinery/pkg/util/sets"
)

// machineReservations are the machines that are being allocated by their ids: two
// allocations of one machine at a time cost the winner its addresses
// (docs/metal-api.md, Q35).
type machineReservations struct {
	mu       sync.Mutex
	reserved sets.Set[string]
}

func newMachineReservations() *machineReservations {
	return &machineReservations{reserved: sets.New[string]()}
}

// isReserved reports whether a machine is reserved.
func (r *machineReservations) isReserved(machineID string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.reserved.Has(machineID)
}

// reserve reserves a machine until cancel is called; false if it is reserved
// already.
func (r *machineReservations) reserve(machineID string) (cancel func(), ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.reserved.Has(machineID) {
		return nil, false
	}
	r.reserved.Insert(machineID)
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.reserved.Delete(machineID)
	}, true
}
