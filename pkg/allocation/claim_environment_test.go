// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"testing"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

func (env *environment) network(name string, spec ...func(*infrastructure.MetalStackNetwork)) *infrastructure.MetalStackNetwork {
	n := &infrastructure.MetalStackNetwork{
		ObjectMeta: env.meta(teamA, name), Spec: infrastructure.MetalStackNetworkSpec{Partition: simulator.DefaultPartition},
	}
	for _, s := range spec {
		s(n)
	}
	return env.networks.put(env.t, n)
}

func namesNetwork(id string) func(*infrastructure.MetalStackNetwork) {
	return func(n *infrastructure.MetalStackNetwork) { n.Spec.NetworkID = id }
}

func (env *environment) ip(name string, spec ...func(*infrastructure.MetalStackIP)) *infrastructure.MetalStackIP {
	i := &infrastructure.MetalStackIP{
		ObjectMeta: env.meta(teamA, name), Spec: infrastructure.MetalStackIPSpec{NetworkID: simulator.InternetNetwork},
	}
	for _, s := range spec {
		s(i)
	}
	return env.ips.put(env.t, i)
}

func namesAddress(address string) func(*infrastructure.MetalStackIP) {
	return func(i *infrastructure.MetalStackIP) { i.Spec.Address = address }
}

func (env *environment) allocateNetwork(p *Protocol, name string) (n *infrastructure.MetalStackNetwork, err error) {
	err = errCrashed
	env.whileClockAdvances(func() { n, err = p.AllocateNetwork(env.context(), teamA, name, body("")) })
	return n, err
}

func (env *environment) releaseNetwork(p *Protocol, name string) (n *infrastructure.MetalStackNetwork, err error) {
	err = errCrashed
	env.whileClockAdvances(func() { n, err = p.ReleaseNetwork(env.context(), teamA, name, "") })
	return n, err
}

func (env *environment) allocateIP(p *Protocol, name string) (i *infrastructure.MetalStackIP, err error) {
	err = errCrashed
	env.whileClockAdvances(func() { i, err = p.AllocateIP(env.context(), teamA, name, body("")) })
	return i, err
}

func (env *environment) releaseIP(p *Protocol, name string) (i *infrastructure.MetalStackIP, err error) {
	err = errCrashed
	env.whileClockAdvances(func() { i, err = p.ReleaseIP(env.context(), teamA, name, "") })
	return i, err
}

// allocatedNetwork is a claim with its network.
func (env *environment) allocatedNetwork(name string, spec ...func(*infrastructure.MetalStackNetwork)) *infrastructure.MetalStackNetwork {
	env.t.Helper()
	env.network(name, spec...)
	n, err := env.allocateNetwork(env.p, name)
	require.NoError(env.t, err)
	return n
}

// allocatedIP is a claim with its address.
func (env *environment) allocatedIP(name string, spec ...func(*infrastructure.MetalStackIP)) *infrastructure.MetalStackIP {
	env.t.Helper()
	env.ip(name, spec...)
	i, err := env.allocateIP(env.p, name)
	require.NoError(env.t, err)
	return i
}

func (env *environment) networkPhase(name string) infrastructure.AllocationPhase {
	n, err := env.networks.Get(env.context(), teamA, name)
	require.NoError(env.t, err)
	return (&networkRecord{n}).allocation().Phase
}

func (env *environment) ipPhase(name string) infrastructure.AllocationPhase {
	i, err := env.ips.Get(env.context(), teamA, name)
	require.NoError(env.t, err)
	return (&ipRecord{i}).allocation().Phase
}

// requireInUse fails unless a release was refused because of a user, and changed nothing.
func requireInUse(t *testing.T, err error, user string) {
	t.Helper()
	require.True(t, apierrors.IsConflict(err), "%v", err)
	require.ErrorContains(t, err, "in use by")
	require.ErrorContains(t, err, user)
	status := apierrors.APIStatus(nil)
	require.ErrorAs(t, err, &status)
	require.Len(t, status.Status().Details.Causes, 1)
	require.EqualValues(t, infrastructure.ReasonInUse, status.Status().Details.Causes[0].Type)
}

// releaseClaims releases what claims hold.
func (env *environment) releaseClaims(p *Protocol) {
	env.t.Helper()
	ips, err := env.ips.List(env.context())
	require.NoError(env.t, err)
	for _, i := range ips {
		_, err := env.releaseIP(p, i.Name)
		require.NoError(env.t, err)
	}
	networks, err := env.networks.List(env.context())
	require.NoError(env.t, err)
	for _, n := range networks {
		_, err := env.releaseNetwork(p, n.Name)
		require.NoError(env.t, err)
	}
}

// projectOfNetwork is empty if the network does not exist.
func (env *environment) projectOfNetwork(id string) string {
	env.t.Helper()
	found, err := env.client.FindNetworks(env.context(), metal.NetworkQuery{ID: id})
	require.NoError(env.t, err)
	for _, n := range found {
		return n.Project
	}
	return ""
}
