package allocation

import "sync"

// names are the machines that are being asked for by their ids: two parallel
// allocations of one machine cost the winner its addresses (docs/metal-api.md, Q35).
type names struct {
	mu    sync.Mutex
	asked map[string]subject
}

func newNames() *names { return &names{asked: map[string]subject{}} }

// take reserves a machine for s, which gives it back; false if it is being
// asked for already.
func (n *names) take(machineID string, s subject) (give func(), taken bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, asked := n.asked[machineID]; asked {
		return nil, false
	}
	n.asked[machineID] = s
	return func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.asked, machineID)
	}, true
}
