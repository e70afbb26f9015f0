// SPDX-License-Identifier: Apache-2.0

package metal

// Scope is what a read covers. For one object it names just that object's metal; for
// a namespace its project and the metal of its objects.
type Scope struct {
	// Fleet: every machine that is shown.
	Fleet bool
	// Capacities: how many machines there are of each size in each partition, which only a list
	// of all machines shows.
	Capacities bool
	// Project: the machines of one project. Unknown machines are discovered by a
	// refresh of it only where a find costs little; otherwise by the next sweep.
	Project string
	// ProjectNetworks: the networks of one project, and those of no project or shared, which it
	// can use. ProjectIPs: the addresses of one project. AllNetworks and AllIPs: those of all.
	ProjectNetworks, ProjectIPs string
	AllNetworks, AllIPs         bool
	// Machines, Networks and IPs are ids and addresses.
	Machines, Networks, IPs []string
}
