package allocation

import "sync"

// machineReservations are the machines that are being asked for by their ids: two parallel
// allocations of one machine cost the winner its addresses (docs/metal-api.md, Q35).
type machineReservations struct {
	mu       sync.Mutex
	reserved map[string]objectRef
}

func newMachineReservations() *machineReservations {
	return &machineReservations{reserved: map[string]objectRef{}}
}

// reserve reserves a machine for s, which gives it back; false if it is being
// asked for already.
func (n *machineReservations) reserve(machineID string, s objectRef) (give func(), taken bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, asked := n.reserved[machineID]; asked {
		return nil, false
	}
	n.reserved[machineID] = s
	return func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.reserved, machineID)
	}, true
}
