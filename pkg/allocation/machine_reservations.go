// SPDX-License-Identifier: Apache-2.0

package allocation

import "sync"

// machineReservations are the machines that are being allocated by their ids: two
// allocations of one machine at a time cost the winner its addresses
// (docs/metal-api.md, Q35).
type machineReservations struct {
	mu       sync.Mutex
	reserved map[string]objectRef
}

func newMachineReservations() *machineReservations {
	return &machineReservations{reserved: map[string]objectRef{}}
}

// reserve reserves a machine for an object until cancel is called; false if it is
// reserved already.
func (r *machineReservations) reserve(machineID string, ref objectRef) (cancel func(), ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, reserved := r.reserved[machineID]; reserved {
		return nil, false
	}
	r.reserved[machineID] = ref
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.reserved, machineID)
	}, true
}
