// SPDX-License-Identifier: Apache-2.0

package projection

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/tenancy"
)

const namespaceB = "team-b"

// newTenants is a fixture with two bound namespaces.
func newTenants(t testing.TB) *fixture {
	t.Helper()
	f := newFixture(t)
	bindings, err := tenancy.NewStatic([]string{namespaceA + "=" + projectA, namespaceB + "=" + projectB})
	require.NoError(t, err)
	f.source.Bindings = bindings
	f.source.BoundProjects = func() []string { return []string{projectA, projectB} }
	return f
}

// recordsBy are the holders of metal.
type recordsBy map[metal.Ref][]runtime.Object

func (r recordsBy) of(ref metal.Ref) []runtime.Object { return r[ref] }

func (r recordsBy) add(p interface {
	Refs(runtime.Object) []metal.Ref
}, record runtime.Object) {
	for _, ref := range p.Refs(record) {
		r[ref] = append(r[ref], record)
	}
}

// expanded are the refs that a network is expanded to.
func expanded(p *NetworkProjector, id string) (refs []metal.Ref) {
	for _, e := range p.Expand(metal.Ref{Kind: metal.KindNetwork, ID: id}) {
		refs = append(refs, e.Ref)
	}
	return refs
}

// What is equal has not to be projected again.
func TestNetworkProjector_ExpandedRefsDifferOnlyIfTheyShowSomethingElse(t *testing.T) {
	t.Parallel()
	f := newTenants(t)
	n := privateNetwork()
	n.Shared, n.Project = true, projectA
	p := NewNetworkProjector(f.source)
	observe := func(edit func(*metal.Network)) map[string]metal.ExpandedRef {
		again := *n
		edit(&again)
		n = &again
		f.facts.networks[n.ID] = n
		in := map[string]metal.ExpandedRef{}
		for _, e := range p.Expand(metal.Ref{Kind: metal.KindNetwork, ID: n.ID}) {
			in[e.Namespace] = e
			p.Discovered(e.Ref)
		}
		return in
	}
	before := observe(func(*metal.Network) {})
	used := observe(func(n *metal.Network) { n.UsedIPs++ })
	require.NotEqual(t, before[namespaceA].Shows, used[namespaceA].Shows, "its project's own")
	require.Same(t, before[namespaceB].Shows, used[namespaceB].Shows)
	prefixes := observe(func(n *metal.Network) { n.Prefixes = []string{"10.0.0.0/16"} })
	require.NotSame(t, used[namespaceB].Shows, prefixes[namespaceB].Shows)
	obj, _ := p.Discovered(networkIn(projectB, n.ID))
	require.Equal(t, []string{"10.0.0.0/16"}, obj.(*infrastructure.MetalStackNetwork).Status.Prefixes)
}

// A network that was freed may be another project's by now.
func TestNetworkProjector_ClaimShowsNothingOfAnotherProject(t *testing.T) {
	t.Parallel()
	f := newTenants(t)
	n := privateNetwork()
	f.facts.networks[n.ID] = n
	p := NewNetworkProjector(f.source)
	record := networkRecord(infrastructure.AllocationAllocated)
	own := p.Project(record, nil).(*infrastructure.MetalStackNetwork)
	require.True(t, own.Status.Ready)
	foreign := *n
	foreign.Project, foreign.Name = projectB, "of-project-b"
	f.facts.networks[n.ID] = &foreign
	shown := p.Project(record, own).(*infrastructure.MetalStackNetwork)
	ready := meta.FindStatusCondition(shown.Status.Conditions, infrastructure.ConditionReady)
	require.Equal(t, infrastructure.ReasonNetworkGone, ready.Reason)
	require.Equal(t, "Network net-1 is not of the project of this namespace.", ready.Message)
	shown.Status.Conditions, shown.Status.Allocation = nil, nil
	require.Equal(t, infrastructure.MetalStackNetworkStatus{Managed: true, NetworkID: "net-1"}, shown.Status)

	record.Namespace = "not-bound-yet"
	shown = p.Project(record, nil).(*infrastructure.MetalStackNetwork)
	require.Equal(t, infrastructure.ReasonNotObserved, meta.FindStatusCondition(shown.Status.Conditions, infrastructure.ConditionReady).Reason)
}

func privateNetwork() *metal.Network {
	return &metal.Network{
		ID: "net-1", Name: "prod", Description: "MetalStackCluster team-a/prod", Project: projectA, Partition: "fra-01", ParentNetworkID: "super",
		Prefixes: []string{"2001:db8::/64", "10.0.0.0/22"}, DestinationPrefixes: []string{"10.8.0.0/16"}, VRF: 23, Created: created,
		AvailableIPs: 1024, UsedIPs: 5,
		Labels: map[string]string{
			metal.TagUID: "uid-of-prod", metal.TagNamespace: namespaceA, metal.TagName: "prod", metal.TagCluster: "id-of-prod",
			metal.TagManagementCluster: "elsewhere",
		},
	}
}

func inNamespace(namespace, name string, uid types.UID) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: namespace, Name: name, UID: uid, Generation: 1, CreationTimestamp: metav1.NewTime(created.Truncate(time.Second))}
}

func TestNetworkProjector_ShowsOwnNetworksWhole(t *testing.T) {
	t.Parallel()
	f := newTenants(t)
	n := privateNetwork()
	f.facts.networks[n.ID] = n
	p := NewNetworkProjector(f.source)
	require.Equal(t, []metal.Ref{networkIn(projectA, n.ID)}, expanded(p, n.ID))

	obj, refs := p.Discovered(networkIn(projectA, n.ID))
	shown := obj.(*infrastructure.MetalStackNetwork)
	require.Equal(t, []metal.Ref{{Kind: metal.KindNetworkClaim, ID: "net-1"}, {Kind: metal.KindUID, ID: "uid-of-prod"}}, refs)
	require.Equal(t, namespaceA+"/net-1", shown.Namespace+"/"+shown.Name)
	require.Equal(t, infrastructure.MetalStackNetworkStatus{
		Ready: true, NetworkID: "net-1", DisplayName: "prod", Description: "MetalStackCluster team-a/prod", Type: infrastructure.NetworkPrivate,
		Partition: "fra-01", Prefixes: []string{"10.0.0.0/22", "2001:db8::/64"}, DestinationPrefixes: []string{"10.8.0.0/16"}, VRF: 23, ParentNetworkID: "super",
		AvailableIPs: new(int64(1024)), UsedIPs: new(int64(5)),
		Users: []infrastructure.MetalUser{{Kind: "MetalStackCluster", Namespace: namespaceA, Name: "prod", ClusterID: "id-of-prod"}},
	}, shown.Status)

	obj, _ = p.Discovered(networkIn(projectB, n.ID))
	require.Nil(t, obj, "another project's")
}

// What a network that is not the project's own shows is a positive list.
func TestNetworkProjector_ShowsOthersNetworksAsFarAsASpecNeeds(t *testing.T) {
	t.Parallel()
	f := newTenants(t)
	shared := privateNetwork()
	shared.Shared, shared.NAT = true, true
	external := &metal.Network{
		ID: "internet", Name: "Internet", Description: "of the provider", Prefixes: []string{"203.0.113.0/24"}, DestinationPrefixes: []string{"0.0.0.0/0"}, NAT: true,
		VRF: 104009, AvailableIPs: 254, UsedIPs: 30, Labels: map[string]string{metal.TagCluster: "x"},
	}
	f.facts.networks[shared.ID], f.facts.networks[external.ID] = shared, external
	p := NewNetworkProjector(f.source)
	require.Equal(t, []metal.Ref{networkIn(projectA, "internet"), networkIn(projectB, "internet")}, expanded(p, "internet"))
	require.Equal(t, []metal.Ref{networkIn(projectA, "net-1"), networkIn(projectB, "net-1")}, expanded(p, "net-1"))

	obj, refs := p.Discovered(networkIn(projectB, shared.ID))
	require.Empty(t, refs, "a claim of another namespace does not hide it")
	require.Equal(t, &infrastructure.MetalStackNetwork{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespaceB, Name: "net-1", Generation: 1, UID: obj.(*infrastructure.MetalStackNetwork).UID},
		Status: infrastructure.MetalStackNetworkStatus{
			Ready: true, NetworkID: "net-1", Type: infrastructure.NetworkPrivateShared, Partition: "fra-01", NAT: true,
			Prefixes: []string{"10.0.0.0/22", "2001:db8::/64"}, DestinationPrefixes: []string{"10.8.0.0/16"},
		},
	}, obj, "nor when it was created")

	in := map[string]*infrastructure.MetalStackNetwork{}
	for _, project := range []string{projectA, projectB} {
		obj, _ := p.Discovered(networkIn(project, "internet"))
		in[project] = obj.(*infrastructure.MetalStackNetwork)
		require.Equal(t, infrastructure.MetalStackNetworkStatus{
			Ready: true, NetworkID: "internet", DisplayName: "Internet", Description: "of the provider", Type: infrastructure.NetworkExternal, NAT: true,
			Prefixes: []string{"203.0.113.0/24"}, DestinationPrefixes: []string{"0.0.0.0/0"},
		}, in[project].Status)
	}
	require.NotEqual(t, in[projectA].UID, in[projectB].UID)
}

func TestNetworkProjector_ShowsNoUnderlayAndNoSuperNetwork(t *testing.T) {
	t.Parallel()
	f := newTenants(t)
	f.facts.networks["underlay"] = &metal.Network{ID: "underlay", Underlay: true}
	f.facts.networks["super"] = &metal.Network{ID: "super", PrivateSuper: true, Partition: "fra-01"}
	f.facts.networks["unbound"] = &metal.Network{ID: "unbound", Project: "20000000-0000-4000-8000-00000000000c."}
	f.facts.gone["gone"] = true
	p := NewNetworkProjector(f.source)
	for _, id := range []string{"underlay", "super", "unbound", "gone", "unobserved"} {
		require.Empty(t, p.Expand(metal.Ref{Kind: metal.KindNetwork, ID: id}), id)
		obj, _ := p.Discovered(networkIn(projectA, id))
		require.Nil(t, obj, id)
	}
	require.Empty(t, p.Expand(metal.Ref{Kind: metal.KindIP, ID: "net-1"}))
	obj, _ := p.Discovered(metal.Ref{Kind: metal.KindNetwork, ID: "net-1"})
	require.Nil(t, obj, "only what it is expanded to is shown")
}

func TestNetworkProjector_NamesUsers(t *testing.T) {
	t.Parallel()
	allocated := func(kind string, uid types.UID) runtime.Object {
		state := infrastructure.AllocationState{Phase: infrastructure.AllocationAllocated, UID: uid}
		if kind == "MetalStackNetwork" {
			o := &infrastructure.MetalStackNetwork{ObjectMeta: inNamespace(namespaceA, "shared", uid)}
			o.Status.Allocation = &infrastructure.NetworkAllocation{AllocationState: state, NetworkID: "net-1"}
			return o
		}
		o := &infrastructure.MetalStackCluster{ObjectMeta: inNamespace(namespaceA, "prod", uid)}
		o.Status.Allocation = &infrastructure.ClusterAllocation{AllocationState: state, NetworkID: "net-1"}
		return o
	}
	prod := infrastructure.MetalUser{Kind: "MetalStackCluster", Namespace: namespaceA, Name: "prod", ClusterID: "uid-of-prod"}
	for name, c := range map[string]struct {
		labels  map[string]string
		records []runtime.Object
		want    []infrastructure.MetalUser
	}{
		"nothing":                       {labels: map[string]string{"a": "b"}},
		"a cluster's record":            {records: []runtime.Object{allocated("MetalStackCluster", "uid-of-prod")}, want: []infrastructure.MetalUser{prod}},
		"a record of the same identity": {labels: privateNetwork().Labels, records: []runtime.Object{allocated("MetalStackCluster", "uid-of-prod")}, want: []infrastructure.MetalUser{prod}},
		"a cluster that adopted another's": {
			labels:  map[string]string{metal.TagUID: "x", metal.TagNamespace: "far", metal.TagName: "away", metal.TagCluster: "y"},
			records: []runtime.Object{allocated("MetalStackCluster", "uid-of-prod")},
			want:    []infrastructure.MetalUser{{Kind: "MetalStackCluster", Namespace: "far", Name: "away", ClusterID: "y"}, prod},
		},
		"a claim elsewhere": {
			labels: map[string]string{metal.TagUID: "x", metal.TagNamespace: "far", metal.TagName: "away", metal.TagKind: "MetalStackNetwork"},
			want:   []infrastructure.MetalUser{{Kind: "MetalStackNetwork", Namespace: "far", Name: "away"}},
		},
		"a cluster that is not ours": {
			labels: map[string]string{metal.TagCluster: "shoot"}, want: []infrastructure.MetalUser{{Kind: "Cluster", ClusterID: "shoot"}},
		},
		"two records": {
			records: []runtime.Object{allocated("MetalStackNetwork", "uid-of-shared"), allocated("MetalStackCluster", "uid-of-prod")},
			want:    []infrastructure.MetalUser{prod, {Kind: "MetalStackNetwork", Namespace: namespaceA, Name: "shared"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newTenants(t)
			n := privateNetwork()
			n.Labels = c.labels
			f.facts.networks[n.ID] = n
			p := NewNetworkProjector(f.source)
			records := recordsBy{}
			for _, r := range c.records {
				records.add(NewClusterProjector(f.source), r)
				records.add(p, r)
			}
			p.SetHolders(records.of)
			obj, _ := p.Discovered(networkIn(projectA, n.ID))
			require.Equal(t, c.want, obj.(*infrastructure.MetalStackNetwork).Status.Users)
		})
	}
}

func networkRecord(phase infrastructure.AllocationPhase) *infrastructure.MetalStackNetwork {
	n := &infrastructure.MetalStackNetwork{
		ObjectMeta: inNamespace(namespaceA, "shared", "uid-of-shared"),
		Spec:       infrastructure.MetalStackNetworkSpec{Partition: "fra-01"},
	}
	if phase != "" {
		began := metav1.NewTime(created.Truncate(time.Second))
		n.Status.Allocation = &infrastructure.NetworkAllocation{
			AllocationState: infrastructure.AllocationState{Phase: phase, UID: n.UID, StartTime: &began},
		}
		if phase != infrastructure.AllocationAllocating {
			n.Status.Allocation.NetworkID = "net-1"
		}
	}
	return n
}

func TestNetworkProjector_RefsOfClaim(t *testing.T) {
	t.Parallel()
	p := NewNetworkProjector(newTenants(t).source)
	network, claimed, uid := metal.Ref{Kind: metal.KindNetwork, ID: "net-1"}, metal.Ref{Kind: metal.KindNetworkClaim, ID: "net-1"}, metal.Ref{Kind: metal.KindUID, ID: "uid-of-shared"}
	for phase, want := range map[infrastructure.AllocationPhase][]metal.Ref{
		"":                                  nil,
		infrastructure.AllocationAllocating: {uid},
		infrastructure.AllocationAllocated:  {network, claimed},
		infrastructure.AllocationReleasing:  {network, claimed, uid},
		infrastructure.AllocationReleased:   nil,
	} {
		require.Equal(t, want, p.Refs(networkRecord(phase)), phase)
	}
	named := networkRecord("")
	named.Spec.NetworkID = "net-1"
	require.Empty(t, p.Refs(named), "naming a network is not having it")
}

func TestNetworkProjector_ClaimThroughItsLife(t *testing.T) {
	t.Parallel()
	f := newTenants(t)
	p := NewNetworkProjector(f.source)
	var shown *infrastructure.MetalStackNetwork
	project := func(phase infrastructure.AllocationPhase) (ready metav1.Condition) {
		record := networkRecord(phase)
		before := record.DeepCopy()
		if shown == nil {
			shown = p.Project(record, nil).(*infrastructure.MetalStackNetwork)
		} else {
			shown = p.Project(record, shown).(*infrastructure.MetalStackNetwork)
		}
		require.Equal(t, before, record, "Project must not modify the record")
		require.True(t, shown.Status.Managed)
		stripped := shown.DeepCopy()
		p.Strip(stripped)
		require.Empty(t, stripped.Status.Users)
		require.Empty(t, stripped.Status.NetworkID)
		require.Equal(t, record.Status.Allocation, stripped.Status.Allocation)
		c := meta.FindStatusCondition(shown.Status.Conditions, infrastructure.ConditionReady)
		require.NotNil(t, c)
		require.Equal(t, c.Status == metav1.ConditionTrue, shown.Status.Ready)
		return *c
	}
	require.Equal(t, infrastructure.ReasonNotAllocated, project("").Reason)
	require.Equal(t, infrastructure.ReasonAllocating, project(infrastructure.AllocationAllocating).Reason)
	require.Equal(t, infrastructure.ReasonAllocating, project(infrastructure.AllocationAllocated).Reason, "not observed yet")
	n := privateNetwork()
	n.Labels = map[string]string{metal.TagUID: "uid-of-shared", metal.TagNamespace: namespaceA, metal.TagName: "shared", metal.TagKind: "MetalStackNetwork"}
	f.facts.networks[n.ID] = n
	ready := project(infrastructure.AllocationAllocated)
	require.Equal(t, infrastructure.ReasonAvailable, ready.Reason)
	require.Equal(t, "Network net-1 is available.", ready.Message)
	require.EqualValues(t, 1024, *shown.Status.AvailableIPs)
	require.Empty(t, shown.Status.Users, "it is not its own user")
	require.True(t, meta.IsStatusConditionTrue(shown.Status.Conditions, infrastructure.ConditionAllocated))

	delete(f.facts.networks, n.ID)
	require.Equal(t, ready, project(infrastructure.AllocationAllocated), "not observing it proves nothing")
	require.EqualValues(t, 1024, *shown.Status.AvailableIPs)
	f.facts.gone[n.ID] = true
	require.Equal(t, infrastructure.ReasonNetworkGone, project(infrastructure.AllocationAllocated).Reason)
	require.False(t, meta.IsStatusConditionTrue(shown.Status.Conditions, infrastructure.ConditionAllocated))
	require.Equal(t, infrastructure.ReasonReleasing, project(infrastructure.AllocationReleasing).Reason)
	require.Equal(t, infrastructure.ReasonReleased, project(infrastructure.AllocationReleased).Reason)
	require.Empty(t, shown.Status.NetworkID)
}

func BenchmarkNetworkProjector_Discovered(b *testing.B) {
	f := newTenants(b)
	n := privateNetwork()
	f.facts.networks[n.ID] = n
	p := NewNetworkProjector(f.source)
	b.ReportAllocs()
	for b.Loop() {
		p.Discovered(networkIn(projectA, n.ID))
	}
}

// What is of another project is not in what is shown of its shared network, whatever fields a
// network comes to have.
func TestNetworkProjector_DisclosesNothingOfOtherProjects(t *testing.T) {
	t.Parallel()
	const secret = "of-project-a"
	f := newTenants(t)
	n := &metal.Network{}
	v := reflect.ValueOf(n).Elem()
	for i := range v.NumField() {
		switch field := v.Field(i); field.Kind() {
		case reflect.String:
			field.SetString(secret)
		case reflect.Int64:
			field.SetInt(424242)
		case reflect.Map:
			field.Set(reflect.MakeMap(field.Type()))
			if field.Type().Elem().Kind() == reflect.String {
				field.SetMapIndex(reflect.ValueOf(secret), reflect.ValueOf(secret))
			}
		case reflect.Slice, reflect.Bool, reflect.Struct:
		default:
			t.Fatalf("field %s is of a kind that this test does not know", v.Type().Field(i).Name)
		}
	}
	n.ID, n.Partition, n.Shared = "net-1", "fra-01", true
	for _, key := range []string{metal.TagUID, metal.TagNamespace, metal.TagName, metal.TagCluster} {
		n.Labels[key] = secret
	}
	f.facts.networks[n.ID] = n
	p := NewNetworkProjector(f.source)
	cluster := &infrastructure.MetalStackCluster{ObjectMeta: inNamespace(namespaceA, secret, secret)}
	cluster.Status.Allocation = &infrastructure.ClusterAllocation{AllocationState: infrastructure.AllocationState{Phase: infrastructure.AllocationAllocated}, NetworkID: n.ID}
	records := recordsBy{}
	records.add(NewClusterProjector(f.source), cluster)
	p.SetHolders(records.of)

	obj, _ := p.Discovered(networkIn(projectB, n.ID))
	require.NotNil(t, obj)
	shown, err := json.Marshal(obj)
	require.NoError(t, err)
	require.NotContains(t, string(shown), secret)
	require.NotContains(t, string(shown), "424242")
}
