// SPDX-License-Identifier: Apache-2.0

package observation

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/metal/client"
	"metal-stack.io/infrastructure-apiserver/pkg/metal/internal/metaltest"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

func TestSweep_ObservesEverythingOnce(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		ids := e.allocate(simulator.ProjectA, 2)
		other := e.allocate(simulator.ProjectB, 1)
		e.changed()
		require.False(t, e.observer.HasSynced())
		_, presence := e.observer.Machine(ids[0])
		require.Equal(t, metal.Unobserved, presence)

		e.sweep()
		require.True(t, e.observer.HasSynced())
		m := e.machine(ids[0])
		require.Equal(t, simulator.ProjectA, m.Allocation.Project)
		require.Len(t, e.observer.AllocatedIn(simulator.ProjectA), 2)
		require.Equal(t, other[0], e.observer.AllocatedIn(simulator.ProjectB)[0].ID)
		changed := e.changed()
		require.Contains(t, changed, metal.Ref{Kind: metal.KindMachine, ID: ids[0]})
		require.Contains(t, changed, metal.Ref{Kind: metal.KindAllocation, ID: m.Allocation.UUID})
		n := 0
		for range e.observer.Machines() {
			n++
		}
		require.Equal(t, 3, n, "machines that are neither allocated nor referenced are not kept")
	})
}

func TestRelevanceChanged_NotifiesAtOnce(t *testing.T) {
	var relevant atomic.Value
	relevant.Store("")
	runTest(t, envConfig{options: Options{
		Relevant:      func(project string) bool { return project == relevant.Load() },
		SweepInterval: time.Hour,
	}}, func(t *testing.T, e *env) {
		ids := e.allocate(simulator.ProjectA, 2)
		e.allocate(simulator.ProjectB, 1)
		machines := func() (ids []string) {
			for _, ref := range e.changed() {
				if ref.Kind == metal.KindMachine {
					ids = append(ids, ref.ID)
				}
			}
			return ids
		}
		e.run()
		time.Sleep(time.Minute)
		require.Empty(t, machines())

		relevant.Store(simulator.ProjectA)
		late := e.allocate(simulator.ProjectA, 1)[0]
		e.observer.RelevanceChanged(simulator.ProjectA)
		require.ElementsMatch(t, ids, machines())
		time.Sleep(time.Second)
		require.Contains(t, machines(), late, "and everything is observed")

		relevant.Store("")
		e.observer.RelevanceChanged(simulator.ProjectA)
		require.Contains(t, machines(), late, "what is not shown any more, too")
	})
}

func TestChanged_IsNotCalledWithoutChange(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		ids := e.allocate(simulator.ProjectA, 3)
		for _, id := range ids {
			require.NoError(t, e.sim.PhoneHome(id))
		}
		e.reference(metal.Ref{Kind: metal.KindNetwork, ID: e.machineNetwork(ids[0])}, metal.Ref{Kind: metal.KindMachine, ID: ids[0]})
		e.run()
		time.Sleep(time.Minute)
		require.NotEmpty(t, e.changed())
		before := e.machine(ids[0]).LastEventTime
		time.Sleep(5 * time.Minute)
		require.True(t, e.machine(ids[0]).LastEventTime.After(before), "heartbeats are seen")
		require.Empty(t, e.changed(), "and are no change")
	})
}

func (e *env) machineNetwork(id string) string {
	account, _ := e.sim.Inventory().Machine(id)
	return account.Networks[0]
}

func TestRefresh_CountsOnlyObservationsBegunAfterIt(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		id := e.allocate(simulator.ProjectA, 1)[0]
		e.sweep()
		answered := make(chan struct{})
		var once sync.Once
		// The first observation has its answer, which is still on its way.
		e.transport.Around(nil, func(r *http.Request) {
			if strings.HasSuffix(r.URL.Path, id) {
				once.Do(func() { <-answered })
			}
		})
		first := make(chan error)
		go func() { first <- e.observer.Refresh(t.Context(), metal.Scope{Machines: []string{id}}) }()
		synctest.Wait()
		require.NoError(t, e.sim.PhoneHome(id))

		second := make(chan error)
		go func() { second <- e.observer.Refresh(t.Context(), metal.Scope{Machines: []string{id}}) }()
		synctest.Wait()
		select {
		case <-second:
			t.Fatal("an observation that began before the read arrived was taken for it")
		default:
		}
		close(answered)
		require.NoError(t, <-first)
		require.NoError(t, <-second)
		require.Equal(t, metal.EventPhonedHome, e.machine(id).Events[0].Event)
	})
}

func TestRefresh_DeliversChangesBeforeItReturns(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		id := e.allocate(simulator.ProjectA, 1)[0]
		e.sweep()
		e.changed()
		for range 20 {
			require.NoError(t, e.sim.Lock(id, "x"))
			require.NoError(t, e.observer.Refresh(t.Context(), metal.Scope{Machines: []string{id}}))
			require.Contains(t, e.changed(), metal.Ref{Kind: metal.KindMachine, ID: id})
			require.Equal(t, "LOCKED", e.machine(id).State)
			require.NoError(t, e.sim.Unlock(id))
			require.NoError(t, e.observer.Refresh(t.Context(), metal.Scope{Machines: []string{id}}))
			require.Contains(t, e.changed(), metal.Ref{Kind: metal.KindMachine, ID: id})
		}
	})
}

func TestRefresh_ThousandConcurrentReadsCostTwoCalls(t *testing.T) {
	runTest(t, envConfig{machines: 100, costs: true}, func(t *testing.T, e *env) {
		ids := e.allocate(simulator.ProjectA, 5)
		e.sweep()
		for name, c := range map[string]struct {
			want     metal.Scope
			endpoint string
			most     int
		}{
			"an object":   {metal.Scope{Machines: ids[:1]}, "machine-get", 2},
			"a namespace": {metal.Scope{Project: simulator.ProjectA, Machines: ids}, "machine-find", 2},
		} {
			time.Sleep(time.Minute)
			e.sim.ResetCalls()
			var wg sync.WaitGroup
			for range 1000 {
				wg.Go(func() { assert.NoError(t, e.observer.Refresh(t.Context(), c.want)) })
			}
			wg.Wait()
			require.LessOrEqual(t, e.sim.CallsOf(c.endpoint), c.most, name)
			require.Equal(t, e.sim.CallsOf(c.endpoint), allCalls(e.sim), "%s: no other calls", name)
		}
	})
}

func allCalls(s *simulator.Simulator) (n int) {
	for _, c := range s.Calls() {
		n += c.Calls
	}
	return n
}

func TestFacts_OlderObservationDoesNotOverwriteNewer(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		id := e.allocate(simulator.ProjectA, 1)[0]
		e.sweep()
		slow := make(chan struct{})
		e.transport.Around(nil, func(r *http.Request) {
			if r.URL.Path == "/v1/machine" {
				<-slow
			}
		})
		swept := make(chan error)
		go func() { swept <- e.observer.sweep(t.Context()) }()
		synctest.Wait()
		require.NoError(t, e.sim.PhoneHome(id))
		require.NoError(t, e.observer.Refresh(t.Context(), metal.Scope{Machines: []string{id}}))
		newer := e.machine(id)
		e.changed()
		close(slow)
		require.NoError(t, <-swept)
		require.Same(t, newer, e.machine(id))
		require.Empty(t, e.changed())
	})
}

func TestFacts_OlderObservationDoesNotOverwriteWrite(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		network := e.network(simulator.ProjectA)
		e.sweep()
		slow := make(chan struct{})
		e.transport.Around(nil, func(r *http.Request) {
			if r.URL.Path == "/v1/machine" {
				<-slow
			}
		})
		swept := make(chan error)
		go func() { swept <- e.observer.sweep(t.Context()) }()
		synctest.Wait()
		m, err := e.client.AllocateMachine(t.Context(), metaltest.MachineRequest(network))
		require.NoError(t, err)
		require.Same(t, m, e.machine(m.ID), "answers of writes arrive by themselves")
		require.Contains(t, e.changed(), metal.Ref{Kind: metal.KindUID, ID: "uid-1"})
		close(slow)
		require.NoError(t, <-swept)
		require.Same(t, m, e.machine(m.ID))
		require.ElementsMatch(t, []metal.Ref{thePartition, projectA}, e.changed(), "the capacity has")

		// A newer observation brings what has happened since.
		e.transport.Around(nil, nil)
		require.NoError(t, e.sim.PhoneHome(m.ID))
		e.sweep()
		require.Equal(t, metal.EventPhonedHome, e.machine(m.ID).Events[0].Event)
		// What is notified of again, later, is not news.
		e.observer.LearnMachine(m)
		require.Equal(t, metal.EventPhonedHome, e.machine(m.ID).Events[0].Event)

		freed, err := e.client.FreeMachine(t.Context(), m.ID)
		require.NoError(t, err)
		require.Same(t, freed, e.machine(m.ID))
		require.Empty(t, e.observer.MachinesByUID("uid-1"))
		require.Contains(t, e.changed(), metal.Ref{Kind: metal.KindUID, ID: "uid-1"})
	})
}

func TestFacts_FreedNetworksAndIPsEndWithAnswer(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		n, err := e.client.AllocateNetwork(t.Context(), metal.NetworkRequest{Project: simulator.ProjectA, Partition: simulator.DefaultPartition, Labels: map[string]string{metal.TagUID: "u"}})
		require.NoError(t, err)
		ip, err := e.client.AllocateIP(t.Context(), metal.IPRequest{Project: simulator.ProjectA, Network: simulator.InternetNetwork})
		require.NoError(t, err)
		got, presence := e.observer.Network(n.ID)
		require.Equal(t, metal.Present, presence)
		require.Equal(t, n, got)
		require.ElementsMatch(t, []metal.Ref{{Kind: metal.KindNetwork, ID: n.ID}, {Kind: metal.KindUID, ID: "u"}, {Kind: metal.KindIP, ID: ip.Address}}, e.changed())
		_, err = e.client.FreeNetwork(t.Context(), n.ID)
		require.NoError(t, err)
		_, err = e.client.FreeIP(t.Context(), ip.Address)
		require.NoError(t, err)
		_, presence = e.observer.Network(n.ID)
		require.Equal(t, metal.Gone, presence)
		_, presence = e.observer.IP(ip.Address)
		require.Equal(t, metal.Gone, presence)
	})
}

func TestSweep_ObservesReferencedNetworksAndIPs(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		const address = "203.0.113.222"
		e.reference(metal.Ref{Kind: metal.KindNetwork, ID: simulator.InternetNetwork}, metal.Ref{Kind: metal.KindNetwork, ID: "nope"}, metal.Ref{Kind: metal.KindIP, ID: address})
		e.sweep()
		n, presence := e.observer.Network(simulator.InternetNetwork)
		require.Equal(t, metal.Present, presence)
		require.Equal(t, simulator.InternetNetwork, n.ID)
		_, presence = e.observer.Network("nope")
		require.Equal(t, metal.Gone, presence)
		_, presence = e.observer.IP(address)
		require.Equal(t, metal.Gone, presence)
		e.changed()

		// Another client allocates it, and frees it again.
		other, err := client.New(client.Options{URL: "http://metal-api.test", HMAC: simulator.DefaultHMAC.Edit, Transport: e.transport})
		require.NoError(t, err)
		_, err = other.AllocateIP(t.Context(), metal.IPRequest{Address: address, Project: simulator.ProjectA, Network: simulator.InternetNetwork})
		require.NoError(t, err)
		e.sweep()
		_, presence = e.observer.IP(address)
		require.Equal(t, metal.Present, presence)
		require.Contains(t, e.changed(), metal.Ref{Kind: metal.KindIP, ID: address})
		_, err = other.FreeIP(t.Context(), address)
		require.NoError(t, err)
		require.NoError(t, e.observer.Refresh(t.Context(), metal.Scope{IPs: []string{address}}))
		_, presence = e.observer.IP(address)
		require.Equal(t, metal.Gone, presence)
	})
}

func TestSweep_BrokenNetworkDoesNotHideOthers(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		n := e.network(simulator.ProjectA)
		e.reference(metal.Ref{Kind: metal.KindNetwork, ID: n}, metal.Ref{Kind: metal.KindNetwork, ID: simulator.InternetNetwork})
		e.sim.Inject(simulator.Fault{
			Endpoint: "network-get", Kind: simulator.FaultStatus, Status: 422, Message: "prefix usage for cidr:10.0.12.0/22 not found not_found: NotFound prefix:10.0.12.0/22 not found:sql: no rows in result set",
			Match: func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, n) },
		})
		e.sweep()
		require.True(t, e.observer.HasSynced())
		_, presence := e.observer.Network(simulator.InternetNetwork)
		require.Equal(t, metal.Present, presence)
		_, presence = e.observer.Network(n)
		require.Equal(t, metal.Present, presence, "as it was learned")
		var u *metal.StaleError
		require.ErrorAs(t, e.observer.Refresh(t.Context(), metal.Scope{Networks: []string{n}}), &u)
		require.NoError(t, e.observer.Refresh(t.Context(), metal.Scope{Networks: []string{simulator.InternetNetwork}}), "the metal-api is not away")
	})
}

func TestRefresh_TimesOutAndReportsStaleness(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		id := e.allocate(simulator.ProjectA, 1)[0]
		e.sweep()
		swept := time.Now()
		fact := e.machine(id)
		time.Sleep(time.Minute)
		e.sim.Inject(simulator.Fault{Endpoint: "*", Kind: simulator.FaultLatency, Latency: 4 * time.Second})
		for _, want := range []metal.Scope{{Machines: []string{id}}, {Project: simulator.ProjectA}, {Fleet: true}} {
			began := time.Now()
			var u *metal.StaleError
			require.ErrorAs(t, e.observer.Refresh(t.Context(), want), &u)
			require.Equal(t, time.Second, time.Since(began))
			require.WithinDuration(t, swept, u.Since, 0)
			require.ErrorIs(t, u, metal.ErrTimeout)
			require.Same(t, fact, e.machine(id))
		}
		time.Sleep(10 * time.Second)
		began := time.Now()
		var u *metal.StaleError
		require.ErrorAs(t, e.observer.Refresh(t.Context(), metal.Scope{Machines: []string{id}}), &u)
		require.ErrorIs(t, u, metal.ErrTimeout)
		require.Zero(t, time.Since(began), "what a get takes is known by now")
		require.True(t, u.Since.After(swept), "the observations went on: %s", u.Since)

		time.Sleep(2 * time.Minute)
		ctx, cancel := context.WithTimeout(t.Context(), soon)
		defer cancel()
		require.ErrorAs(t, e.observer.Refresh(ctx, metal.Scope{Machines: []string{id}}), &u)
		require.ErrorIs(t, u, context.DeadlineExceeded, "after a while it is tried again")
		time.Sleep(10 * time.Second)
	})
}

func TestRefresh_ProjectDiscoversWhereFindIsCheap(t *testing.T) {
	runTest(t, envConfig{machines: 100, costs: true}, func(t *testing.T, e *env) {
		e.sweep()
		require.NoError(t, e.observer.Refresh(t.Context(), metal.Scope{Project: simulator.ProjectA}))
		ids := e.allocate(simulator.ProjectA, 2)
		require.NoError(t, e.observer.Refresh(t.Context(), metal.Scope{Project: simulator.ProjectA}))
		e.machine(ids[1])
	})
}

func TestPlanMachines_PrefersFastestThatIsNotExpensive(t *testing.T) {
	runTest(t, envConfig{machines: 500, costs: true, options: Options{Budget: 1}}, func(t *testing.T, e *env) {
		ids := e.allocate(simulator.ProjectA, 150)
		few := e.allocate(simulator.ProjectB, 3)
		e.sweep()
		for name, c := range map[string]struct {
			want  metal.Scope
			calls map[string]int
		}{
			"few by id":           {metal.Scope{Project: simulator.ProjectB}, map[string]int{"machine-get": 3}},
			"many by find":        {metal.Scope{Project: simulator.ProjectA}, map[string]int{"machine-find": 1}},
			"all by find or list": {metal.Scope{Fleet: true}, map[string]int{"machine-find": 1, "machine-get": 0}},
			"one by id":           {metal.Scope{Machines: ids[:1]}, map[string]int{"machine-get": 1}},
		} {
			time.Sleep(time.Minute)
			e.sim.ResetCalls()
			require.NoError(t, e.observer.Refresh(t.Context(), c.want), name)
			for endpoint, n := range c.calls {
				if name == "all by find or list" {
					require.LessOrEqual(t, e.sim.CallsOf(endpoint), 4, name)
					continue
				}
				require.Equal(t, n, e.sim.CallsOf(endpoint), "%s: %v", name, e.sim.Calls())
			}
		}
		_ = few
	})
}

func TestObserver_ConcurrentUseIsSafe(t *testing.T) {
	runTest(t, envConfig{sim: simulator.Config{Speed: 60}}, func(t *testing.T, e *env) {
		ids := e.allocate(simulator.ProjectA, 3)
		e.reference(metal.Ref{Kind: metal.KindMachine, ID: ids[0]}, metal.Ref{Kind: metal.KindIP, ID: "203.0.113.222"})
		stop := e.run()
		var wg sync.WaitGroup
		var n atomic.Int32
		for i := range 8 {
			wg.Go(func() {
				for range 50 {
					id := ids[i%len(ids)]
					_ = e.observer.Refresh(t.Context(), metal.Scope{Machines: []string{id}})
					_ = e.observer.Refresh(t.Context(), metal.Scope{Project: simulator.ProjectA})
					e.observer.Machine(id)
					e.observer.AllocatedIn(simulator.ProjectA)
					e.observer.Staleness()
					for range e.observer.Machines() {
						n.Add(1)
					}
					time.Sleep(100 * time.Millisecond)
				}
			})
		}
		wg.Wait()
		stop()
		require.Positive(t, n.Load())
	})
}

func TestMetrics_AreRegistered(t *testing.T) {
	runTest(t, envConfig{options: Options{Registerer: prometheus.NewRegistry()}}, func(t *testing.T, e *env) {
		reg := e.observer.opts.Registerer.(*prometheus.Registry)
		e.allocate(simulator.ProjectA, 1)
		e.sweep()
		require.NoError(t, e.observer.Refresh(t.Context(), metal.Scope{Project: simulator.ProjectA}))
		families, err := reg.Gather()
		require.NoError(t, err)
		names := map[string]bool{}
		for _, f := range families {
			names[f.GetName()] = true
		}
		for _, n := range []string{MetricStaleness, MetricSweepSeconds, MetricSweepInterval, MetricObservations, MetricBusySeconds, MetricBudgetBalance, MetricMachines, MetricMachineIssues, MetricPendingVerifications, MetricStaleReads} {
			require.True(t, names[n], n)
		}
	})
}
