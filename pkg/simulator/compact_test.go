// SPDX-License-Identifier: Apache-2.0

package simulator_test

import (
	"bytes"
	"encoding/json"
	"testing"
	"testing/synctest"

	"github.com/metal-stack/metal-go/api/models"
	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// bodiesOf are what lists and gets answer, with a machine that is allocated.
func bodiesOf(t *testing.T, compact bool) (bodies [][]byte) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t, simulator.Config{Seed: 42, Compact: compact})
		m := into[models.V1MachineResponse](t, b.allocate(wanted(b.makeNetwork(simulator.ProjectA), "a", "b")))
		for _, path := range []string{"/v1/machine/" + *m.ID, "/v1/machine", "/v1/network"} {
			bodies = append(bodies, b.ask("GET", path, nil).Body)
		}
	})
	return bodies
}

func TestCompact_LeavesOutNothingButIndentation(t *testing.T) {
	t.Parallel()
	indented, compact := bodiesOf(t, false), bodiesOf(t, true)
	for i := range indented {
		var of, is bytes.Buffer
		require.NoError(t, json.Compact(&of, indented[i]))
		require.NoError(t, json.Compact(&is, compact[i]))
		require.Equal(t, of.String(), is.String())
		require.Less(t, len(compact[i]), len(indented[i]))
	}
	require.NotContains(t, string(compact[0]), "\n")
}
