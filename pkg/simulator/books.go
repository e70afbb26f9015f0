package simulator

import "time"

// Books are the simulator's own accounts, for invariants in tests: not what
// an endpoint answers, but what is so.
type Books struct {
	Machines []MachineAccount
	Networks []NetworkAccount
	IPs      []IPAccount
	// History is every allocation and free ever made, in order.
	History []Deed
}

// MachineAccount is one machine with its allocation, if it has one.
type MachineAccount struct {
	ID, Partition, Rack, Size string
	Liveliness, State         string
	LastEvent                 string
	Allocated                 bool
	AllocationUUID            string
	Project, Name, Hostname   string
	Role                      string
	Image                     string
	Tags                      []string
	IPs                       []string
	UserData                  string
	Created                   time.Time
}

// NetworkAccount is one network.
type NetworkAccount struct {
	ID, Name, Project, Partition, Parent string
	Prefixes                             []string
	Labels                               map[string]string
	// HalfFreed: some of its prefixes are gone from the ipam, which breaks every list that shows it (511-520).
	HalfFreed bool
}

// IPAccount is one address entity.
type IPAccount struct {
	Address, Network, Project, Type, AllocationUUID string
	Tags                                            []string
}

// Deed is one allocation or free that took effect.
type Deed struct {
	Time time.Time
	// Verb is allocate or free; Kind is machine, firewall, network or ip.
	Verb, Kind string
	// ID is the machine's or network's id or the address.
	ID, AllocationUUID, Project string
	Tags                        []string
	Labels                      map[string]string
	// By is the technical user, or "simulator" for deeds without a request.
	By string
}

// Books returns a copy of the accounts.
func (s *Simulator) Books() Books { return Books{} }

// Allocations counts allocations ever made whose tags or labels contain
// tag ("key=value" or, for plain tags, the whole tag).
func (b Books) Allocations(tag string) int { return 0 }

// Frees counts frees likewise.
func (b Books) Frees(tag string) int { return 0 }

// Holding returns the machines that are allocated now and carry tag.
func (b Books) Holding(tag string) []MachineAccount { return nil }

// CallStat sums up the calls of one endpoint since the start or ResetCalls.
type CallStat struct {
	Endpoint string        `json:"endpoint"`
	Calls    int           `json:"calls"`
	Errors   int           `json:"errors"` // answers of 400 and above
	Busy     time.Duration `json:"busy"`   // what the calls cost the metal-api after the cost table, whether or not Costs is on
}

// Calls returns the statistics of every endpoint called, by name.
func (s *Simulator) Calls() []CallStat { return nil }

// CallsOf returns the number of calls of one endpoint.
func (s *Simulator) CallsOf(endpoint string) int { return 0 }

// BusyTime is how long the metal-api was busy with all calls together,
// after the cost table, whether or not Costs is on.
func (s *Simulator) BusyTime() time.Duration { return 0 }

// ResetCalls starts the statistics anew.
func (s *Simulator) ResetCalls() {}
