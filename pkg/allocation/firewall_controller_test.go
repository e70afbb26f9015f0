// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

// What the controller manager records of a firewall-controller stays as it is while the
// protocol writes the record.
func TestAllocate_FirewallKeepsWhatIsRecordedOfItsController(t *testing.T) {
	t.Parallel()
	recorded := infrastructure.MetalStackFirewallStatus{
		Distance:         3,
		Controller:       &infrastructure.FirewallControllerStatus{Version: "v2.4.1", Distance: new(int32(3))},
		ManagementAccess: &infrastructure.FirewallManagementAccess{URL: "https://kubernetes.example.org", ServiceAccountUID: "uid"},
		WorkloadAccess:   &infrastructure.FirewallWorkloadAccess{TokenSecretName: "token"},
	}
	for _, step := range append([]string{"none"}, stepsOfAllocation...) {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			env := newEnvironment(t)
			env.allocatedCluster("cluster")
			claim := env.firewall("firewall")
			claim.Status = *recorded.DeepCopy()
			claim = env.firewalls.put(t, claim)
			require.Equal(t, recorded, claim.Status)
			if step != "none" {
				reached := env.crashAt(env.p, step, 1)
				_, err := env.allocateFirewall(env.p, "firewall", body("cluster"))
				require.Error(t, err)
				require.True(t, reached())
			}
			requireKept := func(f *infrastructure.MetalStackFirewall, phase infrastructure.AllocationPhase) {
				t.Helper()
				require.Equal(t, phase, f.Status.Allocation.Phase)
				assert.Equal(t, recorded.Distance, f.Status.Distance)
				assert.Equal(t, recorded.Controller, f.Status.Controller)
				assert.Equal(t, recorded.ManagementAccess, f.Status.ManagementAccess)
				assert.Equal(t, recorded.WorkloadAccess, f.Status.WorkloadAccess)
			}
			f, err := env.allocateFirewall(env.newProtocol(), "firewall", body("cluster"))
			require.NoError(t, err)
			requireKept(f, infrastructure.AllocationAllocated)
			env.whileClockAdvances(func() { f, err = env.newProtocol().ReleaseFirewall(env.context(), teamA, "firewall", f.UID) })
			require.NoError(t, err)
			requireKept(f, infrastructure.AllocationReleased)
		})
	}
}
