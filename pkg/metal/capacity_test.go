// SPDX-License-Identifier: Apache-2.0

package metal

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAvailableTo_AsTheMetalAPIDecides(t *testing.T) {
	t.Parallel()
	const small, large = "v1-small-x86", "c1-large-x86"
	reserve := func(project, size string, amount int) *Reservation {
		return &Reservation{Size: size, Project: project, Partitions: []string{"fra-01"}, Amount: amount}
	}
	// As recorded: res-a, res-b, res-c, and one without an id (exchanges-2, 335-340).
	recorded := []*Reservation{reserve("a", small, 4), reserve("b", small, 2), reserve("b", large, 1), reserve("a", small, 1)}
	for name, c := range map[string]struct {
		size                string
		free                int
		project             string
		all                 []*Reservation
		allocated           map[string]int
		available, reserved int
	}{
		"nothing is reserved":                      {small, 3, "a", nil, map[string]int{"a": 7}, 3, 0},
		"as recorded, for no project (2/361)":      {small, 3, "", recorded, map[string]int{"a": 2, "b": 1}, 0, 3},
		"as recorded, for a (2/362)":               {small, 3, "a", recorded, map[string]int{"a": 2, "b": 1}, 2, 1},
		"as recorded, for b (2/376)":               {small, 3, "b", recorded, map[string]int{"a": 2, "b": 1}, 1, 2},
		"the last one, for its project (2/364)":    {large, 1, "b", recorded, nil, 1, 0},
		"the last one, for another (2/365)":        {large, 1, "a", recorded, nil, 0, 1},
		"all of the size (338)":                    {large, 2, "a", []*Reservation{reserve("b", large, 2)}, nil, 0, 2},
		"more than there is (2/375)":               {small, 3, "c", []*Reservation{reserve("a", small, 6)}, map[string]int{"a": 2}, 0, 3},
		"more than there is, for its project":      {small, 3, "a", []*Reservation{reserve("a", small, 6)}, map[string]int{"a": 2}, 3, 0},
		"beyond the own":                           {small, 5, "a", []*Reservation{reserve("a", small, 1), reserve("b", small, 2)}, nil, 3, 2},
		"used up by another":                       {small, 2, "a", []*Reservation{reserve("b", small, 2)}, map[string]int{"b": 2}, 2, 0},
		"what another has too many frees no other": {small, 2, "a", []*Reservation{reserve("b", small, 2), reserve("c", small, 1)}, map[string]int{"b": 4}, 1, 1},
		"two of one project are not added up":      {small, 4, "a", []*Reservation{reserve("a", small, 1), reserve("a", small, 2), reserve("b", small, 9)}, nil, 2, 2},
		"of another partition":                     {small, 2, "a", []*Reservation{{Size: small, Project: "b", Partitions: []string{"fra-02"}, Amount: 2}}, nil, 2, 0},
		"nothing is free":                          {small, 0, "a", recorded, nil, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			capacity := Capacity{Partition: "fra-01", Size: c.size, Free: c.free}
			available, reserved := capacity.AvailableTo(c.project, c.all, func(project string) int { return c.allocated[project] })
			require.Equal(t, []int{c.available, c.reserved}, []int{available, reserved})
		})
	}
}
