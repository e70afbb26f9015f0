// SPDX-License-Identifier: Apache-2.0

package catalogue

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// refsOf are refs of one kind.
func refsOf(kind metal.RefKind, ids ...string) (refs []metal.Ref) {
	for _, id := range ids {
		refs = append(refs, metal.Ref{Kind: kind, ID: id})
	}
	return refs
}

func TestOnChanged_ReportsBeforeRefreshReturns(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		c := New(e.client, nil)
		var reported []metal.Ref
		c.OnChanged(func(refs []metal.Ref) {
			for _, ref := range refs {
				switch ref.Kind {
				case metal.KindSize:
					require.NotNil(t, c.Size(ref.ID))
				case metal.KindImage:
					require.NotNil(t, c.Image(ref.ID), "it can be asked for then")
				}
			}
			reported = append(reported, refs...)
		})
		refresh := func(kinds ...metal.RefKind) []metal.Ref {
			t.Helper()
			time.Sleep(minGap)
			reported = nil
			require.NoError(t, c.Refresh(t.Context(), kinds...))
			return reported
		}
		require.ElementsMatch(t, refsOf(metal.KindSize, simulator.SmallSize, simulator.LargeSize), refresh(metal.KindSize))
		require.Len(t, refresh(metal.KindImage), 6)
		require.Equal(t, refsOf(metal.KindPartition, simulator.DefaultPartition), refresh(metal.KindPartition))
		require.ElementsMatch(t, refsOf(metal.KindProject, simulator.ProjectA, simulator.ProjectB), refresh(metal.KindProject))
		require.Empty(t, refresh(metal.KindSize, metal.KindImage, metal.KindPartition, metal.KindProject), "nothing has changed")

		// Of images also those of which the alias does not mean them any more.
		before := c.NewestImage(simulator.MachineImage).ID
		newest := simulator.MachineImage + ".20260701"
		e.sim.AddImage(simulator.Image{ID: newest, Features: []string{metal.FeatureMachine}})
		require.ElementsMatch(t, refsOf(metal.KindImage, before, newest), refresh(metal.KindImage))

		// What is read in the background is reported, too.
		e.sim.AddImage(simulator.Image{ID: "debian-13.0.20260701", Features: []string{metal.FeatureMachine}})
		time.Sleep(minGap)
		reported = nil
		_, _, err := c.LookupImage(t.Context(), "typo-1.0", "")
		require.NoError(t, err)
		synctest.Wait()
		require.Equal(t, refsOf(metal.KindImage, "debian-13.0.20260701"), reported)
	})
}

func TestOnChanged_ReservationsChangeTheirPartitionsAndProjects(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		c := New(e.client, nil)
		var reported []metal.Ref
		c.OnChanged(func(refs []metal.Ref) { reported = append(reported, refs...) })
		require.NoError(t, c.Refresh(t.Context(), metal.KindPartition, metal.KindProject))
		both := append(refsOf(metal.KindPartition, simulator.DefaultPartition), refsOf(metal.KindProject, simulator.ProjectA)...)

		reported = nil
		id, err := e.sim.ReserveSize(simulator.ProjectA, simulator.SmallSize, simulator.DefaultPartition, 2)
		require.NoError(t, err)
		time.Sleep(minGap)
		reservations, err := c.CurrentReservations(t.Context())
		require.NoError(t, err)
		require.Len(t, reservations, 1)
		synctest.Wait()
		require.ElementsMatch(t, both, reported)

		reported = nil
		require.NoError(t, e.sim.EndReservation(id))
		time.Sleep(minGap)
		require.NoError(t, c.Refresh(t.Context(), metal.KindPartition))
		require.ElementsMatch(t, both, reported)
	})
}

func TestOnChanged_ReportsUseOfProjects(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		c := New(e.client, nil)
		var reported []metal.Ref
		c.OnChanged(func(refs []metal.Ref) { reported = append(reported, refs...) })
		refresh := func() []metal.Ref {
			t.Helper()
			time.Sleep(powerTTL)
			reported = nil
			require.NoError(t, c.RefreshProject(t.Context(), simulator.ProjectA))
			return reported
		}
		changed := refsOf(metal.KindProject, simulator.ProjectA)
		require.Equal(t, changed, refresh(), "it is known now")
		require.Empty(t, refresh())
		e.allocate(simulator.ProjectA)
		require.Equal(t, changed, refresh())
		require.Empty(t, refresh())
	})
}

func TestOnChanged_CallsInTurn(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		c := New(e.client, nil)
		calls, entered := 0, make(chan struct{}, 2)
		leave := make(chan struct{})
		c.OnChanged(func([]metal.Ref) {
			calls++
			entered <- struct{}{}
			<-leave
		})
		go func() { _ = c.Refresh(t.Context(), metal.KindSize) }()
		<-entered
		go func() { _ = c.Refresh(t.Context(), metal.KindPartition) }()
		synctest.Wait()
		require.Equal(t, 1, calls)
		leave <- struct{}{}
		<-entered
		leave <- struct{}{}
		synctest.Wait()
		require.Equal(t, 2, calls)
	})
}
