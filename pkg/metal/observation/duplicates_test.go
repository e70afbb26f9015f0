// SPDX-License-Identifier: Apache-2.0

package observation

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// sharer is a machine of a role with addresses in a network, and a number.
func sharer(id, role, network string, asn int64, addresses ...string) *metal.Machine {
	return &metal.Machine{ID: id, Allocation: &metal.Allocation{
		UUID: "allocation-of-" + id, Project: simulator.ProjectA, Role: role, Created: time.Unix(1e9, 0),
		Networks: []metal.MachineNetwork{{NetworkID: network, IPs: addresses, ASN: asn}},
	}}
}

func TestDuplicates_NotifyTheOtherMachine(t *testing.T) {
	t.Parallel()
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		a := sharer("a", metal.RoleMachine, "net", 1, "10.0.0.1", "10.0.0.2")
		b := sharer("b", metal.RoleMachine, "net", 1, "10.0.0.2")
		e.observer.LearnMachine(a)
		require.Zero(t, e.observer.Duplicates(a))
		e.changed()

		e.observer.LearnMachine(b)
		require.Contains(t, e.changed(), metal.Ref{Kind: metal.KindMachine, ID: "a"})
		require.Equal(t, metal.Duplicates{Addresses: []string{"10.0.0.2"}}, e.observer.Duplicates(a), "machines may have one ASN")
		require.Equal(t, metal.Duplicates{Addresses: []string{"10.0.0.2"}}, e.observer.Duplicates(b))
		require.Equal(t, 2, e.observer.countIssues()[metal.IssueDuplicateAddress])

		// A third one is no news, and an event of one neither.
		e.observer.LearnMachine(sharer("c", metal.RoleMachine, "net", 1, "10.0.0.2"))
		require.NotContains(t, e.changed(), metal.Ref{Kind: metal.KindMachine, ID: "a"})
		booted := *b
		booted.Events = []metal.Event{{Event: "Installing", Time: time.Unix(2e9, 0)}}
		e.observer.LearnMachine(&booted)
		require.NotContains(t, e.changed(), metal.Ref{Kind: metal.KindMachine, ID: "a"})

		for _, id := range []string{"b", "c"} {
			e.observer.LearnMachine(&metal.Machine{ID: id})
		}
		require.Contains(t, e.changed(), metal.Ref{Kind: metal.KindMachine, ID: "a"})
		require.Zero(t, e.observer.Duplicates(a))
		require.Zero(t, e.observer.countIssues()[metal.IssueDuplicateAddress])
	})
}

func TestDuplicates_AreOfOneNetworkAndOfFirewalls(t *testing.T) {
	t.Parallel()
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		a := sharer("a", metal.RoleFirewall, "net-1", 4210000001, "10.0.0.1")
		e.observer.LearnMachine(a)
		e.observer.LearnMachine(sharer("b", metal.RoleMachine, "net-2", 4210000001, "10.0.0.1"))
		require.Zero(t, e.observer.Duplicates(a))
		e.observer.LearnMachine(sharer("c", metal.RoleFirewall, "net-2", 4210000001, "10.0.0.3"))
		require.Equal(t, metal.Duplicates{ASNs: []int64{4210000001}}, e.observer.Duplicates(a))
	})
}

// The index is what a comparison of all with all is, whatever came and went.
func TestDuplicates_AgreeWithAComparisonOfAll(t *testing.T) {
	t.Parallel()
	pick := rand.New(rand.NewPCG(1, 2))
	index := newDuplicates()
	machines := map[string]*metal.Machine{}
	for range 3000 {
		id := fmt.Sprint(pick.IntN(6))
		var next *metal.Machine
		if pick.IntN(3) > 0 {
			role := []string{metal.RoleMachine, metal.RoleFirewall}[pick.IntN(2)]
			next = sharer(id, role, fmt.Sprint(pick.IntN(2)), int64(pick.IntN(3)), fmt.Sprint(pick.IntN(4)), fmt.Sprint(pick.IntN(4)))
		}
		notified := index.replace(id, machines[id], next)
		before := map[string]metal.Duplicates{}
		for other, m := range machines {
			before[other] = compared(machines, m)
		}
		machines[id] = next
		for other, m := range machines {
			want := compared(machines, m)
			require.Equal(t, want, index.of(m))
			if other != id && fmt.Sprint(before[other]) != fmt.Sprint(want) {
				require.True(t, slices.Contains(notified, other), "machine %s has other duplicates", other)
			}
		}
	}
}

func compared(all map[string]*metal.Machine, m *metal.Machine) (d metal.Duplicates) {
	forEachAddress(m, func(k networkAddress) {
		for id, other := range all {
			forEachAddress(other, func(l networkAddress) {
				if id != m.ID && k == l && !slices.Contains(d.Addresses, k.address) {
					d.Addresses = append(d.Addresses, k.address)
				}
			})
		}
	})
	forEachASN(m, func(k int64) {
		for id, other := range all {
			forEachASN(other, func(l int64) {
				if id != m.ID && k == l && !slices.Contains(d.ASNs, k) {
					d.ASNs = append(d.ASNs, k)
				}
			})
		}
	})
	slices.Sort(d.Addresses)
	slices.Sort(d.ASNs)
	return d
}

func TestMachineIssues_AreCountedOfProjectsThatAreShown(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	runTest(t, envConfig{options: Options{Registerer: registry, Relevant: func(project string) bool { return project == simulator.ProjectA }}}, func(t *testing.T, e *env) {
		crashing := sharer("a", metal.RoleMachine, "net", 0)
		crashing.CrashLoop = true
		theirs := sharer("b", metal.RoleMachine, "net", 0)
		theirs.CrashLoop, theirs.Allocation.Project = true, simulator.ProjectB
		silent := sharer("c", metal.RoleMachine, "net", 0)
		silent.Liveliness = metal.LivelinessUnknown
		for _, m := range []*metal.Machine{crashing, theirs, silent} {
			e.observer.LearnMachine(m)
		}
		families, err := registry.Gather()
		require.NoError(t, err)
		count := map[string]float64{}
		for _, f := range families {
			if f.GetName() == MetricMachineIssues {
				for _, m := range f.GetMetric() {
					count[m.GetLabel()[0].GetValue()] = m.GetGauge().GetValue()
				}
			}
		}
		require.Equal(t, map[string]float64{
			"CrashLoop": 1, "FailedReclaim": 0, "Dead": 0, "Silent": 1, "LastEventError": 0, "DuplicateAddress": 0, "DuplicateASN": 0,
		}, count)
	})
}
