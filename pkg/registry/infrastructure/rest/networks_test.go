// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/authorization/authorizerfactory"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/utils/clock"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/ledger/memory"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/projection"
	"metal-stack.io/infrastructure-apiserver/pkg/storage"
	"metal-stack.io/infrastructure-apiserver/pkg/tenancy"
)

// netFacts are networks and addresses that a test decides on.
type netFacts struct {
	facts
	networks map[string]*metal.Network
	ips      map[string]*metal.IP
}

func (f netFacts) Network(id string) (*metal.Network, metal.Presence) { return present(f.networks, id) }
func (f netFacts) IP(address string) (*metal.IP, metal.Presence)      { return present(f.ips, address) }

func present[T any](all map[string]*T, id string) (*T, metal.Presence) {
	if fact, found := all[id]; found {
		return fact, metal.Present
	}
	return nil, metal.Unobserved
}

func startNetworks(t testing.TB, facts netFacts, namespaces int) (*Resources, *storage.Backend) {
	t.Helper()
	var list []string
	for i := range namespaces {
		list = append(list, fmt.Sprintf("team-%d=%s", i, projectOf(i)))
	}
	bindings, err := tenancy.NewStatic(list)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	backend, err := storage.NewBackend(ctx, storage.Options{Ledger: memory.New()})
	require.NoError(t, err)
	projects := bindings.BoundProjects()
	source := projection.Source{Facts: facts, Bindings: bindings, BoundProjects: func() []string { return projects }, Clock: clock.RealClock{}}
	resources, err := New(NewRESTOptionsGetter(backend, source), teamABinding{}, resolverOf(authorizerfactory.NewAlwaysAllowAuthorizer(), backend), anyCatalogue{}, nil)
	require.NoError(t, err)
	require.NoError(t, backend.Start(ctx))
	for id := range facts.networks {
		backend.MetalChanged([]metal.Ref{{Kind: metal.KindNetwork, ID: id}})
	}
	for address := range facts.ips {
		backend.MetalChanged([]metal.Ref{{Kind: metal.KindIP, ID: address}})
	}
	return resources, backend
}

func projectOf(i int) string { return fmt.Sprintf("10000000-0000-4000-8000-%012d", i) }

// What cannot be claimed is not said to be.
func TestDiscoveredNetworksAndAddresses_RefusalSaysWhatReleasesThem(t *testing.T) {
	t.Parallel()
	network := func(id string, labels map[string]string) *metal.Network {
		return &metal.Network{ID: id, Project: projectOf(0), Labels: labels}
	}
	address := func(address, kind string, tags ...string) *metal.IP {
		return &metal.IP{Address: address, Project: projectOf(0), Type: kind, AllocationUUID: "of-" + address, Tags: tags}
	}
	ofProd := map[string]string{metal.TagUID: "uid", metal.TagNamespace: "team-0", metal.TagName: "prod"}
	facts := netFacts{facts{}, map[string]*metal.Network{
		"own": network("own", nil), "of-cluster": network("of-cluster", ofProd), "internet": {ID: "internet"},
	}, map[string]*metal.IP{
		"203.0.113.1": address("203.0.113.1", metal.TypeStatic),
		"203.0.113.2": address("203.0.113.2", metal.TypeEphemeral, metal.Tag(metal.TagService, "c/default/web")),
		"203.0.113.3": address("203.0.113.3", metal.TypeStatic, metal.Tag(metal.TagUID, "uid"), metal.Tag(metal.TagNamespace, "team-0"), metal.Tag(metal.TagName, "prod")),
	}}
	resources, _ := startNetworks(t, facts, 1)
	for resource, names := range map[string]map[string]string{
		"metalstacknetworks": {
			"own":        "to manage it, create a MetalStackNetwork of another name with spec.networkID: own",
			"of-cluster": "of-cluster is of MetalStackCluster team-0/prod, and is released with that, unless it was adopted",
			"internet":   "this is not the project's own",
		},
		"metalstackips": {
			"203.0.113.1": "to manage it, create a MetalStackIP of another name with spec.address: 203.0.113.1",
			"203.0.113.2": "203.0.113.2 is ephemeral, and is released with what uses it: see status.users",
			"203.0.113.3": "203.0.113.3 is of MetalStackCluster team-0/prod",
		},
	} {
		store := resources.all[resource].main
		for name, want := range names {
			_, _, err := store.Delete(in("team-0"), name, rest.ValidateAllObjectFunc, &metav1.DeleteOptions{})
			require.True(t, apierrors.IsForbidden(err), "%s: %v", name, err)
			assert.ErrorContains(t, err, want, name)
		}
	}
}

// What one namespace is shown of a public network is what all are: twenty networks in 500
// namespaces are 10,000 objects, of which none changes when an address of one is allocated.
func TestPublicNetwork_UseOfItChangesNoObject(t *testing.T) {
	t.Parallel()
	internet := &metal.Network{ID: "internet", Prefixes: []string{"203.0.113.0/24"}, UsedIPs: 1}
	facts := netFacts{facts{}, map[string]*metal.Network{"internet": internet}, nil}
	resources, backend := startNetworks(t, facts, 3)
	revisions := func() map[types.NamespacedName]string {
		list, err := resources.all["metalstacknetworks"].main.List(in(""), nil)
		require.NoError(t, err)
		found := map[types.NamespacedName]string{}
		for _, n := range list.(*infrastructure.MetalStackNetworkList).Items {
			found[types.NamespacedName{Namespace: n.Namespace, Name: n.Name}] = n.ResourceVersion
		}
		return found
	}
	before := revisions()
	require.Len(t, before, 3)
	used := *internet
	used.UsedIPs++
	facts.networks["internet"] = &used
	backend.MetalChanged([]metal.Ref{{Kind: metal.KindNetwork, ID: "internet"}})
	require.Equal(t, before, revisions())
}

func BenchmarkPublicNetworks(b *testing.B) {
	const namespaces, networks = 500, 20
	facts := netFacts{facts{}, map[string]*metal.Network{}, nil}
	for i := range networks {
		id := fmt.Sprintf("internet-%d", i)
		facts.networks[id] = &metal.Network{ID: id, Name: id, Prefixes: []string{"203.0.113.0/24", "2001:db8::/64"}, DestinationPrefixes: []string{"0.0.0.0/0", "::/0"}, NAT: true}
	}
	_, backend := startNetworks(b, facts, namespaces)
	internet := facts.networks["internet-0"]
	change := func(b *testing.B, edit func(n *metal.Network)) {
		b.ReportAllocs()
		for b.Loop() {
			next := *internet
			edit(&next)
			internet = &next
			facts.networks[next.ID] = internet
			backend.MetalChanged([]metal.Ref{{Kind: metal.KindNetwork, ID: next.ID}})
		}
	}
	b.Run("use", func(b *testing.B) { change(b, func(n *metal.Network) { n.UsedIPs++ }) })
	b.Run("nat", func(b *testing.B) { change(b, func(n *metal.Network) { n.NAT = !n.NAT }) })
	b.Run("binding", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			backend.ReprojectNamespace("team-7")
		}
	})
}
