// SPDX-License-Identifier: Apache-2.0

package metal

import (
	"slices"
	"time"
)

// Steps returns the provisioning events of the machine's allocation, the newest first, without
// signs of life. The metal-api's log keeps those of earlier allocations: an old `Phoned Home` lies
// below the last `Waiting`. They may be those of the fact, and must not be changed.
func (m *Machine) Steps() []Event {
	if m.Allocation == nil {
		return nil
	}
	// The answer of the allocate call carries nanoseconds, and every later read milliseconds.
	created := m.Allocation.Created.Truncate(time.Millisecond)
	isStep := func(e Event) bool { return e.Event != EventAlive && !e.Time.Before(created) }
	n := 0
	for n < len(m.Events) && isStep(m.Events[n]) && (n == 0 || !m.Events[n].Time.After(m.Events[n-1].Time)) {
		n++
	}
	if !slices.ContainsFunc(m.Events[n:], isStep) {
		return m.Events[:n:n]
	}
	var steps []Event
	for _, e := range m.Events {
		if isStep(e) {
			steps = append(steps, e)
		}
	}
	slices.SortStableFunc(steps, func(a, b Event) int { return b.Time.Compare(a.Time) })
	return steps
}

// LastPhonedHome returns the place of the newest `Phoned Home` among steps, or -1.
func LastPhonedHome(steps []Event) int {
	return slices.IndexFunc(steps, func(e Event) bool { return e.Event == EventPhonedHome })
}

// Reinstallation is how far the reinstallation of a machine is.
type Reinstallation string

const (
	// NotReinstalling: the machine is not reinstalled.
	NotReinstalling Reinstallation = ""
	// ReinstallMarked: the metal-api has it marked, and its operating system still runs.
	ReinstallMarked Reinstallation = "Marked"
	// ReinstallInstalling: it has left its operating system, and has not phoned home since.
	ReinstallInstalling Reinstallation = "Installing"
)

// Reinstallation returns how far the reinstallation of the machine is, of which steps are the
// steps. The mark goes with the report of the installer, before the machine phones home.
func (m *Machine) Reinstallation(steps []Event) Reinstallation {
	switch {
	case m.Allocation == nil:
	case m.Allocation.Reinstall && len(steps) > 0 && steps[0].Event == EventPhonedHome:
		return ReinstallMarked
	case m.Allocation.Reinstall || isInstalledAgain(steps):
		return ReinstallInstalling
	}
	return NotReinstalling
}

// isInstalledAgain reports whether the steps since the last `Phoned Home` are those of one
// installation, which has begun. The metal-api shows a crash loop until its end, because
// `PXE Booting` after `Phoned Home` is unexpected to it. A step that is repeated, and a crash, are
// none of an installation.
func isInstalledAgain(steps []Event) bool {
	home := LastPhonedHome(steps)
	if home <= 0 || installationStep(steps[0].Event) < installationStep(EventInstalling) {
		return false
	}
	for i, e := range steps[:home] {
		n := installationStep(e.Event)
		if n == 0 || i > 0 && n >= installationStep(steps[i-1].Event) {
			return false
		}
	}
	return true
}

// installationStep is the place of an event among the steps of an installation, or 0.
func installationStep(event string) int {
	return slices.Index(installationSteps[:], event) + 1
}

var installationSteps = [...]string{
	EventPlannedReboot, "PXE Booting", "Preparing", "Registering", EventWaiting, EventInstalling, "Booting New Kernel",
}
