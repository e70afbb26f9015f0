// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"encoding/base64"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

// firewallWithUserData is a claim that names a Secret.
func (env *environment) firewallWithUserData(name string) *infrastructure.MetalStackFirewall {
	f := env.firewall(name)
	f.Spec.UserData = &infrastructure.SecretReference{Name: "ignition"}
	return env.firewalls.put(env.t, f)
}

func (env *environment) allocateFirewall(p *Protocol, name string, b *infrastructure.Allocation) (f *infrastructure.MetalStackFirewall, err error) {
	err = errCrashed
	env.whileClockAdvances(func() { f, err = p.AllocateFirewall(env.context(), teamA, name, b) })
	return f, err
}

func TestAllocate_FirewallGetsItsUserDataWhateverCrashes(t *testing.T) {
	t.Parallel()
	for _, step := range append([]string{"none"}, stepsOfAllocation...) {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			env := newEnvironment(t)
			env.allocatedCluster("cluster")
			claim := env.firewallWithUserData("firewall")
			if step != "none" {
				reached := env.crashAt(env.p, step, 1)
				_, err := env.allocateFirewall(env.p, "firewall", body("cluster"))
				require.Error(t, err)
				require.True(t, reached())
			}
			_, err := env.allocateFirewall(env.newProtocol(), "firewall", body("cluster"))
			require.NoError(t, err)
			held := env.machinesWithIdentity(claim.UID)
			require.Len(t, held, 1)
			assert.Equal(t, base64.StdEncoding.EncodeToString([]byte(userData)), held[0].UserData)
			assert.Equal(t, 1, env.sim.Inventory().Allocations(uidTag(claim.UID)))
			env.requireNoSecrets()
		})
	}
}

func TestAllocate_FirewallWithoutUserDataThatItsSpecNamesIsRefused(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.allocatedCluster("cluster")
	without := body("cluster")
	without.UserData = nil
	const want = `userData: Required value: must be the data of Secret "ignition", which spec.userData names`
	env.firewallWithUserData("firewall")
	_, err := env.allocateFirewall(env.p, "firewall", without)
	require.True(t, apierrors.IsInvalid(err), "%v", err)
	require.ErrorContains(t, err, want)
	require.ErrorContains(t, err, "Allocation.infrastructure.cluster.x-k8s.io", "it is the request that lacks them")

	named := env.firewallWithUserData("named")
	named.Spec.ProviderID = "metal:///" + env.availableMachine(named.Spec.MachineType)
	env.firewalls.put(t, named)
	_, err = env.allocateFirewall(env.p, "named", without)
	require.ErrorContains(t, err, want)
	assert.Zero(t, env.sim.CallsOf("firewall-allocate"))
}

func TestAllocate_FirewallWithControllerNeedsUserData(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.allocatedCluster("cluster")
	f := env.firewall("firewall")
	f.Spec.Controller = &infrastructure.FirewallController{}
	env.firewalls.put(t, f)
	without := body("cluster")
	without.UserData = nil
	_, err := env.allocateFirewall(env.p, "firewall", without)
	require.True(t, apierrors.IsInvalid(err), "%v", err)
	require.ErrorContains(t, err, "userData: Required value: must hold a kubeconfig for the firewall-controller, since spec.controller is set")
	require.Zero(t, env.sim.CallsOf("firewall-allocate"))

	// Standalone nothing serves the Firewall that a firewall-controller would read.
	standalone := env.newProtocol()
	standalone.opts.Standalone = true
	env.clock.Step(standalone.timing.MaxBackoff)
	_, err = env.allocateFirewall(standalone, "firewall", without)
	require.NoError(t, err)
}

// As after a move, for which no Secret is needed.
func TestAdopt_FirewallWithoutUserData(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.allocatedCluster("cluster")
	claim := env.firewallWithUserData("firewall")
	old, err := env.allocateFirewall(env.p, "firewall", body("cluster"))
	require.NoError(t, err)
	env.firewalls.remove(old)
	moved := env.firewallWithUserData("firewall")
	moved.Spec.ProviderID = old.Spec.ProviderID
	env.firewalls.put(t, moved)
	require.NotEqual(t, claim.UID, moved.UID)
	without := body("cluster")
	without.UserData = nil
	adopted, err := env.allocateFirewall(env.p, "firewall", without)
	require.NoError(t, err)
	assert.True(t, adopted.Status.Allocation.Adopted)
	assert.Equal(t, old.Status.Allocation.AllocationUUID, adopted.Status.Allocation.AllocationUUID)
}
