// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apiserver/pkg/warning"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// warned records the warnings of an answer.
type warned []string

func (w *warned) AddWarning(_, text string) { *w = append(*w, text) }

// dryRun is the dry run of the allocation of a machine.
func (env *environment) dryRun(name, cluster string) (warnings warned, err error) {
	ctx := warning.WithWarningRecorder(WithDryRun(env.context()), &warnings)
	_, err = env.p.AllocateMachine(ctx, teamA, name, body(cluster))
	return warnings, err
}

type machineSpec = infrastructure.MetalStackMachineSpec

func TestDryRun_RefusesWhatTheMetalAPIWould(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spec   func(*machineSpec)
		change func(*environment, *fakeOffers)
		want   string
	}{
		"granted":           {},
		"no machine":        {change: func(env *environment, _ *fakeOffers) { env.emptyFleet(simulator.SmallSize, 0) }, want: `no machine available: 0 of`},
		"unknown partition": {spec: func(s *machineSpec) { s.Partition = "muc-01" }, want: `spec.partition: Unsupported value: "muc-01"`},
		"unknown image":     {spec: func(s *machineSpec) { s.Image = "ubuntu-99.04" }, want: `spec.image: Unsupported value: "ubuntu-99.04"`},
		"image of firewall": {spec: func(s *machineSpec) { s.Image = simulator.FirewallImage }, want: "given image is not usable for a machine, features: firewall"},
		"unknown size":      {spec: func(s *machineSpec) { s.MachineType = "huge" }, want: `spec.machineType: Unsupported value: "huge"`},
		"unknown layout":    {spec: func(s *machineSpec) { s.FilesystemLayout = "nope" }, want: `spec.filesystemLayout: Unsupported value: "nope": supported values: "default-small", "manual"`},
		"new layout": {
			spec:   func(s *machineSpec) { s.FilesystemLayout = "new" },
			change: func(_ *environment, o *fakeOffers) { o.newLayouts = []*metal.FilesystemLayout{{ID: "new"}} },
		},
		"new layout that fits": {change: func(_ *environment, o *fakeOffers) {
			o.layouts, o.newLayouts = nil, o.layouts
		}},
		"layout by its id": {spec: func(s *machineSpec) { s.FilesystemLayout = "manual" }},
		"no layout": {
			change: func(_ *environment, o *fakeOffers) { o.layouts = o.layouts[1:] },
			want:   "could not find a matching filesystemLayout for size:" + simulator.SmallSize,
		},
		"image constraint": {
			change: func(_ *environment, o *fakeOffers) {
				o.constraints = []*metal.SizeImageConstraint{{Size: simulator.SmallSize, Images: map[string]string{"ubuntu": ">= 99.0"}}}
			},
			want: "does violate image constraint:ubuntu >= 99.0",
		},
		"unknown project": {change: func(_ *environment, o *fakeOffers) { o.project = nil }, want: "is not known to metal-stack"},
		"the operator's pause of the partition": {
			change: func(env *environment, _ *fakeOffers) {
				for range toleratedFailures + 1 {
					env.p.limiter.of(simulator.DefaultPartition)
					env.p.limiter.recordFailure(simulator.DefaultPartition)
				}
			},
			want: "backing off: allocations in partition",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := newEnvironment(t)
			env.allocatedCluster("cluster")
			offers := env.withOffers()
			env.machine("node", func(m *infrastructure.MetalStackMachine) {
				if c.spec != nil {
					c.spec(&m.Spec)
				}
			})
			if c.change != nil {
				c.change(env, offers)
			}
			before, calls := env.getMachine("node"), env.sim.CallsOf("machine-allocate")
			_, err := env.dryRun("node", "cluster")
			if c.want == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, c.want)
			}
			assert.Equal(t, before, env.getMachine("node"), "nothing is recorded")
			assert.Equal(t, calls, env.sim.CallsOf("machine-allocate"))
		})
	}
}

func TestDryRun_UnknownIsUnavailableAndNoYes(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.allocatedCluster("cluster")
	offers := env.withOffers()
	env.machine("node")
	offers.failing = &metal.Error{Kind: metal.Unavailable, Message: "connection refused"}
	_, err := env.dryRun("node", "cluster")
	require.True(t, apierrors.IsServiceUnavailable(err), "%v", err)
	offers.failing, offers.stale, offers.unobserved = nil, &metal.StaleError{Cause: metal.ErrTimeout}, true
	_, err = env.dryRun("node", "cluster")
	require.True(t, apierrors.IsServiceUnavailable(err), "machines were never observed: %v", err)
	offers.failing = &metal.Error{Kind: metal.Unavailable, Err: &metal.LookupLimitError{Namespace: teamA, RetryAfter: 3 * time.Second}}
	_, err = env.dryRun("node", "cluster")
	require.True(t, apierrors.IsTooManyRequests(err), "%v", err)
}

// Machines are counted again only if that was some time ago, which only a list of all of them does,
// and which counts as a look-up of the namespace. Beyond its limit, nothing more is asked.
func TestDryRun_CountsMachinesSeldomAndWithinTheNamespacesLimit(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.allocatedCluster("cluster")
	offers := env.withOffers()
	env.machine("node")
	_, err := env.dryRun("node", "cluster")
	require.NoError(t, err)
	assert.Zero(t, offers.refreshes.Load())
	offers.observed = longAgo
	_, err = env.dryRun("node", "cluster")
	require.NoError(t, err)
	assert.EqualValues(t, 1, offers.refreshes.Load())
	assert.Zero(t, offers.scans.Load(), "gets of machines count none that is free")
	asked := false
	offers.onReservations = func() { asked = true }
	offers.limit = &metal.Error{Kind: metal.Unavailable, Err: &metal.LookupLimitError{Namespace: teamA, RetryAfter: 3 * time.Second}}
	_, err = env.dryRun("node", "cluster")
	require.True(t, apierrors.IsTooManyRequests(err), "%v", err)
	assert.EqualValues(t, 1, offers.refreshes.Load())
	assert.False(t, asked)
	found := env.p.CheckMachine(env.context(), env.unrecorded())
	require.Len(t, found, 1, "that it has no networks is not found out")
	assert.Contains(t, found[0], infrastructure.AllocationUnknown)
}

func TestDryRun_NothingFreeNeedsNoReservations(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.allocatedCluster("cluster")
	offers := env.withOffers()
	env.machine("node")
	offers.onReservations = func() { offers.failing = errors.New("down") }
	_, err := env.dryRun("node", "cluster")
	require.True(t, apierrors.IsServiceUnavailable(err), "%v", err)
	offers.failing = nil
	env.emptyFleet(simulator.SmallSize, 0)
	_, err = env.dryRun("node", "cluster")
	require.ErrorContains(t, err, "no machine available: 0 of ")
}

func TestDryRun_SaysSinceWhenCapacityIsKnown(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.allocatedCluster("cluster")
	offers := env.withOffers()
	env.machine("node")
	offers.observed = longAgo // a refresh of the fleet need not be a list of all machines
	warnings, err := env.dryRun("node", "cluster")
	require.NoError(t, err)
	assert.Equal(t, warned{"free machines are those of 2026-11-22T11:00:00Z"}, warnings)
}

func TestDryRun_WarnsOfAnExpiredImageThatIsInstalledAllTheSame(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.allocatedCluster("cluster")
	offers := env.withOffers()
	offers.images = []*metal.Image{{ID: "debian-12.0.20240101", Alias: "debian-12.0", Features: []string{metal.FeatureMachine}, Expires: longAgo}}
	env.machine("node", func(m *infrastructure.MetalStackMachine) { m.Spec.Image = "debian-12.0" })
	warnings, err := env.dryRun("node", "cluster")
	require.NoError(t, err)
	assert.Equal(t, warned{`spec.image: image "debian-12.0.20240101" expired at 2026-11-22T11:00:00Z: metal-stack installs it all the same`}, warnings)
}

// The quota that the metal-api shows is not the one that it enforces (docs/metal-api.md, Q71).
func TestDryRun_WarnsOfAQuotaThatIsUsedUp(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.allocatedCluster("cluster")
	offers := env.withOffers()
	env.machine("node")
	offers.project.Machines = metal.Quota{Limit: new(int64(8)), Used: new(int64(7))}
	warnings, err := env.dryRun("node", "cluster")
	require.NoError(t, err)
	assert.Empty(t, warnings)
	offers.project.Machines.Used = new(int64(8))
	warnings, err = env.dryRun("node", "cluster")
	require.NoError(t, err)
	assert.Equal(t, warned{"the project has 8 of the 8 machines and firewalls of its quota: metal-stack may refuse another"}, warnings)
}

func TestDryRun_KnowsMachineThatIsBeingAllocated(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.allocatedCluster("cluster")
	env.withOffers()
	id := env.sim.MachineIDs()[0]
	env.machine("node", func(m *infrastructure.MetalStackMachine) {
		m.Spec.ProviderID = "metal://" + simulator.DefaultPartition + "/" + id
	})
	cancel, ok := env.p.reservations.reserve(id)
	require.True(t, ok)
	_, err := env.dryRun("node", "cluster")
	require.ErrorContains(t, err, "is being allocated for another object")
	cancel()
	_, err = env.dryRun("node", "cluster")
	require.NoError(t, err)
}

func TestDryRun_OfReleaseKnowsALock(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.allocatedCluster("cluster")
	m := env.allocatedMachine("node")
	require.NoError(t, env.sim.Lock(m.Status.Allocation.MachineID, "x"))
	_, dry := env.p.ReleaseMachine(WithDryRun(env.context()), teamA, "node", "")
	_, err := env.release(env.p, "node")
	require.Error(t, err)
	require.EqualError(t, dry, err.Error())
}

func TestDryRun_OfClusterKnowsFullNetworkAndUnknownPartition(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.withOffers()
	dryRun := func(name string) error {
		_, err := env.p.AllocateCluster(WithDryRun(env.context()), teamA, name, nil)
		return err
	}
	env.cluster("good")
	require.NoError(t, dryRun("good"))
	env.cluster("nowhere", func(c *infrastructure.MetalStackCluster) { c.Spec.Partition = "nowhere" })
	require.ErrorContains(t, dryRun("nowhere"), `spec.partition: Unsupported value: "nowhere"`)
	full := &metal.Network{ID: "internet", Prefixes: []string{"203.0.113.0/28"}, AvailableIPs: 16, UsedIPs: 16}
	assert.ErrorContains(t, checkAddressLeft(full), "no ips left: 16 of 16 addresses of network \"internet\" are used")
	full.Prefixes = []string{"2001:db8::/64"}
	assert.NoError(t, checkAddressLeft(full), "only IPv4 is counted")
	assert.NoError(t, checkAddressLeft(&metal.Network{ID: "internet", Prefixes: []string{"203.0.113.0/28"}, AvailableIPs: 16, UsedIPs: 15}))
}

// unrecorded is a machine of which there is no object.
func (env *environment) unrecorded(spec ...func(*machineSpec)) *infrastructure.MetalStackMachine {
	m := &infrastructure.MetalStackMachine{ObjectMeta: env.meta(teamA, "new"), Spec: machineSpec{
		Image: simulator.MachineImage, MachineType: simulator.SmallSize, Partition: simulator.DefaultPartition,
	}}
	m.UID = ""
	for _, s := range spec {
		s(&m.Spec)
	}
	return m
}

func TestCheckMachine_FindsEverythingForAnObjectThatDoesNotExist(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	network := env.allocatedCluster("cluster").Status.Allocation.NetworkID
	offers := env.withOffers()
	own := func(s *machineSpec) { s.Networks = []string{network} }
	finds := func() int { return env.sim.CallsOf("machine-find") + env.sim.CallsOf("network-find") }
	before := finds()
	assert.Empty(t, env.p.CheckMachine(env.context(), env.unrecorded(own)))
	assert.Equal(t, []string{infrastructure.AllocationNote + "the networks are those of the cluster, which are not known: set spec.networks"},
		env.p.CheckMachine(env.context(), env.unrecorded()))

	labeled := env.unrecorded()
	labeled.Labels = map[string]string{infrastructure.ClusterNameLabel: "cluster"}
	labeled.Spec.Partition = ""
	assert.Empty(t, env.p.CheckMachine(env.context(), labeled), "the cluster is known")
	labeled.Labels[infrastructure.ClusterNameLabel] = "unknown"
	assert.Len(t, env.p.CheckMachine(env.context(), labeled), 2, "partition and networks")

	env.emptyFleet(simulator.SmallSize, 0)
	offers.project.Machines = metal.Quota{Limit: new(int64(1)), Used: new(int64(1))}
	found := env.p.CheckMachine(env.context(), env.unrecorded(own, func(s *machineSpec) { s.Image = simulator.FirewallImage }))
	require.Len(t, found, 3, "%q", found)
	for i, want := range []string{
		infrastructure.AllocationWouldBeRefused + "spec.image: Invalid value", infrastructure.AllocationWouldBeRefused + "no machine available: 0 of ",
		infrastructure.AllocationNote + "the project has 1 of the 1 machines and firewalls of its quota",
	} {
		assert.True(t, strings.HasPrefix(found[i], want), found[i])
	}
	offers.failing = errors.New("down")
	for _, line := range env.p.CheckMachine(env.context(), env.unrecorded(own)) {
		assert.True(t, strings.HasPrefix(line, infrastructure.AllocationUnknown), line)
	}
	assert.Equal(t, before, finds(), "a tenant's check costs no find")
	_, err := env.machines.Get(env.context(), teamA, "new")
	assert.True(t, apierrors.IsNotFound(err))
}

func TestCheckMachine_ChecksNamedMachine(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	network := env.allocatedCluster("cluster").Status.Allocation.NetworkID
	env.withOffers()
	check := func(id string) []string {
		return env.p.CheckMachine(env.context(), env.unrecorded(func(s *machineSpec) {
			s.Networks, s.ProviderID = []string{network}, "metal://"+simulator.DefaultPartition+"/"+id
		}))
	}
	var small, large []string
	for _, m := range env.sim.Inventory().Machines {
		switch {
		case m.Allocated:
		case m.Size == simulator.SmallSize:
			small = append(small, m.ID)
		default:
			large = append(large, m.ID)
		}
	}
	assert.Empty(t, check(small[0]))
	finds := env.sim.CallsOf("machine-find")
	assert.Empty(t, env.p.CheckMachine(env.context(), env.unrecorded(func(s *machineSpec) {
		s.Networks, s.ProviderID, s.Partition = []string{network}, "metal:///"+small[0], ""
	})), "the partition is that of the machine")
	assert.Equal(t, finds, env.sim.CallsOf("machine-find"))
	cancel, ok := env.p.reservations.reserve(small[0])
	require.True(t, ok)
	assert.Contains(t, fmt.Sprint(check(small[0])), "is being allocated for another object")
	cancel()
	assert.Contains(t, fmt.Sprint(check(large[0])), "must have the size of spec.machineType")
	require.NoError(t, env.sim.Lock(small[1], "x"))
	assert.Contains(t, fmt.Sprint(check(small[1])), `state "LOCKED" (must be empty)`)
	unknown := fmt.Sprint(check("00000000-0000-4000-8000-00000000ffff"))
	foreign, err := env.sim.AllocateNetworkFor(simulator.ProjectB, simulator.DefaultPartition, "theirs", nil)
	require.NoError(t, err)
	theirs, err := env.sim.AllocateFor(simulator.AllocateRequest{
		Project: simulator.ProjectB, Name: "theirs", Hostname: "theirs", Size: simulator.SmallSize, Partition: simulator.DefaultPartition, Networks: []string{foreign},
	})
	require.NoError(t, err)
	assert.Equal(t, strings.ReplaceAll(unknown, "00000000-0000-4000-8000-00000000ffff", theirs), fmt.Sprint(check(theirs)), "another project's is as unknown as none")
}

func TestCheckMachine_ChecksWhichNetworksGoTogether(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	offers := env.withOffers()
	network := func(project, partition string) string {
		id, err := env.sim.AllocateNetworkFor(project, partition, "n", nil)
		require.NoError(t, err)
		return id
	}
	own, second := network(simulator.ProjectA, simulator.DefaultPartition), network(simulator.ProjectA, simulator.DefaultPartition)
	foreign := network(simulator.ProjectB, simulator.DefaultPartition)
	nowhere := network(simulator.ProjectA, simulator.DefaultPartition)
	n, err := env.client.Network(env.context(), nowhere)
	require.NoError(t, err)
	n.Partition = ""
	offers.networks = map[string]*metal.Network{nowhere: n}
	for want, networks := range map[string][]string{
		"":                         {own},
		" ":                        {own, simulator.InternetNetwork},
		"no private network given": {simulator.InternetNetwork},
		"multiple private networks are specified": {own, second},
		"not found in project":                    {own, foreign},
		"must be located in the partition":        {nowhere},
	} {
		found := env.p.CheckMachine(env.context(), env.unrecorded(func(s *machineSpec) { s.Networks = networks }))
		if strings.TrimSpace(want) == "" {
			assert.Empty(t, found, "%q", networks)
			continue
		}
		require.Len(t, found, 1, "%q", networks)
		assert.Contains(t, found[0], want)
	}
}

func TestCheckMachine_KnowsThePauseOfThePartition(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	network := env.allocatedCluster("cluster").Status.Allocation.NetworkID
	env.withOffers()
	for range toleratedFailures + 1 {
		env.p.limiter.recordFailure(simulator.DefaultPartition)
	}
	found := env.p.CheckMachine(env.context(), env.unrecorded(func(s *machineSpec) { s.Networks = []string{network} }))
	require.Len(t, found, 1)
	assert.Contains(t, found[0], infrastructure.AllocationWouldBeRefused+"backing off: allocations in partition")
}

func TestCheckMachine_AnswersLines(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	offers := env.withOffers()
	offers.images = []*metal.Image{{ID: "debian-12.0.20240101", Alias: "debian-12.0", Features: []string{"any\nthing", strings.Repeat("x", maxLine)}}}
	found := env.p.CheckMachine(env.context(), env.unrecorded(func(s *machineSpec) { s.Image = "debian-12.0" }))
	require.NotEmpty(t, found)
	for _, line := range found {
		assert.NotContains(t, line, "\n")
		assert.LessOrEqual(t, len(line), maxLine)
	}
}

func TestCheckMachine_ImageConstraintsThatWereNeverReadAreUnknown(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	network := env.allocatedCluster("cluster").Status.Allocation.NetworkID
	offers := env.withOffers()
	check := func() []string {
		return env.p.CheckMachine(env.context(), env.unrecorded(func(s *machineSpec) { s.Networks = []string{network} }))
	}
	offers.constraintsErr = &metal.StaleError{Since: longAgo, Cause: errors.New("down")}
	assert.Empty(t, check(), "they are old")
	offers.unloaded = true
	found := check()
	require.Len(t, found, 1)
	assert.Contains(t, found[0], infrastructure.AllocationUnknown)
}

func TestCheckMachine_IsLimited(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	offers := env.withOffers()
	offers.observed, offers.started, offers.proceed = longAgo, make(chan struct{}), make(chan struct{})
	done := make(chan []string)
	for range maxNamespaceChecks {
		go func() { done <- env.p.CheckMachine(env.context(), env.unrecorded()) }()
		<-offers.started
	}
	ended, cancel := context.WithCancel(env.context())
	cancel()
	assert.Equal(t, []string{infrastructure.AllocationUnknown + "too many checks at a time: retry"}, env.p.CheckMachine(ended, env.unrecorded()))
	close(offers.proceed)
	for range maxNamespaceChecks {
		<-done
	}
}
