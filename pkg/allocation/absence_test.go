// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// truncateNextFind makes one find answer an empty list that looks complete.
func (env *environment) truncateNextFind(find string) {
	env.sim.Inject(simulator.Fault{Endpoint: find, Kind: simulator.FaultTruncatedList, Fraction: 0, Times: 1})
}

func TestRelease_ConfirmsThatMachineIsAbsent(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	m := env.allocatedMachine("node")
	env.truncateNextFind("machine-find")
	_, err := env.release(env.p, "node")
	require.NoError(t, err)
	assert.Equal(t, 1, env.sim.Inventory().Frees(uidTag(m.UID)))
	env.requireReleasesAll(env.p)
}

func TestRelease_ConfirmsThatLostAllocationIsAbsent(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.allocatedCluster("cluster")
	claim := env.machine("node")
	env.crashAt(env.p, "machine/called", 1)
	_, err := env.allocate(env.p, "node", "cluster")
	require.Error(t, err)
	env.advance(2 * env.p.timing.allocateInFlight())

	next := env.newProtocol()
	env.truncateNextFind("machine-find")
	_, err = env.release(next, "node")
	require.NoError(t, err)
	assert.Equal(t, 1, env.sim.Inventory().Frees(uidTag(claim.UID)))
	env.requireReleasesAll(next)
}

func TestReleaseCluster_ConfirmsThatAddressAndNetworkAreAbsent(t *testing.T) {
	t.Parallel()
	for _, find := range []string{"ip-find", "network-find"} {
		t.Run(find, func(t *testing.T) {
			t.Parallel()
			env := newEnvironment(t)
			env.allocatedCluster("cluster")
			env.truncateNextFind(find)
			env.requireReleasesAll(env.p)
		})
	}
}
