package metal

// Scope is what a read is about to see. For one object it names just that
// object's metal; for a namespace its project and the metal of its objects.
type Scope struct {
	// Fleet: every machine that is shown.
	Fleet bool
	// Project: the machines of one project. Machines that nobody knows yet are
	// discovered by it only where a find costs little; otherwise by the sweep.
	Project string
	// Machines, Networks and IPs are ids and addresses.
	Machines, Networks, IPs []string
}
