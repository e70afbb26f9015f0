// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
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

func TestRecoverer_LatchesProvisioned(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	m := env.allocatedMachine("node")
	recoverer := NewRecoverer(env.p)
	recoverer.reconcileAll(env.context())
	assert.True(t, isProvisioned(env.getCluster("cluster").Status.Initialization))
	assert.False(t, isProvisioned(env.getMachine("node").Status.Initialization))

	require.NoError(t, env.sim.PhoneHome(m.Status.Allocation.MachineID))
	env.sweep()
	require.True(t, env.getMachine("node").Status.Ready)
	recoverer.reconcileAll(env.context())
	assert.True(t, isProvisioned(env.getMachine("node").Status.Initialization))

	require.NoError(t, env.sim.ForceFree(m.Status.Allocation.MachineID))
	env.sweep()
	recoverer.reconcileAll(env.context())
	m = env.getMachine("node")
	assert.False(t, m.Status.Ready)
	assert.Equal(t, infrastructure.PhaseGone, m.Status.Metal.Phase)
	assert.True(t, isProvisioned(m.Status.Initialization))
}

// allocateWithTags is a machine that carries tags like those of an object.
func (env *environment) allocateWithTags(project, network string, tags ...string) string {
	env.t.Helper()
	id, err := env.sim.AllocateFor(simulator.AllocateRequest{
		Project: project, Name: "twin", Hostname: "twin", Size: simulator.SmallSize, Partition: simulator.DefaultPartition,
		Networks: []string{network}, Tags: tags,
	})
	require.NoError(env.t, err)
	return id
}

// reconcileAfter reconciles with a new Recoverer now, and again after some time.
func (env *environment) reconcileAfter(d time.Duration) {
	recoverer := NewRecoverer(env.p)
	env.whileClockAdvances(func() { recoverer.reconcileAll(env.context()); recoverer.wg.Wait() })
	env.advance(d)
	env.whileClockAdvances(func() { recoverer.reconcileAll(env.context()); recoverer.wg.Wait() })
}

func TestRecoverer_ReleasesOnlyDuplicates(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	m := env.allocatedMachine("node")
	network := env.getCluster("cluster").Status.Allocation.NetworkID
	theirs, err := env.client.AllocateNetwork(env.context(), metal.NetworkRequest{Project: simulator.ProjectB, Partition: simulator.DefaultPartition, Name: "theirs"})
	require.NoError(t, err)
	uid, cluster := uidTag(m.UID), metal.Tag(metal.TagManagementCluster, managementCluster)
	duplicate := env.allocateWithTags(simulator.ProjectA, network, uid, cluster)
	foreign := env.allocateWithTags(simulator.ProjectB, theirs.ID, uid, cluster)
	moved := env.allocateWithTags(simulator.ProjectA, network, uid, metal.Tag(metal.TagManagementCluster, "another"))
	adopted := env.allocateWithTags(simulator.ProjectA, network)
	env.machine("adopter", named(adopted))
	_, err = env.allocate(env.p, "adopter", "cluster")
	require.NoError(t, err)
	require.NoError(t, env.sim.SetTags(adopted, []string{uid, cluster}), "the tags are copied")

	env.sweep()
	env.reconcileAfter(env.p.timing.allocateInFlight())
	assert.False(t, env.machineState(duplicate).Allocated, "the duplicate")
	for what, id := range map[string]string{
		"the recorded one": m.Status.Allocation.MachineID, "another project's": foreign,
		"another management cluster's": moved, "one that another record names": adopted,
	} {
		assert.True(t, env.machineState(id).Allocated, what)
	}
	assert.Equal(t, 1, env.sim.CallsOf(machineFree))
}

func TestRecoverer_ConfirmsStaleDuplicate(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	m := env.allocatedMachine("node")
	network := env.getCluster("cluster").Status.Allocation.NetworkID
	id := env.allocateWithTags(simulator.ProjectA, network, uidTag(m.UID), metal.Tag(metal.TagManagementCluster, managementCluster))
	env.sweep()
	require.NoError(t, env.sim.ForceFree(id))
	require.NoError(t, env.sim.Recycle(id))
	env.allocateWithTags(simulator.ProjectA, network)
	env.reconcileAfter(env.p.timing.allocateInFlight())
	assert.Zero(t, env.sim.CallsOf(machineFree))
}

func TestRecoverer_WaitingDuplicateEndsWithRun(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	m := env.allocatedMachine("node")
	env.allocateWithTags(simulator.ProjectA, env.getCluster("cluster").Status.Allocation.NetworkID, uidTag(m.UID), metal.Tag(metal.TagManagementCluster, managementCluster))
	env.sweep()
	recoverer := NewRecoverer(env.p)
	recoverer.startTime = env.clock.Now().Add(-env.p.timing.allocateInFlight())
	recoverer.duplicateSlot <- struct{}{}
	ctx, cancel := context.WithCancel(env.context())
	recoverer.reconcileAll(ctx)
	require.Len(t, recoverer.slots, 1, "it waits")
	cancel()
	recoverer.wg.Wait()
	assert.Zero(t, env.sim.CallsOf(machineFree))
}

func TestRecoverer_ReleasesDuplicateOfReleasedObject(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	m := env.allocatedMachine("node")
	network := env.getCluster("cluster").Status.Allocation.NetworkID
	_, err := env.release(env.p, "node")
	require.NoError(t, err)
	// A commit that is too late to be waited for.
	env.allocateWithTags(simulator.ProjectA, network, uidTag(m.UID), metal.Tag(metal.TagManagementCluster, managementCluster))
	env.sweep()
	env.reconcileAfter(env.p.timing.allocateInFlight())
	env.requireReleasesAll(env.p)
}

func TestAllocate_RecordThatCannotBeWritten(t *testing.T) {
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
			env := newEnvironment(t)
			env.allocatedCluster("cluster")
			claim := env.machine("node")
			n := 0
			env.machines.fail = func(when string) error {
				if when == c.when {
					if n++; n == c.nth {
						return errors.New("the ledger cannot be reached")
					}
				}
				return nil
			}
			m, err := env.allocate(env.p, "node", "cluster")
			if err != nil {
				require.True(t, apierrors.IsServiceUnavailable(err), "%v", err)
				m, err = env.allocate(env.p, "node", "cluster")
			}
			require.NoError(t, err)
			env.requireAllocatedOnce(claim, m)
			env.requireReleasesAll(env.p)
		})
	}
}

func TestShutdown_WaitsForCallsAndBeginsNone(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.allocatedCluster("cluster")
	claim := env.machine("node")
	env.machine("late")
	env.sim.Inject(simulator.Fault{Endpoint: machineAllocate, Kind: simulator.FaultLatency, Latency: 5 * time.Second, Times: 1})
	down := make(chan error, 1)
	env.p.onCrashPoint = func(step string) {
		if step == "machine/observed" {
			go func() { down <- env.p.Shutdown(context.Background()) }()
		}
	}
	m, err := env.allocate(env.p, "node", "cluster")
	require.NoError(t, err)
	require.NoError(t, <-down)
	env.requireAllocatedOnce(claim, m)
	_, err = env.allocate(env.p, "late", "cluster")
	requireRetriable(t, err)
	env.requireReleasesAll(env.newProtocol())
}

// requireRetriable requires an error after which clients retry by themselves.
func requireRetriable(t *testing.T, err error) {
	t.Helper()
	require.True(t, apierrors.IsServiceUnavailable(err), "%v", err)
	seconds, suggested := apierrors.SuggestsClientDelay(err)
	assert.True(t, suggested, "%v", err)
	assert.Equal(t, 1, seconds)
}

func TestShutdown_BeforeCallRestoresClaim(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.allocatedCluster("cluster")
	claim := env.machine("node")
	env.p.onCrashPoint = func(step string) {
		if step == "machine/begun" {
			env.p.operations.cancel()
		}
	}
	_, err := env.allocate(env.p, "node", "cluster")
	requireRetriable(t, err)
	assert.Empty(t, env.getMachine("node").Status.Allocation.Phase)
	env.clock.Step(time.Second)
	next := env.newProtocol()
	m, err := env.allocate(next, "node", "cluster")
	require.NoError(t, err)
	env.requireAllocatedOnce(claim, m)
	env.requireReleasesAll(next)
}

func TestShutdown_DoesNotWaitForReads(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.allocatedCluster("cluster")
	claim := env.machine("node")
	env.sim.Inject(simulator.Fault{Endpoint: machineAllocate, Kind: simulator.FaultRefused, Times: 1})
	began := env.clock.Now()
	env.p.onCrashPoint = func(step string) {
		if step == "machine/uncertain" {
			env.p.operations.cancel()
		}
	}
	_, err := env.allocate(env.p, "node", "cluster")
	requireRetriable(t, err)
	assert.Less(t, env.clock.Since(began), env.p.timing.UncertainDuration)
	assert.Equal(t, infrastructure.AllocationAllocating, env.getMachine("node").Status.Allocation.Phase)
	next := env.newProtocol()
	m, err := env.allocate(next, "node", "cluster")
	require.NoError(t, err)
	env.requireAllocatedOnce(claim, m)
	env.requireReleasesAll(next)
}

func TestAllocate_RefusalsBeforeCalls(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.allocatedCluster("cluster")
	now := metav1.NewTime(env.clock.Now())
	env.machine("deleted", func(m *infrastructure.MetalStackMachine) {
		m.DeletionTimestamp, m.Finalizers = &now, []string{infrastructure.MachineFinalizer}
	})
	env.machine("alone")
	env.machine("elsewhere", func(m *infrastructure.MetalStackMachine) { m.Namespace = "nobodys" })
	env.machine("wrong", func(m *infrastructure.MetalStackMachine) { m.Spec.ProviderID = "aws:///i-1" })
	env.cluster("claim")
	for _, c := range []struct {
		namespace, name, cluster string
		is                       func(error) bool
		want                     string
	}{
		{teamA, "none", "cluster", apierrors.IsNotFound, "not found"},
		{teamA, "deleted", "cluster", apierrors.IsConflict, "being deleted"},
		{teamA, "alone", "", apierrors.IsInvalid, "spec.networks: Required value"},
		{teamA, "alone", "claim", apierrors.IsConflict, "has no allocated private network"},
		{teamA, "alone", "none", apierrors.IsNotFound, "not found"},
		{teamA, "wrong", "cluster", apierrors.IsInvalid, "spec.providerID"},
		{"nobodys", "elsewhere", "", apierrors.IsForbidden, "not bound to a project"},
	} {
		_, err := env.p.AllocateMachine(env.context(), c.namespace, c.name, body(c.cluster))
		require.True(t, c.is(err), "%s: %v", c.name, err)
		require.ErrorContains(t, err, c.want)
	}
	assert.Zero(t, env.sim.CallsOf(machineAllocate))
	env.requireNoSecrets()
}

func TestLabelValue_IsValid(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	long := strings.Repeat("a-very-long-name.", 12) + "end"
	for _, s := range []string{"", "node-1", uuid.NewString(), "{" + uuid.NewString()[:34] + "}", long, long + "2", "UPPER_lower.9", "spaces and ümläute", "-", "---", "x-"} {
		value := LabelValue(s)
		assert.Empty(t, validation.IsValidLabelValue(value), "%q of %q", value, s)
		if len(validation.IsValidLabelValue(s)) == 0 {
			assert.Equal(t, s, value)
		}
		if s != "" {
			assert.Empty(t, validation.IsDNS1123Label(hostname(s)), "%q of %q", hostname(s), s)
		}
	}
	assert.NotEqual(t, LabelValue(long), LabelValue(long+"2"))
	assert.NotEqual(t, hostname("a.b"), hostname("a-b"))
	for _, tag := range env.p.identityTags(identity{uid: types.UID(long), namespace: teamA, name: long, cluster: "c"}) {
		key, value, _ := strings.Cut(tag, "=")
		assert.Empty(t, validation.IsQualifiedName(key))
		assert.Empty(t, validation.IsValidLabelValue(value))
	}
}
