// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/utils/clock"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// unfairLock is a partition's lock as the metal-api has it: any waiter gets it
// next, however long the others have waited.
type unfairLock struct {
	mu      sync.Mutex
	random  *rand.Rand
	held    bool
	waiting []chan struct{}
}

// lock is false if that took longer than the metal-api waits.
func (l *unfairLock) lock() bool {
	l.mu.Lock()
	if !l.held {
		l.held = true
		l.mu.Unlock()
		return true
	}
	turn := make(chan struct{}, 1)
	l.waiting = append(l.waiting, turn)
	l.mu.Unlock()
	began := time.Now()
	<-turn
	return time.Since(began) <= 10*time.Second
}

func (l *unfairLock) unlock() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waiting) == 0 {
		l.held = false
		return
	}
	i := l.random.IntN(len(l.waiting))
	l.waiting[i] <- struct{}{}
	l.waiting = append(l.waiting[:i], l.waiting[i+1:]...)
}

func TestPartitionLimiter_KeepsLockBusyWithoutTimeouts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		// As in a fleet of 10,000 (docs/benchmarks.md).
		const allocations, look, hold = 1000, 910 * time.Millisecond, 976 * time.Millisecond
		limiter, lock := newPartitionLimiter(clock.RealClock{}), &unfairLock{random: rand.New(rand.NewPCG(1, 0))}
		began := time.Now()
		var mu sync.Mutex
		var wg sync.WaitGroup
		inVain := 0
		for range allocations {
			wg.Go(func() {
				leave, err := limiter.acquire(t.Context(), "fra-01", false)
				if err != nil {
					t.Error(err)
					return
				}
				defer leave()
				time.Sleep(look)
				inTime := lock.lock()
				time.Sleep(hold)
				lock.unlock()
				mu.Lock()
				defer mu.Unlock()
				if !inTime {
					inVain++
				}
			})
		}
		wg.Wait()
		assert.Zero(t, inVain, "allocations that were overtaken until the metal-api sent them away")
		assert.InEpsilon(t, (allocations * hold).Seconds(), time.Since(began).Seconds(), 0.02, "the lock was idle")
	})
}

func TestAllocate_AfterLongWaitForSlotCallsMetalAPI(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.allocatedCluster("cluster")
	claim := env.machine("node")
	leave, err := env.p.limiter.acquire(t.Context(), simulator.DefaultPartition, true)
	require.NoError(t, err)
	looked, begun := env.sim.CallsOf("machine-find"), 0
	env.p.onCrashPoint = func(step string) {
		if step == "machine/begun" {
			begun++
		}
	}
	var m *infrastructure.MetalStackMachine
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		m, err = env.p.AllocateMachine(env.context(), teamA, "node", body("cluster"))
	}()
	for range 1000 {
		env.advance(env.p.timing.BeginTimeout / 100)
		runtime.Gosched()
		time.Sleep(20 * time.Microsecond)
	}
	leave()
	env.whileClockAdvances(func() { <-answered })
	require.NoError(t, err)
	env.requireAllocatedOnce(claim, m)
	assert.Equal(t, 1, begun, "attempts")
	assert.Equal(t, looked+1, env.sim.CallsOf("machine-find"), "one look before the call is enough")
	env.requireReleasesAll(env.p)
}
