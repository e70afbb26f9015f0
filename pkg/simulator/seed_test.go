// SPDX-License-Identifier: Apache-2.0

package simulator_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/metal-stack/metal-go/api/models"
	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// answersOf is what a sequence of calls answers, as one string.
func answersOf(t *testing.T, seed uint64) (answers string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t, simulator.Config{Seed: seed, Speed: 30})
		nw := b.makeNetwork(simulator.ProjectA)
		for i := range 4 {
			m := into[models.V1MachineResponse](t, b.allocate(wanted(nw, fmt.Sprintf("n=%d", i), "a", "b", "c=d")))
			answers += fmt.Sprint(*m.ID, *m.Allocation.Allocationuuid, m.Tags)
			time.Sleep(time.Second)
		}
		time.Sleep(4 * time.Second)
		answers += string(b.ask("GET", "/v1/machine", nil).Body) + string(b.ask("GET", "/v1/network", nil).Body) + string(b.ask("GET", "/v1/ip", nil).Body)
	})
	return answers
}

func TestSeed_IsDeterministic(t *testing.T) {
	t.Parallel()
	one := answersOf(t, 42)
	for range 3 {
		require.Equal(t, one, answersOf(t, 42))
	}
	require.NotEqual(t, one, answersOf(t, 43))
}
