// SPDX-License-Identifier: Apache-2.0

package projection

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/runtime"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// catalogue is what a test says that the metal-api offers.
type catalogue struct {
	sizes        map[string]*metal.Size
	images       []*metal.Image
	partitions   map[string]*metal.Partition
	projects     map[string]*metal.Project
	reservations []*metal.Reservation
	constraints  []*metal.SizeImageConstraint
}

func (c *catalogue) Size(id string) *metal.Size           { return c.sizes[id] }
func (c *catalogue) Partition(id string) *metal.Partition { return c.partitions[id] }
func (c *catalogue) Project(id string) *metal.Project     { return c.projects[id] }
func (c *catalogue) Image(id string) *metal.Image {
	for _, i := range c.images {
		if i.ID == id {
			return i
		}
	}
	return nil
}
func (c *catalogue) NewestImage(alias string) *metal.Image {
	return metal.NewNewestImages(c.images).Of(alias)
}
func (c *catalogue) Reservations() []*metal.Reservation                 { return c.reservations }
func (c *catalogue) SizeImageConstraints() []*metal.SizeImageConstraint { return c.constraints }

// capacities are those of all machines that a test says there are.
type capacities []*metal.Machine

func (all capacities) Capacities(partition string) []metal.Capacity {
	var found []metal.Capacity
	for _, size := range []string{"v1-small-x86", "c1-large-x86"} {
		c := metal.Capacity{Partition: partition, Size: size}
		for _, m := range all {
			if m.Partition == partition && m.Size == size {
				c.Add(m)
			}
		}
		found = append(found, c)
	}
	return found
}

func (all capacities) AllocatedOf(project, partition, size string) int {
	n := 0
	for _, m := range all {
		if m.Project() == project && (partition == "" || m.Partition == partition) && (size == "" || m.Size == size) {
			n++
		}
	}
	return n
}

func waitingMachine(size string) *metal.Machine {
	return &metal.Machine{Partition: "fra-01", Size: size, Liveliness: metal.LivelinessAlive, Events: []metal.Event{{Event: metal.EventWaiting}}}
}

func machineOf(project, size string) *metal.Machine {
	m := waitingMachine(size)
	m.Allocation = &metal.Allocation{Project: project, Role: metal.RoleMachine}
	return m
}

const projectB = "10000000-0000-4000-8000-00000000000b"

func discoverOne[T runtime.Object](t *testing.T, p interface {
	Discovered(metal.Ref) (runtime.Object, []metal.Ref)
}, ref metal.Ref) T {
	t.Helper()
	obj, refs := p.Discovered(ref)
	require.NotNil(t, obj)
	require.Empty(t, refs, "no record can have it")
	again, _ := p.Discovered(ref)
	require.Equal(t, obj, again, "the same about the same")
	return obj.(T)
}

func TestProjectProjector_ShowsQuotasAndReservations(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	offers := &catalogue{
		projects: map[string]*metal.Project{
			projectA: {
				ID: projectA, Name: "team a", Description: "of team a", Tenant: "metal-stack", Created: created,
				Machines: metal.Quota{Limit: new(int64(20)), Used: new(int64(7))}, Addresses: metal.Quota{Used: new(int64(5))},
			},
			"unbound": {ID: "unbound"},
		},
		reservations: []*metal.Reservation{
			{ID: "res-a", Project: projectA, Size: "v1-small-x86", Partitions: []string{"fra-01"}, Amount: 4},
			{ID: "res-c", Project: projectA, Size: "v1-small-x86", Partitions: []string{"fra-01"}, Amount: 1},
			{ID: "res-b", Project: projectB, Size: "v1-small-x86", Partitions: []string{"fra-01"}, Amount: 2},
		},
	}
	machines := capacities{machineOf(projectA, "v1-small-x86"), machineOf(projectA, "v1-small-x86"), machineOf(projectA, "c1-large-x86"), machineOf(projectB, "v1-small-x86")}
	f.source.Catalogue, f.source.Capacities = offers, machines
	p := NewProjectProjector(f.source)

	shown := discoverOne[*infrastructure.MetalStackProject](t, p, metal.Ref{Kind: metal.KindProject, ID: projectA})
	require.Equal(t, namespaceA, shown.Namespace)
	require.Equal(t, projectA, shown.Name)
	require.NotEmpty(t, shown.UID)
	require.Equal(t, created.Truncate(time.Second), shown.CreationTimestamp.Time)
	require.Equal(t, infrastructure.MetalStackProjectStatus{
		ProjectID: projectA, DisplayName: "team a", Description: "of team a", Tenant: "metal-stack",
		Quotas: []infrastructure.ProjectQuota{
			{Resource: "machines", Limit: new(int64(20)), Used: new(int64(3))},
			{Resource: "addresses", Used: new(int64(5))},
		},
		Reservations: []infrastructure.SizeReservation{
			{Size: "v1-small-x86", Partition: "fra-01", Amount: 1, Used: 1},
			{Size: "v1-small-x86", Partition: "fra-01", Amount: 4, Used: 2},
		},
	}, shown.Status)

	for _, ref := range []metal.Ref{{Kind: metal.KindProject, ID: "unbound"}, {Kind: metal.KindProject, ID: projectB}, {Kind: metal.KindSize, ID: projectA}} {
		obj, _ := p.Discovered(ref)
		require.Nil(t, obj, "not bound, not known, not a project: %s", ref)
	}
}

// The metal-api itself would count the machine that crashes and the one that is off as free.
func TestPartitionProjector_ShowsWhatCanBeHad(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	crashing, off, locked := waitingMachine("v1-small-x86"), waitingMachine("v1-small-x86"), waitingMachine("v1-small-x86")
	crashing.CrashLoop, off.Liveliness, locked.State = true, metal.LivelinessDead, metal.StateLocked
	offers := &catalogue{partitions: map[string]*metal.Partition{
		"fra-01": {ID: "fra-01", Name: "Frankfurt 01", Description: "test partition", Labels: map[string]string{"region": "fra"}},
	}}
	machines := capacities{
		machineOf(projectA, "v1-small-x86"), machineOf(projectA, "v1-small-x86"), machineOf(projectB, "v1-small-x86"),
		waitingMachine("v1-small-x86"), waitingMachine("v1-small-x86"), crashing, off, locked,
	}
	f.source.Catalogue, f.source.Capacities = offers, machines
	p := NewPartitionProjector(f.source)
	ref := metal.Ref{Kind: metal.KindPartition, ID: "fra-01"}

	shown := discoverOne[*infrastructure.MetalStackPartition](t, p, ref)
	require.Empty(t, shown.Namespace)
	require.Equal(t, "fra-01", shown.Name)
	require.Equal(t, infrastructure.MetalStackPartitionStatus{
		PartitionID: "fra-01", DisplayName: "Frankfurt 01", Description: "test partition", Labels: map[string]string{"region": "fra"},
		Capacity: []infrastructure.SizeCapacity{{Size: "v1-small-x86", Total: 8, Allocated: 3, Free: 2, Available: 2, Faulty: 2, Unavailable: 1}},
	}, shown.Status, "sizes without a machine are left out")

	offers.reservations = []*metal.Reservation{
		{Project: projectB, Size: "v1-small-x86", Partitions: []string{"fra-01"}, Amount: 2},
		{Project: projectB, Size: "v1-small-x86", Partitions: []string{"muc-01"}, Amount: 9},
	}
	c := discoverOne[*infrastructure.MetalStackPartition](t, p, ref).Status.Capacity[0]
	require.EqualValues(t, []int64{2, 1, 1}, []int64{c.Free, c.Reserved, c.Available})
	require.Equal(t, c.Total, c.Allocated+c.Free+c.Faulty+c.Unavailable)
}

func TestSizeProjector_ShowsHardwareAndImages(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.source.Catalogue = &catalogue{
		sizes: map[string]*metal.Size{
			"g1-large-x86": {ID: "g1-large-x86", Name: "large", Constraints: []metal.SizeConstraint{
				{Type: "gpu", Identifier: "Matrox*", Min: 1, Max: 1}, {Type: "gpu", Identifier: "AD102GL*", Min: 2, Max: 4},
				{Type: "cores", Min: 12, Max: 16}, {Type: "memory", Min: 64 << 30, Max: 128 << 30},
				{Type: "storage", Identifier: "/dev/sd*", Min: 1e12, Max: 2e12}, {Type: "storage", Identifier: "/dev/nvme*", Min: 5e11, Max: 5e11},
			}},
			"bare":  {ID: "bare"},
			"a/b":   {ID: "a/b"},
			"a%2fb": {ID: "a%2fb"},
		},
		constraints: []*metal.SizeImageConstraint{
			{Size: "other", Images: map[string]string{"alpine": "*"}},
			{Size: "g1-large-x86", Images: map[string]string{"ubuntu": ">= 24.04", "debian": "12"}},
		},
	}
	p := NewSizeProjector(f.source)
	status := discoverOne[*infrastructure.MetalStackSize](t, p, metal.Ref{Kind: metal.KindSize, ID: "g1-large-x86"}).Status
	shown := func(r *infrastructure.SizeRange) string { return r.Min.String() + " " + r.Max.String() }
	require.Equal(t, "12 16", shown(status.Cores))
	require.Equal(t, "64Gi 128Gi", shown(status.Memory))
	require.Equal(t, "1500G 2500G", shown(status.Storage), "the sum over what the size splits")
	require.Equal(t, []infrastructure.SizeGPU{{Model: "AD102GL*", Min: 2, Max: 4}, {Model: "Matrox*", Min: 1, Max: 1}}, status.GPUs)
	require.Equal(t, []infrastructure.SizeImageConstraint{{OS: "debian", Versions: "12"}, {OS: "ubuntu", Versions: ">= 24.04"}}, status.Images)

	require.Equal(t, infrastructure.MetalStackSizeStatus{SizeID: "bare"},
		discoverOne[*infrastructure.MetalStackSize](t, p, metal.Ref{Kind: metal.KindSize, ID: "bare"}).Status)
	for _, id := range []string{"a/b", "a%2fb"} {
		obj, _ := p.Discovered(metal.Ref{Kind: metal.KindSize, ID: id})
		require.Nil(t, obj, "%s is no name of an object", id)
	}
}

func TestImageProjector_SplitsTheIDAndSaysWhichIsNewest(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.source.Catalogue = &catalogue{images: []*metal.Image{
		{
			ID: "firewall-ubuntu-3.0.20250701", Alias: "firewall-ubuntu-3.0", Name: "Firewall", Features: []string{"firewall"},
			Classification: "deprecated", Expires: created,
		},
		{ID: "firewall-ubuntu-3.0.20260101", Alias: "firewall-ubuntu-3.0"},
		{ID: "odd", Alias: "odd"},
	}}
	p := NewImageProjector(f.source)
	status := func(id string) infrastructure.MetalStackImageStatus {
		return discoverOne[*infrastructure.MetalStackImage](t, p, metal.Ref{Kind: metal.KindImage, ID: id}).Status
	}
	old := status("firewall-ubuntu-3.0.20250701")
	require.Equal(t, infrastructure.MetalStackImageStatus{
		ImageID: "firewall-ubuntu-3.0.20250701", DisplayName: "Firewall", OS: "firewall-ubuntu", Version: "3.0.20250701",
		Alias: "firewall-ubuntu-3.0", Features: []string{"firewall"}, Classification: "deprecated", ExpirationTime: toSeconds(created),
	}, old)
	require.True(t, status("firewall-ubuntu-3.0.20260101").Newest)
	require.Equal(t, infrastructure.MetalStackImageStatus{ImageID: "odd", OS: "odd", Alias: "odd"}, status("odd"))
}

func TestCatalogueProjectors_ShowNothingWithoutACatalogue(t *testing.T) {
	t.Parallel()
	s := newFixture(t).source
	for _, p := range []interface {
		Kind() metal.RefKind
		Discovered(metal.Ref) (runtime.Object, []metal.Ref)
	}{NewProjectProjector(s), NewPartitionProjector(s), NewSizeProjector(s), NewImageProjector(s)} {
		obj, refs := p.Discovered(metal.Ref{Kind: p.Kind(), ID: projectA})
		require.Nil(t, obj)
		require.Empty(t, refs)
	}
}

// A machine that changes is no reason to project anything of the catalogue: the observer reports
// its partition and its project.
func TestCatalogueProjectors_ShowNothingOfASingleMachine(t *testing.T) {
	t.Parallel()
	f := newTenants(t)
	m := phonedHome()
	f.facts.machines[m.ID] = m
	f.source.Catalogue, f.source.Capacities = &catalogue{}, capacities{m}
	ref := metal.Ref{Kind: metal.KindMachine, ID: m.ID}
	networks := NewNetworkProjector(f.source)
	require.Empty(t, networks.Expand(ref))
	for _, p := range []interface {
		Discovered(metal.Ref) (runtime.Object, []metal.Ref)
	}{NewProjectProjector(f.source), NewPartitionProjector(f.source), NewSizeProjector(f.source), NewImageProjector(f.source), networks, NewIPProjector(f.source)} {
		obj, refs := p.Discovered(ref)
		require.Nil(t, obj)
		require.Empty(t, refs)
	}
}
