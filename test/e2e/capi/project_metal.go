// SPDX-License-Identifier: Apache-2.0

package capi

import (
	"fmt"
	"slices"
	"strings"

	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// ProjectMetal is what a project has in the metal-api, by the metal-api's own
// inventory.
type ProjectMetal struct {
	site    *Site
	project string
}

// ProjectMetal is that of a project.
func (s *Site) ProjectMetal(project string) ProjectMetal { return ProjectMetal{s, project} }

// Inventory lists all that the project holds now, one a line.
func (p ProjectMetal) Inventory() string {
	inventory := p.site.Metal.Sim.Inventory()
	var lines []string
	for _, m := range inventory.AllocatedIn(p.project) {
		lines = append(lines, fmt.Sprintf("%s %s %s %v", m.Role, m.ID, m.AllocationUUID, m.Tags))
	}
	for _, n := range inventory.Networks {
		if n.Project == p.project {
			lines = append(lines, fmt.Sprintf("network %s %v", n.ID, n.Labels))
		}
	}
	for _, ip := range inventory.IPs {
		if ip.Project == p.project {
			lines = append(lines, fmt.Sprintf("ip %s %v", ip.Address, ip.Tags))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// Machines are the allocated machines that are no firewalls, by id, with their
// allocations.
func (p ProjectMetal) Machines() map[string]string {
	held := map[string]string{}
	for _, m := range p.site.Metal.Sim.Inventory().AllocatedIn(p.project) {
		if m.Role == "machine" {
			held[m.ID] = m.AllocationUUID
		}
	}
	return held
}

// Account is what happened to a project's machines since a moment.
type Account struct {
	// Allocated and Freed count.
	Allocated, Freed int
	// Most is how many were held at the same time.
	Most int
}

// Mark is the moment now.
func (p ProjectMetal) Mark() int { return len(p.site.Metal.Sim.Inventory().History) }

// Since is the account of the project's machines, or firewalls, since a mark.
func (p ProjectMetal) Since(mark int, kind string) Account {
	var a Account
	held := 0
	for i, operation := range p.site.Metal.Sim.Inventory().History {
		if operation.Project != p.project || operation.Kind != kind {
			continue
		}
		change := 1
		if operation.Verb == "free" {
			change = -1
		}
		held += change
		if i < mark {
			a.Most = held
			continue
		}
		a.Most = max(a.Most, held)
		if change > 0 {
			a.Allocated++
		} else {
			a.Freed++
		}
	}
	return a
}

// Projects are the ones of the data centre that DataCentre makes, one for each
// test that runs beside others.
var Projects = []string{
	simulator.ProjectA, simulator.ProjectB,
	"10000000-0000-4000-8000-00000000000c", "10000000-0000-4000-8000-00000000000d",
	"10000000-0000-4000-8000-00000000000e", "10000000-0000-4000-8000-00000000000f",
	"10000000-0000-4000-8000-000000000010", "10000000-0000-4000-8000-000000000011",
	"10000000-0000-4000-8000-000000000012", "10000000-0000-4000-8000-000000000013",
	"10000000-0000-4000-8000-000000000014", "10000000-0000-4000-8000-000000000015",
}

// RareSize is a size of which a DataCentre has one machine.
const RareSize = "m1-medium-x86"

// DataCentre is the simulator's default one, with all Projects and a machine of
// RareSize.
func DataCentre(machines int) *simulator.DataCentre {
	const gib = 1 << 30
	d := simulator.DefaultDataCentre(machines)
	d.Sizes = append(d.Sizes, simulator.Size{
		ID: RareSize, Name: RareSize, MinCores: 8, MaxCores: 8,
		MinMemory: 16 * gib, MaxMemory: 32 * gib, MinStorage: 101 * gib, MaxStorage: 199 * gib,
		Hardware: simulator.SizeHardware{
			Memory: 32 * gib, Vendor: "GenuineIntel", CPU: "Intel Xeon D-2141I", Cores: 8, Threads: 16,
			Disks: []string{"/dev/sda"}, DiskSize: 150 * gib,
		},
	})
	d.FilesystemLayouts[0].Sizes = append(d.FilesystemLayouts[0].Sizes, RareSize)
	d.Machines = append(d.Machines, simulator.Machine{Partition: Partition, Rack: Partition + "-rack-01", Size: RareSize, Number: machines + 1, Port: 16})
	for _, id := range Projects[2:] {
		d.Projects = append(d.Projects, simulator.Project{ID: id, Name: id[len(id)-1:], Tenant: simulator.DefaultTenant})
	}
	return d
}
