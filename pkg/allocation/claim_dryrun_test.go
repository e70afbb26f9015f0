// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apiserver/pkg/warning"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

func TestDryRun_OfClaimsKnowsWhatIsThere(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	offers := env.withOffers()
	ctx := WithDryRun(env.context())
	env.network("network")
	_, err := env.p.AllocateNetwork(ctx, teamA, "network", nil)
	require.NoError(t, err)
	env.network("nowhere", func(n *infrastructure.MetalStackNetwork) { n.Spec.Partition = "nowhere" })
	_, err = env.p.AllocateNetwork(ctx, teamA, "nowhere", nil)
	require.ErrorContains(t, err, `spec.partition: Unsupported value: "nowhere"`)

	env.ip("any")
	_, err = env.p.AllocateIP(ctx, teamA, "any", nil)
	require.NoError(t, err)
	address, err := env.sim.AllocateIPFor(simulator.ProjectB, simulator.InternetNetwork, "theirs", nil)
	require.NoError(t, err)
	env.ip("taken", namesAddress(address))
	_, err = env.p.AllocateIP(ctx, teamA, "taken", nil)
	require.True(t, apierrors.IsConflict(err), "%v", err)
	assert.NotContains(t, err.Error(), simulator.ProjectB)
	env.ip("family", func(i *infrastructure.MetalStackIP) { i.Spec.AddressFamily = metal.AddressFamilyIPv6 })
	_, dry := env.p.AllocateIP(ctx, teamA, "family", nil)
	_, err = env.allocateIP(env.p, "family")
	assert.Equal(t, apierrors.IsInvalid(err), apierrors.IsInvalid(dry), "%v %v", err, dry)
	require.Empty(t, env.sim.CallsOf("network-allocate"))

	// What is used is known of IPv4 only.
	dual, err := env.sim.AllocateNetworkFor(simulator.ProjectA, simulator.DefaultPartition, "dual", nil)
	require.NoError(t, err)
	offers.networks = map[string]*metal.Network{dual: {
		ID: dual, Project: simulator.ProjectA, Prefixes: []string{"10.0.0.0/30", "2001:db8::/64"}, AvailableIPs: 4, UsedIPs: 4,
	}}
	for name, c := range map[string]struct{ family, want string }{
		"v4": {metal.AddressFamilyIPv4, "no ips left: 4 of 4"}, "v6": {metal.AddressFamilyIPv6, ""}, "either": {"", "no ips left: 4 of 4"},
	} {
		env.ip(name, func(i *infrastructure.MetalStackIP) { i.Spec.NetworkID, i.Spec.AddressFamily = dual, c.family })
		if _, err = env.p.AllocateIP(ctx, teamA, name, nil); c.want == "" {
			require.NoError(t, err, name)
		} else {
			require.ErrorContains(t, err, c.want, name)
		}
	}

	offers.noSuperNetwork = true
	var warnings warned
	_, err = env.p.AllocateNetwork(warning.WithWarningRecorder(ctx, &warnings), teamA, "network", nil)
	require.NoError(t, err)
	require.Len(t, warnings, 1)
	assert.Contains(t, warnings[0], "has no private super network")
}
