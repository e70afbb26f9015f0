// SPDX-License-Identifier: Apache-2.0

package metal

import "time"

// Size is a kind of machine.
type Size struct {
	ID          string
	Name        string
	Description string
	Constraints []SizeConstraint
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
	ConstraintCores  = "cores"
	ConstraintMemory = "memory"
	ConstraintGPU    = "gpu"
)

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
}
