// SPDX-License-Identifier: Apache-2.0

package observation

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/metal/client"
	"metal-stack.io/infrastructure-apiserver/pkg/metal/internal/metaltest"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// anotherClient is a client whose writes the observer does not learn of.
func (e *env) anotherClient() *client.Client {
	e.t.Helper()
	c, err := client.New(client.Options{URL: metaltest.URL, HMAC: simulator.DefaultHMAC.Edit, AuthType: client.AuthEdit, Transport: e.transport})
	require.NoError(e.t, err)
	return c
}

func (e *env) foreignNetwork(project string) string {
	e.t.Helper()
	id, err := e.sim.AllocateNetworkFor(project, simulator.DefaultPartition, "net", nil)
	require.NoError(e.t, err)
	return id
}

func (e *env) foreignIP(project, network string) string {
	e.t.Helper()
	address, err := e.sim.AllocateIPFor(project, network, "ip", nil)
	require.NoError(e.t, err)
	return address
}

func networkIDs(networks []*metal.Network) (ids []string) {
	for _, n := range networks {
		ids = append(ids, n.ID)
	}
	return ids
}

// refuseNetworkLists has lists of all networks answered with 422.
func (e *env) refuseNetworkLists() {
	e.transport.Answer(func(r *http.Request) (*http.Response, error) {
		if r.URL.Path != "/v1/network/find" {
			return nil, nil
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		if strings.Contains(string(body), "projectid") {
			return nil, nil
		}
		return metaltest.Respond(422, "application/json", `"{\"statuscode\":422,\"message\":\"prefix usage for cidr:10.0.12.0/22 not found\"}"`)(r)
	})
}

var (
	networksOfA = metal.Scope{ProjectNetworks: simulator.ProjectA}
	ipsOfA      = metal.Scope{ProjectIPs: simulator.ProjectA}
)

func TestRefresh_ShowsNetworksThatProjectCanUse(t *testing.T) {
	runTest(t, envConfig{costs: true}, func(t *testing.T, e *env) {
		own, other := e.foreignNetwork(simulator.ProjectA), e.foreignNetwork(simulator.ProjectB)
		require.False(t, e.observer.NetworksObserved(simulator.ProjectA))
		require.NoError(t, e.observer.Refresh(t.Context(), networksOfA))
		require.True(t, e.observer.NetworksObserved(simulator.ProjectA))
		ids := networkIDs(e.observer.NetworksOf(simulator.ProjectA))
		require.Contains(t, ids, own)
		require.NotContains(t, ids, other)
		require.Contains(t, ids, simulator.InternetNetwork)
		for n := range e.observer.Networks() {
			require.False(t, n.PrivateSuper || n.Underlay, n.ID)
		}
		require.Contains(t, e.changed(), metal.Ref{Kind: metal.KindNetwork, ID: own})

		// Those of no project are not observed again by each read.
		e.sim.ResetCalls()
		require.NoError(t, e.observer.Refresh(t.Context(), networksOfA))
		require.Equal(t, 1, allCalls(e.sim))
		time.Sleep(publicNetworksTTL)
		e.sim.ResetCalls()
		require.NoError(t, e.observer.Refresh(t.Context(), networksOfA))
		require.Equal(t, 2, e.sim.CallsOf("network-find"))
		require.Equal(t, 2, allCalls(e.sim))
		require.NotZero(t, len(e.observer.NetworksOf(simulator.ProjectA)))
	})
}

func TestRefresh_ShowsAddressesOfProject(t *testing.T) {
	runTest(t, envConfig{costs: true}, func(t *testing.T, e *env) {
		own := e.foreignIP(simulator.ProjectA, simulator.InternetNetwork)
		e.foreignIP(simulator.ProjectB, simulator.InternetNetwork)
		require.False(t, e.observer.IPsObserved(simulator.ProjectA))
		require.NoError(t, e.observer.Refresh(t.Context(), ipsOfA))
		require.True(t, e.observer.IPsObserved(simulator.ProjectA))
		require.False(t, e.observer.IPsObserved(simulator.ProjectB))
		found := e.observer.IPsOf(simulator.ProjectA)
		require.Len(t, found, 1)
		require.Equal(t, own, found[0].Address)
		require.Empty(t, e.observer.IPsOf(simulator.ProjectB))
		require.Equal(t, []metal.Ref{{Kind: metal.KindIP, ID: own}}, e.changed())
		require.Equal(t, 1, e.sim.CallsOf("ip-find"))

		require.False(t, e.observer.AllIPsObserved())
		require.NoError(t, e.observer.Refresh(t.Context(), metal.Scope{AllIPs: true}))
		require.True(t, e.observer.AllIPsObserved())
		require.Len(t, e.observer.IPsOf(simulator.ProjectB), 1)
	})
}

// Facts of projects that are not shown are not kept, so that a namespace that is bound later is
// not shown as empty.
func TestRefresh_OfAllNetworksKeepsThoseOfRelevantProjects(t *testing.T) {
	relevant := map[string]bool{simulator.ProjectA: true}
	options := Options{Relevant: func(project string) bool { return relevant[project] }}
	runTest(t, envConfig{options: options}, func(t *testing.T, e *env) {
		own, other := e.foreignNetwork(simulator.ProjectA), e.foreignNetwork(simulator.ProjectB)
		e.foreignIP(simulator.ProjectB, simulator.InternetNetwork)
		all := metal.Scope{AllNetworks: true, AllIPs: true}
		require.NoError(t, e.observer.Refresh(t.Context(), all))
		require.True(t, e.observer.AllNetworksObserved() && e.observer.AllIPsObserved())
		require.True(t, e.observer.NetworksObserved(simulator.ProjectA) && e.observer.IPsObserved(simulator.ProjectA))
		_, presence := e.observer.Network(other)
		require.Equal(t, metal.Unobserved, presence)
		_, presence = e.observer.Network(own)
		require.Equal(t, metal.Present, presence)

		relevant[simulator.ProjectB] = true
		e.observer.RelevanceChanged(simulator.ProjectB)
		require.False(t, e.observer.NetworksObserved(simulator.ProjectB) || e.observer.IPsObserved(simulator.ProjectB))
		require.False(t, e.observer.AllNetworksObserved() || e.observer.AllIPsObserved())
		require.NoError(t, e.observer.Refresh(t.Context(), metal.Scope{ProjectNetworks: simulator.ProjectB, ProjectIPs: simulator.ProjectB}))
		require.True(t, e.observer.AllNetworksObserved() && e.observer.AllIPsObserved())
		require.Contains(t, networkIDs(e.observer.NetworksOf(simulator.ProjectB)), other)
	})
}

func TestRefresh_NetworkIsGoneAfterFindOfProjectAndFindOfID(t *testing.T) {
	for name, c := range map[string]struct {
		networks, ips metal.Scope
	}{
		"of a project": {networksOfA, ipsOfA},
		"of all":       {metal.Scope{AllNetworks: true}, metal.Scope{AllIPs: true}},
	} {
		t.Run(name, func(t *testing.T) {
			runTest(t, envConfig{}, func(t *testing.T, e *env) {
				network := e.foreignNetwork(simulator.ProjectA)
				address := e.foreignIP(simulator.ProjectA, simulator.InternetNetwork)
				require.NoError(t, e.observer.Refresh(t.Context(), c.networks))
				require.NoError(t, e.observer.Refresh(t.Context(), c.ips))
				another := e.anotherClient()
				_, err := another.FreeNetwork(t.Context(), network)
				require.NoError(t, err)
				_, err = another.FreeIP(t.Context(), address)
				require.NoError(t, err)

				remove := e.sim.Inject(simulator.Fault{Endpoint: "network-get", Kind: simulator.FaultStatus, Status: 503, Message: "x"})
				require.Error(t, e.observer.Refresh(t.Context(), c.networks))
				_, presence := e.observer.Network(network)
				require.Equal(t, metal.Present, presence, "one observation is not enough")
				remove()
				time.Sleep(maxBackoff * 2)
				e.sim.ResetCalls()
				e.changed()
				require.NoError(t, e.observer.Refresh(t.Context(), c.networks))
				require.NoError(t, e.observer.Refresh(t.Context(), c.ips))
				_, presence = e.observer.Network(network)
				require.Equal(t, metal.Gone, presence)
				_, presence = e.observer.IP(address)
				require.Equal(t, metal.Gone, presence)
				require.NotContains(t, networkIDs(e.observer.NetworksOf(simulator.ProjectA)), network)
				require.Empty(t, e.observer.IPsOf(simulator.ProjectA))
				require.Equal(t, 2, e.sim.CallsOf("network-find"))
				require.Equal(t, 2, e.sim.CallsOf("ip-find"))
				changed := e.changed()
				require.Contains(t, changed, metal.Ref{Kind: metal.KindNetwork, ID: network})
				require.Contains(t, changed, metal.Ref{Kind: metal.KindIP, ID: address})
			})
		})
	}
}

// An answer that lacks much is not believed, and costs no more than verifications may.
func TestRefresh_EmptyAnswerIsVerifiedWithinBounds(t *testing.T) {
	runTest(t, envConfig{costs: true}, func(t *testing.T, e *env) {
		network := e.foreignNetwork(simulator.ProjectA)
		for range 200 {
			e.foreignIP(simulator.ProjectA, network)
		}
		require.NoError(t, e.observer.Refresh(t.Context(), ipsOfA))
		e.transport.Answer(func(r *http.Request) (*http.Response, error) {
			if r.URL.Path == "/v1/ip/find" {
				return metaltest.Respond(200, "application/json", "[]")(r)
			}
			return nil, nil
		})
		busy := e.sim.BusyTime()
		require.NoError(t, e.observer.Refresh(t.Context(), ipsOfA), "gets have shown them")
		require.Len(t, e.observer.IPsOf(simulator.ProjectA), 200)
		require.Less(t, e.sim.BusyTime()-busy, 2*maxVerificationCost)
	})
}

func TestRefresh_DisappearanceOfManyAddressesIsVerifiedByReads(t *testing.T) {
	runTest(t, envConfig{costs: true}, func(t *testing.T, e *env) {
		network := e.foreignNetwork(simulator.ProjectA)
		var addresses []string
		for range 100 {
			addresses = append(addresses, e.foreignIP(simulator.ProjectA, network))
		}
		require.NoError(t, e.observer.Refresh(t.Context(), ipsOfA))
		another := e.anotherClient()
		for _, address := range addresses {
			_, err := another.FreeIP(t.Context(), address)
			require.NoError(t, err)
		}
		e.sim.SetSlowdown(4)
		reads := 0
		for left := 100; left > 0; reads++ {
			time.Sleep(time.Minute)
			err := e.observer.Refresh(t.Context(), ipsOfA)
			now := len(e.observer.IPsOf(simulator.ProjectA))
			require.Less(t, now, left, "each read verifies some")
			if left = now; left > 0 {
				require.ErrorIs(t, err, errTooManyUnverifiedNetworks)
			}
		}
		t.Logf("%d reads", reads)
		require.LessOrEqual(t, reads, 12)
		require.NoError(t, e.observer.Refresh(t.Context(), ipsOfA))
	})
}

// One network that was freed halfway makes every list fail that hits it.
func TestRefresh_FailingListOfAllNetworksLeavesThoseOfProject(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		own := e.foreignNetwork(simulator.ProjectA)
		e.allocate(simulator.ProjectA, 1)
		e.sweep()
		e.refuseNetworkLists()
		for range 2 {
			var stale *metal.StaleError
			require.ErrorAs(t, e.observer.Refresh(t.Context(), networksOfA), &stale)
			require.Equal(t, errNetworksNotListed.Error(), stale.Cause.Error(), "the prefix is of any project")
			require.False(t, stale.Since.IsZero())
			require.True(t, e.observer.NetworksObserved(simulator.ProjectA), "it is shown, with a warning")
			ids := networkIDs(e.observer.NetworksOf(simulator.ProjectA))
			require.Contains(t, ids, own)
			require.Contains(t, ids, simulator.InternetNetwork)
		}
		err := e.observer.Refresh(t.Context(), metal.Scope{AllNetworks: true})
		require.ErrorIs(t, err, errNetworksNotListed)
		require.NotContains(t, err.Error(), "10.0.12")
		require.True(t, e.observer.AllNetworksObserved())

		e.transport.Answer(nil)
		time.Sleep(failedListInterval)
		require.NoError(t, e.observer.Refresh(t.Context(), networksOfA))
	})
}

// A list of 2,000 networks takes 3.2 s, longer than a read waits: here are fewer, which take
// as long.
func TestRefresh_SlowListOfAllNetworksIsWaitedForOnce(t *testing.T) {
	runTest(t, envConfig{costs: true}, func(t *testing.T, e *env) {
		own := e.foreignNetwork(simulator.ProjectA)
		for range 40 {
			e.foreignNetwork(simulator.ProjectB)
		}
		e.sim.SetSlowdown(40)
		took, err := e.refresh(networksOfA)
		require.ErrorIs(t, err, metal.ErrTimeout)
		require.LessOrEqual(t, took, DefaultRefreshTimeout)
		require.False(t, e.observer.NetworksObserved(simulator.ProjectA))
		time.Sleep(5 * time.Second)
		require.True(t, e.observer.NetworksObserved(simulator.ProjectA), "the list went on")
		_, err = e.refresh(networksOfA)
		require.NoError(t, err)

		e.sim.ResetCalls()
		_, err = e.refresh(metal.Scope{AllNetworks: true})
		require.NoError(t, err, "by gets")
		require.Zero(t, e.sim.CallsOf("network-find"))
		require.Contains(t, networkIDs(e.observer.NetworksOf(simulator.ProjectA)), own)
	})
}

// What shows shared networks of other projects serves all projects.
func TestRefresh_FirstReadsOfProjectsShareListOfAllNetworks(t *testing.T) {
	runTest(t, envConfig{costs: true}, func(t *testing.T, e *env) {
		for range 20 {
			e.foreignNetwork(simulator.ProjectB)
		}
		for i := range 10 {
			go func() { _ = e.observer.Refresh(t.Context(), metal.Scope{ProjectNetworks: fmt.Sprint("project-", i)}) }()
		}
		time.Sleep(time.Second)
		synctest.Wait()
		require.LessOrEqual(t, e.sim.CallsOf("network-find"), 10+10+2)
		require.True(t, e.observer.NetworksObserved("project-1"))
	})
}

func TestEvict_KeepsWhatIsShown(t *testing.T) {
	relevant := map[string]bool{simulator.ProjectA: true}
	options := Options{Relevant: func(project string) bool { return relevant[project] }}
	runTest(t, envConfig{options: options}, func(t *testing.T, e *env) {
		network := e.foreignNetwork(simulator.ProjectA)
		address := e.foreignIP(simulator.ProjectA, simulator.InternetNetwork)
		require.NoError(t, e.observer.Refresh(t.Context(), metal.Scope{ProjectNetworks: simulator.ProjectA, ProjectIPs: simulator.ProjectA}))
		shown := networkIDs(e.observer.NetworksOf(simulator.ProjectA))
		time.Sleep(time.Hour)
		e.sweep()
		require.Equal(t, shown, networkIDs(e.observer.NetworksOf(simulator.ProjectA)))
		require.Len(t, e.observer.IPsOf(simulator.ProjectA), 1)
		require.True(t, e.observer.NetworksObserved(simulator.ProjectA) && e.observer.IPsObserved(simulator.ProjectA))

		relevant[simulator.ProjectA] = false
		e.changed()
		e.observer.RelevanceChanged(simulator.ProjectA)
		changed := e.changed()
		require.Contains(t, changed, metal.Ref{Kind: metal.KindNetwork, ID: network})
		require.Contains(t, changed, metal.Ref{Kind: metal.KindIP, ID: address})
		require.Contains(t, changed, metal.Ref{Kind: metal.KindNetwork, ID: simulator.InternetNetwork}, "it is not one of the namespace any more")
		e.sweep()
		require.False(t, e.observer.NetworksObserved(simulator.ProjectA) || e.observer.IPsObserved(simulator.ProjectA))
		require.NotContains(t, networkIDs(e.observer.NetworksOf(simulator.ProjectA)), network)
		require.Empty(t, e.observer.IPsOf(simulator.ProjectA))
	})
}

// callsDuring returns the calls of networks and addresses that sweeps make within a time.
func (e *env) callsDuring(d time.Duration) (n int) {
	e.t.Helper()
	synctest.Wait()
	e.sim.ResetCalls()
	time.Sleep(d)
	synctest.Wait()
	for _, endpoint := range []string{"network-find", "network-get", "network-list", "ip-find", "ip-get"} {
		n += e.sim.CallsOf(endpoint)
	}
	return n
}

func TestInterest_LastsAfterReadAndWhileWatched(t *testing.T) {
	runTest(t, envConfig{costs: true}, func(t *testing.T, e *env) {
		e.foreignNetwork(simulator.ProjectA)
		e.run()
		require.Zero(t, e.callsDuring(10*time.Minute), "at rest nothing is called")

		require.NoError(t, e.observer.Refresh(t.Context(), networksOfA))
		require.GreaterOrEqual(t, e.callsDuring(time.Minute), 4)
		added := e.foreignNetwork(simulator.ProjectA)
		time.Sleep(30 * time.Second)
		_, presence := e.observer.Network(added)
		require.Equal(t, metal.Present, presence, "without another read")
		time.Sleep(interestTime)
		require.Zero(t, e.callsDuring(10*time.Minute))

		stop := e.observer.Watching(metal.KindIP, simulator.ProjectA)
		time.Sleep(2 * interestTime)
		require.NotZero(t, e.callsDuring(time.Minute))
		stop()
		stop()
		time.Sleep(interestTime + DefaultSweepInterval)
		require.Zero(t, e.callsDuring(10*time.Minute))
	})
}

func TestInterest_CostsItsShareOfTheBudget(t *testing.T) {
	runTest(t, envConfig{costs: true}, func(t *testing.T, e *env) {
		for range 50 {
			e.foreignNetwork(simulator.ProjectA)
		}
		e.run()
		time.Sleep(time.Minute)
		watch := func(project string) {
			e.observer.Watching(metal.KindNetwork, project)
			e.observer.Watching(metal.KindIP, project)
		}
		rest := func(d time.Duration) time.Duration {
			before := e.sim.BusyTime()
			time.Sleep(d)
			return e.sim.BusyTime() - before
		}
		const period = 10 * time.Minute
		idle := rest(period)
		for i := range 20 {
			watch(fmt.Sprint("project-", i))
		}
		watch(simulator.ProjectA)
		watch("")
		time.Sleep(time.Minute)
		extra := rest(period) - idle
		require.Positive(t, extra)
		require.Less(t, extra, scale(period, DefaultBudget*2*interestShare*1.5))
		for i := range 20 {
			require.True(t, e.observer.NetworksObserved(fmt.Sprint("project-", i)))
			require.True(t, e.observer.IPsObserved(fmt.Sprint("project-", i)))
		}
	})
}

func TestInterest_LongestUnobservedComesFirst(t *testing.T) {
	o := New(noBackend{}, Options{})
	now := time.Now()
	for i, project := range []string{"b", "a", "c"} {
		o.Watching(metal.KindIP, project)
		o.facts.networking.ips.recordProject(project, now.Add(-time.Duration(i+1)*time.Minute))
	}
	o.Watching(metal.KindIP, "never")
	o.interest.of[interestKey{metal.KindIP, "c"}].lastAttempt = now
	due := o.dueInterest(now)
	require.Equal(t, []string{"never", "a", "b", "c"}, slices.Collect(func(yield func(string) bool) {
		for _, key := range due {
			yield(key.project)
		}
	}))
}

// What was observed after nothing of it is shown any more counts as not observed.
func TestRefresh_WhatIsNotShownIsNotObserved(t *testing.T) {
	shown := true
	runTest(t, envConfig{costs: true, options: Options{Shown: func() bool { return shown }}}, func(t *testing.T, e *env) {
		require.NoError(t, e.observer.Refresh(t.Context(), ipsOfA))
		shown = false
		require.NoError(t, e.observer.Refresh(t.Context(), networksOfA))
		require.NoError(t, e.observer.Refresh(t.Context(), metal.Scope{ProjectIPs: simulator.ProjectB}))
		require.True(t, e.observer.IPsObserved(simulator.ProjectA))
		require.False(t, e.observer.NetworksObserved(simulator.ProjectA))
		require.False(t, e.observer.IPsObserved(simulator.ProjectB))
	})
}
