// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/warning"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/cluster"
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/firewall"
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/machine"
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/network"
)

func TestCreate_KeepsFinalizersAndDropsStatus(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	m := newMachine("node-1")
	provisioned := true
	m.UID, m.Generation, m.ResourceVersion, m.Finalizers = "elsewhere", 7, "123", []string{"example.org/theirs"}
	m.Status = infrastructure.MetalStackMachineStatus{
		Ready: true, Initialization: infrastructure.Initialization{Provisioned: &provisioned},
		Allocation: &infrastructure.MachineAllocation{MachineID: idleID, AllocationUUID: "stolen"},
	}
	out := create(t, w, machine.Resource, m)
	assert.NotEqual(t, "elsewhere", string(out.UID))
	assert.EqualValues(t, 1, out.Generation)
	assert.Equal(t, []string{"example.org/theirs", infrastructure.MachineFinalizer}, out.Finalizers)
	assert.Nil(t, out.Status.Allocation)
	assert.Nil(t, out.Status.Initialization.Provisioned)
	assert.False(t, out.Status.Ready)
	assert.Equal(t, infrastructure.PhasePending, out.Status.Metal.Phase)
	assert.True(t, out.Status.Metal.Managed)
}

// A claim of a network that was moved brings its finalizer along, and its record says so.
func TestCreate_RecordsThatNetworkWasMoved(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	for name, finalizers := range map[string][]string{"new": nil, "moved": {infrastructure.NetworkFinalizer}} {
		create(t, w, network.Resource, &infrastructure.MetalStackNetwork{
			ObjectMeta: metav1.ObjectMeta{Namespace: "team-a", Name: name, Finalizers: finalizers},
			Spec:       infrastructure.MetalStackNetworkSpec{Partition: "fra-01"},
		})
		n, err := w.Networks().Get(t.Context(), "team-a", name)
		require.NoError(t, err)
		assert.Equal(t, name == "moved", n.Status.Allocation != nil && n.Status.Allocation.Moved)
		assert.False(t, n.Status.Allocation.HasMetal())
	}
}

func TestCreate_SetsProjectOfTheNamespace(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	assert.Equal(t, projectA, create(t, w, cluster.Resource, newCluster("c")).Spec.ProjectID)

	other := newCluster("d")
	other.Spec.ProjectID = "10000000-0000-4000-8000-00000000000b"
	_, err := w.all[cluster.Resource].main.Create(in("team-a"), other, rest.ValidateAllObjectFunc, &metav1.CreateOptions{})
	require.True(t, apierrors.IsInvalid(err), "%v", err)
	assert.ErrorContains(t, err, "spec.projectID")
}

func TestCreate_InUnboundNamespaceIsForbidden(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	m := newMachine("node-1")
	m.Namespace = "stray"
	_, err := w.all[machine.Resource].main.Create(in("stray"), m, rest.ValidateAllObjectFunc, &metav1.CreateOptions{})
	require.True(t, apierrors.IsForbidden(err), "%v", err)
	assert.ErrorContains(t, err, `the namespace "stray" is not bound to a metal-stack project: run bind stray`)
}

func TestCreate_WarnsOfUnavailableReferencesOfMovedObject(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t, nothing{})
	create := func(m *infrastructure.MetalStackMachine) (*warnings, error) {
		var warned warnings
		_, err := w.all[machine.Resource].main.Create(warning.WithWarningRecorder(in("team-a"), &warned), m, rest.ValidateAllObjectFunc, &metav1.CreateOptions{})
		return &warned, err
	}
	m := newMachine("node-1")
	m.Spec.ProviderID = "metal://fra-01/" + idleID
	_, err := create(m)
	require.True(t, apierrors.IsInvalid(err), "%v", err)
	assert.ErrorContains(t, err, "spec.image")
	assert.ErrorContains(t, err, "spec.providerID")

	m.Finalizers = []string{infrastructure.MachineFinalizer}
	warned, err := create(m)
	require.NoError(t, err)
	assert.Len(t, *warned, 3, "%v", *warned)

	c := newCluster("c")
	c.Finalizers, c.Spec.ProjectID = []string{infrastructure.ClusterFinalizer}, "10000000-0000-4000-8000-00000000000b"
	_, err = w.all[cluster.Resource].main.Create(in("team-a"), c, rest.ValidateAllObjectFunc, &metav1.CreateOptions{})
	require.True(t, apierrors.IsInvalid(err), "%v", err)
	assert.ErrorContains(t, err, "spec.projectID")
}

// The endpoint of a hosted control plane may be anybody's: it is no metal of the cluster.
func TestCreate_EndpointOfHostedControlPlaneIsNotLookedUp(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t, addressesOfOthers{})
	for _, provider := range []infrastructure.EndpointProvider{"", infrastructure.EndpointOfInfrastructure, infrastructure.EndpointOfControlPlane} {
		c := newCluster("c" + strings.ToLower(string(provider)))
		c.Spec.ControlPlaneEndpointProvider, c.Spec.ControlPlaneEndpoint.Host = provider, "203.0.113.2"
		_, err := w.all[cluster.Resource].main.Create(in("team-a"), c, rest.ValidateAllObjectFunc, &metav1.CreateOptions{})
		if provider == infrastructure.EndpointOfControlPlane {
			require.NoError(t, err)
			continue
		}
		require.True(t, apierrors.IsInvalid(err), "%v", err)
		assert.ErrorContains(t, err, "spec.controlPlaneEndpoint.host")
	}
}

// addressesOfOthers is a catalogue in which every address is another project's.
type addressesOfOthers struct{ anyCatalogue }

func (addressesOfOthers) LookupAddress(context.Context, netip.Addr, string) (*metal.IP, *metal.Network, error) {
	return nil, &metal.Network{ID: "internet"}, nil
}

// nothing is a catalogue that has nothing.
type nothing struct{ anyCatalogue }

func (nothing) LookupSize(context.Context, string) (*metal.Size, []string, error) {
	return nil, nil, nil
}

func (nothing) LookupImage(context.Context, string, string) (*metal.Image, []string, error) {
	return nil, nil, nil
}

func (nothing) LookupMachine(context.Context, string, string) (*metal.Machine, error) {
	return nil, nil
}

type warnings []string

func (w *warnings) AddWarning(_, text string) { *w = append(*w, text) }

func TestCreate_DryRunCreatesNothing(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	main := w.all[machine.Resource].main
	_, err := main.Create(in("team-a"), newMachine("node-1"), rest.ValidateAllObjectFunc, &metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	require.NoError(t, err)
	_, err = main.Get(in("team-a"), "node-1", &metav1.GetOptions{})
	assert.True(t, apierrors.IsNotFound(err), "%v", err)
}

// awayCatalogue is one of which no address can be looked up.
type awayCatalogue struct{ anyCatalogue }

func (awayCatalogue) LookupAddress(context.Context, netip.Addr, string) (*metal.IP, *metal.Network, error) {
	return nil, nil, errors.New("metal-api is away")
}

func TestCreate_UncheckedSourceAddressCanBeRetried(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t, awayCatalogue{})
	f := &infrastructure.MetalStackFirewall{
		ObjectMeta: metav1.ObjectMeta{Name: "fw", Namespace: "team-a"},
		Spec: infrastructure.MetalStackFirewallSpec{
			Image: "firewall-ubuntu-3.0", MachineType: "v1-small-x86",
			Controller: &infrastructure.FirewallController{EgressIPs: []infrastructure.FirewallEgressIPs{{NetworkID: "internet", IPs: []string{"203.0.113.7"}}}},
		},
	}
	_, err := env.all[firewall.Resource].main.Create(in("team-a"), f, rest.ValidateAllObjectFunc, &metav1.CreateOptions{})
	require.True(t, apierrors.IsServiceUnavailable(err), "%v", err)
	require.ErrorContains(t, err, `spec.controller.egressIPs[0].ips[0]: "203.0.113.7" cannot be validated now: metal-api is away`)
	delay, isSuggested := apierrors.SuggestsClientDelay(err)
	assert.True(t, isSuggested)
	assert.Equal(t, 1, delay)
}
