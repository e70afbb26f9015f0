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

func TestOnChanged_IsCalledOnceSizesCanBeLookedUp(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		c := New(e.client, nil)
		calls := 0
		c.OnChanged(func(refs []metal.Ref) {
			calls++
			require.ElementsMatch(t, refsOf(metal.KindSize, simulator.SmallSize, simulator.LargeSize), refs)
			require.NotNil(t, c.Size(simulator.SmallSize), "it can be looked up then")
		})
		require.Nil(t, c.Size(simulator.SmallSize))
		require.Zero(t, e.sim.CallsOf("size-list"), "it never asks")

		_, _, err := c.LookupSize(t.Context(), simulator.SmallSize)
		require.NoError(t, err)
		require.NotNil(t, c.Size(simulator.SmallSize))
		// Whoever asked need not wait until listeners have been called.
		synctest.Wait()
		require.Equal(t, 1, calls)

		time.Sleep(minGap)
		_, _, _ = c.LookupSize(t.Context(), "typo")
		synctest.Wait()
		require.Equal(t, 2, e.sim.CallsOf("size-list"))
		require.Equal(t, 1, calls, "they were the same")
	})
}

func TestOnNewestImages_IsCalledWhenAnAliasStandsForAnotherImage(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		c := New(e.client, nil)
		calls := 0
		newest := ""
		c.OnNewestImages(func() {
			calls++
			newest = c.NewestImage(simulator.FirewallImage).ID
		})
		read := func() {
			t.Helper()
			before := e.sim.CallsOf("image-list")
			time.Sleep(minGap)
			_, _, err := c.LookupImage(t.Context(), "typo-1.0", "")
			require.NoError(t, err)
			synctest.Wait()
			require.Equal(t, before+1, e.sim.CallsOf("image-list"))
		}
		require.Nil(t, c.NewestImage(simulator.FirewallImage))
		require.Zero(t, e.sim.CallsOf("image-list"), "it never asks")
		read()
		require.Equal(t, 1, calls)
		require.Equal(t, simulator.FirewallImage+".20260101", newest)
		require.Nil(t, c.NewestImage(newest), "it is no alias")

		e.sim.AddImage(simulator.Image{ID: simulator.FirewallImage + ".20251201", Features: []string{metal.FeatureFirewall}})
		read()
		require.Equal(t, 1, calls, "an older one changes nothing")
		e.sim.AddImage(simulator.Image{ID: simulator.FirewallImage + ".20260401", Features: []string{metal.FeatureFirewall}, ExpiresInDays: -1})
		read()
		require.Equal(t, 2, calls)
		require.Equal(t, simulator.FirewallImage+".20260401", newest, "the metal-api takes one that has expired, too")

		e.sim.Inject(simulator.Fault{Endpoint: "*", Kind: simulator.FaultRefused})
		time.Sleep(minGap)
		_, _, err := c.LookupImage(t.Context(), "typo-1.0", "")
		require.Error(t, err)
		require.Equal(t, newest, c.NewestImage(simulator.FirewallImage).ID)
	})
}
