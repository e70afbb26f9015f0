package allocation

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	metalclient "metal-stack.io/infrastructure-apiserver/pkg/metal/client"
)

// The steps that a crash can follow on.
var (
	stepsOfAllocation = []string{"machine/begun", "machine/looked", "machine/called", "machine/learned", "machine/allocated"}
	stepsOfRelease    = []string{"machine/releasing", "machine/free-begun", "machine/free-looked", "machine/freed", "machine/released"}

	stepsOfClusterAllocation = []string{
		"network/begun", "network/looked", "network/called", "network/recorded",
		"address/begun", "address/looked", "address/called", "address/recorded", "cluster/allocated",
	}
	stepsOfClusterRelease = []string{
		"cluster/releasing", "address/free-begun", "address/free-looked", "address/freed", "address/released",
		"network/empty", "network/free-begun", "network/free-looked", "network/freed", "cluster/released",
	}
)

func TestACrashInAllocationIsResumedByTheNextRequest(t *testing.T) {
	t.Parallel()
	for _, step := range stepsOfAllocation {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			w := newEnvironment(t)
			w.allocatedCluster("cluster")
			claim := w.machine("node")
			reached := w.crashAt(w.p, step, 1)
			_, err := w.allocate(w.p, "node", "cluster")
			require.Error(t, err)
			require.True(t, reached())

			next := w.newProtocol()
			m, err := w.allocate(next, "node", "cluster")
			require.NoError(t, err)
			w.heldOnce(claim, m)
			w.gone(next)
		})
	}
}

func TestACrashInAllocationIsResumedByTheKeeper(t *testing.T) {
	t.Parallel()
	for _, step := range stepsOfAllocation {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			w := newEnvironment(t)
			w.allocatedCluster("cluster")
			claim := w.machine("node")
			w.crashAt(w.p, step, 1)
			_, err := w.allocate(w.p, "node", "cluster")
			require.Error(t, err)

			next := w.newProtocol()
			keeper := NewRecoverer(next)
			called := len(w.machinesWithIdentity(claim.UID)) == 1
			w.keepUntil(keeper, func() bool { return w.record("node").Status.Allocation.Phase != infrastructure.AllocationAllocating })
			m := w.record("node")
			if called {
				require.Equal(t, infrastructure.AllocationAllocated, m.Status.Allocation.Phase)
			} else {
				// A new attempt needs a request, for its user data.
				require.Empty(t, m.Status.Allocation.Phase)
				assert.EqualValues(t, 1, m.Status.Allocation.Attempt)
				w.advance(2 * next.timing.PollInterval)
				m, err = w.allocate(next, "node", "cluster")
				require.NoError(t, err)
			}
			w.heldOnce(claim, m)
			w.gone(next)
		})
	}
}

func TestACrashInReleaseIsResumed(t *testing.T) {
	t.Parallel()
	for _, step := range stepsOfRelease {
		for _, by := range []string{"request", "keeper"} {
			t.Run(step+" by "+by, func(t *testing.T) {
				t.Parallel()
				w := newEnvironment(t)
				w.allocatedCluster("cluster")
				claim := w.machine("node")
				_, err := w.allocate(w.p, "node", "cluster")
				require.NoError(t, err)
				reached := w.crashAt(w.p, step, 1)
				_, err = w.release(w.p, "node")
				require.Error(t, err)
				require.True(t, reached())

				next := w.newProtocol()
				if by == "keeper" {
					w.keepUntil(NewRecoverer(next), func() bool { return w.record("node").Status.Allocation.Phase == infrastructure.AllocationReleased })
				} else {
					_, err = w.release(next, "node")
					require.NoError(t, err)
				}
				assert.Equal(t, infrastructure.AllocationReleased, w.record("node").Status.Allocation.Phase)
				assert.Equal(t, 1, w.sim.Books().Frees(uidTag(claim.UID)))
				w.gone(next)
			})
		}
	}
}

func TestACrashInAllocationIsUndoneByARelease(t *testing.T) {
	t.Parallel()
	for _, step := range stepsOfAllocation {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			w := newEnvironment(t)
			w.allocatedCluster("cluster")
			w.machine("node")
			w.crashAt(w.p, step, 1)
			_, err := w.allocate(w.p, "node", "cluster")
			require.Error(t, err)

			next := w.newProtocol()
			_, err = w.release(next, "node")
			require.NoError(t, err)
			w.gone(next)
		})
	}
}

func TestACrashOfAClusterIsResumed(t *testing.T) {
	t.Parallel()
	for _, step := range stepsOfClusterAllocation {
		for _, by := range []string{"request", "keeper"} {
			t.Run(step+" by "+by, func(t *testing.T) {
				t.Parallel()
				w := newEnvironment(t)
				claim := w.cluster("cluster")
				reached := w.crashAt(w.p, step, 1)
				w.whileClockAdvances(func() { _, _ = w.p.AllocateCluster(w.context(), teamA, "cluster", body("")) })
				require.True(t, reached())

				next := w.newProtocol()
				if by == "keeper" {
					w.keepUntil(NewRecoverer(next), func() bool {
						return newClusterRecord(w.clusterRecord("cluster")).allocation().Phase == infrastructure.AllocationAllocated
					})
				} else {
					var err error
					w.whileClockAdvances(func() { _, err = next.AllocateCluster(w.context(), teamA, "cluster", body("")) })
					require.NoError(t, err)
				}
				c := w.clusterRecord("cluster")
				assert.True(t, c.Status.Ready)
				// The network and the address.
				assert.Equal(t, 2, w.sim.Books().Allocations(uidTag(claim.UID)))
				w.gone(next)
			})
		}
	}
	for _, step := range stepsOfClusterRelease {
		for _, by := range []string{"request", "keeper"} {
			t.Run(step+" by "+by, func(t *testing.T) {
				t.Parallel()
				w := newEnvironment(t)
				w.allocatedCluster("cluster")
				reached := w.crashAt(w.p, step, 1)
				_, _ = w.releaseCluster(w.p, "cluster")
				require.True(t, reached())

				next := w.newProtocol()
				if by == "keeper" {
					w.keepUntil(NewRecoverer(next), func() bool {
						return newClusterRecord(w.clusterRecord("cluster")).allocation().Phase == infrastructure.AllocationReleased
					})
				}
				w.gone(next)
			})
		}
	}
}

// A crash between the calls of a release must not cost the minutes after which
// a call of a dead server can no longer be at work.
func TestAReleaseThatCrashedBeforeItsCallGoesOnAtOnce(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"cluster/releasing", "address/released", "network/empty"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			w := newEnvironment(t)
			w.allocatedCluster("cluster")
			reached := w.crashAt(w.p, step, 1)
			_, err := w.releaseCluster(w.p, "cluster")
			require.Error(t, err)
			require.True(t, reached())
			next, crashed := w.newProtocol(), w.clock.Now()
			_, err = w.releaseCluster(next, "cluster")
			require.NoError(t, err)
			assert.Less(t, w.clock.Since(crashed), next.timing.freeInFlight()/4)
			w.gone(next)
		})
	}
}

// An attempt that a release overtakes is not forgotten when that crashes.
func TestAReleaseThatCrashedRemembersTheAttemptThatItCameUpon(t *testing.T) {
	t.Parallel()
	for _, what := range []string{"network", "address"} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			w := newEnvironment(t)
			claim := w.cluster("cluster")
			reached := w.crashAt(w.p, what+"/begun", 1)
			_, err := w.allocateCluster("cluster")
			require.Error(t, err)
			require.True(t, reached())
			second := w.newProtocol()
			reached = w.crashAt(second, "cluster/releasing", 1)
			_, err = w.releaseCluster(second, "cluster")
			require.Error(t, err)
			require.True(t, reached())
			third, crashed := w.newProtocol(), w.clock.Now()
			_, err = w.releaseCluster(third, "cluster")
			require.NoError(t, err)
			assert.GreaterOrEqual(t, w.clock.Since(crashed), third.timing.allocateInFlight()-time.Second)
			assert.Equal(t, w.sim.Books().Allocations(uidTag(claim.UID)), w.sim.Books().Frees(uidTag(claim.UID)))
			w.gone(third)
		})
	}
}

func TestACrashInTheMiddleOfAClusterIsUndoneByARelease(t *testing.T) {
	t.Parallel()
	for _, step := range stepsOfClusterAllocation {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			w := newEnvironment(t)
			w.cluster("cluster")
			w.crashAt(w.p, step, 1)
			w.whileClockAdvances(func() { _, _ = w.p.AllocateCluster(w.context(), teamA, "cluster", body("")) })
			w.gone(w.newProtocol())
		})
	}
}

// heldOnce fails unless an object's metal was allocated exactly once, and the
// record names it.
func (w *environment) heldOnce(claim, m *infrastructure.MetalStackMachine) {
	w.t.Helper()
	held := w.machinesWithIdentity(claim.UID)
	require.Len(w.t, held, 1)
	require.Equal(w.t, infrastructure.AllocationAllocated, m.Status.Allocation.Phase)
	require.Equal(w.t, held[0].ID, m.Status.Allocation.MachineID)
	require.Equal(w.t, held[0].AllocationUUID, m.Status.Allocation.AllocationUUID)
	require.Equal(w.t, 1, w.sim.Books().Allocations(uidTag(claim.UID)))
}

// gone releases everything that there is a record of, and fails if anything is
// left.
func (w *environment) gone(p *Protocol) {
	w.t.Helper()
	machines, err := w.machines.List(w.context())
	require.NoError(w.t, err)
	for _, m := range machines {
		_, err := w.release(p, m.Name)
		require.NoError(w.t, err)
	}
	clusters, err := w.clusters.List(w.context())
	require.NoError(w.t, err)
	for _, c := range clusters {
		w.whileClockAdvances(func() { _, err = p.ReleaseCluster(w.context(), c.Namespace, c.Name, c.UID) })
		require.NoError(w.t, err)
	}
	w.requireNothingAllocated()
	w.requireNoSecrets()
}

// keepUntil lets a Recoverer make passes until something is so.
func (w *environment) keepUntil(k *Recoverer, so func() bool) {
	w.t.Helper()
	for range 2000 {
		if so() {
			w.whileClockAdvances(k.wg.Wait)
			return
		}
		w.whileClockAdvances(func() { k.ReconcileAll(w.context()) })
		w.advance(reconcileInterval)
	}
	w.t.Fatal("the Recoverer did not do it")
}

func (w *environment) clusterRecord(name string) *infrastructure.MetalStackCluster {
	c, err := w.clusters.Get(w.context(), teamA, name)
	require.NoError(w.t, err)
	return c
}

var _ Metal = &metalclient.Client{}
