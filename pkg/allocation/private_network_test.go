// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// inNetwork is a spec with a private network of such lengths and families.
func inNetwork(ipv4, ipv6 int32, families ...string) func(*infrastructure.MetalStackCluster) {
	return func(c *infrastructure.MetalStackCluster) {
		c.Spec.PrivateNetwork = &infrastructure.PrivateNetwork{
			AddressFamilies: families, PrefixLengths: infrastructure.PrefixLengths{IPv4: ipv4, IPv6: ipv6},
		}
	}
}

// lengthsOf returns the lengths of a network's prefixes in the metal-api; zero for a
// family without one.
func (env *environment) lengthsOf(id string) (ipv4, ipv6 int) {
	env.t.Helper()
	for _, n := range env.sim.Inventory().Networks {
		if n.ID != id {
			continue
		}
		for _, s := range n.Prefixes {
			if prefix := netip.MustParsePrefix(s); prefix.Addr().Is4() {
				ipv4 = prefix.Bits()
			} else {
				ipv6 = prefix.Bits()
			}
		}
		return ipv4, ipv6
	}
	env.t.Fatalf("no network %s", id)
	return 0, 0
}

func TestAllocateCluster_PrivateNetworkHasTheAddressesOfTheSpec(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spec       func(*infrastructure.MetalStackCluster)
		ipv4, ipv6 int
	}{
		"nothing is said":         {func(*infrastructure.MetalStackCluster) {}, 22, 96},
		"nothing of it is said":   {inNetwork(0, 0), 22, 96},
		"IPv4":                    {inNetwork(0, 0, "IPv4"), 22, 0},
		"IPv6":                    {inNetwork(0, 0, "IPv6"), 0, 96},
		"both":                    {inNetwork(0, 0, "IPv6", "IPv4"), 22, 96},
		"a length":                {inNetwork(26, 0), 26, 96},
		"a length of one of both": {inNetwork(0, 112, "IPv4", "IPv6"), 22, 112},
		"all":                     {inNetwork(24, 112, "IPv4", "IPv6"), 24, 112},
		"one family's length":     {inNetwork(28, 0, "IPv4"), 28, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := newEnvironment(t)
			allocated := env.allocatedCluster("cluster", c.spec)
			ipv4, ipv6 := env.lengthsOf(allocated.Status.Allocation.NetworkID)
			assert.Equal(t, c.ipv4, ipv4)
			assert.Equal(t, c.ipv6, ipv6)
			env.requireReleasesAll(env.p)
		})
	}
}

// Whatever was lost, it is the one network that was allocated for the cluster.
func TestAllocateCluster_PrivateNetworkIsRecognizedAfterLostAnswersAndCrashes(t *testing.T) {
	t.Parallel()
	spec := inNetwork(26, 0, "IPv4")
	for _, step := range []string{"lost answer", "network/begun", "network/observed", "network/called", "network/recorded"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			env := newEnvironment(t)
			claim := env.cluster("cluster", spec)
			if step == "lost answer" {
				env.sim.Inject(simulator.Fault{Endpoint: "network-allocate", Kind: simulator.FaultCommitThenLose, Times: 1})
			} else {
				reached := env.crashAt(env.p, step, 1)
				_, _ = env.allocateCluster("cluster")
				require.True(t, reached())
				env.p = env.newProtocol()
			}
			c, err := env.allocateCluster("cluster")
			require.NoError(t, err)
			assert.Equal(t, 2, env.sim.Inventory().Allocations(uidTag(claim.UID)), "a network and an address")
			assert.Equal(t, claim.Spec.PrivateNetwork, c.Spec.PrivateNetwork)
			ipv4, ipv6 := env.lengthsOf(c.Spec.PrivateNetworkID)
			assert.Equal(t, 26, ipv4)
			assert.Zero(t, ipv6)
			env.requireReleasesAll(env.p)
		})
	}
}

// A move carries both how the network was to be allocated and which it is.
func TestAllocateCluster_MovedClusterAdoptsItsNetworkWhateverTheSpecSaysOfIt(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	old := env.allocatedCluster("cluster", inNetwork(26, 0, "IPv4"))
	env.clusters.remove(old)
	env.cluster("cluster", func(c *infrastructure.MetalStackCluster) { c.Spec = *old.Spec.DeepCopy() })
	c, err := env.allocateCluster("cluster")
	require.NoError(t, err)
	assert.Equal(t, old.Status.Allocation.NetworkID, c.Status.Allocation.NetworkID)
	assert.False(t, c.Status.Allocation.NetworkAdopted)
	assert.Equal(t, 1, env.sim.CallsOf("network-allocate"))
}

// What the metal-api would refuse is not asked for.
func TestAllocateCluster_PrivateNetworkIsRefusedBeforeTheCall(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spec  func(*infrastructure.MetalStackCluster)
		fault *simulator.Fault
		want  refusedField
		calls int
	}{
		"length of the super network": {
			spec: inNetwork(16, 0),
			want: refusedField{"MetalStackCluster", "spec.privateNetwork.prefixLengths.ipv4", metav1.CauseTypeFieldValueInvalid, "Invalid value: 16: must be between 17 and 30, inclusive, since private networks of the partition are parts of a prefix of the length 16"},
		},
		"length of a family": {
			spec: inNetwork(0, 64, "IPv6"),
			want: refusedField{"MetalStackCluster", "spec.privateNetwork.prefixLengths.ipv6", metav1.CauseTypeFieldValueInvalid, "Invalid value: 64: must be between 65 and 126, inclusive, since private networks of the partition are parts of a prefix of the length 64"},
		},
		"what the metal-api refuses all the same": {
			spec:  inNetwork(20, 0),
			fault: new(refuse422("network-allocate", "cannot allocate free child prefix in ipam: error creating new prefix from:10.0.0.0/21 in ipam: invalid_argument: given length:20 must be greater than prefix length:21")),
			want:  refusedField{"MetalStackCluster", "spec.privateNetwork.prefixLengths", metav1.CauseTypeFieldValueInvalid, "Invalid value: refused by the metal-api: cannot allocate free child prefix in ipam: error creating new prefix from:10.0.0.0/21 in ipam: invalid_argument: given length:20 must be greater than prefix length:21"},
			calls: 1,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := newEnvironment(t)
			env.cluster("cluster", c.spec)
			if c.fault != nil {
				env.sim.Inject(*c.fault)
			} else {
				_, err := env.p.AllocateCluster(WithDryRun(env.context()), teamA, "cluster", body(""))
				require.ErrorContains(t, err, c.want.field, "in a dry run, too")
				require.Nil(t, env.getCluster("cluster").Status.Allocation)
			}
			_, err := env.allocateCluster("cluster")
			condition := meta.FindStatusCondition(env.getCluster("cluster").Status.Conditions, infrastructure.ConditionAllocated)
			require.NotNil(t, condition)
			requireRefusedField(t, err, "cluster", c.want, *condition)
			assert.Equal(t, c.calls, env.sim.CallsOf("network-allocate"))

			// It is a claim again, so that the spec can be corrected.
			corrected := env.getCluster("cluster")
			require.Empty(t, corrected.Status.Allocation.Phase)
			inNetwork(26, 0, "IPv4")(corrected)
			env.clusters.put(t, corrected)
			env.advance(env.p.timing.Backoff + time.Second)
			allocated, err := env.allocateCluster("cluster")
			require.NoError(t, err)
			ipv4, _ := env.lengthsOf(allocated.Spec.PrivateNetworkID)
			assert.Equal(t, 26, ipv4)
		})
	}
}
