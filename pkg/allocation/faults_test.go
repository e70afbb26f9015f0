// SPDX-License-Identifier: Apache-2.0

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

func TestAllocate_LostAnswerAllocatesOnce(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.allocatedCluster("cluster")
	claim := env.machine("node")
	env.sim.Inject(simulator.Fault{Endpoint: machineAllocate, Kind: simulator.FaultCommitThenLose, Times: 1})
	m, err := env.allocate(env.p, "node", "cluster")
	require.NoError(t, err)
	env.requireAllocatedOnce(claim, m)
	assert.EqualValues(t, 1, m.Status.Allocation.Attempt)
	env.requireReleasesAll(env.p)
}

func TestAllocate_LostRequestIsRepeatedOnlyWhenNotInFlight(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.allocatedCluster("cluster")
	claim := env.machine("node")
	env.sim.Inject(simulator.Fault{Endpoint: machineAllocate, Kind: simulator.FaultStatus, Status: http.StatusBadGateway, Message: "bad gateway", Times: 1})
	began := env.clock.Now()
	m, err := env.allocate(env.p, "node", "cluster")
	require.NoError(t, err)
	assert.GreaterOrEqual(t, env.clock.Since(began), env.p.timing.UncertainDuration)
	env.requireAllocatedOnce(claim, m)
	assert.EqualValues(t, 2, m.Status.Allocation.Attempt)
	env.requireReleasesAll(env.p)
}

func TestAllocate_FindsLateCommit(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.allocatedCluster("cluster")
	claim := env.machine("node")
	impatient, err := metalclient.New(metalclient.Options{
		URL: env.srv.URL, HMAC: env.srv.Key("Metal-Edit"), Timeouts: metalclient.Timeouts{Allocate: 5 * time.Millisecond},
	})
	require.NoError(t, err)
	p := env.newProtocolWith(impatient)
	env.sim.Inject(simulator.Fault{Endpoint: machineAllocate, Kind: simulator.FaultCommitThenLate, Latency: 60 * time.Second, Times: 1})
	m, err := env.allocate(p, "node", "cluster")
	require.NoError(t, err)
	env.requireAllocatedOnce(claim, m)
	env.requireReleasesAll(p)
}

func TestAllocate_WaitsForPartitionLock(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.allocatedCluster("cluster")
	claim := env.machine("node")
	env.sim.Inject(simulator.Fault{Endpoint: machineAllocate, Kind: simulator.FaultClientGone, Phase: "candidate", Times: 1})
	m, err := env.allocate(env.p, "node", "cluster")
	for apierrors.IsConflict(err) {
		env.advance(time.Minute)
		m, err = env.allocate(env.p, "node", "cluster")
	}
	require.NoError(t, err)
	env.requireAllocatedOnce(claim, m)
	env.requireReleasesAll(env.p)
}

func TestAllocate_ContinuesWhenCallerIsCancelled(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.allocatedCluster("cluster")
	claim := env.machine("node")
	env.sim.Inject(simulator.Fault{Endpoint: machineAllocate, Kind: simulator.FaultLatency, Latency: 5 * time.Second, Times: 1})
	ctx, cancel := context.WithCancel(env.context())
	var second error
	env.p.onCrashPoint = func(step string) {
		if step == "machine/observed" {
			cancel()
		}
	}
	_, err := env.p.AllocateMachine(ctx, teamA, "node", body("cluster"))
	require.True(t, apierrors.IsTimeout(err), "%v", err)
	_, second = env.p.AllocateMachine(env.context(), teamA, "node", body("cluster"))
	require.True(t, apierrors.IsConflict(second), "%v", second)
	_, second = env.p.ReleaseMachine(env.context(), teamA, "node", "")
	require.True(t, apierrors.IsConflict(second), "%v", second)
	env.whileClockAdvances(env.p.operations.wg.Wait)
	env.p.onCrashPoint = nil
	m, err := env.allocate(env.p, "node", "cluster")
	require.NoError(t, err)
	env.requireAllocatedOnce(claim, m)
	env.requireReleasesAll(env.p)
	env.requireNoSecrets(err, second)
}

func TestAllocate_BacksOffWhenPartitionIsBusy(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.allocatedCluster("cluster")
	claim := env.machine("node")
	env.sim.Inject(simulator.Fault{
		Endpoint: machineAllocate, Kind: simulator.FaultStatus, Status: http.StatusUnprocessableEntity, Times: 1,
		Message: "too many parallel machine allocations taking place, try again later",
	})
	_, err := env.allocate(env.p, "node", "cluster")
	require.True(t, apierrors.IsServiceUnavailable(err), "%v", err)
	_, retries := apierrors.SuggestsClientDelay(err)
	assert.False(t, retries, "clients would repeat it by themselves")
	_, err = env.allocate(env.p, "node", "cluster")
	require.True(t, apierrors.IsConflict(err), "%v", err)
	require.ErrorContains(t, err, "too many parallel machine allocations")
	seconds, ok := apierrors.SuggestsClientDelay(err)
	assert.True(t, ok)
	assert.Positive(t, seconds)
	env.advance(time.Duration(seconds) * time.Second)
	m, err := env.allocate(env.p, "node", "cluster")
	require.NoError(t, err)
	env.requireAllocatedOnce(claim, m)
	env.requireReleasesAll(env.p)
}

func TestAllocate_RefusalSetsConditionAndGrowingBackoff(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.allocatedCluster("cluster")
	env.machine("node", func(m *infrastructure.MetalStackMachine) { m.Spec.MachineType = simulator.LargeSize })
	for _, m := range env.sim.Inventory().Machines {
		if m.Size == simulator.LargeSize {
			require.NoError(t, env.sim.Reserve(m.ID, "not for you"))
		}
	}
	pause := env.p.timing.Backoff
	for attempt := range int32(4) {
		_, err := env.allocate(env.p, "node", "cluster")
		require.True(t, apierrors.IsInvalid(err), "%v", err)
		require.ErrorContains(t, err, "no machine available")
		m := env.getMachine("node")
		require.Empty(t, m.Status.Allocation.Phase)
		require.Equal(t, attempt+1, m.Status.Allocation.Attempt)
		assert.InDelta(t, pause.Seconds(), m.Status.Allocation.NotBefore.Sub(env.clock.Now()).Seconds(), 1)
		c := meta.FindStatusCondition(m.Status.Conditions, infrastructure.ConditionAllocated)
		assert.Equal(t, infrastructure.ReasonAllocationRefused, c.Reason)
		assert.Contains(t, c.Message, "no machine available")
		ready := meta.FindStatusCondition(m.Status.Conditions, infrastructure.ConditionReady)
		assert.Contains(t, ready.Message, "no machine available")
		_, err = env.allocate(env.p, "node", "cluster")
		require.True(t, apierrors.IsConflict(err), "%v", err)
		env.advance(pause + time.Second)
		pause *= 2
	}
	// A machine of another size is not held up by it.
	other := env.machine("other")
	m, err := env.allocate(env.p, "other", "cluster")
	require.NoError(t, err)
	env.requireAllocatedOnce(other, m)
	env.requireReleasesAll(env.p)
}

func TestAllocate_UnavailableMetalAPIChangesNothing(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.allocatedCluster("cluster")
	env.machine("node")
	repair := env.sim.Inject(simulator.Fault{Endpoint: "machine-find", Kind: simulator.FaultStatus, Status: http.StatusServiceUnavailable, Message: "no"})
	_, err := env.allocate(env.p, "node", "cluster")
	require.True(t, apierrors.IsServiceUnavailable(err), "%v", err)
	require.Empty(t, env.getMachine("node").Status.Allocation.Phase)
	repair()
	env.advance(unavailableRetryAfter + time.Second)
	_, err = env.allocate(env.p, "node", "cluster")
	require.NoError(t, err)
	repair = env.sim.Inject(simulator.Fault{Endpoint: "machine-find", Kind: simulator.FaultTruncatedBody})
	_, err = env.release(env.p, "node")
	require.True(t, apierrors.IsServiceUnavailable(err), "%v", err)
	repair()
	env.advance(env.p.timing.Backoff + time.Second)
	env.requireReleasesAll(env.p)
}

func TestPartitionLimiter_BurstOfFailuresCostsNoAddresses(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.allocatedCluster("cluster")
	env.allocatedCluster("other")
	bad := []string{"bad-1", "bad-2", "bad-3", "bad-4", "bad-5", "bad-6", "bad-7", "bad-8"}
	for _, name := range bad {
		// Two private networks: refused after the choice of a machine.
		env.machine(name, func(m *infrastructure.MetalStackMachine) {
			m.Spec.Networks = []string{env.getCluster("other").Status.Allocation.NetworkID}
		})
	}
	good := env.machine("good")
	for _, name := range bad {
		_, err := env.allocate(env.p, name, "cluster")
		require.Error(t, err)
	}
	m, err := env.allocate(env.p, "good", "cluster")
	for apierrors.IsConflict(err) {
		env.advance(time.Second)
		m, err = env.allocate(env.p, "good", "cluster")
	}
	require.NoError(t, err)
	env.requireAllocatedOnce(good, m)
	env.advance(time.Minute)
	env.requireAddresses(m.Status.Allocation.MachineID)
	env.requireReleasesAll(env.p)
}

func TestAllocate_WithholdsUserDataInRefusal(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.allocatedCluster("cluster")
	env.machine("node")
	env.sim.Inject(simulator.Fault{
		Endpoint: machineAllocate, Kind: simulator.FaultStatus, Status: http.StatusBadRequest, Times: 1,
		Message: "cannot parse I2Nsb3VkLWNvbmZpZwojIHRoZS1zZWNyZXQtam9pbi10b2tlbi1vZi1hLW5vZGUK",
	})
	_, err := env.allocate(env.p, "node", "cluster")
	assert.Contains(t, string(env.machines.everything()), "cannot parse")
	env.requireNoSecrets(err)
}

// requireAddresses fails unless the addresses of a machine are still its own.
func (env *environment) requireAddresses(id string) {
	env.t.Helper()
	b := env.sim.Inventory()
	for _, m := range b.Machines {
		if m.ID != id {
			continue
		}
		require.NotEmpty(env.t, m.IPs)
		for _, address := range m.IPs {
			there := false
			for _, ip := range b.IPs {
				there = there || (ip.Address == address && ip.Taken)
			}
			require.True(env.t, there, "address %s of machine %s was taken away", address, id)
		}
		return
	}
	env.t.Fatalf("no machine %s", id)
}
