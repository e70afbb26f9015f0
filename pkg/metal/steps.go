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
	// ReinstallMarked: the metal-api has it marked, and the installation has not begun.
	ReinstallMarked Reinstallation = "Marked"
	// ReinstallInstalling: it has left its operating system, and has not phoned home since.
	ReinstallInstalling Reinstallation = "Installing"
	// ReinstallCrashLoop: the metal-api has it marked, and it crashed, or returned to an earlier
	// step, since it phoned home last.
	ReinstallCrashLoop Reinstallation = "CrashLoop"
)

// Reinstallation returns how far the reinstallation of the machine is, of which steps are the
// steps. requested is when it was requested last, zero if that is not known: a crash before it is
// none of the installation. The mark goes with the report of the installer, before the machine
// phones home.
func (m *Machine) Reinstallation(steps []Event, requested time.Time) Reinstallation {
	if m.Allocation == nil {
		return NotReinstalling
	}
	home := LastPhonedHome(steps)
	if len(steps) == 0 || home == 0 {
		if m.Allocation.Reinstall {
			return ReinstallMarked
		}
		return NotReinstalling
	}
	begun := steps
	if home > 0 {
		begun = steps[:home]
	}
	recent := begun[:countAfter(begun, requested)]
	switch {
	case m.Allocation.Reinstall && (isInstallation(begun) || isInstallation(recent)):
		return ReinstallInstalling
	case m.Allocation.Reinstall && len(recent) == 0:
		return ReinstallMarked
	case m.Allocation.Reinstall:
		return ReinstallCrashLoop
	case home < 0 && requested.IsZero():
		// It is the first installation.
	case begun[0].Event == eventBootingNewKernel && isInstallation(sinceBoot(begun)),
		begun[0].Event == EventInstalling && (isInstallation(begun) || isInstallation(recent)):
		return ReinstallInstalling
	}
	return NotReinstalling
}

// countAfter returns how many of steps, the newest first, were taken after a time.
func countAfter(steps []Event, t time.Time) int {
	n := 0
	for n < len(steps) && steps[n].Time.After(t) {
		n++
	}
	return n
}

// sinceBoot returns steps without those before the last boot.
func sinceBoot(steps []Event) []Event {
	for i, e := range steps {
		if n := installationStep(e.Event); n > 0 && n <= bootStep {
			return steps[:i+1]
		}
	}
	return steps
}

// isInstallation reports whether steps, the newest first, are those of an installation. The
// metal-api shows a crash loop until its end, because `PXE Booting` after `Phoned Home` is unexpected
// to it. It may have begun again once, as after a second request; a crash is none of it.
func isInstallation(steps []Event) bool {
	restarts, next := 0, 0
	for _, e := range steps {
		n := installationStep(e.Event)
		switch {
		case n == 0:
			return false
		case next == 0 || n < next || n == next && e.Event == EventPlannedReboot:
		case next > bootStep:
			return false
		default:
			restarts++
		}
		next = n
	}
	return len(steps) > 0 && restarts <= 1
}

// installationStep is the place of an event among the steps of an installation, or 0.
func installationStep(event string) int {
	return slices.Index(installationSteps[:], event) + 1
}

const (
	eventPXEBooting       = "PXE Booting"
	eventBootingNewKernel = "Booting New Kernel"
)

var (
	installationSteps = [...]string{
		EventPlannedReboot, eventPXEBooting, "Preparing", "Registering", EventWaiting, EventInstalling, eventBootingNewKernel,
	}
	// bootStep is the last one with which a boot begins.
	bootStep = installationStep(eventPXEBooting)
)
