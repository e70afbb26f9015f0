// SPDX-License-Identifier: Apache-2.0

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

// allocatedMachine is an allocated machine.
func (env *environment) allocatedMachine(name string) *infrastructure.MetalStackMachine {
	env.t.Helper()
	if _, err := env.clusters.load(teamA, "cluster"); err != nil {
		env.allocatedCluster("cluster")
	}
	env.machine(name)
	m, err := env.allocate(env.p, name, "cluster")
	require.NoError(env.t, err)
	return m
}

func allocatedCondition(t *testing.T, m *infrastructure.MetalStackMachine) *metav1.Condition {
	t.Helper()
	c := meta.FindStatusCondition(m.Status.Conditions, infrastructure.ConditionAllocated)
	require.NotNil(t, c)
	return c
}

func TestRelease_WaitsForLockedMachine(t *testing.T) {
	t.Parallel()
	for _, by := range []string{"request", "keeper"} {
		t.Run(by, func(t *testing.T) {
			t.Parallel()
			env := newEnvironment(t)
			m := env.allocatedMachine("node")
			require.NoError(t, env.sim.Lock(m.Status.Allocation.MachineID, "evidence"))
			_, err := env.release(env.p, "node")
			require.True(t, apierrors.IsInvalid(err), "%v", err)
			require.ErrorContains(t, err, "machine is locked")
			m = env.getMachine("node")
			assert.Equal(t, infrastructure.AllocationReleasing, m.Status.Allocation.Phase)
			assert.Equal(t, infrastructure.ReasonReleaseRefused, allocatedCondition(t, m).Reason)
			assert.Contains(t, allocatedCondition(t, m).Message, "machine is locked")

			require.NoError(t, env.sim.Unlock(m.Status.Allocation.MachineID))
			if by == "keeper" {
				env.reconcileUntil(NewRecoverer(env.p), func() bool {
					return env.getMachine("node").Status.Allocation.Phase == infrastructure.AllocationReleased
				})
			} else {
				_, err = env.release(env.p, "node")
				require.True(t, apierrors.IsConflict(err), "%v", err)
				env.advance(env.p.timing.Backoff + time.Second)
			}
			env.requireReleasesAll(env.p)
		})
	}
}

func TestRelease_LeavesForeignMachineAlone(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"before", "machine/releasing", "machine/free-begun"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			env := newEnvironment(t)
			m := env.allocatedMachine("node")
			id := m.Status.Allocation.MachineID
			steal := func() {
				require.NoError(t, env.sim.ForceFree(id))
				require.NoError(t, env.sim.Recycle(id))
				env.allocateForOtherProject(id)
			}
			env.p.onCrashPoint = func(s string) {
				if s == step {
					steal()
				}
			}
			if step == "before" {
				steal()
			}
			m, err := env.release(env.p, "node")
			require.NoError(t, err)
			assert.Equal(t, infrastructure.AllocationReleased, m.Status.Allocation.Phase)
			assert.Equal(t, infrastructure.ReasonOwnershipMismatch, allocatedCondition(t, m).Reason)
			assert.Zero(t, env.sim.CallsOf(machineFree))
			assert.True(t, env.machineState(id).Allocated)
			assert.Equal(t, simulator.ProjectB, env.machineState(id).Project)
			assert.NotContains(t, allocatedCondition(t, m).Message, simulator.ProjectB)
		})
	}
}

func TestRelease_FreesOnlyAllocatedMachine(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	m := env.allocatedMachine("node")
	require.NoError(t, env.sim.ForceFree(m.Status.Allocation.MachineID))
	require.NoError(t, env.sim.Recycle(m.Status.Allocation.MachineID))
	_, err := env.release(env.p, "node")
	require.NoError(t, err)
	assert.Zero(t, env.sim.CallsOf(machineFree), "freeing it would take it out of the pool")
	assert.True(t, env.machineState(m.Status.Allocation.MachineID).Waiting)
	env.requireReleasesAll(env.p)
}

func TestRelease_KeepsMachineWithoutItsIdentity(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	m := env.allocatedMachine("node")
	id := m.Status.Allocation.MachineID
	require.NoError(t, env.sim.SetTags(id, []string{"administrator=tidied-up"}))
	_, err := env.release(env.p, "node")
	require.True(t, apierrors.IsConflict(err), "%v", err)
	require.ErrorContains(t, err, "lost its identity tag")
	assert.Zero(t, env.sim.CallsOf(machineFree))

	require.NoError(t, env.sim.SetTags(id, []string{metal.Tag(metal.TagUID, "another-object")}))
	env.advance(env.p.timing.Backoff + time.Second)
	m, err = env.release(env.p, "node")
	require.NoError(t, err)
	assert.Equal(t, infrastructure.ReasonOwnershipMismatch, allocatedCondition(t, m).Reason)
	assert.Zero(t, env.sim.CallsOf(machineFree))
	assert.True(t, env.machineState(id).Allocated)
}

func TestRelease_LostAnswer(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	m := env.allocatedMachine("node")
	env.sim.Inject(simulator.Fault{Endpoint: machineFree, Kind: simulator.FaultCommitThenLose, Times: 1})
	_, err := env.release(env.p, "node")
	require.NoError(t, err)
	assert.Equal(t, 1, env.sim.Inventory().Frees(uidTag(m.UID)))
	assert.Equal(t, 1, env.sim.CallsOf(machineFree))
	env.requireReleasesAll(env.p)
}

func TestRelease_LostRequestIsRepeatedOnlyWhenNotInFlight(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	m := env.allocatedMachine("node")
	env.sim.Inject(simulator.Fault{Endpoint: machineFree, Kind: simulator.FaultStatus, Status: http.StatusBadGateway, Message: "bad gateway", Times: 1})
	began := env.clock.Now()
	_, err := env.release(env.p, "node")
	require.NoError(t, err)
	assert.GreaterOrEqual(t, env.clock.Since(began), env.p.timing.UncertainDuration)
	assert.Equal(t, 1, env.sim.Inventory().Frees(uidTag(m.UID)))
	env.requireReleasesAll(env.p)
}

func TestRelease_RetriesConflictRightAfterAllocation(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.allocatedMachine("node")
	env.sim.Inject(simulator.Fault{
		Endpoint: machineFree, Kind: simulator.FaultStatus, Status: http.StatusConflict, Times: 1,
		Message: "Conflict cannot update machine (x): the entity was changed from another, please retry",
	})
	_, err := env.release(env.p, "node")
	require.NoError(t, err)
	env.requireReleasesAll(env.p)
}

func TestRelease_ClaimNeedsNoCall(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.machine("node")
	m, err := env.release(env.p, "node")
	require.NoError(t, err)
	assert.Equal(t, infrastructure.AllocationReleased, m.Status.Allocation.Phase)
	assert.Zero(t, env.sim.CallsOf(machineFree))
	_, err = env.allocate(env.p, "node", "")
	require.True(t, apierrors.IsConflict(err), "%v", err)
}

func TestReleaseCluster_FreesNetworkAfterItsAddresses(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	c := env.allocatedCluster("cluster")
	network := c.Status.Allocation.NetworkID
	// Another user's address, of the second family.
	ip, err := env.client.AllocateIP(env.context(), metal.IPRequest{
		Project: simulator.ProjectA, Network: network, Name: "service", Type: metal.TypeStatic, AddressFamily: "IPv6",
	})
	require.NoError(t, err)
	_, err = env.releaseCluster(env.p, "cluster")
	require.True(t, apierrors.IsConflict(err), "%v", err)
	require.ErrorContains(t, err, "has 1 allocated address,")
	assert.Zero(t, env.sim.CallsOf("network-free"))

	_, err = env.client.FreeIP(env.context(), ip.Address)
	require.NoError(t, err)
	env.advance(env.p.timing.Backoff + time.Second)
	env.requireReleasesAll(env.p)
}

func TestReleaseCluster_WaitsBeforeFreeingDualStackNetwork(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	for _, name := range []string{"a", "b", "c", "d"} {
		env.allocatedMachine(name)
	}
	errs := make(chan error, 4)
	env.whileClockAdvances(func() {
		for _, name := range []string{"a", "b", "c", "d"} {
			go func() {
				_, err := env.p.ReleaseMachine(env.context(), teamA, name, "")
				errs <- err
			}()
		}
		for range 4 {
			assert.NoError(t, <-errs)
		}
		_, err := env.p.ReleaseCluster(env.context(), teamA, "cluster", "")
		errs <- err
	})
	require.NoError(t, <-errs)
	env.requireNothingAllocated()
}

// allocateForOtherProject allocates a machine for another project.
func (env *environment) allocateForOtherProject(id string) {
	env.t.Helper()
	n, err := env.client.AllocateNetwork(env.context(), metal.NetworkRequest{Project: simulator.ProjectB, Partition: simulator.DefaultPartition, Name: "theirs"})
	require.NoError(env.t, err)
	_, err = env.sim.AllocateFor(simulator.AllocateRequest{
		Project: simulator.ProjectB, Name: "theirs", Hostname: "theirs", Size: simulator.SmallSize, Partition: simulator.DefaultPartition,
		ID: id, Networks: []string{n.ID},
	})
	require.NoError(env.t, err)
}

func (env *environment) machineState(id string) simulator.MachineState {
	env.t.Helper()
	for _, m := range env.sim.Inventory().Machines {
		if m.ID == id {
			return m
		}
	}
	env.t.Fatalf("no machine %s", id)
	return simulator.MachineState{}
}

// A control plane address that lost its tags is neither freed nor forgotten: the release is refused. What
// others have allocated since under the same address is theirs.
func TestReleaseCluster_AddressThatLostItsTagsIsRefused(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	c := env.allocatedCluster("cluster")
	address := c.Status.Allocation.IPAddress
	tags := env.tagsOfAddress(address)
	_, err := env.client.SetIPTags(env.context(), address, nil)
	require.NoError(t, err)
	_, err = env.p.ReleaseCluster(WithDryRun(env.context()), teamA, "cluster", "")
	require.ErrorContains(t, err, "restore the tag")
	_, err = env.releaseCluster(env.p, "cluster")
	require.True(t, apierrors.IsConflict(err), "%v", err)
	require.ErrorContains(t, err, "lost its identity tag "+metal.Tag(metal.TagUID, string(c.UID)))
	c = env.getCluster("cluster")
	assert.Equal(t, infrastructure.AllocationReleasing, c.Status.Allocation.Phase)
	condition := meta.FindStatusCondition(c.Status.Conditions, infrastructure.ConditionAllocated)
	require.NotNil(t, condition)
	assert.Equal(t, infrastructure.ReasonReleaseRefused, condition.Reason)
	assert.Contains(t, condition.Message, "restore the tag")
	assert.NotNil(t, env.tagsOfAddress(address), "it was freed")

	_, err = env.client.SetIPTags(env.context(), address, tags)
	require.NoError(t, err)
	env.advance(env.p.timing.MaxBackoff)
	_, err = env.releaseCluster(env.p, "cluster")
	require.NoError(t, err)
	env.requireNothingAllocated()
}

func TestReleaseCluster_AddressThatLostItsTagsAndIsGoneIsNoObstacle(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	address := env.allocatedCluster("cluster").Status.Allocation.IPAddress
	_, err := env.client.SetIPTags(env.context(), address, nil)
	require.NoError(t, err)
	_, err = env.releaseCluster(env.p, "cluster")
	require.Error(t, err)
	_, err = env.client.FreeIP(env.context(), address)
	require.NoError(t, err)
	env.advance(env.p.timing.MaxBackoff)
	_, err = env.releaseCluster(env.p, "cluster")
	require.NoError(t, err)
	env.requireNothingAllocated()
}

func TestReleaseCluster_AddressThatOthersAllocatedSinceIsKept(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	c := env.allocatedCluster("cluster")
	address := c.Status.Allocation.IPAddress
	_, err := env.client.FreeIP(env.context(), address)
	require.NoError(t, err)
	_, err = env.client.AllocateIP(env.context(), metal.IPRequest{Project: simulator.ProjectA, Network: c.Spec.PublicNetworkID, Address: address, Type: metal.TypeStatic, Name: "theirs"})
	require.NoError(t, err)
	_, err = env.releaseCluster(env.p, "cluster")
	require.NoError(t, err)
	assert.NotNil(t, env.tagsOfAddress(address), "it was freed")
}
