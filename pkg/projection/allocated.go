// SPDX-License-Identifier: Apache-2.0

package projection

import (
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

// allocatedState is the condition of an object whose record names its metal: it holds
// that, until Ready says that it is gone.
func allocatedState(a *infrastructure.AllocationState, ready conditionState, reason, message string) conditionState {
	switch ready.reason {
	case infrastructure.ReasonAllocationGone, infrastructure.ReasonNetworkGone, infrastructure.ReasonAddressGone:
		return ready
	}
	return conditionState{status: metav1.ConditionTrue, reason: reason, message: message, since: timeOrZero(a.StartTime)}
}

// releasingReason is what there is to say of a release that has begun: why it does not
// get on, or that it does. While it is retried, the controller says why it
// was refused.
func releasingReason(object *metav1.ObjectMeta, conditions []metav1.Condition, underWay string) (reason, message string) {
	c := meta.FindStatusCondition(conditions, infrastructure.ConditionAllocated)
	if c != nil && c.Reason != infrastructure.ReasonReleasing && c.Message != "" {
		return c.Reason, c.Message
	}
	if c = blockedDeletion(object, conditions); c != nil {
		switch c.Reason {
		case infrastructure.ReasonReleaseRefused, infrastructure.ReasonMetalAPIUnavailable:
			return c.Reason, c.Message
		}
	}
	return infrastructure.ReasonReleasing, underWay
}

// blockedDeletion returns the condition by which a controller says what blocks a
// deletion; nil if nothing does.
func blockedDeletion(object *metav1.ObjectMeta, conditions []metav1.Condition) *metav1.Condition {
	c := meta.FindStatusCondition(conditions, infrastructure.ConditionDeleting)
	if object.DeletionTimestamp == nil || c == nil || c.Status != metav1.ConditionTrue ||
		c.Reason == infrastructure.ReasonReleasing || c.Message == "" {
		return nil
	}
	return c
}

// deletionSeparator separates, in a message, the state of the metal from what
// blocks the deletion.
const deletionSeparator = " The deletion waits: "

// withDeletion adds to the condition of metal that is held what blocks the
// object's deletion. The condition may be one that was shown before.
func (s conditionState) withDeletion(object *metav1.ObjectMeta, conditions []metav1.Condition) conditionState {
	s.message, _, _ = strings.Cut(s.message, deletionSeparator)
	if c := blockedDeletion(object, conditions); c != nil {
		s.message += deletionSeparator + c.Message
	}
	return s
}

// origin is where the condition Allocated comes from.
type origin int

const (
	// fromAttempt: a controller recorded what the first attempt waits for, or the
	// server why an attempt was refused. That is true of the spec as it was then.
	fromAttempt origin = iota
	// fromCall: the server recorded how far a call has got. What a call depends
	// on cannot be changed in a spec after it, so that is true of any generation.
	fromCall
	// fromMetal: the record names the metal, and the condition is computed.
	fromMetal
)

func originOf(a *infrastructure.AllocationState) origin {
	switch {
	case a == nil || a.Phase == "":
		return fromAttempt
	case a.Phase == infrastructure.AllocationAllocating, a.Phase == infrastructure.AllocationReleasing, a.Phase == infrastructure.AllocationReleased:
		return fromCall
	}
	return fromMetal
}

// recordedConditions returns the conditions without what is computed.
func recordedConditions(conditions []metav1.Condition, a *infrastructure.AllocationState) []metav1.Condition {
	origin := originOf(a)
	var kept []metav1.Condition
	for _, c := range conditions {
		switch {
		case slices.Contains(ComputedConditions, c.Type), c.Type == infrastructure.ConditionAllocated && origin == fromMetal:
			continue
		case c.Type == infrastructure.ConditionAllocated && origin == fromCall:
			c.ObservedGeneration = 0
		}
		kept = append(kept, c)
	}
	return kept
}

// computedStates are the states of the conditions that are computed: Ready, Allocated
// if the record names the metal, and the others if they have a status.
type computedStates struct {
	ready, allocated, matchesSpec, imageUpToDate, powerRequested, reinstalling, metalIssues conditionState
}

// projectedConditions returns the conditions of an object as they are shown: those that
// are computed, then the recorded ones, in their order. shown are the conditions that
// were shown last.
func projectedConditions(object *metav1.ObjectMeta, conditions []metav1.Condition, a *infrastructure.AllocationState,
	computed computedStates, shown []metav1.Condition, now func() time.Time) []metav1.Condition {
	last := func(kind string) *metav1.Condition { return meta.FindStatusCondition(shown, kind) }
	all := []metav1.Condition{computed.ready.condition(infrastructure.ConditionReady, object, last(infrastructure.ConditionReady), now)}
	origin := originOf(a)
	if origin == fromMetal {
		all = append(all, computed.allocated.condition(infrastructure.ConditionAllocated, object, last(infrastructure.ConditionAllocated), now))
	}
	add := func(kind string, s *conditionState) {
		if s.status != "" {
			all = append(all, s.condition(kind, object, last(kind), now))
		}
	}
	add(infrastructure.ConditionMatchesSpec, &computed.matchesSpec)
	add(infrastructure.ConditionImageUpToDate, &computed.imageUpToDate)
	add(infrastructure.ConditionPowerRequested, &computed.powerRequested)
	add(infrastructure.ConditionReinstalling, &computed.reinstalling)
	add(infrastructure.ConditionMetalIssues, &computed.metalIssues)
	for _, c := range recordedConditions(conditions, a) {
		if c.Type == infrastructure.ConditionAllocated && origin == fromCall {
			c.ObservedGeneration = object.Generation
		}
		all = append(all, c)
	}
	return all
}
