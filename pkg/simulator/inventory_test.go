// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestHistory_RecordsActor: the inventory name the user who freed or changed
// something.
func TestHistory_RecordsActor(t *testing.T) {
	t.Parallel()
	s, err := New(Config{})
	require.NoError(t, err)
	defer s.Close()
	network, err := s.AllocateNetworkFor(ProjectA, DefaultPartition, "net", nil)
	require.NoError(t, err)
	id, err := s.AllocateFor(AllocateRequest{Project: ProjectA, Name: "a", Size: SmallSize, Partition: DefaultPartition, Networks: []string{network}})
	require.NoError(t, err)
	allocation := state(t, s, id).AllocationUUID
	require.NoError(t, s.SetTags(id, []string{"a=b"}))
	require.NoError(t, s.Lock(id, ""))
	require.NoError(t, s.Unlock(id))
	require.NoError(t, s.ForceFree(id))
	require.NoError(t, s.ForceFree(id))

	type operation struct{ verb, allocation string }
	var operations []operation
	for _, d := range s.Inventory().History {
		if d.ID == id {
			require.Equal(t, "simulator", d.By)
			operations = append(operations, operation{d.Verb, d.AllocationUUID})
		}
	}
	require.Equal(t, []operation{
		{"allocate", allocation}, {"update", allocation}, {"update", allocation}, {"update", allocation}, {"free", allocation},
		{"free", ""}, // it takes the machine out of the pool
	}, operations)
}

func state(t *testing.T, s *Simulator, id string) MachineState {
	t.Helper()
	m, found := s.Inventory().Machine(id)
	require.True(t, found)
	return m
}
