// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"fmt"

	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// Team is a namespace, and the project that it is bound to.
type Team struct{ Namespace, Project string }

// AddTeams adds so many projects to the data centre. Bind makes the namespaces,
// and binds them.
func (o *Options) AddTeams(n int) []Team {
	if o.Simulator.DataCentre == nil {
		o.Simulator.DataCentre = simulator.DefaultDataCentre(8)
	}
	var teams []Team
	for i := range n {
		team := Team{Namespace: fmt.Sprintf("team-%d", i), Project: fmt.Sprintf("20000000-0000-4000-8000-%012d", i)}
		teams = append(teams, team)
		o.Simulator.DataCentre.Projects = append(o.Simulator.DataCentre.Projects, simulator.Project{
			ID: team.Project, Name: team.Namespace, Tenant: simulator.DefaultTenant,
		})
	}
	return teams
}
