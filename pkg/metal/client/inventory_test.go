// SPDX-License-Identifier: Apache-2.0

package client

import (
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/metal/internal/metaltest"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// answered is a client to which one recorded answer is given.
func answered(t *testing.T, number string) *Client {
	t.Helper()
	all := recorded(t)
	i := slices.IndexFunc(all, func(r recording) bool { return r.number == number })
	require.GreaterOrEqual(t, i, 0, "no recording %s", number)
	return (&answering{status: all[i].Status, body: all[i].Body}).client(t)
}

func TestListProjects_AsRecorded(t *testing.T) {
	t.Parallel()
	projects, err := answered(t, "2/602").ListProjects(t.Context())
	require.NoError(t, err)
	require.Equal(t, []*metal.Project{
		{ID: simulator.ProjectA, Name: "team-a", Description: "project of team a", Tenant: "acme", Created: time.Date(2026, 11, 28, 16, 50, 8, 697e6, time.UTC)},
		{ID: simulator.ProjectB, Name: "team-b", Description: "project of team b", Tenant: "acme", Created: time.Date(2026, 11, 28, 16, 50, 8, 747e6, time.UTC)},
	}, projects)

	projects, err = answered(t, "2/601").ListProjects(t.Context())
	require.NoError(t, err, "no project at all is answered with null")
	require.Empty(t, projects)
}

func TestProject_ShowsLimitsAndUseAsRecorded(t *testing.T) {
	t.Parallel()
	for number, want := range map[string]struct{ machines, addresses metal.Quota }{
		"2/598": {metal.Quota{Used: new(int64(3))}, metal.Quota{Used: new(int64(4))}},
		"2/604": {metal.Quota{Limit: new(int64(8)), Used: new(int64(3))}, metal.Quota{Limit: new(int64(20)), Used: new(int64(4))}},
		"043":   {metal.Quota{Used: new(int64(0))}, metal.Quota{Used: new(int64(0))}},
	} {
		p, err := answered(t, number).Project(t.Context(), simulator.ProjectB)
		require.NoError(t, err, number)
		require.Equal(t, want.machines, p.Machines, number)
		require.Equal(t, want.addresses, p.Addresses, number)
	}
	_, err := answered(t, "2/607").Project(t.Context(), metaltest.NoSuchID)
	require.True(t, metal.IsNotFound(err), "%v", err)
}

func TestListReservations_AsRecorded(t *testing.T) {
	t.Parallel()
	reservations, err := answered(t, "2/348").ListReservations(t.Context())
	require.NoError(t, err)
	require.Len(t, reservations, 4)
	require.Contains(t, reservations, &metal.Reservation{
		ID: "res-a", Size: simulator.SmallSize, Project: simulator.ProjectA, Partitions: []string{simulator.DefaultPartition}, Amount: 4,
	})
	reservations, err = answered(t, "2/384").ListReservations(t.Context())
	require.NoError(t, err)
	require.Empty(t, reservations)
}

func TestListSizeImageConstraints_AsRecorded(t *testing.T) {
	t.Parallel()
	constraints, err := answered(t, "2/638").ListSizeImageConstraints(t.Context())
	require.NoError(t, err)
	require.Equal(t, []*metal.SizeImageConstraint{
		{Size: simulator.SmallSize, Images: map[string]string{"ubuntu": ">= 24.04.20260101", "firewall-ubuntu": "*"}},
	}, constraints)
	constraints, err = answered(t, "2/393").ListSizeImageConstraints(t.Context())
	require.NoError(t, err)
	require.Equal(t, []*metal.SizeImageConstraint{{Size: simulator.LargeSize}}, constraints, "one that restricts nothing")
}

func TestListLayouts_AsRecorded(t *testing.T) {
	t.Parallel()
	layouts, err := answered(t, "2/006").ListLayouts(t.Context())
	require.NoError(t, err)
	require.Len(t, layouts, 3)
	require.Contains(t, layouts, &metal.FilesystemLayout{
		ID: "default-small", Sizes: []string{simulator.SmallSize}, Images: map[string]string{"ubuntu": "*", "firewall-ubuntu": "*"},
	})
	require.Contains(t, layouts, &metal.FilesystemLayout{ID: "manual-keep"}, "one that is chosen by its id only")
}

func TestInventory_ShowsWhenItWasCreated(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		size, err := e.client.ListSizes(t.Context())
		require.NoError(t, err)
		image, err := e.client.ListImages(t.Context())
		require.NoError(t, err)
		partition, err := e.client.ListPartitions(t.Context())
		require.NoError(t, err)
		network, err := e.client.Network(t.Context(), simulator.InternetNetwork)
		require.NoError(t, err)
		for _, created := range []time.Time{size[0].Created, image[0].Created, partition[0].Created, network.Created} {
			require.WithinDuration(t, time.Now(), created, time.Second)
		}
		require.Equal(t, []string{"0.0.0.0/0", "::/0"}, network.DestinationPrefixes)
		require.NotEmpty(t, network.Description)
	})
}

func TestListProjects_OfBrokenAnswerIsUnavailable(t *testing.T) {
	t.Parallel()
	for _, body := range []string{`[{"name":"no id"}]`, `[{"meta":{}}]`, `[null]`, `{`, ``} {
		projects, err := (&answering{status: http.StatusOK, body: []byte(body)}).client(t).ListProjects(t.Context())
		require.Equal(t, metal.Unavailable, metal.KindOf(err), body)
		require.Nil(t, projects)
	}
}
