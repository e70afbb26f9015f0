package observation

import (
	"slices"
	"sync"
	"time"
)

// account adds up what a look's calls cost.
type account struct {
	mu   sync.Mutex
	took time.Duration
	// together are the durations of answered calls of kinds that run side by side.
	together [calls][]time.Duration
	// exceptional: one of them is an exception, as costs.end says.
	exceptional [calls]bool
	// slow: the calls that ran side by side were slow, or another one was, or got
	// no answer.
	slow bool
}

// add books a duration.
func (a *account) add(took time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.took += took
}

// addTogether books a call of a kind that runs side by side, when the account is
// closed.
func (a *account) addTogether(k call, took time.Duration, exception bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.exceptional[k] = a.exceptional[k] || exception
	a.together[k] = append(a.together[k], took)
}

// close returns what was booked. Calls that ran side by side waited for each
// other, and for our own processor: what the metal-api does for each shows in
// the quickest tenth of them, and of a few in their median. If that is slow, all are booked as they are, and in
// any case those that took so long that they waited for something else.
func (a *account) close(c *costs) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i, took := range a.together {
		if len(took) == 0 {
			continue
		}
		k := call(i)
		slices.Sort(took)
		typical := took[len(took)/10]
		if len(took) < 10 {
			// Of so few a tenth would be the quickest one.
			typical = took[len(took)/2]
		}
		slow := c.slow(k, 1, typical)
		a.slow = a.slow || slow
		for _, t := range took {
			if !slow && t < longCall {
				t = min(t, typical)
			}
			a.took += t
		}
		if len(took) > 1 || !a.exceptional[k] {
			c.learn(k, 1, typical)
		}
		a.together[k], a.exceptional[k] = nil, false
	}
	return a.took
}

// slowed notes a call that was slow.
func (a *account) slowed() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.slow = true
}

// wasSlow tells whether calls were slow.
func (a *account) wasSlow() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.slow
}
