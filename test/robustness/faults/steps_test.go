// SPDX-License-Identifier: Apache-2.0

package faults_test

import (
	"runtime"
	"sync"
	"time"
)

// trap is what happens to a server that comes to a step of the protocol, or to
// a write to the ledger.
type trap struct {
	step string
	// skip is how often it may come there before.
	skip int
	do   string
}

// What a trap does.
const (
	trapKill = "kill"       // the process dies
	trapCut  = "lose-lease" // it loses the Lease, and does not know
	trapStop = "pause"      // it stands still for a while
)

// pauseAt is how long a trap lets a server stand still: longer than the Lease,
// and shorter than what the protocol calls late.
const pauseAt = 25 * time.Second

// traps are set by a history, and sprung by whichever server comes first.
type traps struct {
	mu      sync.Mutex
	set     []trap
	reached map[string]int
	sprung  map[string]int
}

func newTraps() *traps { return &traps{reached: map[string]int{}, sprung: map[string]int{}} }

func (t *traps) add(next trap) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.set = append(t.set, next)
}

func (t *traps) clear() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.set = nil
}

// has reports whether a trap at a step has sprung.
func (t *traps) has(step string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.sprung[step] > 0
}

// at is called at each step, and returns what springs.
func (t *traps) at(step string) (do string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.reached[step]++
	for i := range t.set {
		if t.set[i].step != step {
			continue
		}
		if t.set[i].skip--; t.set[i].skip >= 0 {
			continue
		}
		do = t.set[i].do
		t.set = append(t.set[:i:i], t.set[i+1:]...)
		t.sprung[step]++
		return do
	}
	return ""
}

// at is called by the protocol at each step. A dead process takes no step.
func (s *server) at(step string) {
	if s.spring(step); s.ctx.Err() != nil {
		runtime.Goexit()
	}
}

// spring does to a server what waits for it at a step.
func (s *server) spring(step string) {
	if s.ctx.Err() != nil {
		return
	}
	switch s.env.traps.at(step) {
	case trapKill:
		s.env.note("%s is killed at %s", s.name, step)
		s.kill()
	case trapCut:
		s.env.note("%s loses its Lease at %s", s.name, step)
		s.env.lease.cutOff(s.name, 2*leaseDuration)
	case trapStop:
		s.env.note("%s stands still at %s", s.name, step)
		s.env.lease.cutOff(s.name, pauseAt)
		time.Sleep(pauseAt)
	}
}

// everyStep are the steps of the protocol.
func everyStep() []string {
	return []string{
		"machine/begun", "machine/observed", "machine/called", "machine/answered", "machine/allocated", "machine/refused", "machine/uncertain",
		"machine/releasing", "machine/found", "machine/free-begun", "machine/free-observed", "machine/freed", "machine/free-uncertain", "machine/release-refused", "machine/released",
		"network/begun", "network/observed", "network/called", "network/recorded", "network/uncertain",
		"address/begun", "address/observed", "address/called", "address/recorded", "address/uncertain", "cluster/allocated", "cluster/refused",
		"cluster/releasing", "address/free-begun", "address/free-observed", "address/freed", "address/released", "cluster/release-refused",
		"address/free-uncertain", "network/free-uncertain", "network/empty", "network/free-begun", "network/free-observed", "network/freed", "cluster/released",
		"service-address/begun", "service-address/called",
		"service-address/free-begun", "service-address/free-observed", "service-address/freed", "service-address/free-uncertain", "service-address/released", "service-address/tags-removed",
		"duplicate/free-begun", "duplicate/free-observed", "duplicate/freed",
	}
}
