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

// What one server does while another is in the middle of something. The model
// of the protocol found each of these (docs/allocation.md).

// stopAt makes a server stop at a step, once: reached is closed when it is
// there, and it goes on when goOn is closed.
func stopAt(p *Protocol, step string) (reached, goOn chan struct{}) {
	reached, goOn = make(chan struct{}), make(chan struct{})
	stopped := false
	p.onCrashPoint = func(s string) {
		if s == step && !stopped {
			stopped = true
			close(reached)
			<-goOn
		}
	}
	return reached, goOn
}

func TestAReleaseDoesNotOverlookAnAttemptThatBeganMeanwhile(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	w.allocatedCluster("cluster")
	claim := w.machine("node")
	other := w.newProtocol()
	looked, goOn := stopAt(other, "machine/looked")
	allocated := make(chan error, 1)
	w.machines.fail = func(string) error {
		w.machines.fail = nil
		go func() {
			_, err := other.AllocateMachine(w.context(), teamA, "node", body("cluster"))
			allocated <- err
		}()
		<-looked
		return nil
	}
	_, err := w.release(w.p, "node")
	close(goOn)
	require.NoError(t, <-allocated)
	require.True(t, apierrors.IsConflict(err), "%v", err)
	w.heldOnce(claim, w.record("node"))
	w.gone(w.p)
}

func TestAReleaseIsHeldBackOnlyByWhoBeganIt(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	m := w.node("node")
	require.NoError(t, w.sim.Lock(m.Status.Allocation.MachineID, "evidence"))
	other := w.newProtocol()
	begun, goOn := stopAt(other, "machine/free-begun")
	released := make(chan error, 1)
	w.p.onCrashPoint = func(step string) {
		if step == "machine/freed" {
			w.advance(w.p.timing.allocateInFlight())
			go func() {
				_, err := other.ReleaseMachine(w.context(), teamA, "node", "")
				released <- err
			}()
			<-begun
		}
	}
	_, err := w.release(w.p, "node")
	require.ErrorContains(t, err, "machine is locked")
	a := w.record("node").Status.Allocation
	assert.NotNil(t, a.StartTime, "the other server's call is open")
	assert.Nil(t, a.NotBefore)

	require.NoError(t, w.sim.Unlock(m.Status.Allocation.MachineID))
	close(goOn)
	w.whileClockAdvances(func() { err = <-released })
	require.NoError(t, err)
	assert.Equal(t, 1, w.sim.Books().Frees(uidTag(m.UID)))
	w.gone(other)
}

func TestAnEarlierAttemptIsNotRecordedOverALaterOne(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	w.allocatedCluster("cluster")
	claim := w.machine("node")
	w.crashAt(w.p, "machine/called", 1)
	_, err := w.allocate(w.p, "node", "cluster")
	require.Error(t, err)

	finder, other := w.newProtocol(), w.newProtocol()
	looked, goOn := stopAt(other, "machine/looked")
	allocated := make(chan error, 1)
	finder.onCrashPoint = func(step string) {
		if step == "machine/learned" {
			// Somebody frees what was found, and another attempt is begun.
			require.NoError(t, w.sim.ForceFree(w.machinesWithIdentity(claim.UID)[0].ID))
			w.advance(w.p.timing.allocateInFlight())
			go func() {
				_, err := other.AllocateMachine(w.context(), teamA, "node", body("cluster"))
				allocated <- err
			}()
			<-looked
		}
	}
	_, err = w.allocate(finder, "node", "cluster")
	require.True(t, apierrors.IsConflict(err), "%v", err)
	close(goOn)
	w.whileClockAdvances(func() { err = <-allocated })
	require.NoError(t, err)
	held := w.machinesWithIdentity(claim.UID)
	require.Len(t, held, 1)
	assert.Equal(t, held[0].AllocationUUID, w.record("node").Status.Allocation.AllocationUUID)
	w.gone(other)
}

// twin is a second machine of an object that has one.
func (w *environment) twin() (of *infrastructure.MetalStackMachine, id string) {
	m := w.node("node")
	network := w.clusterRecord("cluster").Status.Allocation.NetworkID
	id = w.tagged(simulator.ProjectA, network, uidTag(m.UID), metal.Tag(metal.TagManagementCluster, managementCluster))
	w.sweep()
	return m, id
}

func TestADuplicateIsNotFreedWhileAPredecessorMayBeFreeingIt(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	_, id := w.twin()
	k := NewRecoverer(w.p)
	for passed := time.Duration(0); passed < w.p.timing.allocateInFlight(); passed += 10 * time.Second {
		w.whileClockAdvances(func() { k.ReconcileAll(w.context()); k.wg.Wait() })
		require.Zero(t, w.sim.CallsOf(machineFree), "after %s", passed)
		w.advance(10 * time.Second)
	}
	w.keepUntil(k, func() bool { return !w.account(id).Allocated })
	w.gone(w.p)
}

func TestADuplicateIsNotFreedAgainBeforeALostFreeIsOver(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	_, id := w.twin()
	k := NewRecoverer(w.p)
	w.whileClockAdvances(func() { k.ReconcileAll(w.context()); k.wg.Wait() })
	w.advance(w.p.timing.allocateInFlight())
	w.sim.Inject(simulator.Fault{Endpoint: machineFree, Kind: simulator.FaultStatus, Status: http.StatusBadGateway, Message: "bad gateway", Times: 1})
	var first, second time.Time
	busy, passed := make(chan struct{}), make(chan struct{})
	w.p.onCrashPoint = func(step string) {
		switch {
		case step != "duplicate/free-looked":
		case first.IsZero():
			close(busy)
			<-passed
			first = w.clock.Now()
		default:
			second = w.clock.Now()
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
		w.whileClockAdvances(func() { k.ReconcileAll(w.context()) })
		w.advance(reconcileInterval)
	}
	// A pass that finds the object being worked on forgets nothing.
	w.whileClockAdvances(func() { k.ReconcileAll(w.context()) })
	close(passed)
	w.keepUntil(k, func() bool { return !w.account(id).Allocated })
	assert.GreaterOrEqual(t, second.Sub(first), w.p.timing.UncertainDuration)
	assert.Equal(t, 2, w.sim.CallsOf(machineFree))
	w.p.onCrashPoint = nil
	w.gone(w.p)
}
