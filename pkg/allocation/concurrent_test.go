// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// These are operations of one server during an operation of another. The model of
// the protocol found each of them (docs/allocation.md).

// pauseAt pauses a server at a crash point, once: reached is closed when it is
// there, and it continues when resume is closed.
func pauseAt(p *Protocol, step string) (reached, resume chan struct{}) {
	reached, resume = make(chan struct{}), make(chan struct{})
	stopped := false
	p.onCrashPoint = func(s string) {
		if s == step && !stopped {
			stopped = true
			close(reached)
			<-resume
		}
	}
	return reached, resume
}

func TestRelease_ConflictsWithNewerAttempt(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.allocatedCluster("cluster")
	claim := env.machine("node")
	other := env.newProtocol()
	observed, resume := pauseAt(other, "machine/observed")
	allocated := make(chan error, 1)
	env.machines.fail = func(string) error {
		env.machines.fail = nil
		go func() {
			_, err := other.AllocateMachine(env.context(), teamA, "node", body("cluster"))
			allocated <- err
		}()
		<-observed
		return nil
	}
	_, err := env.release(env.p, "node")
	close(resume)
	require.NoError(t, <-allocated)
	require.True(t, apierrors.IsConflict(err), "%v", err)
	env.requireAllocatedOnce(claim, env.getMachine("node"))
	env.requireReleasesAll(env.p)
}

func TestRelease_RefusalIsRecordedOnlyByItsOperation(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	m := env.allocatedMachine("node")
	require.NoError(t, env.sim.Lock(m.Status.Allocation.MachineID, "evidence"))
	other := env.newProtocol()
	begun, resume := pauseAt(other, "machine/free-begun")
	released := make(chan error, 1)
	env.p.onCrashPoint = func(step string) {
		if step == "machine/freed" {
			env.advance(env.p.timing.allocateInFlight())
			go func() {
				_, err := other.ReleaseMachine(env.context(), teamA, "node", "")
				released <- err
			}()
			<-begun
		}
	}
	_, err := env.release(env.p, "node")
	require.ErrorContains(t, err, "machine is locked")
	a := env.getMachine("node").Status.Allocation
	assert.NotNil(t, a.StartTime, "the other server's call is open")
	assert.Nil(t, a.NotBefore)

	require.NoError(t, env.sim.Unlock(m.Status.Allocation.MachineID))
	close(resume)
	env.whileClockAdvances(func() { err = <-released })
	require.NoError(t, err)
	assert.Equal(t, 1, env.sim.Inventory().Frees(uidTag(m.UID)))
	env.requireReleasesAll(other)
}

func TestAllocate_EarlierAttemptIsNotRecordedOverLater(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.allocatedCluster("cluster")
	claim := env.machine("node")
	env.crashAt(env.p, "machine/called", 1)
	_, err := env.allocate(env.p, "node", "cluster")
	require.Error(t, err)

	finder, other := env.newProtocol(), env.newProtocol()
	observed, resume := pauseAt(other, "machine/observed")
	allocated := make(chan error, 1)
	finder.onCrashPoint = func(step string) {
		if step == "machine/answered" {
			// What was found is freed by hand, and another attempt is begun.
			require.NoError(t, env.sim.ForceFree(env.machinesWithIdentity(claim.UID)[0].ID))
			env.advance(env.p.timing.allocateInFlight())
			go func() {
				_, err := other.AllocateMachine(env.context(), teamA, "node", body("cluster"))
				allocated <- err
			}()
			<-observed
		}
	}
	_, err = env.allocate(finder, "node", "cluster")
	require.True(t, apierrors.IsConflict(err), "%v", err)
	close(resume)
	env.whileClockAdvances(func() { err = <-allocated })
	require.NoError(t, err)
	held := env.machinesWithIdentity(claim.UID)
	require.Len(t, held, 1)
	assert.Equal(t, held[0].AllocationUUID, env.getMachine("node").Status.Allocation.AllocationUUID)
	env.requireReleasesAll(other)
}

// allocateDuplicate is a second machine of an object that has one.
func (env *environment) allocateDuplicate() (of *infrastructure.MetalStackMachine, id string) {
	m := env.allocatedMachine("node")
	network := env.getCluster("cluster").Status.Allocation.NetworkID
	id = env.allocateWithTags(simulator.ProjectA, network, uidTag(m.UID), metal.Tag(metal.TagManagementCluster, managementCluster))
	env.sweep()
	return m, id
}

func TestRecoverer_WaitsForDuplicateFreeOfEarlierProcess(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	_, id := env.allocateDuplicate()
	recoverer := NewRecoverer(env.p)
	for passed := time.Duration(0); passed < env.p.timing.allocateInFlight(); passed += 10 * time.Second {
		env.whileClockAdvances(func() { recoverer.reconcileAll(env.context()); recoverer.wg.Wait() })
		require.Zero(t, env.sim.CallsOf(machineFree), "after %s", passed)
		env.advance(10 * time.Second)
	}
	env.reconcileUntil(recoverer, func() bool { return !env.machineState(id).Allocated })
	env.requireReleasesAll(env.p)
}

func TestRecoverer_WaitsForLostDuplicateFree(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	_, id := env.allocateDuplicate()
	recoverer := NewRecoverer(env.p)
	env.whileClockAdvances(func() { recoverer.reconcileAll(env.context()); recoverer.wg.Wait() })
	env.advance(env.p.timing.allocateInFlight())
	env.sim.Inject(simulator.Fault{Endpoint: machineFree, Kind: simulator.FaultStatus, Status: http.StatusBadGateway, Message: "bad gateway", Times: 1})
	var first, second time.Time
	busy, passed := make(chan struct{}), make(chan struct{})
	env.p.onCrashPoint = func(step string) {
		switch {
		case step != "duplicate/free-observed":
		case first.IsZero():
			close(busy)
			<-passed
			first = env.clock.Now()
		default:
			second = env.clock.Now()
		}
	}
	working := func() bool {
		select {
		case <-busy:
			return true
		default:
			return false
		}
	}
	for !working() {
		env.whileClockAdvances(func() { recoverer.reconcileAll(env.context()) })
		env.advance(reconcileInterval)
	}
	// A pass during an operation on the object keeps its schedule.
	env.whileClockAdvances(func() { recoverer.reconcileAll(env.context()) })
	close(passed)
	env.reconcileUntil(recoverer, func() bool { return !env.machineState(id).Allocated })
	assert.GreaterOrEqual(t, second.Sub(first), env.p.timing.UncertainDuration)
	assert.Equal(t, 2, env.sim.CallsOf(machineFree))
	env.p.onCrashPoint = nil
	env.requireReleasesAll(env.p)
}
