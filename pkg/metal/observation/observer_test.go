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
	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/metal/client"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

func TestASweepShowsEverythingOnce(t *testing.T) {
	inBed(t, bedConfig{}, func(t *testing.T, b *bed) {
		ids := b.allocated(simulator.ProjectA, 2)
		other := b.allocated(simulator.ProjectB, 1)
		b.told()
		require.False(t, b.obs.Swept())
		_, presence := b.obs.Machine(ids[0])
		require.Equal(t, metal.Unseen, presence)

		b.swept()
		require.True(t, b.obs.Swept())
		m := b.machine(ids[0])
		require.Equal(t, simulator.ProjectA, m.Allocation.Project)
		require.Len(t, b.obs.AllocatedIn(simulator.ProjectA), 2)
		require.Equal(t, other[0], b.obs.AllocatedIn(simulator.ProjectB)[0].ID)
		told := b.told()
		require.Contains(t, told, metal.Ref{Kind: metal.KindMachine, ID: ids[0]})
		require.Contains(t, told, metal.Ref{Kind: metal.KindAllocation, ID: m.Allocation.UUID})
		n := 0
		for range b.obs.Machines() {
			n++
		}
		require.Equal(t, 3, n, "machines that nobody holds or names are not kept")
	})
}

func TestMetalThatBecomesRelevantIsToldOfAtOnce(t *testing.T) {
	var relevant atomic.Value
	relevant.Store("")
	inBed(t, bedConfig{options: Options{
		Relevant:      func(project string) bool { return project == relevant.Load() },
		SweepInterval: time.Hour,
	}}, func(t *testing.T, b *bed) {
		ids := b.allocated(simulator.ProjectA, 2)
		b.allocated(simulator.ProjectB, 1)
		machines := func() (ids []string) {
			for _, ref := range b.told() {
				if ref.Kind == metal.KindMachine {
					ids = append(ids, ref.ID)
				}
			}
			return ids
		}
		b.run()
		time.Sleep(time.Minute)
		require.Empty(t, machines())

		relevant.Store(simulator.ProjectA)
		late := b.allocated(simulator.ProjectA, 1)[0]
		b.obs.Reconsider(simulator.ProjectA)
		require.ElementsMatch(t, ids, machines())
		time.Sleep(time.Second)
		require.Contains(t, machines(), late, "and everything is looked at")

		relevant.Store("")
		b.obs.Reconsider(simulator.ProjectA)
		require.Contains(t, machines(), late, "what is not shown any more, too")
	})
}

func TestNoFactsChangeNoCallOfChanged(t *testing.T) {
	inBed(t, bedConfig{}, func(t *testing.T, b *bed) {
		ids := b.allocated(simulator.ProjectA, 3)
		for _, id := range ids {
			require.NoError(t, b.sim.PhoneHome(id))
		}
		b.name(metal.Ref{Kind: metal.KindNetwork, ID: b.machineNetwork(ids[0])}, metal.Ref{Kind: metal.KindMachine, ID: ids[0]})
		b.run()
		time.Sleep(time.Minute)
		require.NotEmpty(t, b.told())
		before := b.machine(ids[0]).LastEventTime
		time.Sleep(5 * time.Minute)
		require.True(t, b.machine(ids[0]).LastEventTime.After(before), "heartbeats are seen")
		require.Empty(t, b.told(), "and are no change")
	})
}

func (b *bed) machineNetwork(id string) string {
	account, _ := b.sim.Books().Machine(id)
	return account.Networks[0]
}

func TestAReadCountsOnlyLooksThatBeganAfterItArrived(t *testing.T) {
	inBed(t, bedConfig{}, func(t *testing.T, b *bed) {
		id := b.allocated(simulator.ProjectA, 1)[0]
		b.swept()
		answered := make(chan struct{})
		var once sync.Once
		// The first look has its answer, which is still on its way.
		b.wire.Around(nil, func(r *http.Request) {
			if strings.HasSuffix(r.URL.Path, id) {
				once.Do(func() { <-answered })
			}
		})
		first := make(chan error)
		go func() { first <- b.obs.Confirm(t.Context(), metal.Want{Machines: []string{id}}) }()
		synctest.Wait()
		require.NoError(t, b.sim.PhoneHome(id))

		second := make(chan error)
		go func() { second <- b.obs.Confirm(t.Context(), metal.Want{Machines: []string{id}}) }()
		synctest.Wait()
		select {
		case <-second:
			t.Fatal("a look that began before the read arrived was taken for it")
		default:
		}
		close(answered)
		require.NoError(t, <-first)
		require.NoError(t, <-second)
		require.Equal(t, metal.EventPhonedHome, b.machine(id).Events[0].Event)
	})
}

func TestWhenConfirmReturnsItsChangesHaveBeenHandedOver(t *testing.T) {
	inBed(t, bedConfig{}, func(t *testing.T, b *bed) {
		id := b.allocated(simulator.ProjectA, 1)[0]
		b.swept()
		b.told()
		for range 20 {
			require.NoError(t, b.sim.Lock(id, "x"))
			require.NoError(t, b.obs.Confirm(t.Context(), metal.Want{Machines: []string{id}}))
			require.Contains(t, b.told(), metal.Ref{Kind: metal.KindMachine, ID: id})
			require.Equal(t, "LOCKED", b.machine(id).State)
			require.NoError(t, b.sim.Unlock(id))
			require.NoError(t, b.obs.Confirm(t.Context(), metal.Want{Machines: []string{id}}))
			require.Contains(t, b.told(), metal.Ref{Kind: metal.KindMachine, ID: id})
		}
	})
}

func TestAThousandConcurrentReadsCostTwoLooks(t *testing.T) {
	inBed(t, bedConfig{machines: 100, costs: true}, func(t *testing.T, b *bed) {
		ids := b.allocated(simulator.ProjectA, 5)
		b.swept()
		for name, c := range map[string]struct {
			want     metal.Want
			endpoint string
			most     int
		}{
			"an object":   {metal.Want{Machines: ids[:1]}, "machine-get", 2},
			"a namespace": {metal.Want{Project: simulator.ProjectA, Machines: ids}, "machine-find", 2},
		} {
			time.Sleep(time.Minute)
			b.sim.ResetCalls()
			var wg sync.WaitGroup
			for range 1000 {
				wg.Go(func() { require.NoError(t, b.obs.Confirm(t.Context(), c.want)) })
			}
			wg.Wait()
			require.LessOrEqual(t, b.sim.CallsOf(c.endpoint), c.most, name)
			require.Equal(t, b.sim.CallsOf(c.endpoint), allCalls(b.sim), "%s: no other calls", name)
		}
	})
}

func allCalls(s *simulator.Simulator) (n int) {
	for _, c := range s.Calls() {
		n += c.Calls
	}
	return n
}

func TestASlowerOlderLookNeverOverwritesANewerFact(t *testing.T) {
	inBed(t, bedConfig{}, func(t *testing.T, b *bed) {
		id := b.allocated(simulator.ProjectA, 1)[0]
		b.swept()
		slow := make(chan struct{})
		b.wire.Around(nil, func(r *http.Request) {
			if r.URL.Path == "/v1/machine" {
				<-slow
			}
		})
		swept := make(chan error)
		go func() { swept <- b.obs.sweep(t.Context()) }()
		synctest.Wait()
		require.NoError(t, b.sim.PhoneHome(id))
		require.NoError(t, b.obs.Confirm(t.Context(), metal.Want{Machines: []string{id}}))
		newer := b.machine(id)
		b.told()
		close(slow)
		require.NoError(t, <-swept)
		require.Same(t, newer, b.machine(id))
		require.Empty(t, b.told())
	})
}

func TestAnOlderLookNeverOverwritesWhatAWriteTaught(t *testing.T) {
	inBed(t, bedConfig{}, func(t *testing.T, b *bed) {
		network := b.network(simulator.ProjectA)
		b.swept()
		slow := make(chan struct{})
		b.wire.Around(nil, func(r *http.Request) {
			if r.URL.Path == "/v1/machine" {
				<-slow
			}
		})
		swept := make(chan error)
		go func() { swept <- b.obs.sweep(t.Context()) }()
		synctest.Wait()
		m, err := b.client.AllocateMachine(t.Context(), b.request(network))
		require.NoError(t, err)
		require.Same(t, m, b.machine(m.ID), "answers of writes arrive by themselves")
		require.Contains(t, b.told(), metal.Ref{Kind: metal.KindUID, ID: "uid-1"})
		close(slow)
		require.NoError(t, <-swept)
		require.Same(t, m, b.machine(m.ID))
		require.Empty(t, b.told())

		// A newer look brings what has happened since.
		b.wire.Around(nil, nil)
		require.NoError(t, b.sim.PhoneHome(m.ID))
		b.swept()
		require.Equal(t, metal.EventPhonedHome, b.machine(m.ID).Events[0].Event)
		// What is told again, later, is not news.
		b.obs.LearnMachine(m)
		require.Equal(t, metal.EventPhonedHome, b.machine(m.ID).Events[0].Event)

		freed, err := b.client.FreeMachine(t.Context(), m.ID)
		require.NoError(t, err)
		require.Same(t, freed, b.machine(m.ID))
		require.Empty(t, b.obs.MachinesByUID("uid-1"))
		require.Contains(t, b.told(), metal.Ref{Kind: metal.KindUID, ID: "uid-1"})
	})
}

func TestFactsOfFreedNetworksAndIPsEndWithTheAnswer(t *testing.T) {
	inBed(t, bedConfig{}, func(t *testing.T, b *bed) {
		n, err := b.client.AllocateNetwork(t.Context(), metal.NetworkRequest{Project: simulator.ProjectA, Partition: simulator.DefaultPartition, Labels: map[string]string{metal.TagUID: "u"}})
		require.NoError(t, err)
		ip, err := b.client.AllocateIP(t.Context(), metal.IPRequest{Project: simulator.ProjectA, Network: simulator.InternetNetwork})
		require.NoError(t, err)
		got, presence := b.obs.Network(n.ID)
		require.Equal(t, metal.Present, presence)
		require.Equal(t, n, got)
		require.ElementsMatch(t, []metal.Ref{{Kind: metal.KindNetwork, ID: n.ID}, {Kind: metal.KindUID, ID: "u"}, {Kind: metal.KindIP, ID: ip.Address}}, b.told())
		_, err = b.client.FreeNetwork(t.Context(), n.ID)
		require.NoError(t, err)
		_, err = b.client.FreeIP(t.Context(), ip.Address)
		require.NoError(t, err)
		_, presence = b.obs.Network(n.ID)
		require.Equal(t, metal.Gone, presence)
		_, presence = b.obs.IP(ip.Address)
		require.Equal(t, metal.Gone, presence)
	})
}

func TestNetworksAndIPsThatRecordsNameAreSwept(t *testing.T) {
	inBed(t, bedConfig{}, func(t *testing.T, b *bed) {
		const address = "203.0.113.222"
		b.name(metal.Ref{Kind: metal.KindNetwork, ID: simulator.InternetNetwork}, metal.Ref{Kind: metal.KindNetwork, ID: "nope"}, metal.Ref{Kind: metal.KindIP, ID: address})
		b.swept()
		n, presence := b.obs.Network(simulator.InternetNetwork)
		require.Equal(t, metal.Present, presence)
		require.Equal(t, simulator.InternetNetwork, n.ID)
		_, presence = b.obs.Network("nope")
		require.Equal(t, metal.Gone, presence)
		_, presence = b.obs.IP(address)
		require.Equal(t, metal.Gone, presence)
		b.told()

		// Somebody else allocates it, and frees it again.
		other, err := client.New(client.Options{URL: "http://metal-api.test", HMAC: simulator.DefaultHMAC.Edit, Transport: b.wire})
		require.NoError(t, err)
		_, err = other.AllocateIP(t.Context(), metal.IPRequest{Address: address, Project: simulator.ProjectA, Network: simulator.InternetNetwork})
		require.NoError(t, err)
		b.swept()
		_, presence = b.obs.IP(address)
		require.Equal(t, metal.Present, presence)
		require.Contains(t, b.told(), metal.Ref{Kind: metal.KindIP, ID: address})
		_, err = other.FreeIP(t.Context(), address)
		require.NoError(t, err)
		require.NoError(t, b.obs.Confirm(t.Context(), metal.Want{IPs: []string{address}}))
		_, presence = b.obs.IP(address)
		require.Equal(t, metal.Gone, presence)
	})
}

func TestAWreckedNetworkDoesNotHideTheOthers(t *testing.T) {
	inBed(t, bedConfig{}, func(t *testing.T, b *bed) {
		n := b.network(simulator.ProjectA)
		b.name(metal.Ref{Kind: metal.KindNetwork, ID: n}, metal.Ref{Kind: metal.KindNetwork, ID: simulator.InternetNetwork})
		b.sim.Inject(simulator.Fault{
			Endpoint: "network-get", Kind: simulator.FaultStatus, Status: 422, Message: "prefix usage for cidr:10.0.12.0/22 not found not_found: NotFound prefix:10.0.12.0/22 not found:sql: no rows in result set",
			Match: func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, n) },
		})
		b.swept()
		require.True(t, b.obs.Swept())
		_, presence := b.obs.Network(simulator.InternetNetwork)
		require.Equal(t, metal.Present, presence)
		_, presence = b.obs.Network(n)
		require.Equal(t, metal.Present, presence, "as it was learned")
		var u *metal.Unconfirmed
		require.ErrorAs(t, b.obs.Confirm(t.Context(), metal.Want{Networks: []string{n}}), &u)
		require.NoError(t, b.obs.Confirm(t.Context(), metal.Want{Networks: []string{simulator.InternetNetwork}}), "the metal-api is not away")
	})
}

func TestAReadWaitsForItsLimitAndSaysSinceWhen(t *testing.T) {
	inBed(t, bedConfig{}, func(t *testing.T, b *bed) {
		id := b.allocated(simulator.ProjectA, 1)[0]
		b.swept()
		swept := time.Now()
		fact := b.machine(id)
		time.Sleep(time.Minute)
		b.sim.Inject(simulator.Fault{Endpoint: "*", Kind: simulator.FaultLatency, Latency: 4 * time.Second})
		for _, want := range []metal.Want{{Machines: []string{id}}, {Project: simulator.ProjectA}, {Fleet: true}} {
			began := time.Now()
			var u *metal.Unconfirmed
			require.ErrorAs(t, b.obs.Confirm(t.Context(), want), &u)
			require.Equal(t, time.Second, time.Since(began))
			require.WithinDuration(t, swept, u.Since, 0)
			require.ErrorIs(t, u, metal.ErrTooSlow)
			require.Same(t, fact, b.machine(id))
		}
		time.Sleep(10 * time.Second)
		began := time.Now()
		var u *metal.Unconfirmed
		require.ErrorAs(t, b.obs.Confirm(t.Context(), metal.Want{Machines: []string{id}}), &u)
		require.ErrorIs(t, u, metal.ErrTooSlow)
		require.Zero(t, time.Since(began), "what a get takes is known by now")
		require.True(t, u.Since.After(swept), "the looks went on: %s", u.Since)

		time.Sleep(2 * time.Minute)
		ctx, cancel := context.WithTimeout(t.Context(), soon)
		defer cancel()
		require.ErrorAs(t, b.obs.Confirm(ctx, metal.Want{Machines: []string{id}}), &u)
		require.ErrorIs(t, u, context.DeadlineExceeded, "after a while it is tried again")
		time.Sleep(10 * time.Second)
	})
}

func TestALookInAProjectDiscoversWhereAFindIsCheap(t *testing.T) {
	inBed(t, bedConfig{machines: 100, costs: true}, func(t *testing.T, b *bed) {
		b.swept()
		require.NoError(t, b.obs.Confirm(t.Context(), metal.Want{Project: simulator.ProjectA}))
		ids := b.allocated(simulator.ProjectA, 2)
		require.NoError(t, b.obs.Confirm(t.Context(), metal.Want{Project: simulator.ProjectA}))
		b.machine(ids[1])
	})
}

func TestReadsChooseTheSoonestLookThatIsNotDear(t *testing.T) {
	inBed(t, bedConfig{machines: 2000, costs: true, options: Options{Budget: 1}}, func(t *testing.T, b *bed) {
		ids := b.allocated(simulator.ProjectA, 600)
		few := b.allocated(simulator.ProjectB, 3)
		b.swept()
		for name, c := range map[string]struct {
			want  metal.Want
			calls map[string]int
		}{
			"few by id":           {metal.Want{Project: simulator.ProjectB}, map[string]int{"machine-get": 3}},
			"many by find":        {metal.Want{Project: simulator.ProjectA}, map[string]int{"machine-find": 1}},
			"all by find or list": {metal.Want{Fleet: true}, map[string]int{"machine-find": 1, "machine-get": 0}},
			"one by id":           {metal.Want{Machines: ids[:1]}, map[string]int{"machine-get": 1}},
		} {
			time.Sleep(time.Minute)
			b.sim.ResetCalls()
			require.NoError(t, b.obs.Confirm(t.Context(), c.want), name)
			for endpoint, n := range c.calls {
				if name == "all by find or list" {
					require.LessOrEqual(t, b.sim.CallsOf(endpoint), 4, name)
					continue
				}
				require.Equal(t, n, b.sim.CallsOf(endpoint), "%s: %v", name, b.sim.Calls())
			}
		}
		_ = few
	})
}

func TestConcurrentUseIsSafe(t *testing.T) {
	inBed(t, bedConfig{sim: simulator.Config{Speed: 60}}, func(t *testing.T, b *bed) {
		ids := b.allocated(simulator.ProjectA, 3)
		b.name(metal.Ref{Kind: metal.KindMachine, ID: ids[0]}, metal.Ref{Kind: metal.KindIP, ID: "203.0.113.222"})
		stop := b.run()
		var wg sync.WaitGroup
		var n atomic.Int32
		for i := range 8 {
			wg.Go(func() {
				for range 50 {
					id := ids[i%len(ids)]
					_ = b.obs.Confirm(t.Context(), metal.Want{Machines: []string{id}})
					_ = b.obs.Confirm(t.Context(), metal.Want{Project: simulator.ProjectA})
					b.obs.Machine(id)
					b.obs.AllocatedIn(simulator.ProjectA)
					b.obs.Attend(time.Second, id)
					b.obs.Staleness()
					for range b.obs.Machines() {
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

func TestMetricsAreRegistered(t *testing.T) {
	inBed(t, bedConfig{options: Options{Registerer: prometheus.NewRegistry()}}, func(t *testing.T, b *bed) {
		reg := b.obs.opts.Registerer.(*prometheus.Registry)
		b.allocated(simulator.ProjectA, 1)
		b.swept()
		require.NoError(t, b.obs.Confirm(t.Context(), metal.Want{Project: simulator.ProjectA}))
		families, err := reg.Gather()
		require.NoError(t, err)
		names := map[string]bool{}
		for _, f := range families {
			names[f.GetName()] = true
		}
		for _, n := range []string{MetricStaleness, MetricSweepSeconds, MetricSweepInterval, MetricLooks, MetricBusySeconds, MetricBudgetBalance, MetricMachines, MetricSuspects, MetricUnconfirmed} {
			require.True(t, names[n], n)
		}
	})
}
