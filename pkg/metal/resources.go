// SPDX-License-Identifier: Apache-2.0

package metal

import "time"

// Size is a kind of machine.
type Size struct {
	ID          string
	Name        string
	Description string
	Constraints []SizeConstraint
	Created     time.Time
}

// SizeConstraint is one thing that the hardware of a size has: Type is cores,
// memory (bytes), storage (bytes) or gpu (Identifier says which).
type SizeConstraint struct {
	Type       string
	Identifier string
	Min, Max   int64
}

// The types of constraints that say what a size offers.
const (
	ConstraintCores   = "cores"
	ConstraintMemory  = "memory"
	ConstraintStorage = "storage"
	ConstraintGPU     = "gpu"
)

// SizeImageConstraint is which images machines of a size can be installed with: the versions,
// such as `>= 24.04`, by operating system. An operating system that is not named is not
// restricted.
type SizeImageConstraint struct {
	Size   string
	Images map[string]string
}

// Image is an operating system image with its full id, os-major.minor.patch.
type Image struct {
	ID string
	// Alias is the id without the patch, which means the newest of them.
	Alias          string
	Name           string
	Description    string
	Features       []string // FeatureMachine, FeatureFirewall
	Classification string   // preview, supported, deprecated
	Expires        time.Time
	Created        time.Time
}

// The features of images.
const (
	FeatureMachine  = "machine"
	FeatureFirewall = "firewall"
)

// Partition is one location with racks and a network fabric.
type Partition struct {
	ID          string
	Name        string
	Description string
	Labels      map[string]string
	Created     time.Time
}

// Project is a project of the metal-api, to which metal is allocated.
type Project struct {
	ID          string
	Name        string
	Description string
	Tenant      string
	// Machines counts machines and firewalls, Addresses all addresses.
	Machines, Addresses Quota
	Created             time.Time
}

// Quota is how much of something a project may allocate, and how much of it is used. Whether
// the limit is enforced depends on the metal-api's version (docs/metal-api.md, Q71).
type Quota struct {
	// Limit is nil if there is none, and if it is zero: answers do not distinguish them.
	Limit *int64
	// Used is nil if it is not known: only a get of a project shows it.
	Used *int64
}
