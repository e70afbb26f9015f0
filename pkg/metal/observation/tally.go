// SPDX-License-Identifier: Apache-2.0

package observation

import (
	"slices"
	"sync"
	"time"
)

// costTally adds up what an observation's calls cost.
type costTally struct {
	mu    sync.Mutex
	total time.Duration
	// concurrent are the durations of answered calls of kinds that run concurrently.
	concurrent [numCallKinds][]time.Duration
	// outlier: one of them is an exception, as costModel.finish says.
	outlier [numCallKinds]bool
	// slow: the calls that ran concurrently were slow, or another one was, or got
	// no answer.
	slow bool
}

// add books a duration.
func (t *costTally) add(took time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.total += took
}

// addConcurrent books a call of a kind that runs concurrently, when the account is
// closed.
func (t *costTally) addConcurrent(k callKind, took time.Duration, exception bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.outlier[k] = t.outlier[k] || exception
	t.concurrent[k] = append(t.concurrent[k], took)
}

// finish returns what was booked. Calls that ran concurrently waited for each
// other, and for our own processor: what the metal-api does for each shows in
// the quickest tenth of them, and of a few in their median. If that is slow, all are booked as they are, and in
// any case those that took so long that they waited for something else.
func (t *costTally) finish(c *costModel) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, took := range t.concurrent {
		if len(took) == 0 {
			continue
		}
		k := callKind(i)
		slices.Sort(took)
		typical := took[len(took)/10]
		if len(took) < 10 {
			// Of so few a tenth would be the quickest one.
			typical = took[len(took)/2]
		}
		slow := c.isSlow(k, 1, typical)
		t.slow = t.slow || slow
		for _, d := range took {
			if !slow && d < longCallDuration {
				d = min(d, typical)
			}
			t.total += d
		}
		if len(took) > 1 || !t.outlier[k] {
			c.recordCost(k, 1, typical)
		}
		t.concurrent[k], t.outlier[k] = nil, false
	}
	return t.total
}

// markSlow notes a call that was slow.
func (t *costTally) markSlow() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.slow = true
}

// isSlow reports whether calls were slow.
func (t *costTally) isSlow() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.slow
}
