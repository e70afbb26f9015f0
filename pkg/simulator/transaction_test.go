// SPDX-License-Identifier: Apache-2.0

package simulator_test

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/metal-stack/metal-go/api/models"
	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// docs/metal-api.md, Q33 to Q36, Q47 and Q50.

// TestMachineAllocate_DisconnectedCaller: a caller that disconnects leaves
// nothing, a lock, or a machine.
func TestMachineAllocate_DisconnectedCaller(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		after        time.Duration
		lock, commit bool
	}{
		{3 * time.Millisecond, false, false},
		{8 * time.Millisecond, false, false},
		{12 * time.Millisecond, true, false},
		{16 * time.Millisecond, true, false},
		{20 * time.Millisecond, true, false},
		{25 * time.Millisecond, true, false},
		{30 * time.Millisecond, false, false},
		{40 * time.Millisecond, false, true},
		{50 * time.Millisecond, false, true},
	} {
		t.Run(tc.after.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newBubble(t, simulator.Config{Costs: true})
				nw := b.makeNetwork(simulator.ProjectA)
				time.Sleep(100 * time.Millisecond)
				b.leaving(tc.after, wanted(nw, "who=me"))
				time.Sleep(time.Second)

				inventory := b.sim.Inventory()
				require.Equal(t, tc.commit, len(inventory.AllocatedWith("who=me")) == 1)
				if !tc.commit {
					require.Empty(t, inventory.IPs)
				}
				next := b.allocate(wanted(nw))
				if tc.lock {
					require.Equal(t, 422, next.Status)
					require.Contains(t, next.Message, "too many parallel machine allocations")
					require.InDelta(t, 10, next.Took.Seconds(), 0.1)
				} else {
					require.Equal(t, 200, next.Status)
				}
			})
		})
	}
}

// TestMachineAllocate_LeftLockBlocksPartition: a lock that a disconnected
// caller left blocks the partition for 10 to 40 seconds.
func TestMachineAllocate_LeftLockBlocksPartition(t *testing.T) {
	t.Parallel()
	for _, offset := range []time.Duration{0, 11 * time.Second, 19 * time.Second, 21 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			b := newBubble(t, simulator.Config{DataCentre: simulator.DefaultDataCentre(2000)})
			nw, other := b.makeNetwork(simulator.ProjectA), b.makeNetwork(simulator.ProjectB)
			elsewhere, err := b.sim.AllocateNetworkFor(simulator.ProjectA, "fra-02", "net", nil)
			require.NoError(t, err)
			time.Sleep(offset)
			b.sim.Inject(simulator.Fault{Endpoint: "machine-allocate", Kind: simulator.FaultClientGone, Phase: "candidate", Times: 1})
			require.Zero(t, b.allocate(wanted(nw)).Status)

			byID := wanted(nw)
			byID.UUID = b.sim.MachineIDs()[0]
			require.Equal(t, 200, b.allocate(byID).Status, "only allocations by size ask for the lock")
			inOther := wanted(elsewhere)
			inOther.Partitionid = ref("fra-02")
			require.Equal(t, 200, b.allocate(inOther).Status, "other partitions have their own")

			start, blocked := time.Now(), 0
			theirs := wanted(other)
			theirs.Projectid = ref(simulator.ProjectB)
			for b.allocate(theirs).Status != 200 {
				blocked++
			}
			took := time.Since(start)
			require.GreaterOrEqual(t, took, 10*time.Second)
			require.Less(t, took, 40*time.Second)
			require.Positive(t, blocked)
		})
	}
}

// TestNetworkAllocate_DisconnectedCaller: a caller that disconnects leaves
// nothing, a network, or a lost prefix.
func TestNetworkAllocate_DisconnectedCaller(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t, simulator.Config{Costs: true})
		leave := func(phase string) int {
			t.Helper()
			used := usedPrefixes(t, b)
			b.sim.Inject(simulator.Fault{Endpoint: "network-allocate", Kind: simulator.FaultClientGone, Phase: phase, Times: 1})
			r := b.ask("POST", "/v1/network/allocate", map[string]string{"projectid": simulator.ProjectA, "partitionid": simulator.DefaultPartition, "name": phase})
			require.Zero(t, r.Status)
			return usedPrefixes(t, b) - used
		}
		named := func(name string) bool {
			return slices.ContainsFunc(b.sim.Inventory().Networks, func(n simulator.NetworkState) bool { return n.Name == name })
		}
		require.Zero(t, leave("project"))
		require.False(t, named("project"))
		require.Zero(t, leave("prefix"))
		require.False(t, named("prefix"))
		require.Equal(t, 1, leave("usage"))
		require.True(t, named("usage"))

		// between the two address families: the first prefix is lost for good
		used, networks := usedPrefixes(t, b), len(b.sim.Inventory().Networks)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		b.askFor(ctx, "POST", "/v1/network/allocate", map[string]string{"projectid": simulator.ProjectA, "partitionid": simulator.DefaultPartition})
		require.Len(t, b.sim.Inventory().Networks, networks)
		require.Equal(t, 1, usedPrefixes(t, b)-used)
	})
}

// usedPrefixes of IPv4 of the super network.
func usedPrefixes(t testing.TB, b *bubble) int {
	t.Helper()
	n := into[struct {
		Usage struct {
			UsedPrefixes int `json:"used_prefixes"`
		}
	}](t, b.ask("GET", "/v1/network/"+simulator.SuperNetwork, nil))
	return n.Usage.UsedPrefixes
}

// TestMachineAllocate_LoserOfRaceFreesWinnersAddresses: of two parallel
// allocations of one machine one fails, and its rollback frees the addresses
// of the other.
func TestMachineAllocate_LoserOfRaceFreesWinnersAddresses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t, simulator.Config{Costs: true})
		nw := b.makeNetwork(simulator.ProjectA)
		r := wanted(nw)
		r.UUID = b.sim.MachineIDs()[0]
		answers := make(chan reply, 2)
		for range 2 {
			go func() { answers <- b.allocate(r) }()
		}
		won, lost := <-answers, <-answers
		if won.Status != 200 {
			won, lost = lost, won
		}
		require.Equal(t, 200, won.Status)
		require.Contains(t, []int{409, 422}, lost.Status)
		time.Sleep(time.Second)

		m := into[models.V1MachineResponse](t, won)
		state, _ := b.sim.Inventory().Machine(*m.ID)
		require.True(t, state.Allocated)
		require.NotEmpty(t, state.IPs)
		require.Empty(t, b.sim.Inventory().IPs, "the winner's addresses are gone")
		next := wanted(nw)
		next.UUID = b.sim.MachineIDs()[1]
		other := into[models.V1MachineResponse](t, b.allocate(next))
		require.Subset(t, []string{"10.0.0.1", "10.0.0.2"}, []string{other.Allocation.Networks[0].Ips[0]})
	})
}

// TestMachineAllocate_BurstOfFailuresFreesAddressesOfNext: one failure does
// not.
func TestMachineAllocate_BurstOfFailuresFreesAddressesOfNext(t *testing.T) {
	t.Parallel()
	for failures, lost := range map[int]bool{0: false, 1: false, 3: false, 6: true, 9: true, 12: true} {
		synctest.Test(t, func(t *testing.T) {
			b := newBubble(t, simulator.Config{Costs: true})
			nw := b.makeNetwork(simulator.ProjectA)
			good, bad := wanted(nw), wanted("nope")
			good.UUID = b.sim.MachineIDs()[0]
			bad.UUID = good.UUID
			for range failures {
				require.Equal(t, 404, b.allocate(bad).Status)
			}
			require.Equal(t, 200, b.allocate(good).Status)
			time.Sleep(2 * time.Second)
			require.Equal(t, lost, len(b.sim.Inventory().IPs) == 0, "%d failures", failures)
		})
	}
}

// TestMachineFree_RightAfterAllocateCanConflict: a free right after an
// allocation can be answered 409 although the addresses are being released.
func TestMachineFree_RightAfterAllocateCanConflict(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t, simulator.Config{Costs: true, DataCentre: simulator.DefaultDataCentre(60)})
		nw := b.makeNetwork(simulator.ProjectA)
		conflicts := 0
		for range 40 {
			m := into[models.V1MachineResponse](t, b.allocate(wanted(nw)))
			freed := b.ask("DELETE", "/v1/machine/"+*m.ID+"/free", nil)
			if freed.Status == 409 {
				conflicts++
				require.Contains(t, freed.Message, "the entity was changed from another, please retry")
				time.Sleep(time.Second)
				state, _ := b.sim.Inventory().Machine(*m.ID)
				require.True(t, state.Allocated)
				require.Empty(t, b.sim.Inventory().IPs)
				require.Equal(t, 200, b.ask("DELETE", "/v1/machine/"+*m.ID+"/free", nil).Status)
			}
			time.Sleep(time.Second)
		}
		require.Positive(t, conflicts)
		require.Less(t, conflicts, 20)
	})
}

// TestNetworkFree_HalfFreedDualStackBreaksLists: a dual-stack network that is
// freed with an address in its second prefix makes every list fail.
func TestNetworkFree_HalfFreedDualStackBreaksLists(t *testing.T) {
	t.Parallel()
	b := newBubble(t, simulator.Config{})
	nw := b.makeNetwork(simulator.ProjectB)
	address := into[models.V1IPResponse](t, b.ask("POST", "/v1/ip/allocate", map[string]string{
		"networkid": nw, "projectid": simulator.ProjectB, "addressfamily": "IPv6", "type": "static",
	}))
	freed := b.ask("DELETE", "/v1/network/free/"+nw, nil)
	require.Equal(t, 422, freed.Status)
	require.Contains(t, freed.Message, "has ips, delete prefix not possible")

	require.Equal(t, 200, b.ask("DELETE", "/v1/ip/free/"+*address.Ipaddress, nil).Status)
	require.Equal(t, 422, b.ask("DELETE", "/v1/network/free/"+nw, nil).Status, "not even without addresses")
	for _, list := range []reply{
		b.ask("GET", "/v1/network", nil),
		b.ask("GET", "/v1/network/"+nw, nil),
		b.ask("POST", "/v1/network/find", map[string]string{"projectid": simulator.ProjectB}),
	} {
		require.Equal(t, 422, list.Status)
		require.Contains(t, list.Message, "prefix usage for cidr:10.0.0.0/22 not found not_found")
	}
	require.Equal(t, 200, b.ask("POST", "/v1/network/find", map[string]string{"projectid": simulator.ProjectA}).Status)
	half := slices.DeleteFunc(b.sim.Inventory().Networks, func(n simulator.NetworkState) bool { return !n.HalfFreed })
	require.Len(t, half, 1)
}

// TestUpdate_ParallelOnesConflict: of eight parallel updates one succeeds; the
// others are conflicts.
func TestUpdate_ParallelOnesConflict(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t, simulator.Config{Costs: true})
		m := into[models.V1MachineResponse](t, b.allocate(wanted(b.makeNetwork(simulator.ProjectA))))
		time.Sleep(time.Second)
		statuses := make(chan int, 8)
		for range 8 {
			go func() {
				statuses <- b.ask("POST", "/v1/machine", map[string]any{"id": *m.ID, "tags": []string{"x"}}).Status
			}()
		}
		count := map[int]int{}
		for range 8 {
			count[<-statuses]++
		}
		require.Equal(t, map[int]int{200: 1, 409: 7}, count)
	})
}

func TestMachineAllocate_BySizeIsSerialisedInPartition(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t, simulator.Config{Costs: true})
		nw := b.makeNetwork(simulator.ProjectA)
		alone := b.allocate(wanted(nw)).Took
		start := time.Now()
		answers := make(chan reply, 7)
		for range 7 {
			go func() { answers <- b.allocate(wanted(nw)) }()
		}
		count := map[int]int{}
		for range 7 {
			count[(<-answers).Status]++
		}
		require.Equal(t, map[int]int{200: 5, 422: 2}, count)
		require.Greater(t, time.Since(start), 5*alone)
	})
}
