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
func (a *costTally) add(took time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.total += took
}

// addConcurrent books a call of a kind that runs concurrently, when the account is
// closed.
func (a *costTally) addConcurrent(k callKind, took time.Duration, exception bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.outlier[k] = a.outlier[k] || exception
	a.concurrent[k] = append(a.concurrent[k], took)
}

// finish returns what was booked. Calls that ran concurrently waited for each
// other, and for our own processor: what the metal-api does for each shows in
// the quickest tenth of them, and of a few in their median. If that is slow, all are booked as they are, and in
// any case those that took so long that they waited for something else.
func (a *costTally) finish(c *costModel) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i, took := range a.concurrent {
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
		a.slow = a.slow || slow
		for _, t := range took {
			if !slow && t < longCallDuration {
				t = min(t, typical)
			}
			a.total += t
		}
		if len(took) > 1 || !a.outlier[k] {
			c.recordCost(k, 1, typical)
		}
		a.concurrent[k], a.outlier[k] = nil, false
	}
	return a.total
}

// markSlow notes a call that was slow.
func (a *costTally) markSlow() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.slow = true
}

// isSlow reports whether calls were slow.
func (a *costTally) isSlow() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.slow
}
