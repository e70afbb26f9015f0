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

// waiting returns a machine that can be had.
func (w *environment) waiting(size string) string {
	w.t.Helper()
	for _, m := range w.sim.Books().Machines {
		if !m.Allocated && m.Size == size && m.Waiting {
			return m.ID
		}
	}
	w.t.Fatal("no machine waits")
	return ""
}

func TestAMachineThatIsNamedIsAllocated(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	w.allocatedCluster("cluster")
	id := w.waiting(simulator.SmallSize)
	claim := w.machine("node", named(id), func(m *infrastructure.MetalStackMachine) { m.Spec.Partition = "" })
	m, err := w.allocate(w.p, "node", "cluster")
	require.NoError(t, err)
	w.heldOnce(claim, m)
	assert.Equal(t, id, m.Status.Allocation.MachineID)
	assert.False(t, m.Status.Allocation.Adopted)
	assert.Equal(t, "metalstack://"+id, m.Spec.ProviderID, "what the user wrote is kept")
	w.gone(w.p)
}

func TestAMachineThatIsNamedIsAskedForOnlyIfItIsToBeHad(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		make func(w *environment, id string)
		spec func(*infrastructure.MetalStackMachine)
		want string
	}{
		{"locked", func(w *environment, id string) { require.NoError(t, w.sim.Lock(id, "x")) }, nil, "LOCKED"},
		{"reserved", func(w *environment, id string) { require.NoError(t, w.sim.Reserve(id, "x")) }, nil, "RESERVED"},
		{"dead", func(w *environment, id string) {
			require.NoError(t, w.sim.Silence(id))
			w.clock.Step(10 * time.Minute)
		}, nil, "Dead"},
		{"not waiting", func(w *environment, id string) { require.NoError(t, w.sim.SendEvent(id, "PXE Booting", "")) }, nil, "PXE Booting"},
		{"of another size", nil, func(m *infrastructure.MetalStackMachine) { m.Spec.MachineType = simulator.LargeSize }, "has size"},
		{"elsewhere", nil, func(m *infrastructure.MetalStackMachine) { m.Spec.Partition = "fra-99" }, "is in partition"},
		{"with the server's own tags", nil, func(m *infrastructure.MetalStackMachine) { m.Spec.Tags = []string{uidTag("victim")} }, "reserved for ownership"},
		{"with another project's network", func(w *environment, _ string) {
			_, err := w.client.AllocateNetwork(w.context(), metal.NetworkRequest{Project: simulator.ProjectB, Partition: simulator.DefaultPartition, Name: "theirs"})
			require.NoError(t, err)
		}, func(m *infrastructure.MetalStackMachine) { m.Spec.Networks = []string{"theirs"} }, "not found in project"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newEnvironment(t)
			w.allocatedCluster("cluster")
			id := w.waiting(simulator.SmallSize)
			if c.make != nil {
				c.make(w, id)
			}
			specs := []func(*infrastructure.MetalStackMachine){named(id)}
			if c.spec != nil {
				specs = append(specs, c.spec)
			}
			if c.name == "with another project's network" {
				for _, n := range w.sim.Books().Networks {
					if n.Project == simulator.ProjectB {
						specs = append(specs, func(m *infrastructure.MetalStackMachine) { m.Spec.Networks = []string{n.ID} })
					}
				}
			}
			w.machine("node", specs...)
			_, err := w.allocate(w.p, "node", "cluster")
			require.ErrorContains(t, err, c.want)
			require.True(t, apierrors.IsInvalid(err), "%v", err)
			assert.Zero(t, w.sim.CallsOf(machineAllocate))
			assert.Contains(t, condition(t, w.record("node")).Message, c.want)
		})
	}
}

func TestAnotherProjectsMachineIsAsUnknownAsNone(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	w.allocatedCluster("cluster")
	theirs := w.waiting(simulator.SmallSize)
	w.foreign(theirs)
	none := "00000000-0000-4000-8000-0000000fffff"
	w.machine("thief", named(theirs))
	w.machine("dreamer", named(none))
	_, stolen := w.allocate(w.p, "thief", "cluster")
	_, dreamt := w.allocate(w.p, "dreamer", "cluster")
	require.True(t, apierrors.IsInvalid(stolen), "%v", stolen)
	require.True(t, apierrors.IsInvalid(dreamt), "%v", dreamt)
	text := func(name, id string) string {
		return replaced(condition(t, w.record(name)).Message, id, "X")
	}
	assert.Equal(t, text("dreamer", none), text("thief", theirs))
	_, err := w.release(w.p, "thief")
	require.NoError(t, err)
	assert.True(t, w.account(theirs).Allocated)
	assert.Zero(t, w.sim.CallsOf(machineFree))
	assert.Zero(t, w.sim.CallsOf(machineAllocate))
}

func TestAnAllocatedMachineOfTheProjectIsAdopted(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	old := w.node("node")
	// As after clusterctl move: spec and metadata, and another uid.
	w.machines.remove(old)
	moved := w.machine("node", func(m *infrastructure.MetalStackMachine) { m.Spec.ProviderID = old.Spec.ProviderID })
	require.NotEqual(t, old.UID, moved.UID)
	m, err := w.allocate(w.p, "node", "cluster")
	require.NoError(t, err)
	a := m.Status.Allocation
	assert.True(t, a.Adopted)
	assert.Equal(t, old.UID, a.UID)
	assert.Equal(t, old.Status.Allocation.MachineID, a.MachineID)
	assert.Equal(t, old.Status.Allocation.AllocationUUID, a.AllocationUUID)
	assert.Equal(t, infrastructure.ReasonAdopted, condition(t, m).Reason)
	assert.Equal(t, 1, w.sim.CallsOf(machineAllocate))

	w.machine("second", func(m *infrastructure.MetalStackMachine) { m.Spec.ProviderID = old.Spec.ProviderID })
	_, err = w.allocate(w.p, "second", "cluster")
	require.ErrorContains(t, err, "belongs to metalstackmachines/team-a/node")
	require.True(t, apierrors.IsInvalid(err), "%v", err)

	w.sweep()
	keeper := NewRecoverer(w.p)
	w.whileClockAdvances(func() { keeper.ReconcileAll(w.context()); keeper.wg.Wait() })
	assert.Len(t, w.machinesWithIdentity(old.UID), 1)
	w.gone(w.p)
}

func TestMetalWithoutAnIdentityIsAdoptedAndReleased(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	c := w.allocatedCluster("cluster")
	id, err := w.sim.AllocateFor(simulator.AllocateRequest{
		Project: simulator.ProjectA, Name: "by-hand", Hostname: "by-hand", Size: simulator.SmallSize, Partition: simulator.DefaultPartition,
		Networks: []string{c.Status.Allocation.NetworkID},
	})
	require.NoError(t, err)
	f := w.firewall("as-a-firewall")
	f.Spec.ProviderID = providerid.New(simulator.DefaultPartition, id)
	w.firewalls.put(t, f)
	w.whileClockAdvances(func() { _, err = w.p.AllocateFirewall(w.context(), teamA, "as-a-firewall", body("cluster")) })
	require.ErrorContains(t, err, `is allocated with role "machine"`)

	claim := w.machine("node", named(id))
	m, err := w.allocate(w.p, "node", "cluster")
	require.NoError(t, err)
	assert.True(t, m.Status.Allocation.Adopted)
	assert.Equal(t, claim.UID, m.Status.Allocation.UID)
	w.gone(w.p)
}

func TestTwoObjectsThatNameOneMachine(t *testing.T) {
	t.Parallel()
	for _, servers := range []string{"one server", "two servers"} {
		t.Run(servers, func(t *testing.T) {
			t.Parallel()
			w := newEnvironment(t)
			w.allocatedCluster("cluster")
			id := w.waiting(simulator.SmallSize)
			a, b := w.machine("a", named(id)), w.machine("b", named(id))
			first, second := w.p, w.p
			if servers == "two servers" {
				second = w.newProtocol()
			}
			errs := make(chan error, 2)
			w.whileClockAdvances(func() {
				go func() { _, err := first.AllocateMachine(w.context(), teamA, "a", body("cluster")); errs <- err }()
				go func() { _, err := second.AllocateMachine(w.context(), teamA, "b", body("cluster")); errs <- err }()
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
			w.advance(w.p.timing.Backoff + time.Second)
			_, _ = w.allocate(first, "a", "cluster")
			require.Len(t, append(w.machinesWithIdentity(a.UID), w.machinesWithIdentity(b.UID)...), 1)
			w.advance(time.Minute)
			w.addressesThere(id)
			w.gone(first)
		})
	}
}

// TestWhatAnotherObjectIsGettingIsUnderWay: only what it has is refused as a
// mistake of the spec, which people are told of.
func TestWhatAnotherObjectIsGettingIsUnderWay(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	w.allocatedCluster("cluster")
	id := w.waiting(simulator.SmallSize)
	w.machine("first", named(id))
	w.machine("second", named(id))
	other := w.newProtocol()
	var meanwhile error
	w.p.onCrashPoint = func(step string) {
		if step == "machine/looked" {
			_, meanwhile = other.AllocateMachine(w.context(), teamA, "second", body("cluster"))
		}
	}
	_, err := w.allocate(w.p, "first", "cluster")
	require.NoError(t, err)
	require.True(t, apierrors.IsConflict(meanwhile), "%v", meanwhile)
	require.ErrorContains(t, meanwhile, "is in use by metalstackmachines/team-a/first: retry")

	w.advance(w.p.timing.Backoff + time.Second)
	_, err = w.allocate(other, "second", "cluster")
	require.True(t, apierrors.IsInvalid(err), "%v", err)
	require.ErrorContains(t, err, "belongs to metalstackmachines/team-a/first")
	w.addressesThere(id)
	w.gone(w.p)
}

func TestTwoServersAllocateOneObjectOnce(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	w.allocatedCluster("cluster")
	claim := w.machine("node")
	other := w.newProtocol()
	errs := make(chan error, 2)
	w.whileClockAdvances(func() {
		for _, p := range []*Protocol{w.p, other} {
			go func() { _, err := p.AllocateMachine(w.context(), teamA, "node", body("cluster")); errs <- err }()
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
	m, err := w.allocate(other, "node", "cluster")
	require.NoError(t, err)
	w.heldOnce(claim, m)
	w.gone(w.p)
}

func TestAnObjectThatWasMadeAnewIsAnother(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	w.allocatedCluster("cluster")
	claim := w.machine("node")
	b := body("cluster")
	b.UID = types.UID("of-the-old-one")
	var err error
	w.whileClockAdvances(func() { _, err = w.p.AllocateMachine(w.context(), teamA, "node", b) })
	require.True(t, apierrors.IsConflict(err), "%v", err)

	// In the middle: what no record names is kept, and shown as discovered.
	w.p.onCrashPoint = func(step string) {
		if step == "machine/called" {
			w.machines.remove(claim)
			w.machine("node")
		}
	}
	_, err = w.allocate(w.p, "node", "cluster")
	require.True(t, apierrors.IsConflict(err), "%v", err)
	assert.Nil(t, w.record("node").Status.Allocation)
	require.Len(t, w.machinesWithIdentity(claim.UID), 1)
	obj, claims := w.machines.projector.Discovered(metal.Ref{Kind: metal.KindMachine, ID: w.machinesWithIdentity(claim.UID)[0].ID})
	require.NotNil(t, obj)
	assert.Contains(t, claims, metal.Ref{Kind: metal.KindUID, ID: string(claim.UID)})
}

func TestAllocate_DryRunDoesNotKeepOthersFromTheMachine(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	w.allocatedCluster("cluster")
	id := w.waiting(simulator.SmallSize)
	w.machine("dry", named(id))
	w.machine("wet", named(id))
	api := &outdated{Metal: w.client}
	p := w.newProtocolWith(api)
	var meanwhile error
	api.meanwhile = func() { _, meanwhile = p.AllocateMachine(w.context(), teamA, "wet", body("cluster")) }
	w.whileClockAdvances(func() { _, _ = p.AllocateMachine(WithDryRun(w.context()), teamA, "dry", body("cluster")) })
	require.Nil(t, api.meanwhile, "nobody looked")
	require.NoError(t, meanwhile)
	require.NotEmpty(t, w.record("wet").Status.Allocation.MachineID)
	require.Nil(t, w.record("dry").Status.Allocation)
	w.gone(p)
}

// outdated is a metal-api of which an answer arrives when it is not true any more.
type outdated struct {
	Metal
	meanwhile func()
}

func (o *outdated) happens() {
	if do := o.meanwhile; do != nil {
		o.meanwhile = nil
		do()
	}
}

func (o *outdated) FindMachines(ctx context.Context, q metal.MachineQuery) ([]*metal.Machine, error) {
	found, err := o.Metal.FindMachines(ctx, q)
	if q.ID != "" {
		o.happens()
	}
	return found, err
}

func (o *outdated) FindNetworks(ctx context.Context, q metal.NetworkQuery) ([]*metal.Network, error) {
	found, err := o.Metal.FindNetworks(ctx, q)
	if q.ID != "" {
		o.happens()
	}
	return found, err
}

func (o *outdated) FindIPs(ctx context.Context, q metal.IPQuery) ([]*metal.IP, error) {
	found, err := o.Metal.FindIPs(ctx, q)
	if q.Address != "" {
		o.happens()
	}
	return found, err
}

// TestWhatWasGivenBackWhileWeLookedIsNotAdopted: another object's metal that is
// gone, and the object with it, by the time that we ask whose it is, is nobody's
// by the records.
func TestWhatWasGivenBackWhileWeLookedIsNotAdopted(t *testing.T) {
	t.Parallel()
	for what, ask := range map[string]func(w *environment, late *Protocol, c *infrastructure.MetalStackCluster, m *infrastructure.MetalStackMachine) error{
		"network": func(w *environment, late *Protocol, c *infrastructure.MetalStackCluster, _ *infrastructure.MetalStackMachine) (err error) {
			w.cluster("late", func(l *infrastructure.MetalStackCluster) { l.Spec.PrivateNetworkID = c.Status.Allocation.NetworkID })
			w.whileClockAdvances(func() { _, err = late.AllocateCluster(w.context(), teamA, "late", body("")) })
			return err
		},
		"address": func(w *environment, late *Protocol, c *infrastructure.MetalStackCluster, _ *infrastructure.MetalStackMachine) (err error) {
			w.cluster("late", func(l *infrastructure.MetalStackCluster) {
				l.Spec.ControlPlaneEndpoint.Host = c.Status.Allocation.IPAddress
			})
			w.whileClockAdvances(func() { _, err = late.AllocateCluster(w.context(), teamA, "late", body("")) })
			return err
		},
		"machine": func(w *environment, late *Protocol, _ *infrastructure.MetalStackCluster, m *infrastructure.MetalStackMachine) error {
			w.machine("late", named(m.Status.Allocation.MachineID))
			_, err := w.allocate(late, "late", "")
			return err
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			w := newEnvironment(t)
			c, m := w.allocatedCluster("cluster"), w.node("node")
			other := &outdated{Metal: w.client}
			late := w.newProtocolWith(other)
			other.meanwhile = func() {
				_, err := w.p.ReleaseMachine(w.context(), teamA, "node", "")
				assert.NoError(t, err)
				w.machines.remove(m)
				_, err = w.p.ReleaseCluster(w.context(), teamA, "cluster", "")
				assert.NoError(t, err)
			}
			err := ask(w, late, c, m)
			require.Nil(t, other.meanwhile, "nobody looked")
			require.ErrorContains(t, err, map[string]string{"network": "not found in project", "address": "was released meanwhile", "machine": "was released meanwhile"}[what])
			assert.Empty(t, w.adopters())
			w.gone(w.p)
		})
	}
}
