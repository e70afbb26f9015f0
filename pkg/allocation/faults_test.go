package allocation

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	metalclient "metal-stack.io/infrastructure-apiserver/pkg/metal/client"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

const (
	machineAllocate = "machine-allocate"
	machineFree     = "machine-free"
)

func TestALostReplyAllocatesOnce(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	w.allocatedCluster("cluster")
	claim := w.machine("node")
	w.sim.Inject(simulator.Fault{Endpoint: machineAllocate, Kind: simulator.FaultCommitThenLose, Times: 1})
	m, err := w.allocate(w.p, "node", "cluster")
	require.NoError(t, err)
	w.heldOnce(claim, m)
	assert.EqualValues(t, 1, m.Status.Allocation.Attempt)
	w.gone(w.p)
}

func TestALostRequestIsMadeAgainOnlyWhenItCannotBeAtWorkAnyMore(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	w.allocatedCluster("cluster")
	claim := w.machine("node")
	w.sim.Inject(simulator.Fault{Endpoint: machineAllocate, Kind: simulator.FaultStatus, Status: http.StatusBadGateway, Message: "bad gateway", Times: 1})
	began := w.clock.Now()
	m, err := w.allocate(w.p, "node", "cluster")
	require.NoError(t, err)
	assert.GreaterOrEqual(t, w.clock.Since(began), w.p.timing.UncertainDuration)
	w.heldOnce(claim, m)
	assert.EqualValues(t, 2, m.Status.Allocation.Attempt)
	w.gone(w.p)
}

func TestALateCommitIsFound(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	w.allocatedCluster("cluster")
	claim := w.machine("node")
	impatient, err := metalclient.New(metalclient.Options{
		URL: w.srv.URL, HMAC: w.srv.Key("Metal-Edit"), Timeouts: metalclient.Timeouts{Allocate: 5 * time.Millisecond},
	})
	require.NoError(t, err)
	p := w.newProtocolWith(impatient)
	w.sim.Inject(simulator.Fault{Endpoint: machineAllocate, Kind: simulator.FaultCommitThenLate, Latency: 60 * time.Second, Times: 1})
	m, err := w.allocate(p, "node", "cluster")
	require.NoError(t, err)
	w.heldOnce(claim, m)
	w.gone(p)
}

func TestALockedPartitionIsWaitedFor(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	w.allocatedCluster("cluster")
	claim := w.machine("node")
	w.sim.Inject(simulator.Fault{Endpoint: machineAllocate, Kind: simulator.FaultClientGone, Phase: "candidate", Times: 1})
	m, err := w.allocate(w.p, "node", "cluster")
	for apierrors.IsConflict(err) {
		w.advance(time.Minute)
		m, err = w.allocate(w.p, "node", "cluster")
	}
	require.NoError(t, err)
	w.heldOnce(claim, m)
	w.gone(w.p)
}

func TestACancelledCallerChangesNothing(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	w.allocatedCluster("cluster")
	claim := w.machine("node")
	w.sim.Inject(simulator.Fault{Endpoint: machineAllocate, Kind: simulator.FaultLatency, Latency: 5 * time.Second, Times: 1})
	ctx, cancel := context.WithCancel(w.context())
	var second error
	w.p.onCrashPoint = func(step string) {
		if step == "machine/looked" {
			cancel()
		}
	}
	_, err := w.p.AllocateMachine(ctx, teamA, "node", body("cluster"))
	require.True(t, apierrors.IsTimeout(err), "%v", err)
	_, second = w.p.AllocateMachine(w.context(), teamA, "node", body("cluster"))
	require.True(t, apierrors.IsConflict(second), "%v", second)
	_, second = w.p.ReleaseMachine(w.context(), teamA, "node", "")
	require.True(t, apierrors.IsConflict(second), "%v", second)
	w.whileClockAdvances(w.p.operations.wg.Wait)
	w.p.onCrashPoint = nil
	m, err := w.allocate(w.p, "node", "cluster")
	require.NoError(t, err)
	w.heldOnce(claim, m)
	w.gone(w.p)
	w.requireNoSecrets(err, second)
}

func TestABusyPartitionIsTriedAgainLater(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	w.allocatedCluster("cluster")
	claim := w.machine("node")
	w.sim.Inject(simulator.Fault{
		Endpoint: machineAllocate, Kind: simulator.FaultStatus, Status: http.StatusUnprocessableEntity, Times: 1,
		Message: "too many parallel machine allocations taking place, try again later",
	})
	_, err := w.allocate(w.p, "node", "cluster")
	require.True(t, apierrors.IsServiceUnavailable(err), "%v", err)
	_, retries := apierrors.SuggestsClientDelay(err)
	assert.False(t, retries, "clients would repeat it by themselves")
	_, err = w.allocate(w.p, "node", "cluster")
	require.True(t, apierrors.IsConflict(err), "%v", err)
	require.ErrorContains(t, err, "too many parallel machine allocations")
	seconds, ok := apierrors.SuggestsClientDelay(err)
	assert.True(t, ok)
	assert.Positive(t, seconds)
	w.advance(time.Duration(seconds) * time.Second)
	m, err := w.allocate(w.p, "node", "cluster")
	require.NoError(t, err)
	w.heldOnce(claim, m)
	w.gone(w.p)
}

func TestARefusalBecomesAConditionAndAPauseThatGrows(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	w.allocatedCluster("cluster")
	w.machine("node", func(m *infrastructure.MetalStackMachine) { m.Spec.MachineType = simulator.LargeSize })
	for _, m := range w.sim.Books().Machines {
		if m.Size == simulator.LargeSize {
			require.NoError(t, w.sim.Reserve(m.ID, "not for you"))
		}
	}
	pause := w.p.timing.Backoff
	for attempt := range int32(4) {
		_, err := w.allocate(w.p, "node", "cluster")
		require.True(t, apierrors.IsInvalid(err), "%v", err)
		require.ErrorContains(t, err, "no machine available")
		m := w.record("node")
		require.Empty(t, m.Status.Allocation.Phase)
		require.Equal(t, attempt+1, m.Status.Allocation.Attempt)
		assert.InDelta(t, pause.Seconds(), m.Status.Allocation.NotBefore.Sub(w.clock.Now()).Seconds(), 1)
		c := meta.FindStatusCondition(m.Status.Conditions, infrastructure.ConditionAllocated)
		assert.Equal(t, infrastructure.ReasonAllocationRefused, c.Reason)
		assert.Contains(t, c.Message, "no machine available")
		ready := meta.FindStatusCondition(m.Status.Conditions, infrastructure.ConditionReady)
		assert.Contains(t, ready.Message, "no machine available")
		_, err = w.allocate(w.p, "node", "cluster")
		require.True(t, apierrors.IsConflict(err), "%v", err)
		w.advance(pause + time.Second)
		pause *= 2
	}
	// A machine of another size is not held up by it.
	other := w.machine("other")
	m, err := w.allocate(w.p, "other", "cluster")
	require.NoError(t, err)
	w.heldOnce(other, m)
	w.gone(w.p)
}

func TestAMetalAPIThatIsAwayChangesNothing(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	w.allocatedCluster("cluster")
	w.machine("node")
	repair := w.sim.Inject(simulator.Fault{Endpoint: "machine-find", Kind: simulator.FaultStatus, Status: http.StatusServiceUnavailable, Message: "no"})
	_, err := w.allocate(w.p, "node", "cluster")
	require.True(t, apierrors.IsServiceUnavailable(err), "%v", err)
	require.Empty(t, w.record("node").Status.Allocation.Phase)
	repair()
	w.advance(unavailableRetryAfter + time.Second)
	_, err = w.allocate(w.p, "node", "cluster")
	require.NoError(t, err)
	repair = w.sim.Inject(simulator.Fault{Endpoint: "machine-find", Kind: simulator.FaultTruncatedBody})
	_, err = w.release(w.p, "node")
	require.True(t, apierrors.IsServiceUnavailable(err), "%v", err)
	repair()
	w.advance(w.p.timing.Backoff + time.Second)
	w.gone(w.p)
}

func TestABurstOfFailuresDoesNotCostTheNextOneItsAddresses(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	w.allocatedCluster("cluster")
	w.allocatedCluster("other")
	bad := []string{"bad-1", "bad-2", "bad-3", "bad-4", "bad-5", "bad-6", "bad-7", "bad-8"}
	for _, name := range bad {
		// Two private networks: refused behind the choice of a machine.
		w.machine(name, func(m *infrastructure.MetalStackMachine) {
			m.Spec.Networks = []string{w.clusterRecord("other").Status.Allocation.NetworkID}
		})
	}
	good := w.machine("good")
	for _, name := range bad {
		_, err := w.allocate(w.p, name, "cluster")
		require.Error(t, err)
	}
	m, err := w.allocate(w.p, "good", "cluster")
	for apierrors.IsConflict(err) {
		w.advance(time.Second)
		m, err = w.allocate(w.p, "good", "cluster")
	}
	require.NoError(t, err)
	w.heldOnce(good, m)
	w.advance(time.Minute)
	w.addressesThere(m.Status.Allocation.MachineID)
	w.gone(w.p)
}

func TestWhatTheMetalAPIQuotesOfUserDataIsWithheld(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	w.allocatedCluster("cluster")
	w.machine("node")
	w.sim.Inject(simulator.Fault{
		Endpoint: machineAllocate, Kind: simulator.FaultStatus, Status: http.StatusBadRequest, Times: 1,
		Message: "cannot parse I2Nsb3VkLWNvbmZpZwojIHRoZS1zZWNyZXQtam9pbi10b2tlbi1vZi1hLW5vZGUK",
	})
	_, err := w.allocate(w.p, "node", "cluster")
	assert.Contains(t, string(w.machines.everything()), "cannot parse")
	w.requireNoSecrets(err)
}

// addressesThere fails unless the addresses of a machine are still its own.
func (w *environment) addressesThere(id string) {
	w.t.Helper()
	b := w.sim.Books()
	for _, m := range b.Machines {
		if m.ID != id {
			continue
		}
		require.NotEmpty(w.t, m.IPs)
		for _, address := range m.IPs {
			there := false
			for _, ip := range b.IPs {
				there = there || (ip.Address == address && ip.Taken)
			}
			require.True(w.t, there, "address %s of machine %s was taken away", address, id)
		}
		return
	}
	w.t.Fatalf("no machine %s", id)
}
