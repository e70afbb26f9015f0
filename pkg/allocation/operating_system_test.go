// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

func TestAllocate_ServersAndFilesystemLayoutAreThoseOfTheSpec(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.allocatedCluster("cluster")
	env.machine("node", func(m *infrastructure.MetalStackMachine) {
		m.Spec.DNSServers, m.Spec.NTPServers, m.Spec.FilesystemLayout = []string{"203.0.113.53"}, []string{"ntp.example.org"}, "default-small"
	})
	m, err := env.allocate(env.p, "node", "cluster")
	require.NoError(t, err)
	f := env.firewall("firewall")
	f.Spec.DNSServers, f.Spec.NTPServers, f.Spec.FilesystemLayout = m.Spec.DNSServers, m.Spec.NTPServers, m.Spec.FilesystemLayout
	env.firewalls.put(t, f)
	f, err = env.p.AllocateFirewall(env.context(), teamA, "firewall", body("cluster"))
	require.NoError(t, err)
	for _, id := range []string{m.Status.Allocation.MachineID, f.Status.Allocation.MachineID} {
		state := env.machineState(id)
		assert.Equal(t, []string{"203.0.113.53"}, state.DNSServers)
		assert.Equal(t, []string{"ntp.example.org"}, state.NTPServers)
		assert.Equal(t, "default-small", state.FilesystemLayout)
	}

	env.machine("defaults")
	m, err = env.allocate(env.p, "defaults", "cluster")
	require.NoError(t, err)
	assert.NotEqual(t, []string{"203.0.113.53"}, env.machineState(m.Status.Allocation.MachineID).DNSServers, "those of the partition")
}

func TestAllocate_UnknownFilesystemLayoutIsRefusedByItsField(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.allocatedCluster("cluster")
	env.machine("node", func(m *infrastructure.MetalStackMachine) { m.Spec.FilesystemLayout = "none-such" })
	_, err := env.allocate(env.p, "node", "cluster")
	require.ErrorContains(t, err, `spec.filesystemLayout: Invalid value: "none-such"`)
	assert.Empty(t, env.getMachine("node").Status.Allocation.MachineID)
}
