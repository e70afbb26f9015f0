// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// newIdleRecoverer is a Recoverer that has no slot free: it starts nothing in the background.
func (env *environment) newIdleRecoverer() *Recoverer {
	r := NewRecoverer(env.p)
	for range cap(r.slots) {
		r.slots <- struct{}{}
	}
	return r
}

// passResult is what a pass over the records of one resource found out.
type passResult struct {
	unfinished sets.Set[types.NamespacedName]
	waiting    waitingRecords
}

func passResults(r *Recoverer) []passResult {
	return []passResult{
		{r.machines.unfinished, r.machines.waiting}, {r.firewalls.unfinished, r.firewalls.waiting}, {r.clusters.unfinished, r.clusters.waiting},
	}
}

// randomState fills in what the passes depend on.
func randomState(random *rand.Rand, now metav1.Time, m *metav1.ObjectMeta, a *infrastructure.AllocationState) {
	phases := []infrastructure.AllocationPhase{
		"", infrastructure.AllocationAllocating, infrastructure.AllocationAllocated, infrastructure.AllocationAllocated,
		infrastructure.AllocationReleasing, infrastructure.AllocationReleased,
	}
	a.Phase = phases[random.IntN(len(phases))]
	if random.IntN(3) == 0 {
		a.NotBefore = &now
	}
	if random.IntN(4) == 0 {
		m.DeletionTimestamp, m.Finalizers = &now, []string{"a/finalizer"}
	}
}

func TestRecoverer_PassOverChangesIsOverAllThatIsUnfinished(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			env := newEnvironment(t)
			random := rand.New(rand.NewPCG(seed, 1))
			network, err := env.client.AllocateNetwork(env.context(), metal.NetworkRequest{Project: simulator.ProjectA, Partition: simulator.DefaultPartition, Name: "net"})
			require.NoError(t, err)
			var machines []*metal.Machine
			for range 3 {
				id := env.allocateWithTags(simulator.ProjectA, network.ID)
				env.sweep()
				m, _ := env.observer.Machine(id)
				machines = append(machines, m)
			}
			recoverer := env.newIdleRecoverer()
			recoverer.reconcile(env.context())
			provisioned := 0
			for step := range 150 {
				name, now := fmt.Sprintf("object-%d", random.IntN(6)), metav1.NewTime(env.clock.Now().Truncate(time.Second))
				fact := machines[random.IntN(len(machines))]
				switch random.IntN(8) {
				case 0, 1, 2:
					env.machine(name, func(m *infrastructure.MetalStackMachine) {
						m.Status.Allocation = &infrastructure.MachineAllocation{MachineID: fact.ID, AllocationUUID: fact.AllocationUUID()}
						m.Status.Allocation.UID = m.UID
						randomState(random, now, &m.ObjectMeta, &m.Status.Allocation.AllocationState)
					})
				case 3, 4:
					env.cluster(name, func(c *infrastructure.MetalStackCluster) {
						c.Status.Allocation = &infrastructure.ClusterAllocation{NetworkID: network.ID}
						randomState(random, now, &c.ObjectMeta, &c.Status.Allocation.AllocationState)
					})
				case 5:
					env.machines.remove(&metav1.ObjectMeta{Namespace: teamA, Name: name})
				case 6:
					env.clusters.remove(&metav1.ObjectMeta{Namespace: teamA, Name: name})
				case 7:
					_ = env.sim.PhoneHome(fact.ID)
					env.sweep()
				}
				env.clock.Step(reconcileInterval)
				recoverer.fullPassTime = env.clock.Now() // so that this one is about changes
				recoverer.reconcile(env.context())
				full := env.newIdleRecoverer()
				full.reconcileAll(env.context())
				require.Equal(t, passResults(full), passResults(recoverer), "after step %d", step)
				all, err := env.machines.List(env.context())
				require.NoError(t, err)
				for _, m := range all {
					if m.Status.Ready && m.Status.Allocation.Phase == infrastructure.AllocationAllocated {
						require.True(t, isProvisioned(m.Status.Initialization), "%s after step %d", m.Name, step)
						provisioned++
					}
				}
			}
			assert.NotZero(t, provisioned)
		})
	}
}

func TestRecoverer_FullPassFindsDuplicates(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	m := env.allocatedMachine("node")
	network := env.getCluster("cluster").Status.Allocation.NetworkID
	recoverer := NewRecoverer(env.p)
	pass := func() {
		env.whileClockAdvances(func() { recoverer.reconcile(env.context()); recoverer.wg.Wait() })
	}
	pass()
	env.advance(env.p.timing.allocateInFlight())
	pass()
	duplicate := env.allocateWithTags(simulator.ProjectA, network, uidTag(m.UID), metal.Tag(metal.TagManagementCluster, managementCluster))
	env.sweep()
	env.advance(fullPassInterval)
	pass()
	assert.False(t, env.machineState(duplicate).Allocated)
	assert.True(t, env.machineState(m.Status.Allocation.MachineID).Allocated)
}

func TestRecoverer_ListThatFailsIsRepeated(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	now := metav1.NewTime(env.clock.Now())
	env.machine("node", func(m *infrastructure.MetalStackMachine) {
		m.Status.Allocation = &infrastructure.MachineAllocation{AllocationState: infrastructure.AllocationState{Phase: infrastructure.AllocationReleasing, StartTime: &now}}
	})
	recoverer := env.newIdleRecoverer()
	env.machines.listFails = true
	recoverer.reconcile(env.context())
	assert.Empty(t, recoverer.machines.unfinished)
	env.machines.listFails = false
	env.clock.Step(reconcileInterval)
	recoverer.reconcile(env.context())
	assert.Len(t, recoverer.machines.unfinished, 1)
}
