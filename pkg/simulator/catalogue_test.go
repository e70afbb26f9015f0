// SPDX-License-Identifier: Apache-2.0

package simulator_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// networkFor allocates a private network.
func networkFor(t *testing.T, r *replay, project string) string {
	t.Helper()
	id, err := r.sim.AllocateNetworkFor(project, simulator.DefaultPartition, "net", nil)
	require.NoError(t, err)
	return id
}

func TestReserveSize_KeepsMachinesForProject(t *testing.T) {
	t.Parallel()
	r := laboratory(t, simulator.Config{})
	allocate := func(project string) error {
		_, err := r.sim.AllocateFor(simulator.AllocateRequest{
			Project: project, Name: "x", Size: simulator.LargeSize, Partition: simulator.DefaultPartition,
			Networks: []string{networkFor(t, r, project)},
		})
		return err
	}
	id, err := r.sim.ReserveSize(simulator.ProjectB, simulator.LargeSize, simulator.DefaultPartition, 2)
	require.NoError(t, err)
	require.EqualError(t, allocate(simulator.ProjectA), "no machine available")
	require.NoError(t, allocate(simulator.ProjectB))
	require.EqualError(t, allocate(simulator.ProjectA), "no machine available")
	require.NoError(t, r.sim.EndReservation(id))
	require.NoError(t, allocate(simulator.ProjectA))
	_, err = r.sim.ReserveSize(simulator.ProjectB, "nope", simulator.DefaultPartition, 2)
	require.Error(t, err)
}

func TestConstrainImages_RefusesOtherVersions(t *testing.T) {
	t.Parallel()
	r := laboratory(t, simulator.Config{})
	network := networkFor(t, r, simulator.ProjectA)
	allocate := func(image string) error {
		id, err := r.sim.AllocateFor(simulator.AllocateRequest{
			Project: simulator.ProjectA, Name: "x", Size: simulator.SmallSize, Partition: simulator.DefaultPartition, Image: image, Networks: []string{network},
		})
		if err == nil {
			require.NoError(t, r.sim.ForceFree(id))
			require.NoError(t, r.sim.Recycle(id))
		}
		return err
	}
	for constraint, allowed := range map[string][2]bool{
		">= 24.04.20260101": {false, true}, "> 24.04.20250701": {false, true}, "= 24.04.20250701": {true, false}, "*": {true, true},
		"< 24.04.20260101": {true, false}, "<= 24.04": {false, false}, "!= 24.04.20260101": {true, false},
	} {
		require.NoError(t, r.sim.ConstrainImages(simulator.SmallSize, map[string]string{"ubuntu": constraint, "debian": "> 99"}))
		for i, image := range []string{"ubuntu-24.04.20250701", "ubuntu-24.04.20260101"} {
			if err := allocate(image); allowed[i] {
				assert.NoError(t, err, "%s %s", constraint, image)
			} else {
				assert.ErrorContains(t, err, "does violate image constraint:ubuntu", "%s %s", constraint, image)
			}
		}
	}
	require.Error(t, r.sim.ConstrainImages(simulator.SmallSize, map[string]string{"ubuntu": ">=24.04"}))
	require.NoError(t, r.sim.ConstrainImages(simulator.SmallSize, map[string]string{"debian": "> 99"}))
	require.NoError(t, allocate("ubuntu-24.04.20250701"), "an operating system that is not named is not restricted")
	require.NoError(t, r.sim.ConstrainImages(simulator.SmallSize, nil))
	require.Equal(t, "[]", string(r.send(t, request{user: "Metal-View", method: "GET", path: "/v1/size-image-constraint"}).body))
}

func TestCatalogueControls_ShowInAnswers(t *testing.T) {
	t.Parallel()
	r := laboratory(t, simulator.Config{})
	require.NoError(t, r.sim.SetQuota(simulator.ProjectA, new(int32(3)), nil))
	quotas := r.must(t, "GET", "/v1/project/"+simulator.ProjectA, nil)["quotas"].(object)
	require.Equal(t, "3", quotas["machine"].(object)["quota"].(interface{ String() string }).String())
	require.NotContains(t, quotas["ip"], "quota")
	require.NoError(t, r.sim.SetQuota(simulator.ProjectA, nil, nil))
	require.Error(t, r.sim.SetQuota("nope", nil, nil))

	require.NoError(t, r.sim.ExpireImage("ubuntu-24.04.20260101", time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)))
	require.Equal(t, "2020-01-02T03:04:05Z", r.must(t, "GET", "/v1/image/ubuntu-24.04/latest", nil)["expirationDate"])
	require.NoError(t, r.sim.RemoveImage("ubuntu-24.04.20260101"))
	require.Equal(t, "ubuntu-24.04.20250701", r.must(t, "GET", "/v1/image/ubuntu-24.04/latest", nil)["id"])

	r.sim.AddSize(simulator.Size{ID: "g1-gpu", GPUs: []simulator.SizeGPU{{Model: "H100*", Min: 8, Max: 8}}})
	require.Len(t, r.must(t, "GET", "/v1/size/g1-gpu", nil)["constraints"], 4)
	r.sim.AddPartition(simulator.Partition{ID: "fra-09"})
	require.Equal(t, "fra-09", r.must(t, "GET", "/v1/partition/fra-09", nil)["id"])
	r.sim.AddProject(simulator.Project{ID: "10000000-0000-4000-8000-00000000000d", Name: "team-d", Tenant: simulator.DefaultTenant})
	require.Equal(t, "team-d", r.must(t, "GET", "/v1/project/10000000-0000-4000-8000-00000000000d", nil)["name"])
}
