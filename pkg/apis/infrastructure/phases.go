// SPDX-License-Identifier: Apache-2.0

package infrastructure

// Phases of this API; all others are the metal-api's provisioning events.
const (
	// PhasePending: no allocation was requested yet.
	PhasePending = "Pending"
	// PhaseAllocating: an allocate call is in flight, or the machine is allocated and
	// has sent no event of this allocation yet.
	PhaseAllocating = "Allocating"
	// PhaseReleasing: the metal is being released.
	PhaseReleasing = "Releasing"
	// PhaseReleased: the metal was released.
	PhaseReleased = "Released"
	// PhaseGone: the allocation ended without a release by this server.
	PhaseGone = "Gone"
	// PhaseUnknown: the API server has not observed the metal since it started.
	PhaseUnknown = "Unknown"
)

// PhasePhonedHome is the last provisioning event of a machine: its operating system
// runs and reports.
const PhasePhonedHome = "Phoned Home"

// The liveliness of a machine, as the metal-api reports it.
const (
	// LivelinessAlive: it sent an event within the last minutes.
	LivelinessAlive = "Alive"
	// LivelinessUnknown: it is allocated, and has been silent for longer.
	LivelinessUnknown = "Unknown"
	// LivelinessDead: it is not allocated, and has been silent for longer.
	LivelinessDead = "Dead"
)
