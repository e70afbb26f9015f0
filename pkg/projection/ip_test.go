// SPDX-License-Identifier: Apache-2.0

package projection

import (
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

func staticAddress(tags ...string) *metal.IP {
	return &metal.IP{
		Address: "203.0.113.7", Name: "api", Description: "of prod", Project: projectA, NetworkID: "internet", Type: metal.TypeStatic, Tags: tags,
		AllocationUUID: "allocation-1", Created: created,
	}
}

func TestIPProjector_ShowsAddressesOfTheProject(t *testing.T) {
	t.Parallel()
	f := newTenants(t)
	ip := staticAddress(metal.Tag(metal.TagUID, "uid-1"))
	f.facts.ips[ip.Address] = ip
	p := NewIPProjector(f.source)
	ref := metal.Ref{Kind: metal.KindIP, ID: ip.Address}
	obj, refs := p.Discovered(ref)
	require.Equal(t, []metal.Ref{{Kind: metal.KindAllocation, ID: "allocation-1"}, {Kind: metal.KindUID, ID: "uid-1"}}, refs)
	shown := obj.(*infrastructure.MetalStackIP)
	require.Equal(t, namespaceA+"/203.0.113.7", shown.Namespace+"/"+shown.Name)
	shown.Status.Users = nil
	require.Equal(t, infrastructure.MetalStackIPStatus{
		Ready: true, Address: "203.0.113.7", NetworkID: "internet", DisplayName: "api", Description: "of prod", Type: "static",
	}, shown.Status)

	again := *ip
	again.AllocationUUID = "allocation-2"
	f.facts.ips[ip.Address] = &again
	other, _ := p.Discovered(ref)
	require.NotEqual(t, shown.UID, other.(*infrastructure.MetalStackIP).UID, "another allocation is another object")

	old := *ip
	old.AllocationUUID, old.Tags = "", nil
	f.facts.ips[ip.Address] = &old
	_, refs = p.Discovered(ref)
	require.Equal(t, []metal.Ref{{Kind: metal.KindIPClaim, ID: ip.Address}}, refs)

	six := *ip
	six.Address = "2001:0DB8::0001"
	f.facts.ips[six.Address] = &six
	obj, _ = p.Discovered(metal.Ref{Kind: metal.KindIP, ID: six.Address})
	require.Equal(t, "2001:db8::1", obj.(*infrastructure.MetalStackIP).Name, "the canonical form")

	foreign, odd := *ip, *ip
	foreign.Project, odd.Address = "unbound", "nonsense"
	f.facts.ips["203.0.113.8"], f.facts.ips["nonsense"] = &foreign, &odd
	f.facts.gone["203.0.113.9"] = true
	for _, id := range []string{"203.0.113.8", "nonsense", "203.0.113.9", "203.0.113.10"} {
		obj, _ := p.Discovered(metal.Ref{Kind: metal.KindIP, ID: id})
		require.Nil(t, obj, id)
	}
}

func TestIPProjector_NamesUsers(t *testing.T) {
	t.Parallel()
	machine := &infrastructure.MetalStackMachine{ObjectMeta: inNamespace(namespaceA, "worker-1", "uid-of-worker")}
	machine.Status.Allocation = &infrastructure.MachineAllocation{
		AllocationState: infrastructure.AllocationState{Phase: infrastructure.AllocationAllocated, UID: machine.UID}, MachineID: machineID,
	}
	foreign := machine.DeepCopy()
	foreign.Namespace = namespaceB
	cluster := &infrastructure.MetalStackCluster{ObjectMeta: inNamespace(namespaceA, "prod", "uid-of-prod")}
	cluster.Status.Allocation = &infrastructure.ClusterAllocation{
		AllocationState: infrastructure.AllocationState{Phase: infrastructure.AllocationAllocated, UID: cluster.UID}, IPAddress: "203.0.113.7",
	}
	claim := ipRecord(infrastructure.AllocationAllocated)

	f := newTenants(t)
	p := NewIPProjector(f.source)
	prod := infrastructure.MetalUser{Kind: "MetalStackCluster", Namespace: namespaceA, Name: "prod", ClusterID: "uid-of-prod"}
	for name, c := range map[string]struct {
		records recordsBy
		tags    []string
		want    []infrastructure.MetalUser
	}{
		"nothing":           {tags: []string{"a=b", "c"}},
		"a cluster's":       {records: recordsBy{{Kind: metal.KindIP, ID: "203.0.113.7"}: {cluster}}, tags: []string{metal.Tag(metal.TagUID, "uid-of-prod")}, want: []infrastructure.MetalUser{prod}},
		"a claim's":         {records: recordsBy{{Kind: metal.KindIP, ID: "203.0.113.7"}: {claim, cluster}}, want: []infrastructure.MetalUser{prod, {Kind: "MetalStackIP", Namespace: namespaceA, Name: "web"}}},
		"a machine's":       {records: recordsBy{{Kind: metal.KindMachine, ID: machineID}: {machine}}, tags: []string{metal.Tag(metal.TagMachine, machineID)}, want: []infrastructure.MetalUser{{Kind: "MetalStackMachine", Namespace: namespaceA, Name: "worker-1", MachineID: machineID}}},
		"a foreign record":  {records: recordsBy{{Kind: metal.KindMachine, ID: machineID}: {foreign}}, tags: []string{metal.Tag(metal.TagMachine, machineID)}, want: []infrastructure.MetalUser{{Kind: "Machine", MachineID: machineID}}},
		"several machines'": {tags: []string{metal.Tag(metal.TagMachine, "m-2"), metal.Tag(metal.TagMachine, "m-1")}, want: []infrastructure.MetalUser{{Kind: "Machine", MachineID: "m-1"}, {Kind: "Machine", MachineID: "m-2"}}},
		"Services'": {
			tags: []string{metal.Tag(metal.TagService, "c1/default/web"), metal.Tag(metal.TagService, "c1/default/api"), metal.TagService + "=odd", metal.Tag(metal.TagCluster, "c1")},
			want: []infrastructure.MetalUser{{Kind: "Service", Namespace: "default", Name: "api", ClusterID: "c1"}, {Kind: "Service", Namespace: "default", Name: "web", ClusterID: "c1"}},
		},
		"another cluster's": {tags: []string{metal.Tag(metal.TagCluster, "shoot")}, want: []infrastructure.MetalUser{{Kind: "Cluster", ClusterID: "shoot"}}},
	} {
		ip := staticAddress(c.tags...)
		f.facts.ips[ip.Address] = ip
		p.SetHolders(c.records.of)
		obj, _ := p.Discovered(metal.Ref{Kind: metal.KindIP, ID: ip.Address})
		require.Equal(t, c.want, obj.(*infrastructure.MetalStackIP).Status.Users, name)
	}
}

func ipRecord(phase infrastructure.AllocationPhase) *infrastructure.MetalStackIP {
	ip := &infrastructure.MetalStackIP{
		ObjectMeta: inNamespace(namespaceA, "web", "uid-of-web"),
		Spec:       infrastructure.MetalStackIPSpec{NetworkID: "internet"},
	}
	if phase != "" {
		ip.Status.Allocation = &infrastructure.IPAllocation{
			AllocationState: infrastructure.AllocationState{Phase: phase, UID: ip.UID, StartTime: toSeconds(created)},
			Address:         "203.0.113.7", AllocationUUID: "allocation-1",
		}
	}
	return ip
}

func TestIPProjector_RefsOfClaim(t *testing.T) {
	t.Parallel()
	p := NewIPProjector(newTenants(t).source)
	ip, claimed := metal.Ref{Kind: metal.KindIP, ID: "203.0.113.7"}, metal.Ref{Kind: metal.KindIPClaim, ID: "203.0.113.7"}
	uid, allocation := metal.Ref{Kind: metal.KindUID, ID: "uid-of-web"}, metal.Ref{Kind: metal.KindAllocation, ID: "allocation-1"}
	for phase, want := range map[infrastructure.AllocationPhase][]metal.Ref{
		"":                                  nil,
		infrastructure.AllocationAllocating: {ip, uid},
		infrastructure.AllocationAllocated:  {ip, claimed, allocation},
		infrastructure.AllocationReleasing:  {ip, claimed, uid, allocation},
		infrastructure.AllocationReleased:   nil,
	} {
		require.Equal(t, want, p.Refs(ipRecord(phase)), phase)
	}
}

func TestIPProjector_ClaimThroughItsLife(t *testing.T) {
	t.Parallel()
	f := newTenants(t)
	p := NewIPProjector(f.source)
	var shown *infrastructure.MetalStackIP
	project := func(phase infrastructure.AllocationPhase) (ready metav1.Condition) {
		record := ipRecord(phase)
		before := record.DeepCopy()
		if shown == nil {
			shown = p.Project(record, nil).(*infrastructure.MetalStackIP)
		} else {
			shown = p.Project(record, shown).(*infrastructure.MetalStackIP)
		}
		require.Equal(t, before, record, "Project must not modify the record")
		require.True(t, shown.Status.Managed)
		c := meta.FindStatusCondition(shown.Status.Conditions, infrastructure.ConditionReady)
		require.NotNil(t, c)
		return *c
	}
	require.Equal(t, infrastructure.ReasonNotAllocated, project("").Reason)
	require.Equal(t, infrastructure.ReasonAllocating, project(infrastructure.AllocationAllocating).Reason)
	shown = nil
	require.Equal(t, infrastructure.ReasonNotObserved, project(infrastructure.AllocationAllocated).Reason)
	ip := staticAddress(metal.Tag(metal.TagUID, "uid-of-web"), metal.Tag(metal.TagKind, "MetalStackIP"), metal.Tag(metal.TagNamespace, namespaceA), metal.Tag(metal.TagName, "web"),
		metal.Tag(metal.TagService, "c1/default/web"))
	f.facts.ips[ip.Address] = ip
	require.Equal(t, "Address 203.0.113.7 is available.", project(infrastructure.AllocationAllocated).Message)
	require.Equal(t, []infrastructure.MetalUser{{Kind: "Service", Namespace: "default", Name: "web", ClusterID: "c1"}}, shown.Status.Users, "it is not its own user")
	require.Equal(t, "internet", shown.Status.NetworkID)

	again := *ip
	again.AllocationUUID, again.Project = "allocation-2", projectB
	f.facts.ips[ip.Address] = &again
	ready := project(infrastructure.AllocationAllocated)
	require.Equal(t, infrastructure.ReasonAddressGone, ready.Reason)
	require.NotContains(t, ready.Message, projectB)
	require.Empty(t, shown.Status.Users, "what another project does with it must not be disclosed")
	f.facts.gone[ip.Address] = true
	require.Equal(t, "Address 203.0.113.7 not found in the metal-api.", project(infrastructure.AllocationAllocated).Message)
	require.Equal(t, infrastructure.ReasonReleased, project(infrastructure.AllocationReleased).Reason)
}

func BenchmarkIPProjector_Discovered(b *testing.B) {
	f := newTenants(b)
	ip := staticAddress(metal.Tag(metal.TagMachine, machineID), metal.Tag(metal.TagService, "c1/default/web"))
	f.facts.ips[ip.Address] = ip
	p := NewIPProjector(f.source)
	b.ReportAllocs()
	for b.Loop() {
		p.Discovered(metal.Ref{Kind: metal.KindIP, ID: ip.Address})
	}
}

// The allocation of an address has no UUID in older versions of the metal-api.
func TestIPProjector_ClaimShowsNothingOfAnotherProject(t *testing.T) {
	t.Parallel()
	f := newTenants(t)
	ip := staticAddress()
	ip.Project, ip.AllocationUUID = projectB, ""
	f.facts.ips[ip.Address] = ip
	record := ipRecord(infrastructure.AllocationAllocated)
	record.Status.Allocation.AllocationUUID = ""
	shown := NewIPProjector(f.source).Project(record, nil).(*infrastructure.MetalStackIP)
	ready := meta.FindStatusCondition(shown.Status.Conditions, infrastructure.ConditionReady)
	require.Equal(t, infrastructure.ReasonAddressGone, ready.Reason)
	require.Equal(t, "Address 203.0.113.7 is not of the project of this namespace.", ready.Message)
	shown.Status.Conditions, shown.Status.Allocation = nil, nil
	require.Equal(t, infrastructure.MetalStackIPStatus{Managed: true, Address: "203.0.113.7"}, shown.Status)
}
