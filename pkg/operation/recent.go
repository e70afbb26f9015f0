// SPDX-License-Identifier: Apache-2.0

package operation

import (
	"sync"
	"time"

	"k8s.io/utils/clock"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

const (
	// maxRecent is how many operations without a record are kept.
	maxRecent = 1024
	// recentDuration is for how long they are.
	recentDuration = 10 * time.Minute
)

// recentOperations are the last operations by key, in memory.
type recentOperations struct {
	clock clock.PassiveClock

	mu    sync.Mutex
	byKey map[string]recentOperation
}

type recentOperation struct {
	operation *infrastructure.MachineOperation
	// time is when it was set.
	time time.Time
}

func newRecentOperations(c clock.PassiveClock) *recentOperations {
	return &recentOperations{clock: c, byKey: map[string]recentOperation{}}
}

// get returns the last operation of a key, and when it was set; nil if there is none.
func (r *recentOperations) get(key string) (*infrastructure.MachineOperation, time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	last := r.byKey[key]
	if r.clock.Since(last.time) >= recentDuration {
		return nil, time.Time{}
	}
	return last.operation, last.time
}

// set replaces the last operation of a key; nil removes it.
func (r *recentOperations) set(key string, op *infrastructure.MachineOperation) {
	r.setAt(key, op, r.clock.Now())
}

// setAt is set at an earlier time.
func (r *recentOperations) setAt(key string, op *infrastructure.MachineOperation, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if op == nil {
		delete(r.byKey, key)
		return
	}
	if _, known := r.byKey[key]; !known && len(r.byKey) >= maxRecent {
		r.evict()
	}
	r.byKey[key] = recentOperation{op, at}
}

// evict makes room: it deletes what is too old, and if nothing is, the oldest, of those whose
// calls have ended if there is one.
func (r *recentOperations) evict() {
	oldest := ""
	for key, o := range r.byKey {
		if r.clock.Since(o.time) >= recentDuration {
			delete(r.byKey, key)
			continue
		}
		if oldest == "" || o.isEvictedBefore(r.byKey[oldest]) {
			oldest = key
		}
	}
	if len(r.byKey) >= maxRecent {
		delete(r.byKey, oldest)
	}
}

func (o recentOperation) isEvictedBefore(other recentOperation) bool {
	if inFlight := o.operation.Outcome == infrastructure.OperationRequested; inFlight != (other.operation.Outcome == infrastructure.OperationRequested) {
		return !inFlight
	}
	return o.time.Before(other.time)
}
