// SPDX-License-Identifier: Apache-2.0

package simulator_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// recordedDataCentre is the inventory that the recordings list at their
// beginning, without machines: those come later. It is the default one.
func recordedDataCentre(t testing.TB) *simulator.DataCentre {
	t.Helper()
	dc := simulator.DefaultDataCentre(8)
	dc.Machines = []simulator.Machine{}
	return dc
}

// merge puts recordings in the order of their numbers; of two with one
// number and name the later ones stay.
func merge(recordings, more []*recording) []*recording {
	out := append([]*recording{}, more...)
	for _, rec := range recordings {
		if !containsNumber(more, rec.number) {
			out = append(out, rec)
		}
	}
	sortByNumber(out)
	return out
}

// loadInferred reads what the missing numbers must have been, after their
// neighbours and the real server's rules: same form, one file.
func loadInferred(t testing.TB) []*recording {
	t.Helper()
	var named []struct {
		File string
		recording
	}
	raw := readFile(t, "testdata/inferred.json")
	require.NoError(t, json.Unmarshal(raw, &named))
	var out []*recording
	for i := range named {
		n := &named[i].recording
		n.file = named[i].File
		n.number = numberOf(t, n.file)
		if n.User == "" {
			n.User = "Metal-Admin"
		}
		if n.ContentType == "" {
			n.ContentType = "application/json"
		}
		require.True(t, strings.HasPrefix(n.Path, "/v1/"), n.file)
		out = append(out, n)
	}
	sortByNumber(out)
	return out
}
