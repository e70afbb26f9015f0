// SPDX-License-Identifier: Apache-2.0

package projection

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// claim is what claims of networks and of addresses have in common.
type claim struct {
	// what is claimed: network or address.
	what       string
	meta       *metav1.ObjectMeta
	allocation *infrastructure.AllocationState
	adopted    bool
	// id is that of the metal, or empty.
	id         string
	conditions []metav1.Condition
}

// refs are those of the metal while it is the claim's, and the identity while a call is in
// flight.
func (c *claim) refs(kind, claimed metal.RefKind) []metal.Ref {
	if c.allocation == nil || c.allocation.Phase == "" || c.allocation.Phase == infrastructure.AllocationReleased {
		return nil
	}
	var refs []metal.Ref
	if c.id != "" {
		refs = append(refs, metal.Ref{Kind: kind, ID: c.id})
		if c.allocation.Phase != infrastructure.AllocationAllocating {
			refs = append(refs, metal.Ref{Kind: claimed, ID: c.id})
		}
	}
	if c.allocation.Phase != infrastructure.AllocationAllocated && c.allocation.UID != "" {
		refs = append(refs, metal.Ref{Kind: metal.KindUID, ID: string(c.allocation.UID)})
	}
	return refs
}

// shows is whether the metal is shown that the record names.
func (c *claim) shows() bool {
	return c.id != "" && c.allocation != nil &&
		(c.allocation.Phase == infrastructure.AllocationAllocated || c.allocation.Phase == infrastructure.AllocationReleasing)
}

// readyState is whether the claim has its metal; gone is why it has not.
func (c *claim) readyState(presence metal.Presence, gone *conditionState, before *metav1.Condition) conditionState {
	a := c.allocation
	if a == nil || a.Phase == "" {
		return notAllocatedState(c.meta.CreationTimestamp.Time, c.conditions)
	}
	s := conditionState{status: metav1.ConditionFalse}
	switch a.Phase {
	case infrastructure.AllocationAllocating:
		s.since, s.reason, s.message = c.meta.CreationTimestamp.Time, infrastructure.ReasonAllocating, fmt.Sprintf("Allocating the %s from the metal-api.", c.what)
		return s
	case infrastructure.AllocationReleasing:
		s.since = releaseTime(*a, c.conditions)
		s.reason, s.message = releasingReason(c.meta, c.conditions, fmt.Sprintf("Releasing the %s to the metal-api.", c.what))
		return s
	case infrastructure.AllocationReleased:
		s.since, s.reason, s.message = releaseTime(*a, c.conditions), infrastructure.ReasonReleased, fmt.Sprintf("The %s was released to the metal-api.", c.what)
		return s
	}
	switch {
	case gone != nil:
		s = *gone
	case presence == metal.Present:
		s = conditionState{
			status: metav1.ConditionTrue, reason: infrastructure.ReasonAvailable, since: timeOrZero(a.StartTime),
			message: fmt.Sprintf("%s %s is available.", capitalized(c.what), c.id),
		}
	case before != nil:
		// Not having observed it proves nothing.
		s = conditionState{status: before.Status, reason: before.Reason, message: before.Message, since: before.LastTransitionTime.Time}
	default:
		s = conditionState{
			status: metav1.ConditionUnknown, reason: infrastructure.ReasonNotObserved, since: timeOrZero(a.StartTime),
			message: fmt.Sprintf("%s %s not observed yet.", capitalized(c.what), c.id),
		}
	}
	return s.withDeletion(c.meta, c.conditions)
}

// allocatedState is the condition Allocated of a record that names its metal.
func (c *claim) allocatedState(ready conditionState) conditionState {
	switch {
	case c.allocation == nil:
		return conditionState{}
	case c.adopted:
		return allocatedState(c.allocation, ready, infrastructure.ReasonAdopted, fmt.Sprintf("%s %s was adopted.", capitalized(c.what), c.id))
	}
	return allocatedState(c.allocation, ready, infrastructure.ReasonAllocated, fmt.Sprintf("%s %s was allocated.", capitalized(c.what), c.id))
}

// projectedConditions are the conditions as they are shown.
func (c *claim) projectedConditions(ready conditionState, before []metav1.Condition, s *Source) []metav1.Condition {
	computed := computedStates{ready: ready, allocated: c.allocatedState(ready)}
	return projectedConditions(c.meta, c.conditions, c.allocation, computed, before, s.Clock.Now)
}

func readyBefore(conditions []metav1.Condition) *metav1.Condition {
	return meta.FindStatusCondition(conditions, infrastructure.ConditionReady)
}

func capitalized(s string) string { return strings.ToUpper(s[:1]) + s[1:] }
