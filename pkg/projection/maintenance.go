// SPDX-License-Identifier: Apache-2.0

package projection

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// fillMaintenance fills in what is computed of operations and issues of metal that is
// allocated. shown is what was shown last, and before are its conditions.
func (p *MachineLikeProjector) fillMaintenance(s, shown *machineLike, before []metav1.Condition, computed *computedStates) {
	a := *s.status.Allocation
	if a == nil || a.Phase != infrastructure.AllocationAllocated {
		return
	}
	computed.powerRequested = powerRequestedState(*s.status.LastOperation, a, s.steps)
	switch {
	case s.live != nil:
		computed.reinstalling = reinstallingState(s.observed, p.seenFirst(infrastructure.ConditionReinstalling, shown, before, a))
		computed.metalIssues = p.metalIssuesState(s.observed, s.meta.CreationTimestamp.Time, p.seenFirst(infrastructure.ConditionMetalIssues, shown, before, a))
	case s.kept:
		if c := meta.FindStatusCondition(before, infrastructure.ConditionPowerRequested); c != nil && apiequality.Semantic.DeepEqual(*s.status.LastOperation, *shown.status.LastOperation) {
			computed.powerRequested = stateOf(c)
		}
		computed.reinstalling = stateOf(meta.FindStatusCondition(before, infrastructure.ConditionReinstalling))
		computed.metalIssues = stateOf(meta.FindStatusCondition(before, infrastructure.ConditionMetalIssues))
	}
}

// reinstallRequested is when a reinstallation was requested last for the allocation; zero if none
// was.
func (m *machineLike) reinstallRequested() time.Time {
	op, a := *m.status.LastOperation, *m.status.Allocation
	if op == nil || a == nil || op.Action != infrastructure.OperationReinstall || op.Outcome == infrastructure.OperationRefused ||
		op.AllocationUUID != a.AllocationUUID || op.RequestTime == nil {
		return time.Time{}
	}
	return op.RequestTime.Time
}

// seenFirst dates a condition that nothing in metal dates. It is now, if the metal was observed
// before without it, and zero otherwise, so that a restart dates nothing.
func (p *MachineLikeProjector) seenFirst(kind string, shown *machineLike, before []metav1.Condition, a *infrastructure.MachineAllocation) time.Time {
	if shown == nil || meta.FindStatusCondition(before, kind) != nil {
		return time.Time{}
	}
	if m := *shown.status.Metal; m == nil || m.AllocationUUID != a.AllocationUUID || m.Phase == infrastructure.PhaseUnknown {
		return time.Time{}
	}
	return p.Clock.Now()
}

// stateOf is the state of a condition that was shown; it has no status if none was.
func stateOf(c *metav1.Condition) conditionState {
	if c == nil {
		return conditionState{}
	}
	return conditionState{status: c.Status, reason: c.Reason, message: c.Message, since: c.LastTransitionTime.Time}
}

// powerRequestedState is the condition PowerRequested. It has a status if the operation is a power
// action, and was requested for the allocation. steps are those of its machine.
func powerRequestedState(op *infrastructure.MachineOperation, a *infrastructure.MachineAllocation, steps []metal.Event) conditionState {
	if op == nil || op.Action == "" || op.Action == infrastructure.OperationReinstall || op.AllocationUUID != a.AllocationUUID || op.RequestTime == nil {
		return conditionState{}
	}
	s := conditionState{status: metav1.ConditionUnknown, since: op.RequestTime.Time}
	what := fmt.Sprintf("Power action %s was requested by %s at %s", op.Action, strconv.Quote(op.User), op.RequestTime.UTC().Format(time.RFC3339))
	if op.Reason != "" {
		what += fmt.Sprintf(" (%s)", op.Reason)
	}
	quote := func(what string) string {
		if op.Message != "" {
			return what + ": " + op.Message
		}
		return what
	}
	switch op.Outcome {
	case infrastructure.OperationSent:
		s.status, s.reason = metav1.ConditionTrue, infrastructure.ReasonOperationSent
		s.message = what + "; the metal-api sent it to the machine's controller."
		if e := stepAfter(op, steps); e != nil {
			s.reason = infrastructure.ReasonOperationEventObserved
			s.message = fmt.Sprintf("%s; since then, the machine has sent the event %q, at %s.", what, e.Event, e.Time.UTC().Format(time.RFC3339))
		}
	case infrastructure.OperationUncertain:
		s.reason = infrastructure.ReasonOperationUncertain
		s.message = quote(what + "; it is unknown whether the metal-api sent it")
	case infrastructure.OperationRefused:
		s.status, s.reason = metav1.ConditionFalse, infrastructure.ReasonOperationRefused
		s.message = quote(what + "; refused by the metal-api")
	default:
		s.reason = infrastructure.ReasonOperationRequested
		s.message = what + "; the call is about to be made, or its outcome was not recorded."
	}
	return s
}

// stepAfter returns the newest step of a machine since a power action, or nil. `Planned Reboot`
// with a power action as its message is the metal-api's own, of the request.
func stepAfter(op *infrastructure.MachineOperation, steps []metal.Event) *metal.Event {
	for i, e := range steps {
		switch {
		case !e.Time.After(op.RequestTime.Time):
			return nil
		case e.Event == metal.EventPlannedReboot && isPowerAction(e.Message):
			continue
		}
		return &steps[i]
	}
	return nil
}

func isPowerAction(message string) bool {
	switch message {
	case "OFF", "RESET", "CYCLE":
		return true
	}
	return false
}

// reinstallingState is the condition Reinstalling. It has a status while the machine is
// reinstalled. seen dates the mark if it is not of the last request: nothing in metal does.
func reinstallingState(o observed, seen time.Time) conditionState {
	marked := o.requested
	if !seen.IsZero() && (len(o.steps) == 0 || marked.Before(o.steps[0].Time)) {
		marked = seen
	}
	s := conditionState{status: metav1.ConditionTrue, since: marked}
	image, home := o.live.Allocation.Image, metal.LastPhonedHome(o.steps)
	switch o.reinstallation {
	case metal.ReinstallMarked:
		s.reason = infrastructure.ReasonReinstallMarked
		s.message = fmt.Sprintf("The machine is marked for an installation of image %q, and has not begun it: its next boot from the network wipes the disk.", image)
		if home == 0 {
			s.message = fmt.Sprintf("The machine is marked for an installation of image %q, and has not left its operating system: its next boot from the network wipes the disk.", image)
		}
	case metal.ReinstallInstalling:
		s.reason = infrastructure.ReasonReinstallInstalling
		s.message = fmt.Sprintf("Image %q is being installed: phase is %q.", image, phaseOf(o.steps))
		if s.since = notReadySince(o.steps, home, marked); s.since.Before(o.requested) {
			s.since = o.requested
		}
	case metal.ReinstallCrashLoop:
		s.reason = infrastructure.ReasonCrashLoop
		s.message = fmt.Sprintf("The machine is marked for an installation of image %q, and has crashed or returned to an earlier step: phase is %q. Its next boot from the network wipes the disk.", image, phaseOf(o.steps))
	default:
		return conditionState{}
	}
	return s
}

// metalIssuesState is the condition MetalIssues. It has a status while the machine has issues, since
// the first of them. seen dates those that nothing in metal dates.
func (p *MachineLikeProjector) metalIssuesState(o observed, created, seen time.Time) conditionState {
	m := o.live
	var shared metal.Duplicates
	if p.Duplicates != nil {
		shared = p.Duplicates.Duplicates(m)
	}
	issues := m.Issues(o.steps, o.reinstallation, shared)
	if len(issues) == 0 {
		return conditionState{}
	}
	s := conditionState{status: metav1.ConditionTrue, reason: string(issues[0])}
	if len(issues) > 1 {
		s.reason = infrastructure.ReasonSeveralIssues
	}
	var messages []string
	for _, issue := range issues {
		messages = append(messages, string(issue)+": "+issueMessage(issue, m, shared))
		since := issueSince(issue, o, created)
		if since.IsZero() {
			since = seen
		}
		if s.since.IsZero() || !since.IsZero() && since.Before(s.since) {
			s.since = since
		}
	}
	s.message = strings.Join(messages, "; ") + "."
	return s
}

// issueSince is since when a machine has an issue; zero if nothing in metal dates it.
func issueSince(issue metal.IssueKind, o observed, created time.Time) time.Time {
	switch issue {
	case metal.IssueCrashLoop, metal.IssueFailedReclaim:
		if home := metal.LastPhonedHome(o.steps); home != 0 {
			return notReadySince(o.steps, home, created)
		}
	case metal.IssueDead, metal.IssueSilent:
		if o.live.LastEventTime.Before(o.live.Allocation.Created) {
			return o.live.Allocation.Created
		}
		return o.live.LastEventTime
	case metal.IssueLastEventError:
		return o.live.LastError.Time
	}
	return time.Time{}
}

// issueMessage says what an issue is, as `metalctl machine issues` does. Which machine has an
// address or a number, too, must not be disclosed: it may be another project's.
func issueMessage(issue metal.IssueKind, m *metal.Machine, shared metal.Duplicates) string {
	switch issue {
	case metal.IssueCrashLoop:
		message := "machine is in a provisioning crash loop"
		if e := m.AllocationError(); e != nil {
			message += describeEvent(e)
		}
		return message
	case metal.IssueFailedReclaim:
		return "an earlier release of the machine did not finish, and it phoned home all the same"
	case metal.IssueDead:
		return "the machine is not sending events anymore"
	case metal.IssueSilent:
		return "the machine is not sending LLDP alive messages anymore"
	case metal.IssueLastEventError:
		return "the machine had an error during the provisioning lifecycle" + describeEvent(m.LastError)
	case metal.IssueDuplicateAddress:
		return "another machine has an address of this one, too: " + strings.Join(shared.Addresses, ", ")
	case metal.IssueDuplicateASN:
		numbers := make([]string, 0, len(shared.ASNs))
		for _, n := range shared.ASNs {
			numbers = append(numbers, strconv.FormatInt(n, 10))
		}
		return "the ASN is not unique among firewalls: " + strings.Join(numbers, ", ")
	}
	return ""
}

func describeEvent(e *metal.Event) string {
	message := fmt.Sprintf(" (event %q at %s", e.Event, e.Time.UTC().Format(time.RFC3339))
	if e.Message != "" {
		message += ": " + e.Message
	}
	return message + ")"
}
