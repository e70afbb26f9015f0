package observation

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/metal/internal/metaltest"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// away frees a machine behind everybody's back and gives it to somebody else.
func (b *bed) givenAway(id string) {
	b.t.Helper()
	require.NoError(b.t, b.sim.ForceFree(id))
	require.NoError(b.t, b.sim.Recycle(id))
	_, err := b.sim.AllocateFor(simulator.AllocateRequest{
		ID: id, Project: simulator.ProjectB, Name: "other", Networks: []string{b.network(simulator.ProjectB)},
	})
	require.NoError(b.t, err)
}

func TestAnAllocationIsGoneWhenAListAndAFindOfThatVeryIdAgree(t *testing.T) {
	inBed(t, bedConfig{}, func(t *testing.T, b *bed) {
		id := b.allocated(simulator.ProjectA, 1)[0]
		require.NoError(t, b.sim.PhoneHome(id))
		b.swept()
		uuid := b.machine(id).Allocation.UUID
		require.NoError(t, b.sim.ForceFree(id))
		b.sim.ResetCalls()
		b.told()
		b.swept()
		require.Nil(t, b.machine(id).Allocation)
		require.Empty(t, b.obs.AllocatedIn(simulator.ProjectA))
		require.Equal(t, 1, b.sim.CallsOf("machine-list"))
		require.Equal(t, 1, b.sim.CallsOf("machine-find"), "the second look is a find")
		require.ElementsMatch(t, []metal.Ref{{Kind: metal.KindMachine, ID: id}, {Kind: metal.KindAllocation, ID: uuid}}, b.told())
	})
}

func TestAMachineThatIsGoneFromTheListAndTheFindIsGone(t *testing.T) {
	inBed(t, bedConfig{}, func(t *testing.T, b *bed) {
		id := b.allocated(simulator.ProjectA, 1)[0]
		b.swept()
		b.wire.Answer(func(r *http.Request) (*http.Response, error) {
			switch r.URL.Path {
			case "/v1/machine", "/v1/machine/find":
				return metaltest.Respond(200, "application/json", "[]")(r)
			case "/v1/machine/" + id:
				return metaltest.Respond(404, "application/json", `"{\"statuscode\":404,\"message\":\"NotFound no machine with id \\\"x\\\" found\"}"`)(r)
			}
			return nil, nil
		})
		b.swept()
		_, presence := b.obs.Machine(id)
		require.Equal(t, metal.Gone, presence)
	})
}

func TestAReadNoticesAndConfirmsADisappearance(t *testing.T) {
	for name, want := range map[string]func(id string) metal.Want{
		"by id":      func(id string) metal.Want { return metal.Want{Machines: []string{id}} },
		"by project": func(string) metal.Want { return metal.Want{Project: simulator.ProjectA} },
		"fleet":      func(string) metal.Want { return metal.Want{Fleet: true} },
	} {
		t.Run(name, func(t *testing.T) {
			inBed(t, bedConfig{costs: true}, func(t *testing.T, b *bed) {
				id := b.allocated(simulator.ProjectA, 1)[0]
				b.swept()
				require.NoError(t, b.sim.ForceFree(id))
				b.sim.ResetCalls()
				require.NoError(t, b.obs.Confirm(t.Context(), want(id)))
				require.Nil(t, b.machine(id).Allocation)
				require.GreaterOrEqual(t, b.sim.CallsOf("machine-find"), 1)
			})
		})
	}
}

func TestAMachineGivenToSomebodyElseIsGoneForItsOldHolder(t *testing.T) {
	inBed(t, bedConfig{}, func(t *testing.T, b *bed) {
		id := b.allocated(simulator.ProjectA, 1)[0]
		b.swept()
		old := b.machine(id)
		b.givenAway(id)

		// Until a second look agrees the old fact stays.
		b.sim.Inject(simulator.Fault{Endpoint: "machine-find", Kind: simulator.FaultStatus, Status: 503, Message: "x"})
		b.told()
		b.swept()
		require.Same(t, old, b.machine(id))
		require.Len(t, b.obs.AllocatedIn(simulator.ProjectA), 1)
		require.Empty(t, b.obs.AllocatedIn(simulator.ProjectB))
		require.Empty(t, b.told())
		_, doubtful := b.obs.facts.count()
		require.Equal(t, 1, doubtful)
	})
	inBed(t, bedConfig{}, func(t *testing.T, b *bed) {
		id := b.allocated(simulator.ProjectA, 1)[0]
		b.swept()
		old := b.machine(id)
		b.givenAway(id)
		b.told()
		b.swept()
		require.Empty(t, b.obs.AllocatedIn(simulator.ProjectA))
		require.Len(t, b.obs.AllocatedIn(simulator.ProjectB), 1)
		now := b.machine(id)
		require.ElementsMatch(t, []metal.Ref{
			{Kind: metal.KindMachine, ID: id}, {Kind: metal.KindAllocation, ID: old.Allocation.UUID}, {Kind: metal.KindAllocation, ID: now.Allocation.UUID},
		}, b.told())
	})
}

func TestA404ProvesNothing(t *testing.T) {
	inBed(t, bedConfig{}, func(t *testing.T, b *bed) {
		id := b.allocated(simulator.ProjectA, 1)[0]
		b.swept()
		fact := b.machine(id)
		require.NoError(t, b.sim.DropEventContainer(id))
		for range 3 {
			require.NoError(t, b.obs.Confirm(t.Context(), metal.Want{Machines: []string{id}}))
			require.Equal(t, fact.Allocation, b.machine(id).Allocation)
		}
		require.Equal(t, 1, b.sim.CallsOf("machine-get"), "it is remembered that only finds show it")
		b.swept()
		require.Equal(t, fact.Allocation, b.machine(id).Allocation)
	})
}

func TestAWrongBasePathConcludesNothing(t *testing.T) {
	inBed(t, bedConfig{}, func(t *testing.T, b *bed) {
		id := b.allocated(simulator.ProjectA, 1)[0]
		n := b.machineNetwork(id)
		b.name(metal.Ref{Kind: metal.KindNetwork, ID: n})
		b.swept()
		b.told()
		b.wire.Answer(metaltest.Respond(404, "application/json", `"{\"statuscode\":404,\"message\":\"404: Page Not Found\"}"`))
		for range 3 {
			require.Error(t, b.obs.sweep(t.Context()))
			require.Error(t, b.obs.Confirm(t.Context(), metal.Want{Machines: []string{id}, Networks: []string{n}}))
			time.Sleep(time.Minute)
		}
		require.Equal(t, simulator.ProjectA, b.machine(id).Allocation.Project)
		_, presence := b.obs.Network(n)
		require.Equal(t, metal.Present, presence)
		require.Empty(t, b.told())
	})
}

func TestAListThatFailedConcludesNothing(t *testing.T) {
	for name, fault := range map[string]simulator.Fault{
		"refused":  {Kind: simulator.FaultRefused},
		"status":   {Kind: simulator.FaultStatus, Status: 422, Message: "cannot search machines in database: rethinkdb: dial tcp: connect: connection refused"},
		"cut body": {Kind: simulator.FaultTruncatedBody},
		"hang":     {Kind: simulator.FaultHang},
	} {
		t.Run(name, func(t *testing.T) {
			inBed(t, bedConfig{}, func(t *testing.T, b *bed) {
				ids := b.allocated(simulator.ProjectA, 3)
				b.swept()
				swept := b.obs.lastSweep()
				time.Sleep(time.Minute)
				b.told()
				fault.Endpoint = "machine-list"
				b.sim.Inject(fault)
				require.Error(t, b.obs.sweep(t.Context()))
				require.Empty(t, b.told())
				_, doubtful := b.obs.facts.count()
				require.Zero(t, doubtful)
				require.Len(t, b.obs.AllocatedIn(simulator.ProjectA), len(ids))
				require.Equal(t, swept, b.obs.lastSweep(), "staleness grows")
			})
		})
	}
}

func TestAValidButShortenedListConcludesNothing(t *testing.T) {
	inBed(t, bedConfig{machines: 40, costs: true}, func(t *testing.T, b *bed) {
		ids := b.allocated(simulator.ProjectA, 20)
		for _, id := range ids {
			require.NoError(t, b.sim.PhoneHome(id))
		}
		time.Sleep(time.Second)
		b.swept()
		b.told()
		b.sim.ResetCalls()
		b.sim.Inject(simulator.Fault{Endpoint: "machine-list", Kind: simulator.FaultTruncatedList, Fraction: 0.5})
		for range 3 {
			b.swept()
			require.Empty(t, b.told())
			require.Len(t, b.obs.AllocatedIn(simulator.ProjectA), len(ids))
			_, doubtful := b.obs.facts.count()
			require.Zero(t, doubtful)
		}
		require.Zero(t, b.sim.CallsOf("machine-find"), "gets clear the suspicion")
	})
}

func TestHalfAFleetMissingFromASuccessfulListDoesNotFlap(t *testing.T) {
	inBed(t, bedConfig{machines: 250, costs: true}, func(t *testing.T, b *bed) {
		ids := b.allocated(simulator.ProjectA, 150)
		for _, id := range ids {
			require.NoError(t, b.sim.PhoneHome(id))
		}
		b.run()
		time.Sleep(30 * time.Second)
		require.True(t, b.obs.Swept())
		b.told()
		_, _, busy := b.obs.budget.balances()
		began := time.Now()
		remove := b.sim.Inject(simulator.Fault{Endpoint: "machine-list", Kind: simulator.FaultTruncatedList, Fraction: 0.5})
		time.Sleep(3 * time.Minute)
		require.Empty(t, b.told())
		require.Len(t, b.obs.AllocatedIn(simulator.ProjectA), len(ids))
		_, _, after := b.obs.budget.balances()
		require.LessOrEqual(t, (after - busy).Seconds(), time.Since(began).Seconds()*DefaultBudget+DefaultBudget*burstTime.Seconds()+1, "confirming stays within the budget")
		remove()
		time.Sleep(time.Minute)
		_, doubtful := b.obs.facts.count()
		require.Zero(t, doubtful)
		require.Empty(t, b.told())
	})
}

func TestManyThatAreGoneAreConfirmedWithinTheBudget(t *testing.T) {
	inBed(t, bedConfig{machines: 1000, costs: true}, func(t *testing.T, b *bed) {
		ids := b.allocated(simulator.ProjectA, 60)
		for _, id := range ids {
			require.NoError(t, b.sim.PhoneHome(id))
		}
		b.run()
		time.Sleep(30 * time.Second)
		for _, id := range ids[:30] {
			require.NoError(t, b.sim.ForceFree(id))
		}
		_, _, busy := b.obs.budget.balances()
		began := time.Now()
		for len(b.obs.AllocatedIn(simulator.ProjectA)) > 30 {
			time.Sleep(time.Second)
			require.Less(t, time.Since(began), 5*time.Minute)
		}
		_, _, after := b.obs.budget.balances()
		require.LessOrEqual(t, (after - busy).Seconds(), time.Since(began).Seconds()*DefaultBudget+DefaultBudget*burstTime.Seconds()+1)
		t.Logf("30 of 60 gone in a fleet of 1,000: all confirmed after %s, %s of calls", time.Since(began), after-busy)
	})
}

func TestADisappearanceNeedsTwoLooksAlsoForWhatWasNeverSeen(t *testing.T) {
	inBed(t, bedConfig{}, func(t *testing.T, b *bed) {
		b.name(metal.Ref{Kind: metal.KindMachine, ID: nobody})
		b.obs.refreshNamed()
		finds := make(chan struct{}, 10)
		b.wire.Around(func(r *http.Request) {
			if r.URL.Path == "/v1/machine/find" {
				finds <- struct{}{}
			}
		}, nil)
		require.NoError(t, b.obs.Confirm(t.Context(), metal.Want{Machines: []string{nobody}}))
		_, presence := b.obs.Machine(nobody)
		require.Equal(t, metal.Gone, presence)
		require.Len(t, finds, 2)
		require.Contains(t, b.told(), metal.Ref{Kind: metal.KindMachine, ID: nobody})
	})
}

func TestAnOldEventOfAnEarlierAllocationIsNotThisOnes(t *testing.T) {
	inBed(t, bedConfig{machines: 8}, func(t *testing.T, b *bed) {
		id := b.allocated(simulator.ProjectA, 1)[0]
		require.NoError(t, b.sim.PhoneHome(id))
		b.swept()
		require.False(t, b.machine(id).InTransition())
		time.Sleep(time.Minute)
		b.givenAway(id)
		b.swept()
		m := b.machine(id)
		require.Equal(t, simulator.ProjectB, m.Allocation.Project)
		require.True(t, m.InTransition(), "%+v", m.Events)
	})
}

func TestAnOlderListDoesNotCastDoubtOnANewerFact(t *testing.T) {
	inBed(t, bedConfig{}, func(t *testing.T, b *bed) {
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
		m, err := b.client.AllocateMachine(t.Context(), b.request(b.network(simulator.ProjectA)))
		require.NoError(t, err)
		b.sim.ResetCalls()
		close(slow)
		require.NoError(t, <-swept)
		require.Same(t, m, b.machine(m.ID))
		require.Zero(t, b.sim.CallsOf("machine-get")+b.sim.CallsOf("machine-find"))
	})
}
