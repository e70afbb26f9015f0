// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/providerid"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

func named(id string) func(*infrastructure.MetalStackMachine) {
	return func(m *infrastructure.MetalStackMachine) { m.Spec.ProviderID = "metalstack://" + id }
}

// availableMachine returns a machine that can be allocated.
func (env *environment) availableMachine(size string) string {
	env.t.Helper()
	for _, m := range env.sim.Inventory().Machines {
		if !m.Allocated && m.Size == size && m.Waiting {
			return m.ID
		}
	}
	env.t.Fatal("no machine waits")
	return ""
}

func TestAllocate_NamedMachine(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.allocatedCluster("cluster")
	id := env.availableMachine(simulator.SmallSize)
	claim := env.machine("node", named(id), func(m *infrastructure.MetalStackMachine) { m.Spec.Partition = "" })
	m, err := env.allocate(env.p, "node", "cluster")
	require.NoError(t, err)
	env.requireAllocatedOnce(claim, m)
	assert.Equal(t, id, m.Status.Allocation.MachineID)
	assert.False(t, m.Status.Allocation.Adopted)
	assert.Equal(t, "metalstack://"+id, m.Spec.ProviderID, "what the user wrote is kept")
	env.requireReleasesAll(env.p)
}

func TestAllocate_NamedMachineMustBeAvailable(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		make func(env *environment, id string)
		spec func(*infrastructure.MetalStackMachine)
		want string
	}{
		{"locked", func(env *environment, id string) { require.NoError(t, env.sim.Lock(id, "x")) }, nil, "LOCKED"},
		{"reserved", func(env *environment, id string) { require.NoError(t, env.sim.Reserve(id, "x")) }, nil, "RESERVED"},
		{"dead", func(env *environment, id string) {
			require.NoError(t, env.sim.Silence(id))
			env.clock.Step(10 * time.Minute)
		}, nil, "Dead"},
		{"not waiting", func(env *environment, id string) { require.NoError(t, env.sim.SendEvent(id, "PXE Booting", "")) }, nil, "PXE Booting"},
		{"of another size", nil, func(m *infrastructure.MetalStackMachine) { m.Spec.MachineType = simulator.LargeSize }, "has size"},
		{"elsewhere", nil, func(m *infrastructure.MetalStackMachine) { m.Spec.Partition = "fra-99" }, "is in partition"},
		{"with the server's own tags", nil, func(m *infrastructure.MetalStackMachine) { m.Spec.Tags = []string{uidTag("victim")} }, "reserved for ownership"},
		{"with another project's network", func(env *environment, _ string) {
			_, err := env.client.AllocateNetwork(env.context(), metal.NetworkRequest{Project: simulator.ProjectB, Partition: simulator.DefaultPartition, Name: "theirs"})
			require.NoError(t, err)
		}, func(m *infrastructure.MetalStackMachine) { m.Spec.Networks = []string{"theirs"} }, "not found in project"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			env := newEnvironment(t)
			env.allocatedCluster("cluster")
			id := env.availableMachine(simulator.SmallSize)
			if c.make != nil {
				c.make(env, id)
			}
			specs := []func(*infrastructure.MetalStackMachine){named(id)}
			if c.spec != nil {
				specs = append(specs, c.spec)
			}
			if c.name == "with another project's network" {
				for _, n := range env.sim.Inventory().Networks {
					if n.Project == simulator.ProjectB {
						specs = append(specs, func(m *infrastructure.MetalStackMachine) { m.Spec.Networks = []string{n.ID} })
					}
				}
			}
			env.machine("node", specs...)
			_, err := env.allocate(env.p, "node", "cluster")
			require.ErrorContains(t, err, c.want)
			require.True(t, apierrors.IsInvalid(err), "%v", err)
			assert.Zero(t, env.sim.CallsOf(machineAllocate))
			assert.Contains(t, allocatedCondition(t, env.getMachine("node")).Message, c.want)
		})
	}
}

func TestAllocate_MachineOfOtherProjectIsNotFound(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.allocatedCluster("cluster")
	theirs := env.availableMachine(simulator.SmallSize)
	env.allocateForOtherProject(theirs)
	none := "00000000-0000-4000-8000-0000000fffff"
	env.machine("thief", named(theirs))
	env.machine("dreamer", named(none))
	_, stolen := env.allocate(env.p, "thief", "cluster")
	_, dreamt := env.allocate(env.p, "dreamer", "cluster")
	require.True(t, apierrors.IsInvalid(stolen), "%v", stolen)
	require.True(t, apierrors.IsInvalid(dreamt), "%v", dreamt)
	text := func(name, id string) string {
		return replaced(allocatedCondition(t, env.getMachine(name)).Message, id, "X")
	}
	assert.Equal(t, text("dreamer", none), text("thief", theirs))
	_, err := env.release(env.p, "thief")
	require.NoError(t, err)
	assert.True(t, env.machineState(theirs).Allocated)
	assert.Zero(t, env.sim.CallsOf(machineFree))
	assert.Zero(t, env.sim.CallsOf(machineAllocate))
}

func TestAdopt_AllocatedMachineOfProject(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	old := env.allocatedMachine("node")
	// As after clusterctl move: spec and metadata, and another uid.
	env.machines.remove(old)
	moved := env.machine("node", func(m *infrastructure.MetalStackMachine) { m.Spec.ProviderID = old.Spec.ProviderID })
	require.NotEqual(t, old.UID, moved.UID)
	m, err := env.allocate(env.p, "node", "cluster")
	require.NoError(t, err)
	a := m.Status.Allocation
	assert.True(t, a.Adopted)
	assert.Equal(t, old.UID, a.UID)
	assert.Equal(t, old.Status.Allocation.MachineID, a.MachineID)
	assert.Equal(t, old.Status.Allocation.AllocationUUID, a.AllocationUUID)
	assert.Equal(t, infrastructure.ReasonAdopted, allocatedCondition(t, m).Reason)
	assert.Equal(t, 1, env.sim.CallsOf(machineAllocate))

	env.machine("second", func(m *infrastructure.MetalStackMachine) { m.Spec.ProviderID = old.Spec.ProviderID })
	_, err = env.allocate(env.p, "second", "cluster")
	require.ErrorContains(t, err, "belongs to metalstackmachines/team-a/node")
	require.True(t, apierrors.IsInvalid(err), "%v", err)

	env.sweep()
	keeper := NewRecoverer(env.p)
	env.whileClockAdvances(func() { keeper.reconcileAll(env.context()); keeper.wg.Wait() })
	assert.Len(t, env.machinesWithIdentity(old.UID), 1)
	env.requireReleasesAll(env.p)
}

func TestAdopt_MachineWithoutIdentityIsReleased(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	c := env.allocatedCluster("cluster")
	id, err := env.sim.AllocateFor(simulator.AllocateRequest{
		Project: simulator.ProjectA, Name: "by-hand", Hostname: "by-hand", Size: simulator.SmallSize, Partition: simulator.DefaultPartition,
		Networks: []string{c.Status.Allocation.NetworkID},
	})
	require.NoError(t, err)
	f := env.firewall("as-a-firewall")
	f.Spec.ProviderID = providerid.New(simulator.DefaultPartition, id)
	env.firewalls.put(t, f)
	env.whileClockAdvances(func() { _, err = env.p.AllocateFirewall(env.context(), teamA, "as-a-firewall", body("cluster")) })
	require.ErrorContains(t, err, `is allocated with role "machine"`)

	claim := env.machine("node", named(id))
	m, err := env.allocate(env.p, "node", "cluster")
	require.NoError(t, err)
	assert.True(t, m.Status.Allocation.Adopted)
	assert.Equal(t, claim.UID, m.Status.Allocation.UID)
	env.requireReleasesAll(env.p)
}

func TestAllocate_TwoObjectsThatNameOneMachine(t *testing.T) {
	t.Parallel()
	for _, servers := range []string{"one server", "two servers"} {
		t.Run(servers, func(t *testing.T) {
			t.Parallel()
			env := newEnvironment(t)
			env.allocatedCluster("cluster")
			id := env.availableMachine(simulator.SmallSize)
			a, b := env.machine("a", named(id)), env.machine("b", named(id))
			first, second := env.p, env.p
			if servers == "two servers" {
				second = env.newProtocol()
			}
			errs := make(chan error, 2)
			env.whileClockAdvances(func() {
				go func() { _, err := first.AllocateMachine(env.context(), teamA, "a", body("cluster")); errs <- err }()
				go func() { _, err := second.AllocateMachine(env.context(), teamA, "b", body("cluster")); errs <- err }()
				x, y := <-errs, <-errs
				errs <- x
				errs <- y
			})
			refused := 0
			for range 2 {
				if err := <-errs; err != nil {
					refused++
				}
			}
			assert.Positive(t, refused)
			// If each saw the other, both stepped back, and one gets it later.
			env.advance(env.p.timing.Backoff + time.Second)
			_, _ = env.allocate(first, "a", "cluster")
			require.Len(t, append(env.machinesWithIdentity(a.UID), env.machinesWithIdentity(b.UID)...), 1)
			env.advance(time.Minute)
			env.requireAddresses(id)
			env.requireReleasesAll(first)
		})
	}
}

// Only a machine that the other object holds is refused as an error of the spec,
// which sets a condition.
func TestAllocate_ConflictsWhileOtherObjectAllocatesMachine(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.allocatedCluster("cluster")
	id := env.availableMachine(simulator.SmallSize)
	env.machine("first", named(id))
	env.machine("second", named(id))
	other := env.newProtocol()
	var meanwhile error
	env.p.onCrashPoint = func(step string) {
		if step == "machine/observed" {
			_, meanwhile = other.AllocateMachine(env.context(), teamA, "second", body("cluster"))
		}
	}
	_, err := env.allocate(env.p, "first", "cluster")
	require.NoError(t, err)
	require.True(t, apierrors.IsConflict(meanwhile), "%v", meanwhile)
	require.ErrorContains(t, meanwhile, "is in use by metalstackmachines/team-a/first: retry")

	env.advance(env.p.timing.Backoff + time.Second)
	_, err = env.allocate(other, "second", "cluster")
	require.True(t, apierrors.IsInvalid(err), "%v", err)
	require.ErrorContains(t, err, "belongs to metalstackmachines/team-a/first")
	env.requireAddresses(id)
	env.requireReleasesAll(env.p)
}

func TestAllocate_TwoServersAllocateOnce(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.allocatedCluster("cluster")
	claim := env.machine("node")
	other := env.newProtocol()
	errs := make(chan error, 2)
	env.whileClockAdvances(func() {
		for _, p := range []*Protocol{env.p, other} {
			go func() { _, err := p.AllocateMachine(env.context(), teamA, "node", body("cluster")); errs <- err }()
		}
		x, y := <-errs, <-errs
		errs <- x
		errs <- y
	})
	for range 2 {
		if err := <-errs; err != nil {
			require.True(t, apierrors.IsConflict(err), "%v", err)
		}
	}
	m, err := env.allocate(other, "node", "cluster")
	require.NoError(t, err)
	env.requireAllocatedOnce(claim, m)
	env.requireReleasesAll(env.p)
}

func TestAllocate_RecreatedObjectFailsUIDPrecondition(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.allocatedCluster("cluster")
	claim := env.machine("node")
	b := body("cluster")
	b.UID = types.UID("of-the-old-one")
	var err error
	env.whileClockAdvances(func() { _, err = env.p.AllocateMachine(env.context(), teamA, "node", b) })
	require.True(t, apierrors.IsConflict(err), "%v", err)

	// In the middle of an allocation: what no record names is kept, and shown as discovered.
	env.p.onCrashPoint = func(step string) {
		if step == "machine/called" {
			env.machines.remove(claim)
			env.machine("node")
		}
	}
	_, err = env.allocate(env.p, "node", "cluster")
	require.True(t, apierrors.IsConflict(err), "%v", err)
	assert.Nil(t, env.getMachine("node").Status.Allocation)
	require.Len(t, env.machinesWithIdentity(claim.UID), 1)
	obj, refs := env.machines.projector.Discovered(metal.Ref{Kind: metal.KindMachine, ID: env.machinesWithIdentity(claim.UID)[0].ID})
	require.NotNil(t, obj)
	assert.Contains(t, refs, metal.Ref{Kind: metal.KindUID, ID: string(claim.UID)})
}

func TestAllocate_DryRunReservesNothing(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.allocatedCluster("cluster")
	id := env.availableMachine(simulator.SmallSize)
	env.machine("dry", named(id))
	env.machine("wet", named(id))
	api := &staleMetal{Metal: env.client}
	p := env.newProtocolWith(api)
	var meanwhile error
	api.meanwhile = func() { _, meanwhile = p.AllocateMachine(env.context(), teamA, "wet", body("cluster")) }
	env.whileClockAdvances(func() { _, _ = p.AllocateMachine(WithDryRun(env.context()), teamA, "dry", body("cluster")) })
	require.Nil(t, api.meanwhile, "the metal was not read")
	require.NoError(t, meanwhile)
	require.NotEmpty(t, env.getMachine("wet").Status.Allocation.MachineID)
	require.Nil(t, env.getMachine("dry").Status.Allocation)
	env.requireReleasesAll(p)
}

// staleMetal is a metal-api of which an answer is stale when it arrives.
type staleMetal struct {
	Metal
	meanwhile func()
}

func (m *staleMetal) happens() {
	if do := m.meanwhile; do != nil {
		m.meanwhile = nil
		do()
	}
}

func (m *staleMetal) FindMachines(ctx context.Context, q metal.MachineQuery) ([]*metal.Machine, error) {
	found, err := m.Metal.FindMachines(ctx, q)
	if q.ID != "" {
		m.happens()
	}
	return found, err
}

func (m *staleMetal) FindNetworks(ctx context.Context, q metal.NetworkQuery) ([]*metal.Network, error) {
	found, err := m.Metal.FindNetworks(ctx, q)
	if q.ID != "" {
		m.happens()
	}
	return found, err
}

func (m *staleMetal) FindIPs(ctx context.Context, q metal.IPQuery) ([]*metal.IP, error) {
	found, err := m.Metal.FindIPs(ctx, q)
	if q.Address != "" {
		m.happens()
	}
	return found, err
}

// When the records are read, no record names the metal of another object any more
// that was released, and the object deleted, after the metal was read.
func TestAdopt_NotWhatWasReleasedMeanwhile(t *testing.T) {
	t.Parallel()
	for what, ask := range map[string]func(env *environment, late *Protocol, c *infrastructure.MetalStackCluster, m *infrastructure.MetalStackMachine) error{
		"network": func(env *environment, late *Protocol, c *infrastructure.MetalStackCluster, _ *infrastructure.MetalStackMachine) (err error) {
			env.cluster("late", func(l *infrastructure.MetalStackCluster) { l.Spec.PrivateNetworkID = c.Status.Allocation.NetworkID })
			env.whileClockAdvances(func() { _, err = late.AllocateCluster(env.context(), teamA, "late", body("")) })
			return err
		},
		"address": func(env *environment, late *Protocol, c *infrastructure.MetalStackCluster, _ *infrastructure.MetalStackMachine) (err error) {
			env.cluster("late", func(l *infrastructure.MetalStackCluster) {
				l.Spec.ControlPlaneEndpoint.Host = c.Status.Allocation.IPAddress
			})
			env.whileClockAdvances(func() { _, err = late.AllocateCluster(env.context(), teamA, "late", body("")) })
			return err
		},
		"machine": func(env *environment, late *Protocol, _ *infrastructure.MetalStackCluster, m *infrastructure.MetalStackMachine) error {
			env.machine("late", named(m.Status.Allocation.MachineID))
			_, err := env.allocate(late, "late", "")
			return err
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			env := newEnvironment(t)
			c, m := env.allocatedCluster("cluster"), env.allocatedMachine("node")
			other := &staleMetal{Metal: env.client}
			late := env.newProtocolWith(other)
			other.meanwhile = func() {
				_, err := env.p.ReleaseMachine(env.context(), teamA, "node", "")
				assert.NoError(t, err)
				env.machines.remove(m)
				_, err = env.p.ReleaseCluster(env.context(), teamA, "cluster", "")
				assert.NoError(t, err)
			}
			err := ask(env, late, c, m)
			require.Nil(t, other.meanwhile, "the records were not listed")
			require.ErrorContains(t, err, map[string]string{"network": "not found in project", "address": "was released meanwhile", "machine": "was released meanwhile"}[what])
			assert.Empty(t, env.adoptingClusters())
			env.requireReleasesAll(env.p)
		})
	}
}
