package infrastructure

// Phases that are ours; all others are the metal-api's provisioning events.
const (
	// PhasePending: nothing was asked of the metal-api yet.
	PhasePending = "Pending"
	// PhaseAllocating: an allocate call is under way, or the machine has been
	// allocated and sent no event of this allocation yet.
	PhaseAllocating = "Allocating"
	// PhaseReleasing: the metal is being given back.
	PhaseReleasing = "Releasing"
	// PhaseReleased: the metal was given back.
	PhaseReleased = "Released"
	// PhaseGone: the allocation ended without our doing.
	PhaseGone = "Gone"
	// PhaseUnknown: the server has not looked at the metal since it started.
	PhaseUnknown = "Unknown"
)

// PhasePhonedHome is the provisioning event that a machine's way ends with: its
// operating system is up and reports.
const PhasePhonedHome = "Phoned Home"

// What the metal-api knows of a machine's being alive.
const (
	// LivelinessAlive: it sent an event within the last minutes.
	LivelinessAlive = "Alive"
	// LivelinessUnknown: it is allocated, and has been silent for longer.
	LivelinessUnknown = "Unknown"
	// LivelinessDead: it is not allocated, and has been silent for longer.
	LivelinessDead = "Dead"
)
