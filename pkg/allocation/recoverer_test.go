package allocation

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

func TestProvisionedIsLatchedAndNeverGoesBack(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	m := w.node("node")
	k := NewRecoverer(w.p)
	k.ReconcileAll(w.context())
	assert.True(t, isProvisioned(w.clusterRecord("cluster").Status.Initialization))
	assert.False(t, isProvisioned(w.record("node").Status.Initialization))

	require.NoError(t, w.sim.PhoneHome(m.Status.Allocation.MachineID))
	w.sweep()
	require.True(t, w.record("node").Status.Ready)
	k.ReconcileAll(w.context())
	assert.True(t, isProvisioned(w.record("node").Status.Initialization))

	require.NoError(t, w.sim.ForceFree(m.Status.Allocation.MachineID))
	w.sweep()
	k.ReconcileAll(w.context())
	m = w.record("node")
	assert.False(t, m.Status.Ready)
	assert.Equal(t, infrastructure.PhaseGone, m.Status.Metal.Phase)
	assert.True(t, isProvisioned(m.Status.Initialization))
}

// tagged is a machine that carries tags like those of an object.
func (w *environment) tagged(project, network string, tags ...string) string {
	w.t.Helper()
	id, err := w.sim.AllocateFor(simulator.AllocateRequest{
		Project: project, Name: "twin", Hostname: "twin", Size: simulator.SmallSize, Partition: simulator.DefaultPartition,
		Networks: []string{network}, Tags: tags,
	})
	require.NoError(w.t, err)
	return id
}

// keptFor lets a new Recoverer pass now, and again after some time.
func (w *environment) keptFor(d time.Duration) {
	k := NewRecoverer(w.p)
	w.whileClockAdvances(func() { k.ReconcileAll(w.context()); k.wg.Wait() })
	w.advance(d)
	w.whileClockAdvances(func() { k.ReconcileAll(w.context()); k.wg.Wait() })
}

func TestADuplicateIsReleasedAndNothingElse(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	m := w.node("node")
	network := w.clusterRecord("cluster").Status.Allocation.NetworkID
	theirs, err := w.client.AllocateNetwork(w.context(), metal.NetworkRequest{Project: simulator.ProjectB, Partition: simulator.DefaultPartition, Name: "theirs"})
	require.NoError(t, err)
	uid, cluster := uidTag(m.UID), metal.Tag(metal.TagManagementCluster, managementCluster)
	duplicate := w.tagged(simulator.ProjectA, network, uid, cluster)
	foreign := w.tagged(simulator.ProjectB, theirs.ID, uid, cluster)
	moved := w.tagged(simulator.ProjectA, network, uid, metal.Tag(metal.TagManagementCluster, "another"))
	adopted := w.tagged(simulator.ProjectA, network)
	w.machine("adopter", named(adopted))
	_, err = w.allocate(w.p, "adopter", "cluster")
	require.NoError(t, err)
	require.NoError(t, w.sim.SetTags(adopted, []string{uid, cluster}), "somebody copies tags")

	w.sweep()
	w.keptFor(w.p.timing.allocateInFlight())
	assert.False(t, w.account(duplicate).Allocated, "the duplicate")
	for what, id := range map[string]string{
		"the recorded one": m.Status.Allocation.MachineID, "another project's": foreign,
		"another management cluster's": moved, "one that another record names": adopted,
	} {
		assert.True(t, w.account(id).Allocated, what)
	}
	assert.Equal(t, 1, w.sim.CallsOf(machineFree))
}

func TestAStaleSightingOfADuplicateIsConfirmedFirst(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	m := w.node("node")
	network := w.clusterRecord("cluster").Status.Allocation.NetworkID
	id := w.tagged(simulator.ProjectA, network, uidTag(m.UID), metal.Tag(metal.TagManagementCluster, managementCluster))
	w.sweep()
	require.NoError(t, w.sim.ForceFree(id))
	require.NoError(t, w.sim.Recycle(id))
	w.tagged(simulator.ProjectA, network)
	w.keptFor(w.p.timing.allocateInFlight())
	assert.Zero(t, w.sim.CallsOf(machineFree))
}

func TestADuplicateThatWaitsForAnotherOneEndsWithTheKeeper(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	m := w.node("node")
	w.tagged(simulator.ProjectA, w.clusterRecord("cluster").Status.Allocation.NetworkID, uidTag(m.UID), metal.Tag(metal.TagManagementCluster, managementCluster))
	w.sweep()
	k := NewRecoverer(w.p)
	k.startTime = w.clock.Now().Add(-w.p.timing.allocateInFlight())
	k.duplicateSlot <- struct{}{}
	ctx, cancel := context.WithCancel(w.context())
	k.ReconcileAll(ctx)
	require.Len(t, k.slots, 1, "it waits")
	cancel()
	k.wg.Wait()
	assert.Zero(t, w.sim.CallsOf(machineFree))
}

func TestWhatComesAfterARelease(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	m := w.node("node")
	network := w.clusterRecord("cluster").Status.Allocation.NetworkID
	_, err := w.release(w.p, "node")
	require.NoError(t, err)
	// A commit so late that nobody could wait for it.
	w.tagged(simulator.ProjectA, network, uidTag(m.UID), metal.Tag(metal.TagManagementCluster, managementCluster))
	w.sweep()
	w.keptFor(w.p.timing.allocateInFlight())
	w.gone(w.p)
}

func TestARecordThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, when string
		nth        int
	}{
		{"before the attempt", "before", 1},
		{"the attempt, although it was written", "after", 1},
		{"the outcome", "before", 2},
		{"the outcome, although it was written", "after", 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newEnvironment(t)
			w.allocatedCluster("cluster")
			claim := w.machine("node")
			n := 0
			w.machines.fail = func(when string) error {
				if when == c.when {
					if n++; n == c.nth {
						return errors.New("the ledger cannot be reached")
					}
				}
				return nil
			}
			m, err := w.allocate(w.p, "node", "cluster")
			if err != nil {
				require.True(t, apierrors.IsServiceUnavailable(err), "%v", err)
				m, err = w.allocate(w.p, "node", "cluster")
			}
			require.NoError(t, err)
			w.heldOnce(claim, m)
			w.gone(w.p)
		})
	}
}

func TestShutdownWaitsForCallsAndBeginsNoneAnyMore(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	w.allocatedCluster("cluster")
	claim := w.machine("node")
	w.machine("late")
	w.sim.Inject(simulator.Fault{Endpoint: machineAllocate, Kind: simulator.FaultLatency, Latency: 5 * time.Second, Times: 1})
	down := make(chan error, 1)
	w.p.onCrashPoint = func(step string) {
		if step == "machine/looked" {
			go func() { down <- w.p.Shutdown(context.Background()) }()
		}
	}
	m, err := w.allocate(w.p, "node", "cluster")
	require.NoError(t, err)
	require.NoError(t, <-down)
	w.heldOnce(claim, m)
	_, err = w.allocate(w.p, "late", "cluster")
	requireComeAgain(t, err)
	w.gone(w.newProtocol())
}

// requireComeAgain requires an answer after which clients repeat the call by
// themselves.
func requireComeAgain(t *testing.T, err error) {
	t.Helper()
	require.True(t, apierrors.IsServiceUnavailable(err), "%v", err)
	seconds, told := apierrors.SuggestsClientDelay(err)
	assert.True(t, told, "%v", err)
	assert.Equal(t, 1, seconds)
}

func TestShutdownBetweenTheRecordAndTheCallMakesAClaimAgain(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	w.allocatedCluster("cluster")
	claim := w.machine("node")
	w.p.onCrashPoint = func(step string) {
		if step == "machine/begun" {
			w.p.operations.cancel()
		}
	}
	_, err := w.allocate(w.p, "node", "cluster")
	requireComeAgain(t, err)
	assert.Empty(t, w.record("node").Status.Allocation.Phase)
	w.clock.Step(time.Second)
	next := w.newProtocol()
	m, err := w.allocate(next, "node", "cluster")
	require.NoError(t, err)
	w.heldOnce(claim, m)
	w.gone(next)
}

func TestShutdownDoesNotWaitForLooks(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	w.allocatedCluster("cluster")
	claim := w.machine("node")
	w.sim.Inject(simulator.Fault{Endpoint: machineAllocate, Kind: simulator.FaultRefused, Times: 1})
	began := w.clock.Now()
	w.p.onCrashPoint = func(step string) {
		if step == "machine/settling" {
			w.p.operations.cancel()
		}
	}
	_, err := w.allocate(w.p, "node", "cluster")
	requireComeAgain(t, err)
	assert.Less(t, w.clock.Since(began), w.p.timing.UncertainDuration)
	assert.Equal(t, infrastructure.AllocationAllocating, w.record("node").Status.Allocation.Phase)
	next := w.newProtocol()
	m, err := w.allocate(next, "node", "cluster")
	require.NoError(t, err)
	w.heldOnce(claim, m)
	w.gone(next)
}

func TestRefusalsBeforeAnythingIsAsked(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	w.allocatedCluster("cluster")
	now := metav1.NewTime(w.clock.Now())
	w.machine("deleted", func(m *infrastructure.MetalStackMachine) {
		m.DeletionTimestamp, m.Finalizers = &now, []string{infrastructure.MachineFinalizer}
	})
	w.machine("alone")
	w.machine("elsewhere", func(m *infrastructure.MetalStackMachine) { m.Namespace = "nobodys" })
	w.machine("wrong", func(m *infrastructure.MetalStackMachine) { m.Spec.ProviderID = "aws:///i-1" })
	w.cluster("claim")
	for _, c := range []struct {
		namespace, name, cluster string
		is                       func(error) bool
		want                     string
	}{
		{teamA, "none", "cluster", apierrors.IsNotFound, "not found"},
		{teamA, "deleted", "cluster", apierrors.IsConflict, "being deleted"},
		{teamA, "alone", "", apierrors.IsInvalid, "spec.networks: required"},
		{teamA, "alone", "claim", apierrors.IsConflict, "has no allocated private network"},
		{teamA, "alone", "none", apierrors.IsNotFound, "not found"},
		{teamA, "wrong", "cluster", apierrors.IsInvalid, "spec.providerID"},
		{"nobodys", "elsewhere", "", apierrors.IsForbidden, "not bound to a project"},
	} {
		_, err := w.p.AllocateMachine(w.context(), c.namespace, c.name, body(c.cluster))
		require.True(t, c.is(err), "%s: %v", c.name, err)
		require.ErrorContains(t, err, c.want)
	}
	assert.Zero(t, w.sim.CallsOf(machineAllocate))
	w.requireNoSecrets()
}

func TestIdentitiesAreValidLabelValues(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	long := strings.Repeat("a-very-long-name.", 12) + "end"
	for _, s := range []string{"", "node-1", long, long + "2", "UPPER_lower.9", "spaces and ümläute", "-", "---", "x-"} {
		value := LabelValue(s)
		assert.Empty(t, validation.IsValidLabelValue(value), "%q of %q", value, s)
		if len(validation.IsValidLabelValue(s)) == 0 {
			assert.Equal(t, s, value)
		}
		if s != "" {
			assert.Empty(t, validation.IsDNS1123Label(Hostname(s)), "%q of %q", Hostname(s), s)
		}
	}
	assert.NotEqual(t, LabelValue(long), LabelValue(long+"2"))
	assert.NotEqual(t, Hostname("a.b"), Hostname("a-b"))
	for _, tag := range w.p.identityTags(identity{uid: types.UID(long), namespace: teamA, name: long, cluster: "c"}) {
		key, value, _ := strings.Cut(tag, "=")
		assert.Empty(t, validation.IsQualifiedName(key))
		assert.Empty(t, validation.IsValidLabelValue(value))
	}
}
