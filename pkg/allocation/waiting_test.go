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

// waiting is what the machines' records wait for, as a server sees it that has
// just started.
func (w *environment) waits(names ...string) waitingRecords {
	w.t.Helper()
	sum, p := waitingRecords{}, w.newProtocol()
	for _, name := range names {
		sum.add(p, machineLikeOfMachine(w.record(name)))
	}
	return sum
}

func TestHowLongARefusedMachineWaitsIsKnownAfterARestart(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	w.allocatedCluster("cluster")
	for _, m := range w.sim.Books().Machines {
		if m.Size == simulator.LargeSize {
			require.NoError(t, w.sim.Reserve(m.ID, "not for you"))
		}
	}
	for _, name := range []string{"first", "second"} {
		w.machine(name, func(m *infrastructure.MetalStackMachine) { m.Spec.MachineType = simulator.LargeSize })
	}
	assert.Empty(t, w.waits("first", "second"), "nobody has asked for metal")

	began := w.clock.Now()
	for _, name := range []string{"first", "second", "first"} {
		_, err := w.allocate(w.p, name, "cluster")
		require.Error(t, err)
		w.advance(30 * time.Second)
	}
	sum := w.waits("first", "second")
	require.Len(t, sum, 1)
	assert.Equal(t, 2, sum[waitingRefused].records, "whether or not the next attempt is due")
	assert.InDelta(t, w.clock.Since(began).Seconds(), sum[waitingRefused].longest.Seconds(), 1, "since the first refusal")
}

func TestAReleaseThatNobodyAsksForWaitsSinceTheDeletion(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	w.node("node")
	assert.Empty(t, w.waits("node"))
	deleted := metav1.NewTime(w.clock.Now())
	_, err := w.machines.Update(w.context(), teamA, "node", func(m *infrastructure.MetalStackMachine) error {
		m.DeletionTimestamp = &deleted
		return nil
	})
	require.NoError(t, err)
	w.advance(40 * time.Minute)
	assert.Equal(t, waitingRecords{waitingDeleted: {1, 40 * time.Minute}}, w.waits("node"))

	require.NoError(t, w.sim.Lock(w.record("node").Status.Allocation.MachineID, "not yet"))
	_, err = w.release(w.p, "node")
	require.ErrorContains(t, err, "locked")
	assert.Equal(t, waitingRecords{string(infrastructure.AllocationReleasing): {1, 40 * time.Minute}}, w.waits("node"), "refused, and still since the deletion")
}
