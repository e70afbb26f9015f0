// SPDX-License-Identifier: Apache-2.0

package metal

import "time"

// IssueKind is something about a machine that an operator of metal-stack looks after.
type IssueKind string

// The kinds of issues, as far as they can be told from what is observed anyway. All but
// IssueDuplicateAddress are the metal-api's, too (`metalctl machine issues`).
const (
	// IssueCrashLoop: provisioning repeatedly restarts at an earlier step.
	IssueCrashLoop IssueKind = "CrashLoop"
	// IssueFailedReclaim: an earlier release did not finish.
	IssueFailedReclaim IssueKind = "FailedReclaim"
	// IssueDead and IssueSilent: it has sent no event for minutes.
	IssueDead   IssueKind = "Dead"
	IssueSilent IssueKind = "Silent"
	// IssueLastEventError: an event did not fit the one before it, and the machine has not phoned
	// home since. The metal-api's issue lasts for a week, whatever follows.
	IssueLastEventError IssueKind = "LastEventError"
	// IssueDuplicateAddress: another machine has one of its addresses in the same network.
	IssueDuplicateAddress IssueKind = "DuplicateAddress"
	// IssueDuplicateASN: it is a firewall, and another firewall has its autonomous system number.
	IssueDuplicateASN IssueKind = "DuplicateASN"
)

// IssueKinds are all of them, the worst first.
var IssueKinds = []IssueKind{
	IssueCrashLoop, IssueFailedReclaim, IssueDead, IssueSilent, IssueLastEventError, IssueDuplicateAddress, IssueDuplicateASN,
}

// Duplicates are what another machine has, too.
type Duplicates struct {
	Addresses []string
	ASNs      []int64
}

// Issues returns the issues of a machine that is allocated, of which steps are the steps, the worst
// first. While it is installed again, it has no crash loop and no last error, whatever the metal-api
// shows.
func (m *Machine) Issues(steps []Event, reinstallation Reinstallation, d Duplicates) []IssueKind {
	if m.Allocation == nil {
		return nil
	}
	var issues []IssueKind
	installing := reinstallation == ReinstallInstalling
	if m.CrashLoop && !installing {
		issues = append(issues, IssueCrashLoop)
	}
	if m.FailedMachineReclaim {
		issues = append(issues, IssueFailedReclaim)
	}
	switch m.Liveliness {
	case LivelinessDead:
		issues = append(issues, IssueDead)
	case LivelinessUnknown:
		issues = append(issues, IssueSilent)
	}
	// The last error is part of a crash loop.
	if !m.CrashLoop && !installing && m.hasLastError(steps) {
		issues = append(issues, IssueLastEventError)
	}
	if len(d.Addresses) > 0 {
		issues = append(issues, IssueDuplicateAddress)
	}
	if len(d.ASNs) > 0 {
		issues = append(issues, IssueDuplicateASN)
	}
	return issues
}

// AllocationError returns the last error if it is of the machine's allocation, or nil: an error of
// an earlier allocation may be another project's.
func (m *Machine) AllocationError() *Event {
	if m.Allocation == nil || m.LastError == nil || m.LastError.Time.Before(m.Allocation.Created.Truncate(time.Millisecond)) {
		return nil
	}
	return m.LastError
}

// hasLastError reports whether the last error is of the machine's allocation, and none of the
// steps since is `Phoned Home`.
func (m *Machine) hasLastError(steps []Event) bool {
	e := m.AllocationError()
	if e == nil {
		return false
	}
	home := LastPhonedHome(steps)
	return home < 0 || steps[home].Time.Before(e.Time)
}
