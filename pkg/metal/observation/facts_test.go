// SPDX-License-Identifier: Apache-2.0

package observation

import (
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/randfill"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

func TestSameMachine_IgnoresHeartbeatOnly(t *testing.T) {
	fill := randfill.NewWithSeed(1).NilChance(0).NumElements(1, 3)
	var m metal.Machine
	fill.Fill(&m)
	same := m
	same.LastEventTime = m.LastEventTime.Add(time.Minute)
	require.True(t, sameMachine(&m, &same))
	fields := reflect.TypeFor[metal.Machine]()
	for i := range fields.NumField() {
		if fields.Field(i).Name == "LastEventTime" {
			continue
		}
		other := m
		f := reflect.ValueOf(&other).Elem().Field(i)
		f.SetZero()
		if reflect.ValueOf(m).Field(i).IsZero() {
			f.SetBool(true)
		}
		require.False(t, sameMachine(&m, &other), fields.Field(i).Name)
	}
	require.False(t, sameMachine(&m, nil))
	require.True(t, sameMachine(nil, nil))
}

// Projected objects share the strings and lists of a fact.
func TestFacts_MachineThatIsObservedAgainKeepsItsFact(t *testing.T) {
	var changed int
	f := newFacts(func(string) bool { return true }, func(refs []metal.Ref) { changed += len(refs) })
	machine := func(heartbeat, state string) *metal.Machine {
		at, err := time.Parse(time.RFC3339, heartbeat)
		require.NoError(t, err)
		return &metal.Machine{ID: "m1", State: state, LastEventTime: at, Allocation: &metal.Allocation{UUID: "a1", Project: "p1"}}
	}
	observe := func(m *metal.Machine) *metal.Machine {
		when := f.nextObservation(time.Now())
		f.update(func() { f.machines.apply("m1", m, when, sourceList) })
		known, presence := lookup(f, &f.machines, "m1")
		require.Equal(t, metal.Present, presence)
		require.Equal(t, m, known)
		return known
	}
	first := observe(machine("2026-01-01T00:00:00Z", ""))
	reported := changed
	require.Same(t, first, observe(machine("2026-01-01T00:00:00Z", "")))
	second := observe(machine("2026-01-01T00:01:00Z", ""))
	require.Same(t, first.Allocation, second.Allocation)
	require.Equal(t, reported, changed)
	third := machine("2026-01-01T00:01:00Z", "LOCKED")
	require.Same(t, third, observe(third))
	require.Greater(t, changed, reported)
}
