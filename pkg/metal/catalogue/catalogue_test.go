// SPDX-License-Identifier: Apache-2.0

package catalogue

import (
	"context"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/metal/internal/metaltest"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

func TestCatalogue_LooksUpSizesAndPartitions(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		c := New(e.client, nil).WithMetrics(prometheus.NewRegistry())
		ctx := t.Context()

		size, all, err := c.LookupSize(ctx, simulator.SmallSize)
		require.NoError(t, err)
		require.Equal(t, simulator.SmallSize, size.ID)
		require.NotEmpty(t, size.Constraints)
		require.Empty(t, all)
		size, all, err = c.LookupSize(ctx, "c9-none")
		require.NoError(t, err)
		require.Nil(t, size)
		require.Equal(t, []string{simulator.LargeSize, simulator.SmallSize}, all)

		partition, _, err := c.LookupPartition(ctx, simulator.DefaultPartition)
		require.NoError(t, err)
		require.Equal(t, "fra", partition.Labels["region"])
		_, all, err = c.LookupPartition(ctx, "nope")
		require.NoError(t, err)
		require.Equal(t, []string{simulator.DefaultPartition}, all)
	})
}

func TestLookupImage_ByIDAndAlias(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		c := New(e.client, nil)
		ctx := t.Context()
		image, _, err := c.LookupImage(ctx, "ubuntu-24.04", metal.FeatureMachine)
		require.NoError(t, err)
		require.Equal(t, "ubuntu-24.04.20260101", image.ID, "the newest")
		require.Equal(t, "ubuntu-24.04", image.Alias)
		image, _, err = c.LookupImage(ctx, "ubuntu-24.04.20250701", "")
		require.NoError(t, err)
		require.Equal(t, "ubuntu-24.04.20250701", image.ID)
		image, _, err = c.LookupImage(ctx, simulator.FirewallImage, metal.FeatureFirewall)
		require.NoError(t, err)
		require.Equal(t, []string{metal.FeatureFirewall}, image.Features)
		for _, wrong := range []string{"ubuntu-99.04", "ubuntu", "ubuntu-24", "ubuntu-24.04.", "", simulator.FirewallImage} {
			image, all, err := c.LookupImage(ctx, wrong, metal.FeatureMachine)
			require.NoError(t, err)
			require.Nil(t, image, wrong)
			require.Contains(t, all, "ubuntu-24.04")
			require.NotContains(t, all, simulator.FirewallImage)
			require.IsIncreasing(t, all)
		}
	})
}

func TestFindImage_ComparesPatchesAsNumbers(t *testing.T) {
	images := []*metal.Image{{ID: "o-1.0.9", Alias: "o-1.0"}, {ID: "o-1.0.20260101", Alias: "o-1.0"}, {ID: "o-1.0.10", Alias: "o-1.0"}}
	require.Equal(t, "o-1.0.20260101", findImage(images, "o-1.0", "").ID)
	require.Equal(t, "o-1.0.10", findImage([]*metal.Image{images[0], images[2]}, "o-1.0", "").ID)
}

func TestLookupNetwork_ShowsNetworksOfOthersAsUnknown(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		c := New(e.client, nil)
		own, foreign := e.network(simulator.ProjectA), e.network(simulator.ProjectB)
		n, _, err := c.LookupNetwork(t.Context(), own, simulator.ProjectA)
		require.NoError(t, err)
		require.Equal(t, own, n.ID)
		require.Zero(t, e.sim.CallsOf("network-list"))
		n, others, err := c.LookupNetwork(t.Context(), foreign, simulator.ProjectA)
		require.NoError(t, err)
		require.Equal(t, simulator.ProjectB, n.Project, "who may use it is for the caller to say")
		n, _, err = c.LookupNetwork(t.Context(), simulator.SuperNetwork, simulator.ProjectA)
		require.NoError(t, err)
		require.True(t, n.PrivateSuper)

		n, all, err := c.LookupNetwork(t.Context(), "nope", simulator.ProjectA)
		require.NoError(t, err)
		require.Nil(t, n)
		require.Equal(t, all, others, "what is another project's is answered as what does not exist")
		require.Contains(t, all, own)
		require.Contains(t, all, simulator.InternetNetwork)
		for _, other := range []string{foreign, simulator.SuperNetwork, simulator.UnderlayNetwork} {
			require.NotContains(t, all, other)
		}
	})
}

func TestLookupMachine_OfProject(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		c := New(e.client, nil).WithFacts(e.facts)
		own, foreign := e.allocate(simulator.ProjectA), e.allocate(simulator.ProjectB)
		lookup := func(id string) *metal.Machine {
			t.Helper()
			m, err := c.LookupMachine(t.Context(), id, simulator.ProjectA)
			require.NoError(t, err)
			return m
		}
		require.NotNil(t, lookup(own))
		for _, m := range e.sim.Inventory().Machines {
			require.Equal(t, m.Project != simulator.ProjectB, lookup(m.ID) != nil, "unallocated ones may be asked for")
		}
		require.Nil(t, lookup(foreign))
		require.Nil(t, lookup(metaltest.NoSuchID))
		require.NoError(t, e.sim.ForceFree(foreign))
		require.Nil(t, lookup(foreign), "what was found out just now")
		time.Sleep(volatileTTL)
		require.NotNil(t, lookup(foreign))

		require.NoError(t, e.sim.DropEventContainer(own))
		time.Sleep(volatileTTL)
		require.Nil(t, lookup(own), "a GET answers 404")
		e.observe(own)
		require.NotNil(t, lookup(own), "and it was observed")
	})
}

func TestLookupSuperNetwork_OfPartition(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		c := New(e.client, nil)
		e.network(simulator.ProjectA)
		network, err := c.LookupSuperNetwork(t.Context(), simulator.DefaultPartition)
		require.NoError(t, err)
		require.Equal(t, simulator.SuperNetwork, network.ID)
		require.Equal(t, map[string]int64{metal.AddressFamilyIPv4: 22, metal.AddressFamilyIPv6: 96}, network.ChildPrefixLengths)
		network, err = c.LookupSuperNetwork(t.Context(), "nope")
		require.NoError(t, err)
		require.Nil(t, network)
		require.Equal(t, 1, e.sim.CallsOf("network-list"))

		e.sim.Inject(simulator.Fault{Endpoint: "*", Kind: simulator.FaultRefused})
		network, err = c.LookupSuperNetwork(t.Context(), simulator.DefaultPartition)
		require.NoError(t, err, "it is cached")
		require.NotNil(t, network)
		_, err = New(e.client, nil).LookupSuperNetwork(t.Context(), simulator.DefaultPartition)
		require.Equal(t, metal.Unavailable, metal.KindOf(err))
	})
}

func TestLookupAddress_OfProject(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		c := New(e.client, nil)
		own, err := e.sim.AllocateIPFor(simulator.ProjectA, simulator.InternetNetwork, "own", nil)
		require.NoError(t, err)
		foreign, err := e.sim.AllocateIPFor(simulator.ProjectB, simulator.InternetNetwork, "foreign", nil)
		require.NoError(t, err)
		private := e.network(simulator.ProjectB)
		for address, where := range map[string]string{
			own: "", foreign: simulator.InternetNetwork, "203.0.113.250": simulator.InternetNetwork,
			"192.0.2.1": "", "10.0.0.1": simulator.SuperNetwork, "10.0.255.1": simulator.SuperNetwork, "10.1.0.1": simulator.UnderlayNetwork,
		} {
			ip, network, err := c.LookupAddress(t.Context(), netip.MustParseAddr(address), simulator.ProjectA)
			require.NoError(t, err)
			require.Equal(t, address == own, ip != nil, address)
			switch where {
			case "":
				require.Nil(t, network, address)
			case simulator.SuperNetwork:
				require.Contains(t, []string{simulator.SuperNetwork, private}, network.ID, address)
				require.False(t, network.UsableBy(simulator.ProjectA), "whether anybody has it makes no difference")
			default:
				require.Equal(t, where, network.ID, address)
			}
		}
	})
}

func TestCatalogue_RevealsNoOtherProjectDuringOutage(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		c := New(e.client, nil)
		network, machine := e.network(simulator.ProjectB), e.allocate(simulator.ProjectB)
		address, err := e.sim.AllocateIPFor(simulator.ProjectB, simulator.InternetNetwork, "theirs", nil)
		require.NoError(t, err)
		lookup := func(project, network, machine, address string) (errs []error) {
			_, _, err := c.LookupNetwork(t.Context(), network, project)
			errs = append(errs, err)
			_, err = c.LookupMachine(t.Context(), machine, project)
			errs = append(errs, err)
			_, _, err = c.LookupAddress(t.Context(), netip.MustParseAddr(address), project)
			return append(errs, err)
		}
		for _, err := range lookup(simulator.ProjectA, network, machine, address) {
			require.NoError(t, err)
		}
		e.sim.Inject(simulator.Fault{Endpoint: "*", Kind: simulator.FaultRefused})
		time.Sleep(time.Minute)
		known, unknown := lookup(simulator.ProjectA, network, machine, address), lookup(simulator.ProjectA, metaltest.NoSuchID, metaltest.NoSuchID, "203.0.113.250")
		for i := range known {
			require.Equal(t, metal.Unavailable, metal.KindOf(known[i]), "%v", known[i])
			require.Equal(t, metal.Unavailable, metal.KindOf(unknown[i]), "%v", unknown[i])
		}
		for _, err := range lookup(simulator.ProjectB, network, machine, address) {
			require.NoError(t, err, "whose it is gets an answer from the cache")
		}
	})
}

func TestLookupNetwork_WorksWithoutList(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		c := New(e.client, nil)
		e.sim.Inject(simulator.Fault{Endpoint: "network-list", Kind: simulator.FaultStatus, Status: 422, Message: "prefix usage for cidr:10.0.12.0/22 not found"})
		n, _, err := c.LookupNetwork(t.Context(), simulator.InternetNetwork, simulator.ProjectA)
		require.NoError(t, err)
		require.NotNil(t, n)
		n, all, err := c.LookupNetwork(t.Context(), "nope", simulator.ProjectA)
		require.NoError(t, err, "that it is not known is known")
		require.Nil(t, n)
		require.Empty(t, all)
	})
}

func TestCatalogue_SharesAndLimitsMisses(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		c := New(e.client, nil)
		e.sim.Inject(simulator.Fault{Endpoint: "*-list", Kind: simulator.FaultLatency, Latency: soon})
		e.sim.Inject(simulator.Fault{Endpoint: "size-list", Kind: simulator.FaultLatency, Latency: soon})
		for range 10 {
			var wg sync.WaitGroup
			for range 100 {
				wg.Go(func() {
					_, _, err := c.LookupSize(t.Context(), "typo")
					assert.NoError(t, err)
					_, err = c.LookupMachine(t.Context(), metaltest.NoSuchID, simulator.ProjectA)
					assert.NoError(t, err)
				})
			}
			wg.Wait()
		}
		require.Equal(t, 1, e.sim.CallsOf("size-list"))
		require.Equal(t, 1, e.sim.CallsOf("machine-get"))
		// A list that takes 100 ms is read each 10 s at most: 1 % of the time.
		time.Sleep(minGap)
		_, _, _ = c.LookupSize(t.Context(), "typo")
		require.Equal(t, 1, e.sim.CallsOf("size-list"))
		time.Sleep(2 * quietFactor * soon)
		_, _, _ = c.LookupSize(t.Context(), "typo")
		require.Equal(t, 2, e.sim.CallsOf("size-list"))
	})
}

// What is asked for when an outage is over is checked, not let through because
// the metal-api was away seconds ago.
func TestCatalogue_RetriesSoonAfterOutage(t *testing.T) {
	for name, fault := range map[string]simulator.Fault{
		"refused": {Kind: simulator.FaultRefused},
		"backend": {Kind: simulator.FaultBackendDown, Backend: "rethinkdb"},
		"hang":    {Kind: simulator.FaultHang, Times: 3},
	} {
		t.Run(name, func(t *testing.T) {
			runTest(t, envConfig{}, func(t *testing.T, e *env) {
				c := New(e.client, nil)
				fault.Endpoint = "*"
				remove := e.sim.Inject(fault)
				_, _, err := c.LookupSize(t.Context(), "typo")
				require.Equal(t, metal.Unavailable, metal.KindOf(err), "%v", err)
				_, err = c.LookupMachine(t.Context(), metaltest.NoSuchID, simulator.ProjectA)
				require.Equal(t, metal.Unavailable, metal.KindOf(err), "%v", err)
				_, _, err = c.LookupImage(t.Context(), "typo-1.0", metal.FeatureMachine)
				require.Equal(t, metal.Unavailable, metal.KindOf(err), "%v", err)
				if fault.Kind != simulator.FaultHang { // removed, the calls that hang would be answered
					remove()
				}

				time.Sleep(time.Second)
				size, all, err := c.LookupSize(t.Context(), "typo")
				require.NoError(t, err)
				require.Nil(t, size)
				require.Contains(t, all, simulator.SmallSize)
				_, all, err = c.LookupImage(t.Context(), "typo-1.0", metal.FeatureMachine)
				require.NoError(t, err)
				require.NotEmpty(t, all)
				if fault.Kind != simulator.FaultHang {
					_, err = c.LookupMachine(t.Context(), metaltest.NoSuchID, simulator.ProjectA)
					require.NoError(t, err)
				}
			})
		})
	}
}

func TestCatalogue_LimitsRetriesDuringOutage(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		c := New(e.client, nil)
		e.sim.Inject(simulator.Fault{Endpoint: "*", Kind: simulator.FaultStatus, Status: 503, Message: "no"})
		for range 100 {
			_, _, _ = c.LookupSize(t.Context(), "typo")
			time.Sleep(10 * time.Millisecond)
		}
		require.LessOrEqual(t, e.sim.CallsOf("size-list"), int(time.Second/retryGap)+1)
	})
}

func TestCatalogue_FindsNewEntryAfterMiss(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		c := New(e.client, nil)
		hide := true
		e.transport.Answer(func(r *http.Request) (*http.Response, error) {
			if hide && r.URL.Path == "/v1/size" {
				return metaltest.Respond(200, "application/json", "[]")(r)
			}
			return nil, nil
		})
		size, all, err := c.LookupSize(t.Context(), simulator.SmallSize)
		require.NoError(t, err)
		require.Nil(t, size)
		require.Empty(t, all)
		hide = false
		time.Sleep(minGap)
		size, _, err = c.LookupSize(t.Context(), simulator.SmallSize)
		require.NoError(t, err)
		require.NotNil(t, size)
	})
}

func TestCatalogue_AnswersFromCacheDuringOutage(t *testing.T) {
	for name, fault := range map[string]simulator.Fault{
		"refused": {Kind: simulator.FaultRefused},
		"hang":    {Kind: simulator.FaultHang},
	} {
		t.Run(name, func(t *testing.T) {
			runTest(t, envConfig{}, func(t *testing.T, e *env) {
				c := New(e.client, nil)
				_, _, err := c.LookupSize(t.Context(), simulator.SmallSize)
				require.NoError(t, err)
				_, _, err = c.LookupNetwork(t.Context(), simulator.InternetNetwork, simulator.ProjectA)
				require.NoError(t, err)
				fault.Endpoint = "*"
				remove := e.sim.Inject(fault)
				time.Sleep(10 * time.Minute)

				size, _, err := c.LookupSize(t.Context(), simulator.SmallSize)
				require.NoError(t, err)
				require.NotNil(t, size)
				n, _, err := c.LookupNetwork(t.Context(), simulator.InternetNetwork, simulator.ProjectA)
				require.NoError(t, err)
				require.NotNil(t, n)
				for range 3 {
					began := time.Now()
					_, all, err := c.LookupSize(t.Context(), "typo")
					require.Equal(t, metal.Unavailable, metal.KindOf(err), "%v", err)
					require.NotEmpty(t, all)
					require.LessOrEqual(t, time.Since(began), lookupTimeout)
					_, err = c.LookupMachine(t.Context(), metaltest.NoSuchID, simulator.ProjectA)
					require.Equal(t, metal.Unavailable, metal.KindOf(err), "%v", err)
					require.ErrorContains(t, err, metaltest.NoSuchID)
				}
				time.Sleep(time.Minute)
				_, _, err = c.LookupSize(t.Context(), "typo")
				require.ErrorContains(t, err, "unavailable since 2000-")

				remove()
				time.Sleep(time.Minute)
				size, all, err := c.LookupSize(t.Context(), "typo")
				require.NoError(t, err)
				require.Nil(t, size)
				require.NotEmpty(t, all)
			})
		})
	}
}

func TestLookup_EndsWithItsContext(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		c := New(e.client, nil)
		e.sim.Inject(simulator.Fault{Endpoint: "*", Kind: simulator.FaultHang})
		ctx, cancel := context.WithTimeout(t.Context(), soon)
		defer cancel()
		began := time.Now()
		_, _, err := c.LookupImage(ctx, "x-1.0", "")
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, metal.Unavailable, metal.KindOf(err))
		_, err = c.LookupMachine(ctx, metaltest.NoSuchID, simulator.ProjectA)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, soon, time.Since(began))
	})
}

func TestRun_RefreshesLists(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		c := New(e.client, nil)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); c.Run(ctx) }()
		synctest.Wait()
		require.Equal(t, 1, e.sim.CallsOf("image-list"))
		_, _, err := c.LookupImage(t.Context(), "ubuntu-24.04", "")
		require.NoError(t, err)
		require.Equal(t, 1, e.sim.CallsOf("image-list"), "a lookup of what is known costs nothing")
		time.Sleep(time.Hour)
		require.InDelta(t, 12, e.sim.CallsOf("image-list"), 2)
		require.Zero(t, e.sim.CallsOf("network-list"), "networks are too many to be listed without need")
		cancel()
		<-done
	})
}

func TestEntityCache_IsBounded(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		c := New(e.client, nil)
		for i := range 3 * maxEntries {
			id := strings.Repeat("x", i%7) + time.Duration(i).String()
			e := c.machine.entry(id)
			e.tried = time.Now()
			c.machine.store(id, e)
			if i%100 == 0 {
				time.Sleep(time.Second)
			}
		}
		require.LessOrEqual(t, len(c.machine.entries), maxEntries+100)
	})
}
