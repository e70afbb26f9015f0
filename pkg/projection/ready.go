// SPDX-License-Identifier: Apache-2.0

package projection

import (
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/oneline"
)

// ComputedConditions are the types of condition that are computed live: controllers
// cannot set them, and they are not recorded.
var ComputedConditions = []string{
	infrastructure.ConditionReady, infrastructure.ConditionMatchesSpec, infrastructure.ConditionImageUpToDate,
	infrastructure.ConditionPowerRequested, infrastructure.ConditionReinstalling, infrastructure.ConditionMetalIssues,
}

// conditionState is the status of a condition, and why.
type conditionState struct {
	status  metav1.ConditionStatus
	reason  string
	message string
	// since dates the status by something in the record or in metal, so that a
	// restart does not change it; zero if nothing dates it.
	since time.Time
}

func (s conditionState) isTrue() bool { return s.status == metav1.ConditionTrue }

// condition is the state as a condition of an object. While the status stays
// the same, the time of its last transition does; it never goes back.
func (s conditionState) condition(kind string, object *metav1.ObjectMeta, previous *metav1.Condition, now func() time.Time) metav1.Condition {
	c := metav1.Condition{
		Type: kind, Status: s.status, Reason: s.reason, Message: oneline.Sanitize(s.message, oneline.MaxMessage),
		ObservedGeneration: object.Generation, LastTransitionTime: metav1.NewTime(s.since.UTC().Truncate(time.Second)),
	}
	switch {
	case previous == nil && s.since.IsZero():
		c.LastTransitionTime = object.CreationTimestamp
	case previous == nil:
	case previous.Status == s.status:
		c.LastTransitionTime = previous.LastTransitionTime
	case s.since.IsZero():
		c.LastTransitionTime = metav1.NewTime(now().UTC().Truncate(time.Second))
	case c.LastTransitionTime.Before(&previous.LastTransitionTime):
		c.LastTransitionTime = previous.LastTransitionTime
	}
	return c
}

// releaseTime is when a release began: the recorded condition Allocated is False
// since then.
func releaseTime(a infrastructure.AllocationState, conditions []metav1.Condition) time.Time {
	if c := meta.FindStatusCondition(conditions, infrastructure.ConditionAllocated); c != nil && c.Status == metav1.ConditionFalse {
		return c.LastTransitionTime.Time
	}
	return timeOrZero(a.StartTime)
}

// notAllocatedState is the condition Ready of a claim; a refusal is shown here too,
// because this is the condition that Cluster API shows.
func notAllocatedState(created time.Time, conditions []metav1.Condition) conditionState {
	v := conditionState{
		status: metav1.ConditionFalse, reason: infrastructure.ReasonNotAllocated, since: created,
		message: "Not allocated; see condition Allocated.",
	}
	if c := meta.FindStatusCondition(conditions, infrastructure.ConditionAllocated); c != nil && c.Status != metav1.ConditionTrue && c.Message != "" {
		v.reason, v.message = c.Reason, c.Message
	}
	return v
}

// liveState is the condition Ready of a machine that is allocated to its object.
func liveState(o observed, created time.Time) conditionState {
	m, steps := o.live, o.steps
	home := metal.LastPhonedHome(steps)
	v := conditionState{status: metav1.ConditionFalse, since: notReadySince(steps, home, created)}
	switch {
	case o.reinstallation == metal.ReinstallInstalling:
		// Until it has phoned home, the metal-api shows a crash loop.
		v.reason = infrastructure.ReasonReinstalling
		v.message = fmt.Sprintf("Reinstalling: phase is %q; waiting for the machine to phone home.", phaseOf(steps))
		if isSilent(m) {
			v.message += fmt.Sprintf(" No sign of life since %s.", m.LastEventTime.UTC().Format(time.RFC3339))
		}
	case m.CrashLoop:
		v.reason = infrastructure.ReasonCrashLoop
		v.message = fmt.Sprintf("Crash loop: the machine returns to %q repeatedly; inspect its console (metalctl machine console %s).", phaseOf(steps), m.ID)
	case m.FailedMachineReclaim:
		v.reason = infrastructure.ReasonFailedReclaim
		v.message = "The metal-api reports failedMachineReclaim: an earlier release of the machine did not finish, and it may still run its previous installation."
	case isSilent(m):
		v.reason = infrastructure.ReasonUnreachable
		v.message = fmt.Sprintf("No sign of life since %s: liveliness is %s.", m.LastEventTime.UTC().Format(time.RFC3339), m.Liveliness)
		if home == 0 {
			v.since = m.LastEventTime
			// It may run all the same: what is silent is its report.
			v.status = metav1.ConditionUnknown
		}
	case home < 0:
		v.reason = infrastructure.ReasonProvisioning
		v.message = fmt.Sprintf("Provisioning: phase is %q; waiting for the machine to phone home.", phaseOf(steps))
	case home > 0:
		v.reason = infrastructure.ReasonProvisioning
		v.message = fmt.Sprintf("Provisioning again: phase is %q; waiting for the machine to phone home.", phaseOf(steps))
	default:
		v = conditionState{
			status: metav1.ConditionTrue, reason: infrastructure.ReasonPhonedHome, since: steps[0].Time,
			message: "The machine has phoned home and is alive.",
		}
	}
	return v
}

// notReadySince is the time of the first step after the last `Phoned Home`, which is at home.
func notReadySince(steps []metal.Event, home int, created time.Time) time.Time {
	if home > 0 {
		return steps[home-1].Time
	}
	return created
}

func isSilent(m *metal.Machine) bool {
	return m.Liveliness == metal.LivelinessDead || m.Liveliness == metal.LivelinessUnknown
}
