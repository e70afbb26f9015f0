// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	metalclient "metal-stack.io/infrastructure-apiserver/pkg/metal/client"
)

// The crash points.
var (
	stepsOfAllocation = []string{"machine/begun", "machine/observed", "machine/called", "machine/answered", "machine/allocated"}
	stepsOfRelease    = []string{"machine/releasing", "machine/free-begun", "machine/free-observed", "machine/freed", "machine/released"}

	stepsOfClusterAllocation = []string{
		"network/begun", "network/observed", "network/called", "network/recorded",
		"address/begun", "address/observed", "address/called", "address/recorded", "cluster/allocated",
	}
	stepsOfClusterRelease = []string{
		"cluster/releasing", "address/free-begun", "address/free-observed", "address/freed", "address/released",
		"network/empty", "network/free-begun", "network/free-observed", "network/freed", "cluster/released",
	}
)

func TestAllocate_ResumedByNextRequestAfterCrash(t *testing.T) {
	t.Parallel()
	for _, step := range stepsOfAllocation {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			env := newEnvironment(t)
			env.allocatedCluster("cluster")
			claim := env.machine("node")
			reached := env.crashAt(env.p, step, 1)
			_, err := env.allocate(env.p, "node", "cluster")
			require.Error(t, err)
			require.True(t, reached())

			next := env.newProtocol()
			m, err := env.allocate(next, "node", "cluster")
			require.NoError(t, err)
			env.requireAllocatedOnce(claim, m)
			env.requireReleasesAll(next)
		})
	}
}

func TestRecoverer_ResumesAllocationAfterCrash(t *testing.T) {
	t.Parallel()
	for _, step := range stepsOfAllocation {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			env := newEnvironment(t)
			env.allocatedCluster("cluster")
			claim := env.machine("node")
			env.crashAt(env.p, step, 1)
			_, err := env.allocate(env.p, "node", "cluster")
			require.Error(t, err)

			next := env.newProtocol()
			keeper := NewRecoverer(next)
			called := len(env.machinesWithIdentity(claim.UID)) == 1
			env.reconcileUntil(keeper, func() bool {
				return env.getMachine("node").Status.Allocation.Phase != infrastructure.AllocationAllocating
			})
			m := env.getMachine("node")
			if called {
				require.Equal(t, infrastructure.AllocationAllocated, m.Status.Allocation.Phase)
			} else {
				// A new attempt needs a request, for its user data.
				require.Empty(t, m.Status.Allocation.Phase)
				assert.EqualValues(t, 1, m.Status.Allocation.Attempt)
				env.advance(2 * next.timing.PollInterval)
				m, err = env.allocate(next, "node", "cluster")
				require.NoError(t, err)
			}
			env.requireAllocatedOnce(claim, m)
			env.requireReleasesAll(next)
		})
	}
}

func TestRecoverer_ResumesReleaseAfterCrash(t *testing.T) {
	t.Parallel()
	for _, step := range stepsOfRelease {
		for _, by := range []string{"request", "keeper"} {
			t.Run(step+" by "+by, func(t *testing.T) {
				t.Parallel()
				env := newEnvironment(t)
				env.allocatedCluster("cluster")
				claim := env.machine("node")
				_, err := env.allocate(env.p, "node", "cluster")
				require.NoError(t, err)
				reached := env.crashAt(env.p, step, 1)
				_, err = env.release(env.p, "node")
				require.Error(t, err)
				require.True(t, reached())

				next := env.newProtocol()
				if by == "keeper" {
					env.reconcileUntil(NewRecoverer(next), func() bool {
						return env.getMachine("node").Status.Allocation.Phase == infrastructure.AllocationReleased
					})
				} else {
					_, err = env.release(next, "node")
					require.NoError(t, err)
				}
				assert.Equal(t, infrastructure.AllocationReleased, env.getMachine("node").Status.Allocation.Phase)
				assert.Equal(t, 1, env.sim.Inventory().Frees(uidTag(claim.UID)))
				env.requireReleasesAll(next)
			})
		}
	}
}

func TestRelease_UndoesAllocationAfterCrash(t *testing.T) {
	t.Parallel()
	for _, step := range stepsOfAllocation {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			env := newEnvironment(t)
			env.allocatedCluster("cluster")
			env.machine("node")
			env.crashAt(env.p, step, 1)
			_, err := env.allocate(env.p, "node", "cluster")
			require.Error(t, err)

			next := env.newProtocol()
			_, err = env.release(next, "node")
			require.NoError(t, err)
			env.requireReleasesAll(next)
		})
	}
}

func TestRecoverer_ResumesClusterAfterCrash(t *testing.T) {
	t.Parallel()
	for _, step := range stepsOfClusterAllocation {
		for _, by := range []string{"request", "keeper"} {
			t.Run(step+" by "+by, func(t *testing.T) {
				t.Parallel()
				env := newEnvironment(t)
				claim := env.cluster("cluster")
				reached := env.crashAt(env.p, step, 1)
				env.whileClockAdvances(func() { _, _ = env.p.AllocateCluster(env.context(), teamA, "cluster", body("")) })
				require.True(t, reached())

				next := env.newProtocol()
				if by == "keeper" {
					env.reconcileUntil(NewRecoverer(next), func() bool {
						return newClusterRecord(env.getCluster("cluster")).allocation().Phase == infrastructure.AllocationAllocated
					})
				} else {
					var err error
					env.whileClockAdvances(func() { _, err = next.AllocateCluster(env.context(), teamA, "cluster", body("")) })
					require.NoError(t, err)
				}
				c := env.getCluster("cluster")
				assert.True(t, c.Status.Ready)
				// The network and the address.
				assert.Equal(t, 2, env.sim.Inventory().Allocations(uidTag(claim.UID)))
				env.requireReleasesAll(next)
			})
		}
	}
	for _, step := range stepsOfClusterRelease {
		for _, by := range []string{"request", "keeper"} {
			t.Run(step+" by "+by, func(t *testing.T) {
				t.Parallel()
				env := newEnvironment(t)
				env.allocatedCluster("cluster")
				reached := env.crashAt(env.p, step, 1)
				_, _ = env.releaseCluster(env.p, "cluster")
				require.True(t, reached())

				next := env.newProtocol()
				if by == "keeper" {
					env.reconcileUntil(NewRecoverer(next), func() bool {
						return newClusterRecord(env.getCluster("cluster")).allocation().Phase == infrastructure.AllocationReleased
					})
				}
				env.requireReleasesAll(next)
			})
		}
	}
}

// A crash between the calls of a release must not cost the minutes until no call
// of the crashed server can be in flight.
func TestReleaseCluster_ResumedAtOnceAfterCrashBeforeCall(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"cluster/releasing", "address/released", "network/empty"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			env := newEnvironment(t)
			env.allocatedCluster("cluster")
			reached := env.crashAt(env.p, step, 1)
			_, err := env.releaseCluster(env.p, "cluster")
			require.Error(t, err)
			require.True(t, reached())
			next, crashed := env.newProtocol(), env.clock.Now()
			_, err = env.releaseCluster(next, "cluster")
			require.NoError(t, err)
			assert.Less(t, env.clock.Since(crashed), next.timing.freeInFlight()/4)
			env.requireReleasesAll(next)
		})
	}
}

// An attempt that was in flight when a release began is still waited for after
// the release has crashed.
func TestReleaseCluster_RemembersAttemptAfterCrash(t *testing.T) {
	t.Parallel()
	for _, what := range []string{"network", "address"} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			env := newEnvironment(t)
			claim := env.cluster("cluster")
			reached := env.crashAt(env.p, what+"/begun", 1)
			_, err := env.allocateCluster("cluster")
			require.Error(t, err)
			require.True(t, reached())
			second := env.newProtocol()
			reached = env.crashAt(second, "cluster/releasing", 1)
			_, err = env.releaseCluster(second, "cluster")
			require.Error(t, err)
			require.True(t, reached())
			third, crashed := env.newProtocol(), env.clock.Now()
			_, err = env.releaseCluster(third, "cluster")
			require.NoError(t, err)
			assert.GreaterOrEqual(t, env.clock.Since(crashed), third.timing.allocateInFlight()-time.Second)
			assert.Equal(t, env.sim.Inventory().Allocations(uidTag(claim.UID)), env.sim.Inventory().Frees(uidTag(claim.UID)))
			env.requireReleasesAll(third)
		})
	}
}

func TestReleaseCluster_UndoesAllocationAfterCrash(t *testing.T) {
	t.Parallel()
	for _, step := range stepsOfClusterAllocation {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			env := newEnvironment(t)
			env.cluster("cluster")
			env.crashAt(env.p, step, 1)
			env.whileClockAdvances(func() { _, _ = env.p.AllocateCluster(env.context(), teamA, "cluster", body("")) })
			env.requireReleasesAll(env.newProtocol())
		})
	}
}

// requireAllocatedOnce fails unless an object's metal was allocated exactly once, and the
// record names it.
func (env *environment) requireAllocatedOnce(claim, m *infrastructure.MetalStackMachine) {
	env.t.Helper()
	held := env.machinesWithIdentity(claim.UID)
	require.Len(env.t, held, 1)
	require.Equal(env.t, infrastructure.AllocationAllocated, m.Status.Allocation.Phase)
	require.Equal(env.t, held[0].ID, m.Status.Allocation.MachineID)
	require.Equal(env.t, held[0].AllocationUUID, m.Status.Allocation.AllocationUUID)
	require.Equal(env.t, 1, env.sim.Inventory().Allocations(uidTag(claim.UID)))
}

// requireReleasesAll releases everything that there is a record of, and fails if anything is
// left.
func (env *environment) requireReleasesAll(p *Protocol) {
	env.t.Helper()
	machines, err := env.machines.List(env.context())
	require.NoError(env.t, err)
	for _, m := range machines {
		_, err := env.release(p, m.Name)
		require.NoError(env.t, err)
	}
	clusters, err := env.clusters.List(env.context())
	require.NoError(env.t, err)
	for _, c := range clusters {
		env.whileClockAdvances(func() { _, err = p.ReleaseCluster(env.context(), c.Namespace, c.Name, c.UID) })
		require.NoError(env.t, err)
	}
	env.releaseClaims(p)
	env.requireNothingAllocated()
	env.requireNoSecrets()
}

// reconcileUntil lets a Recoverer make passes until something is so.
func (env *environment) reconcileUntil(recoverer *Recoverer, so func() bool) {
	env.t.Helper()
	for range 2000 {
		if so() {
			env.whileClockAdvances(recoverer.wg.Wait)
			return
		}
		env.whileClockAdvances(func() { recoverer.reconcileAll(env.context()) })
		env.advance(reconcileInterval)
	}
	env.t.Fatal("the Recoverer did not do it")
}

func (env *environment) getCluster(name string) *infrastructure.MetalStackCluster {
	c, err := env.clusters.Get(env.context(), teamA, name)
	require.NoError(env.t, err)
	return c
}

var _ Metal = &metalclient.Client{}
