package allocation

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// node is an allocated machine.
func (w *environment) node(name string) *infrastructure.MetalStackMachine {
	w.t.Helper()
	if _, err := w.clusters.load(teamA, "cluster"); err != nil {
		w.allocatedCluster("cluster")
	}
	w.machine(name)
	m, err := w.allocate(w.p, name, "cluster")
	require.NoError(w.t, err)
	return m
}

func condition(t *testing.T, m *infrastructure.MetalStackMachine) *metav1.Condition {
	t.Helper()
	c := meta.FindStatusCondition(m.Status.Conditions, infrastructure.ConditionAllocated)
	require.NotNil(t, c)
	return c
}

func TestALockedMachineIsNotFreedUntilItIsUnlocked(t *testing.T) {
	t.Parallel()
	for _, by := range []string{"request", "keeper"} {
		t.Run(by, func(t *testing.T) {
			t.Parallel()
			w := newEnvironment(t)
			m := w.node("node")
			require.NoError(t, w.sim.Lock(m.Status.Allocation.MachineID, "evidence"))
			_, err := w.release(w.p, "node")
			require.True(t, apierrors.IsInvalid(err), "%v", err)
			require.ErrorContains(t, err, "machine is locked")
			m = w.record("node")
			assert.Equal(t, infrastructure.AllocationReleasing, m.Status.Allocation.Phase)
			assert.Equal(t, infrastructure.ReasonReleaseRefused, condition(t, m).Reason)
			assert.Contains(t, condition(t, m).Message, "machine is locked")

			require.NoError(t, w.sim.Unlock(m.Status.Allocation.MachineID))
			if by == "keeper" {
				w.keepUntil(NewRecoverer(w.p), func() bool { return w.record("node").Status.Allocation.Phase == infrastructure.AllocationReleased })
			} else {
				_, err = w.release(w.p, "node")
				require.True(t, apierrors.IsConflict(err), "%v", err)
				w.advance(w.p.timing.Backoff + time.Second)
			}
			w.gone(w.p)
		})
	}
}

func TestMetalThatWasGivenToSomebodyElseIsNeverTouched(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"before", "machine/releasing", "machine/free-begun"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			w := newEnvironment(t)
			m := w.node("node")
			id := m.Status.Allocation.MachineID
			steal := func() {
				require.NoError(t, w.sim.ForceFree(id))
				require.NoError(t, w.sim.Recycle(id))
				w.foreign(id)
			}
			w.p.onCrashPoint = func(s string) {
				if s == step {
					steal()
				}
			}
			if step == "before" {
				steal()
			}
			m, err := w.release(w.p, "node")
			require.NoError(t, err)
			assert.Equal(t, infrastructure.AllocationReleased, m.Status.Allocation.Phase)
			assert.Equal(t, infrastructure.ReasonOwnershipMismatch, condition(t, m).Reason)
			assert.Zero(t, w.sim.CallsOf(machineFree))
			assert.True(t, w.account(id).Allocated)
			assert.Equal(t, simulator.ProjectB, w.account(id).Project)
			assert.NotContains(t, condition(t, m).Message, simulator.ProjectB)
		})
	}
}

func TestWhatIsNotAllocatedIsNotFreed(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	m := w.node("node")
	require.NoError(t, w.sim.ForceFree(m.Status.Allocation.MachineID))
	require.NoError(t, w.sim.Recycle(m.Status.Allocation.MachineID))
	_, err := w.release(w.p, "node")
	require.NoError(t, err)
	assert.Zero(t, w.sim.CallsOf(machineFree), "freeing it would take it out of the pool")
	assert.True(t, w.account(m.Status.Allocation.MachineID).Waiting)
	w.gone(w.p)
}

func TestALostIdentityIsHeldAndAnotherIdentityIsNotOurs(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	m := w.node("node")
	id := m.Status.Allocation.MachineID
	require.NoError(t, w.sim.SetTags(id, []string{"somebody=tidied-up"}))
	_, err := w.release(w.p, "node")
	require.True(t, apierrors.IsConflict(err), "%v", err)
	require.ErrorContains(t, err, "lost its identity tag")
	assert.Zero(t, w.sim.CallsOf(machineFree))

	require.NoError(t, w.sim.SetTags(id, []string{metal.Tag(metal.TagUID, "another-object")}))
	w.advance(w.p.timing.Backoff + time.Second)
	m, err = w.release(w.p, "node")
	require.NoError(t, err)
	assert.Equal(t, infrastructure.ReasonOwnershipMismatch, condition(t, m).Reason)
	assert.Zero(t, w.sim.CallsOf(machineFree))
	assert.True(t, w.account(id).Allocated)
}

func TestALostReplyOfAFree(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	m := w.node("node")
	w.sim.Inject(simulator.Fault{Endpoint: machineFree, Kind: simulator.FaultCommitThenLose, Times: 1})
	_, err := w.release(w.p, "node")
	require.NoError(t, err)
	assert.Equal(t, 1, w.sim.Books().Frees(uidTag(m.UID)))
	assert.Equal(t, 1, w.sim.CallsOf(machineFree))
	w.gone(w.p)
}

func TestALostRequestOfAFreeIsMadeAgainOnlyWhenItCannotBeAtWorkAnyMore(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	m := w.node("node")
	w.sim.Inject(simulator.Fault{Endpoint: machineFree, Kind: simulator.FaultStatus, Status: http.StatusBadGateway, Message: "bad gateway", Times: 1})
	began := w.clock.Now()
	_, err := w.release(w.p, "node")
	require.NoError(t, err)
	assert.GreaterOrEqual(t, w.clock.Since(began), w.p.timing.UncertainDuration)
	assert.Equal(t, 1, w.sim.Books().Frees(uidTag(m.UID)))
	w.gone(w.p)
}

func TestAConflictRightAfterAllocateIsTriedAgainAfterALook(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	w.node("node")
	w.sim.Inject(simulator.Fault{
		Endpoint: machineFree, Kind: simulator.FaultStatus, Status: http.StatusConflict, Times: 1,
		Message: "Conflict cannot update machine (x): the entity was changed from another, please retry",
	})
	_, err := w.release(w.p, "node")
	require.NoError(t, err)
	w.gone(w.p)
}

func TestAClaimIsReleasedWithoutACall(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	w.machine("node")
	m, err := w.release(w.p, "node")
	require.NoError(t, err)
	assert.Equal(t, infrastructure.AllocationReleased, m.Status.Allocation.Phase)
	assert.Zero(t, w.sim.CallsOf(machineFree))
	_, err = w.allocate(w.p, "node", "")
	require.True(t, apierrors.IsConflict(err), "%v", err)
}

func TestANetworkIsFreedOnlyAfterItsAddressesAreGone(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	c := w.allocatedCluster("cluster")
	network := c.Status.Allocation.NetworkID
	// Somebody's address, of the second family.
	ip, err := w.client.AllocateIP(w.context(), metal.IPRequest{
		Project: simulator.ProjectA, Network: network, Name: "service", Type: metal.TypeStatic, AddressFamily: "IPv6",
	})
	require.NoError(t, err)
	_, err = w.releaseCluster(w.p, "cluster")
	require.True(t, apierrors.IsConflict(err), "%v", err)
	require.ErrorContains(t, err, "has 1 allocated addresses")
	assert.Zero(t, w.sim.CallsOf("network-free"))

	_, err = w.client.FreeIP(w.context(), ip.Address)
	require.NoError(t, err)
	w.advance(w.p.timing.Backoff + time.Second)
	w.gone(w.p)
}

func TestADualStackNetworkIsNotWreckedRightAfterItsMachines(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	for _, name := range []string{"a", "b", "c", "d"} {
		w.node(name)
	}
	errs := make(chan error, 4)
	w.whileClockAdvances(func() {
		for _, name := range []string{"a", "b", "c", "d"} {
			go func() {
				_, err := w.p.ReleaseMachine(w.context(), teamA, name, "")
				errs <- err
			}()
		}
		for range 4 {
			assert.NoError(t, <-errs)
		}
		_, err := w.p.ReleaseCluster(w.context(), teamA, "cluster", "")
		errs <- err
	})
	require.NoError(t, <-errs)
	w.requireNothingAllocated()
}

// foreign allocates a machine for another project.
func (w *environment) foreign(id string) {
	w.t.Helper()
	n, err := w.client.AllocateNetwork(w.context(), metal.NetworkRequest{Project: simulator.ProjectB, Partition: simulator.DefaultPartition, Name: "theirs"})
	require.NoError(w.t, err)
	_, err = w.sim.AllocateFor(simulator.AllocateRequest{
		Project: simulator.ProjectB, Name: "theirs", Hostname: "theirs", Size: simulator.SmallSize, Partition: simulator.DefaultPartition,
		ID: id, Networks: []string{n.ID},
	})
	require.NoError(w.t, err)
}

func (w *environment) account(id string) simulator.MachineAccount {
	w.t.Helper()
	for _, m := range w.sim.Books().Machines {
		if m.ID == id {
			return m
		}
	}
	w.t.Fatalf("no machine %s", id)
	return simulator.MachineAccount{}
}
