// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// waitingRecords is what the machines' records wait for, for a server that has
// just started.
func (env *environment) waitingRecords(names ...string) waitingRecords {
	env.t.Helper()
	sum, p := waitingRecords{}, env.newProtocol()
	for _, name := range names {
		sum.add(p, machineLikeOfMachine(env.getMachine(name)))
	}
	return sum
}

func TestWaitingRecords_RefusedSinceFirstRefusalAfterRestart(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.allocatedCluster("cluster")
	for _, m := range env.sim.Inventory().Machines {
		if m.Size == simulator.LargeSize {
			require.NoError(t, env.sim.Reserve(m.ID, "not for you"))
		}
	}
	for _, name := range []string{"first", "second"} {
		env.machine(name, func(m *infrastructure.MetalStackMachine) { m.Spec.MachineType = simulator.LargeSize })
	}
	assert.Empty(t, env.waitingRecords("first", "second"), "nothing was requested")

	began := env.clock.Now()
	for _, name := range []string{"first", "second", "first"} {
		_, err := env.allocate(env.p, name, "cluster")
		require.Error(t, err)
		env.advance(30 * time.Second)
	}
	sum := env.waitingRecords("first", "second")
	require.Len(t, sum, 1)
	assert.Equal(t, 2, sum[waitingRefused].records, "whether or not the next attempt is due")
	assert.InDelta(t, env.clock.Since(began).Seconds(), sum[waitingRefused].longest.Seconds(), 1, "since the first refusal")
}

func TestWaitingRecords_DeletedSinceDeletion(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.allocatedMachine("node")
	assert.Empty(t, env.waitingRecords("node"))
	deleted := metav1.NewTime(env.clock.Now())
	_, err := env.machines.Update(env.context(), teamA, "node", func(m *infrastructure.MetalStackMachine) error {
		m.DeletionTimestamp = &deleted
		return nil
	})
	require.NoError(t, err)
	env.advance(40 * time.Minute)
	assert.Equal(t, waitingRecords{waitingDeleted: {1, 40 * time.Minute}}, env.waitingRecords("node"))

	require.NoError(t, env.sim.Lock(env.getMachine("node").Status.Allocation.MachineID, "not yet"))
	_, err = env.release(env.p, "node")
	require.ErrorContains(t, err, "locked")
	assert.Equal(t, waitingRecords{string(infrastructure.AllocationReleasing): {1, 40 * time.Minute}}, env.waitingRecords("node"), "refused, and still since the deletion")
}
