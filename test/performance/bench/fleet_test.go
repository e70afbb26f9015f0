// SPDX-License-Identifier: Apache-2.0

// Package bench measures the whole server, over HTTP, against a simulator that
// takes as long to answer as the real metal-api. docs/benchmarks.md holds the
// figures and says how to get them.
package bench

import (
	"fmt"
	"testing"

	"github.com/metal-stack/metal-go/api/client/network"
	"github.com/metal-stack/metal-go/api/models"
	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator/simtest"
)

// perProject is how many machines each project, and so each namespace, holds.
const perProject = 100

// fleet is a data centre in which every machine is allocated, a hundred to a
// project, phoned home and at rest.
type fleet struct {
	*simtest.Server
	projects []string
	machines map[string][]string // ids by project
}

func newFleet(tb testing.TB, machines int) *fleet {
	tb.Helper()
	d := simulator.DefaultDataCentre(machines)
	f := &fleet{machines: map[string][]string{}}
	for i := range machines / perProject {
		id := fmt.Sprintf("20000000-0000-4000-8000-%012d", i)
		f.projects = append(f.projects, id)
		d.Projects = append(d.Projects, simulator.Project{ID: id, Name: fmt.Sprintf("project-%d", i), Tenant: d.Tenants[0].ID})
	}
	f.Server = simtest.Start(tb, simulator.Config{DataCentre: d, Seed: 1})
	next := f.Sim.Inventory().Machines
	for _, project := range f.projects {
		networks := map[string]string{} // by partition
		for range perProject {
			m := next[0]
			next = next[1:]
			net := networks[m.Partition]
			if net == "" {
				resp, err := f.Client.Network().AllocateNetwork(network.NewAllocateNetworkParams().WithBody(
					&models.V1NetworkAllocateRequest{Projectid: project, Partitionid: m.Partition, Name: "nodes"}), nil)
				require.NoError(tb, err)
				net = *resp.Payload.ID
				networks[m.Partition] = net
			}
			id, err := f.Sim.AllocateFor(simulator.AllocateRequest{ID: m.ID, Project: project, Name: "node", Hostname: "node",
				Size: m.Size, Partition: m.Partition, Image: simulator.MachineImage, Networks: []string{net}})
			require.NoError(tb, err)
			require.NoError(tb, f.Sim.PhoneHome(id))
			f.machines[project] = append(f.machines[project], id)
		}
	}
	f.Sim.SetCosts(true)
	f.Sim.ResetCalls()
	return f
}
