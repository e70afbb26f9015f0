// SPDX-License-Identifier: Apache-2.0

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

// reassign frees a machine and allocates it for another project, without the server.
func (e *env) reassign(id string) {
	e.t.Helper()
	require.NoError(e.t, e.sim.ForceFree(id))
	require.NoError(e.t, e.sim.Recycle(id))
	_, err := e.sim.AllocateFor(simulator.AllocateRequest{
		ID: id, Project: simulator.ProjectB, Name: "other", Networks: []string{e.network(simulator.ProjectB)},
	})
	require.NoError(e.t, err)
}

func TestDisappearance_OfAllocationNeedsListAndFindOfID(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		id := e.allocate(simulator.ProjectA, 1)[0]
		require.NoError(t, e.sim.PhoneHome(id))
		e.sweep()
		uuid := e.machine(id).Allocation.UUID
		require.NoError(t, e.sim.ForceFree(id))
		e.sim.ResetCalls()
		e.changed()
		e.sweep()
		require.Nil(t, e.machine(id).Allocation)
		require.Empty(t, e.observer.AllocatedIn(simulator.ProjectA))
		require.Equal(t, 1, e.sim.CallsOf("machine-list"))
		require.Equal(t, 1, e.sim.CallsOf("machine-find"), "the second observation is a find")
		require.ElementsMatch(t, []metal.Ref{{Kind: metal.KindMachine, ID: id}, {Kind: metal.KindAllocation, ID: uuid}, thePartition, projectA}, e.changed())
	})
}

func TestDisappearance_OfMachineNeedsListAndFindOfID(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		id := e.allocate(simulator.ProjectA, 1)[0]
		e.sweep()
		e.transport.Answer(func(r *http.Request) (*http.Response, error) {
			switch r.URL.Path {
			case "/v1/machine", "/v1/machine/find":
				return metaltest.Respond(200, "application/json", "[]")(r)
			case "/v1/machine/" + id:
				return metaltest.Respond(404, "application/json", `"{\"statuscode\":404,\"message\":\"NotFound no machine with id \\\"x\\\" found\"}"`)(r)
			}
			return nil, nil
		})
		e.sweep()
		_, presence := e.observer.Machine(id)
		require.Equal(t, metal.Gone, presence)
	})
}

func TestDisappearance_IsVerifiedByRefresh(t *testing.T) {
	for name, want := range map[string]func(id string) metal.Scope{
		"by id":      func(id string) metal.Scope { return metal.Scope{Machines: []string{id}} },
		"by project": func(string) metal.Scope { return metal.Scope{Project: simulator.ProjectA} },
		"fleet":      func(string) metal.Scope { return metal.Scope{Fleet: true} },
	} {
		t.Run(name, func(t *testing.T) {
			runTest(t, envConfig{costs: true}, func(t *testing.T, e *env) {
				id := e.allocate(simulator.ProjectA, 1)[0]
				e.sweep()
				require.NoError(t, e.sim.ForceFree(id))
				e.sim.ResetCalls()
				require.NoError(t, e.observer.Refresh(t.Context(), want(id)))
				require.Nil(t, e.machine(id).Allocation)
				require.GreaterOrEqual(t, e.sim.CallsOf("machine-find"), 1)
			})
		})
	}
}

func TestDisappearance_OfReassignedMachineForOldHolder(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		id := e.allocate(simulator.ProjectA, 1)[0]
		e.sweep()
		old := e.machine(id)
		e.reassign(id)

		// Until a second observation agrees the old fact stays.
		e.sim.Inject(simulator.Fault{Endpoint: "machine-find", Kind: simulator.FaultStatus, Status: 503, Message: "x"})
		e.changed()
		e.sweep()
		require.Same(t, old, e.machine(id))
		require.Len(t, e.observer.AllocatedIn(simulator.ProjectA), 1)
		require.Empty(t, e.observer.AllocatedIn(simulator.ProjectB))
		require.Empty(t, e.changed())
		_, doubtful := e.observer.facts.count()
		require.Equal(t, 1, doubtful)
	})
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		id := e.allocate(simulator.ProjectA, 1)[0]
		e.sweep()
		old := e.machine(id)
		e.reassign(id)
		e.changed()
		e.sweep()
		require.Empty(t, e.observer.AllocatedIn(simulator.ProjectA))
		require.Len(t, e.observer.AllocatedIn(simulator.ProjectB), 1)
		now := e.machine(id)
		require.ElementsMatch(t, []metal.Ref{
			{Kind: metal.KindMachine, ID: id}, {Kind: metal.KindAllocation, ID: old.Allocation.UUID}, {Kind: metal.KindAllocation, ID: now.Allocation.UUID},
			thePartition, projectA, {Kind: metal.KindProject, ID: simulator.ProjectB},
		}, e.changed())
	})
}

// Only a find of the very id is a second observation, however often lists and gets agree.
func TestDisappearance_SecondListProvesNothing(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		id := e.allocate(simulator.ProjectA, 1)[0]
		require.NoError(t, e.sim.PhoneHome(id))
		e.sweep()
		fact := e.machine(id)
		require.NoError(t, e.sim.ForceFree(id))
		answer := e.sim.Inject(simulator.Fault{Endpoint: "machine-find", Kind: simulator.FaultStatus, Status: 503, Message: "x"})
		e.changed()
		for range 3 {
			e.sweep()
			require.Same(t, fact.Allocation, e.machine(id).Allocation)
			require.Error(t, e.observer.Refresh(t.Context(), metal.Scope{Machines: []string{id}}))
			require.Same(t, fact.Allocation, e.machine(id).Allocation)
			_, doubtful := e.observer.facts.count()
			require.Equal(t, 1, doubtful)
			time.Sleep(time.Minute)
		}
		require.Empty(t, e.changed())
		require.Equal(t, 4, e.sim.CallsOf("machine-list"))
		answer()
		e.sweep()
		require.Nil(t, e.machine(id).Allocation)
	})
}

func TestDisappearance_404ProvesNothing(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		id := e.allocate(simulator.ProjectA, 1)[0]
		e.sweep()
		fact := e.machine(id)
		require.NoError(t, e.sim.DropEventContainer(id))
		for range 3 {
			require.NoError(t, e.observer.Refresh(t.Context(), metal.Scope{Machines: []string{id}}))
			require.Equal(t, fact.Allocation, e.machine(id).Allocation)
		}
		require.Equal(t, 1, e.sim.CallsOf("machine-get"), "it is remembered that only finds show it")
		e.sweep()
		require.Equal(t, fact.Allocation, e.machine(id).Allocation)
	})
}

func TestDisappearance_WrongBasePathProvesNothing(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		id := e.allocate(simulator.ProjectA, 1)[0]
		n := e.machineNetwork(id)
		e.reference(metal.Ref{Kind: metal.KindNetwork, ID: n})
		e.sweep()
		e.changed()
		e.transport.Answer(metaltest.Respond(404, "application/json", `"{\"statuscode\":404,\"message\":\"404: Page Not Found\"}"`))
		for range 3 {
			require.Error(t, e.observer.sweep(t.Context()))
			require.Error(t, e.observer.Refresh(t.Context(), metal.Scope{Machines: []string{id}, Networks: []string{n}}))
			time.Sleep(time.Minute)
		}
		require.Equal(t, simulator.ProjectA, e.machine(id).Allocation.Project)
		_, presence := e.observer.Network(n)
		require.Equal(t, metal.Present, presence)
		require.Empty(t, e.changed())
	})
}

func TestDisappearance_FailedListProvesNothing(t *testing.T) {
	for name, fault := range map[string]simulator.Fault{
		"refused":  {Kind: simulator.FaultRefused},
		"status":   {Kind: simulator.FaultStatus, Status: 422, Message: "cannot search machines in database: rethinkdb: dial tcp: connect: connection refused"},
		"cut body": {Kind: simulator.FaultTruncatedBody},
		"hang":     {Kind: simulator.FaultHang},
	} {
		t.Run(name, func(t *testing.T) {
			runTest(t, envConfig{}, func(t *testing.T, e *env) {
				ids := e.allocate(simulator.ProjectA, 3)
				e.sweep()
				swept := e.observer.lastSweepStart()
				time.Sleep(time.Minute)
				e.changed()
				fault.Endpoint = "machine-list"
				e.sim.Inject(fault)
				require.Error(t, e.observer.sweep(t.Context()))
				require.Empty(t, e.changed())
				_, doubtful := e.observer.facts.count()
				require.Zero(t, doubtful)
				require.Len(t, e.observer.AllocatedIn(simulator.ProjectA), len(ids))
				require.Equal(t, swept, e.observer.lastSweepStart(), "staleness grows")
			})
		})
	}
}

func TestDisappearance_ShortenedListProvesNothing(t *testing.T) {
	runTest(t, envConfig{machines: 40, costs: true}, func(t *testing.T, e *env) {
		ids := e.allocate(simulator.ProjectA, 20)
		for _, id := range ids {
			require.NoError(t, e.sim.PhoneHome(id))
		}
		time.Sleep(time.Second)
		e.sweep()
		e.changed()
		e.sim.ResetCalls()
		e.sim.Inject(simulator.Fault{Endpoint: "machine-list", Kind: simulator.FaultTruncatedList, Fraction: 0.5})
		for range 3 {
			e.sweep()
			require.Empty(t, e.changed())
			require.Len(t, e.observer.AllocatedIn(simulator.ProjectA), len(ids))
			_, doubtful := e.observer.facts.count()
			require.Zero(t, doubtful)
		}
		require.Zero(t, e.sim.CallsOf("machine-find"), "gets clear the suspicion")
	})
}

func TestDisappearance_HalfFleetMissingFromListDoesNotFlap(t *testing.T) {
	const budget = DefaultBudget / 2
	runTest(t, envConfig{machines: 125, costs: true, options: Options{Budget: budget}}, func(t *testing.T, e *env) {
		ids := e.allocate(simulator.ProjectA, 75)
		for _, id := range ids {
			require.NoError(t, e.sim.PhoneHome(id))
		}
		e.run()
		time.Sleep(30 * time.Second)
		require.True(t, e.observer.HasSynced())
		e.changed()
		_, _, busy := e.observer.budget.balances()
		began := time.Now()
		remove := e.sim.Inject(simulator.Fault{Endpoint: "machine-list", Kind: simulator.FaultTruncatedList, Fraction: 0.5})
		time.Sleep(2 * time.Minute)
		require.Empty(t, e.changed())
		require.Len(t, e.observer.AllocatedIn(simulator.ProjectA), len(ids))
		_, _, after := e.observer.budget.balances()
		require.LessOrEqual(t, (after - busy).Seconds(), time.Since(began).Seconds()*budget+budget*readBurstTime.Seconds()+0.5, "confirming stays within the budget")
		remove()
		time.Sleep(time.Minute)
		_, doubtful := e.observer.facts.count()
		require.Zero(t, doubtful)
		require.Empty(t, e.changed())
	})
}

func TestDisappearance_OfManyIsVerifiedWithinBudget(t *testing.T) {
	runTest(t, envConfig{machines: 400, costs: true}, func(t *testing.T, e *env) {
		ids := e.allocate(simulator.ProjectA, 60)
		for _, id := range ids {
			require.NoError(t, e.sim.PhoneHome(id))
		}
		e.run()
		time.Sleep(30 * time.Second)
		for _, id := range ids[:30] {
			require.NoError(t, e.sim.ForceFree(id))
		}
		_, _, busy := e.observer.budget.balances()
		began := time.Now()
		for len(e.observer.AllocatedIn(simulator.ProjectA)) > 30 {
			time.Sleep(time.Second)
			require.Less(t, time.Since(began), 5*time.Minute)
		}
		_, _, after := e.observer.budget.balances()
		require.LessOrEqual(t, (after - busy).Seconds(), time.Since(began).Seconds()*DefaultBudget+DefaultBudget*readBurstTime.Seconds()+1)
		t.Logf("30 of 60 gone in a fleet of 400: all confirmed after %s, %s of calls", time.Since(began), after-busy)
	})
}

func TestDisappearance_OfUnobservedNeedsTwoObservations(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		e.reference(metal.Ref{Kind: metal.KindMachine, ID: metaltest.NoSuchID})
		e.observer.updateReferenced()
		finds := make(chan struct{}, 10)
		e.transport.Around(func(r *http.Request) {
			if r.URL.Path == "/v1/machine/find" {
				finds <- struct{}{}
			}
		}, nil)
		require.NoError(t, e.observer.Refresh(t.Context(), metal.Scope{Machines: []string{metaltest.NoSuchID}}))
		_, presence := e.observer.Machine(metaltest.NoSuchID)
		require.Equal(t, metal.Gone, presence)
		require.Len(t, finds, 2)
		require.Contains(t, e.changed(), metal.Ref{Kind: metal.KindMachine, ID: metaltest.NoSuchID})
	})
}

func TestInTransition_IgnoresEventsOfEarlierAllocation(t *testing.T) {
	runTest(t, envConfig{machines: 8}, func(t *testing.T, e *env) {
		id := e.allocate(simulator.ProjectA, 1)[0]
		require.NoError(t, e.sim.PhoneHome(id))
		e.sweep()
		require.False(t, e.machine(id).InTransition())
		time.Sleep(time.Minute)
		e.reassign(id)
		e.sweep()
		m := e.machine(id)
		require.Equal(t, simulator.ProjectB, m.Allocation.Project)
		require.True(t, m.InTransition(), "%+v", m.Events)
	})
}

func TestDisappearance_OlderListDoesNotContradictNewerFact(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
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
		m, err := e.client.AllocateMachine(t.Context(), metaltest.MachineRequest(e.network(simulator.ProjectA)))
		require.NoError(t, err)
		e.sim.ResetCalls()
		close(slow)
		require.NoError(t, <-swept)
		require.Same(t, m, e.machine(m.ID))
		require.Zero(t, e.sim.CallsOf("machine-get")+e.sim.CallsOf("machine-find"))
	})
}
