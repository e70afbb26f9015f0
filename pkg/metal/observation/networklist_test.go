// SPDX-License-Identifier: Apache-2.0

package observation

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

var allNetworks = metal.Scope{AllNetworks: true}

// onNetworkFind has f called with the body of each find of networks.
func (e *env) onNetworkFind(f func(body string)) {
	e.transport.Answer(func(r *http.Request) (*http.Response, error) {
		if r.URL.Path != "/v1/network/find" {
			return nil, nil
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		f(string(body))
		return nil, nil
	})
}

func TestRefresh_WarningOfRefusedListEndsWithItsCause(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		require.NoError(t, e.observer.Refresh(t.Context(), allNetworks))
		require.NoError(t, e.observer.Refresh(t.Context(), networksOfA))
		e.refuseNetworkLists()
		require.ErrorIs(t, e.observer.Refresh(t.Context(), allNetworks), errNetworksNotListed)
		require.ErrorIs(t, e.observer.Refresh(t.Context(), networksOfA), errNetworksNotListed)
		e.transport.Answer(nil)
		require.ErrorIs(t, e.observer.Refresh(t.Context(), networksOfA), errNetworksNotListed, "the list is not made again by each read")
		time.Sleep(failedListInterval)
		require.NoError(t, e.observer.Refresh(t.Context(), networksOfA))
		require.NoError(t, e.observer.Refresh(t.Context(), allNetworks))
	})
}

// What a project's read can show does not wait for a list that takes longer than the read.
func TestRefresh_LeavesSlowListToSweepsAfterRefusal(t *testing.T) {
	runTest(t, envConfig{costs: true}, func(t *testing.T, e *env) {
		require.NoError(t, e.observer.Refresh(t.Context(), allNetworks))
		e.refuseNetworkLists()
		require.ErrorIs(t, e.observer.Refresh(t.Context(), allNetworks), errNetworksNotListed)
		time.Sleep(failedListInterval)
		e.observer.facts.networking.networksListed = 1_000_000
		for range 2 {
			require.ErrorIs(t, e.observer.Refresh(t.Context(), networksOfA), errNetworksNotListed)
			require.ErrorIs(t, e.observer.Refresh(t.Context(), allNetworks), errNetworksNotListed)
			require.WithinDuration(t, time.Now(), e.observer.facts.networking.networks.observed(simulator.ProjectA), soon)
		}
		e.transport.Answer(nil)
		e.observer.Watching(metal.KindNetwork, simulator.ProjectA)
		e.sweep()
		require.NoError(t, e.observer.Refresh(t.Context(), networksOfA))
	})
}

// boundTo has projects be bound.
func boundTo(projects ...string) Options {
	return Options{BoundProjects: func() []string { return projects }}
}

func TestAllNetworksObserved_OfEachBoundProjectIfListIsRefused(t *testing.T) {
	runTest(t, envConfig{options: boundTo(simulator.ProjectA, simulator.ProjectB)}, func(t *testing.T, e *env) {
		e.refuseNetworkLists()
		require.Error(t, e.observer.Refresh(t.Context(), networksOfA))
		require.True(t, e.observer.NetworksObserved(simulator.ProjectA))
		require.False(t, e.observer.AllNetworksObserved())
		other := e.foreignNetwork(simulator.ProjectB)
		var stale *metal.StaleError
		require.ErrorAs(t, e.observer.Refresh(t.Context(), allNetworks), &stale)
		require.False(t, stale.Since.IsZero())
		require.True(t, e.observer.AllNetworksObserved())
		require.Contains(t, networkIDs(e.observer.NetworksOf(simulator.ProjectB)), other)

		e.observer.LearnIP(&metal.IP{Address: "203.0.113.99", Project: "c"})
		require.False(t, e.observer.AllNetworksObserved(), "not all that is bound can be listed")
	})
}

func TestRefresh_OfRefusedListFindsSomeProjectsPerRead(t *testing.T) {
	var projects []string
	for i := range 2*maxProjectFinds + 10 {
		projects = append(projects, fmt.Sprint("project-", i))
	}
	runTest(t, envConfig{costs: true, options: boundTo(projects...)}, func(t *testing.T, e *env) {
		e.refuseNetworkLists()
		require.Error(t, e.observer.Refresh(t.Context(), networksOfA))
		reads := 0
		for ; !e.observer.AllNetworksObserved(); reads++ {
			require.Less(t, reads, 10)
			scope, p := e.observer.planScope(allNetworks, limits{})
			require.Empty(t, scope.Networks)
			require.Len(t, p.networking.networksOf, maxProjectFinds)
			require.GreaterOrEqual(t, p.cost, time.Duration(len(p.networking.networksOf))*e.observer.costs.cost(callNetworkFind, 0))
			e.sim.ResetCalls()
			require.Error(t, e.observer.Refresh(t.Context(), allNetworks))
			require.LessOrEqual(t, e.sim.CallsOf("network-find"), maxProjectFinds+2)
			time.Sleep(10 * time.Second)
		}
		require.Equal(t, 3, reads)
	})
}

func TestInterest_OfProjectFindsItsNetworksOnly(t *testing.T) {
	runTest(t, envConfig{options: boundTo(simulator.ProjectA, simulator.ProjectB, "c")}, func(t *testing.T, e *env) {
		e.refuseNetworkLists()
		require.Error(t, e.observer.Refresh(t.Context(), networksOfA))
		e.run()
		time.Sleep(5 * time.Minute)
		require.True(t, e.observer.NetworksObserved(simulator.ProjectA))
		require.False(t, e.observer.NetworksObserved(simulator.ProjectB) || e.observer.NetworksObserved("c"))
	})
}

func TestInterest_SlowListDelaysNoFinds(t *testing.T) {
	runTest(t, envConfig{costs: true}, func(t *testing.T, e *env) {
		var lists, finds atomic.Int32
		e.onNetworkFind(func(body string) {
			if strings.Contains(body, "projectid") {
				finds.Add(1)
				return
			}
			lists.Add(1)
			time.Sleep(3 * time.Second)
		})
		e.observer.Watching(metal.KindNetwork, simulator.ProjectA)
		e.run()
		time.Sleep(10 * time.Minute)
		require.EqualValues(t, 1, lists.Load(), "as seldom as its share of the budget demands")
		require.GreaterOrEqual(t, finds.Load(), int32(30))
	})
}

// A fact is kept while it is shown, so that its end is noticed.
func TestEvict_KeepsWhatIsShownWithoutAReadOfItsProject(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		network := e.foreignNetwork(simulator.ProjectA)
		address := e.foreignIP(simulator.ProjectA, simulator.InternetNetwork)
		e.reference(metal.Ref{Kind: metal.KindNetwork, ID: network}, metal.Ref{Kind: metal.KindIP, ID: address}, metal.Ref{Kind: metal.KindNetwork, ID: simulator.InternetNetwork})
		e.sweep()
		e.unreference()
		time.Sleep(forgetAfter + time.Minute)
		e.sweep()
		another := e.anotherClient()
		_, err := another.FreeNetwork(t.Context(), network)
		require.NoError(t, err)
		_, err = another.FreeIP(t.Context(), address)
		require.NoError(t, err)
		_, presence := e.observer.Network(simulator.InternetNetwork)
		require.Equal(t, metal.Present, presence, "projects can use it")
		e.changed()
		require.NoError(t, e.observer.Refresh(t.Context(), networksOfA))
		require.NoError(t, e.observer.Refresh(t.Context(), ipsOfA))
		_, presence = e.observer.Network(network)
		require.Equal(t, metal.Gone, presence)
		_, presence = e.observer.IP(address)
		require.Equal(t, metal.Gone, presence)
		changed := e.changed()
		require.Contains(t, changed, metal.Ref{Kind: metal.KindNetwork, ID: network})
		require.Contains(t, changed, metal.Ref{Kind: metal.KindIP, ID: address})
	})
}

// With several replicas only the active one has the whole budget.
func TestSetBudget_AppliesToSharesOfSweeps(t *testing.T) {
	runTest(t, envConfig{costs: true, options: Options{Budget: 0.0001, ManagementCluster: "here"}}, func(t *testing.T, e *env) {
		e.observer.SetBudget(1)
		e.observer.Watching(metal.KindNetwork, simulator.ProjectA)
		e.observer.Watching(metal.KindIP, simulator.ProjectA)
		began := time.Now()
		e.sweep()
		for _, due := range []time.Time{e.observer.interest.nextDue, e.observer.interest.nextList} {
			require.True(t, due.After(began))
			require.Less(t, due.Sub(began), time.Minute)
		}
		require.Equal(t, identifiedInterval, e.observer.identified.nextDue.Sub(began).Truncate(time.Second))
		e.observer.recordReferenceAttempt("k", began, 10*time.Second)
		require.Equal(t, 50*time.Second, time.Until(e.observer.referenced.retrySlowAt))
	})
}
