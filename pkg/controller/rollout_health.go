// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"cmp"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

// checkHealth returns why a firewall is to be replaced, or for how long it may still
// be as it is until then. One that is gone is at once; one that crashes or is
// silent, or came back to an earlier step, after unhealthyTimeout.
func checkHealth(f *v1alpha4.MetalStackFirewall, now time.Time, unhealthyTimeout time.Duration) (left time.Duration, why string) {
	ready := meta.FindStatusCondition(f.Status.Conditions, infrastructure.ConditionReady)
	if ready == nil || ready.Status == metav1.ConditionTrue || allocationOf(f).Phase != v1alpha4.AllocationAllocated {
		return 0, ""
	}
	switch ready.Reason {
	case infrastructure.ReasonAllocationGone:
		return 0, "it is gone"
	case infrastructure.ReasonNotObserved:
		return 0, ""
	case infrastructure.ReasonCrashLoop, infrastructure.ReasonFailedReclaim, infrastructure.ReasonUnreachable:
	default:
		if !hasPhonedHome(f) {
			// It takes as long as it takes.
			return 0, ""
		}
	}
	since := ready.LastTransitionTime.Time
	if began := allocationOf(f).StartTime; began != nil && began.After(since) {
		since = began.Time
	}
	if left = since.Add(unhealthyTimeout).Sub(now); left > 0 {
		return left, ""
	}
	return 0, "it has not been ready since " + since.UTC().Format(time.RFC3339)
}

// compareFirewalls orders firewalls that are like the spec by how well they serve.
func compareFirewalls(a, b *v1alpha4.MetalStackFirewall) int {
	rank := func(f *v1alpha4.MetalStackFirewall) int {
		switch {
		case f.Status.Ready:
			return 0
		case hasPhonedHome(f):
			return 1
		}
		return 2
	}
	return cmp.Or(cmp.Compare(rank(a), rank(b)), a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
}

// hasPhonedHome returns whether a firewall has ever phoned home. That it has now is
// seen a moment before it is written down. One that is unreachable, and of which it
// is unknown whether it is ready, had phoned home last.
func hasPhonedHome(f *v1alpha4.MetalStackFirewall) bool {
	ready := meta.FindStatusCondition(f.Status.Conditions, infrastructure.ConditionReady)
	silent := ready != nil && ready.Status == metav1.ConditionUnknown && ready.Reason == infrastructure.ReasonUnreachable
	return f.Status.Ready || isProvisioned(f) || silent
}

// isUndetermined returns whether it cannot be said yet if a firewall serves: it names its
// machine, as after a restore or a move, and the server has neither allocated nor
// refused that machine, or has not observed it yet.
func isUndetermined(f *v1alpha4.MetalStackFirewall) bool {
	if f.DeletionTimestamp != nil || f.Spec.ProviderID == "" || hasPhonedHome(f) {
		return false
	}
	switch allocationOf(f).Phase {
	case "":
		allocated := meta.FindStatusCondition(f.Status.Conditions, infrastructure.ConditionAllocated)
		return allocated == nil || allocated.Reason != infrastructure.ReasonAllocationRefused
	case v1alpha4.AllocationAllocating:
		return true
	case v1alpha4.AllocationAllocated:
		ready := meta.FindStatusCondition(f.Status.Conditions, infrastructure.ConditionReady)
		return ready == nil || ready.Reason == infrastructure.ReasonNotObserved
	}
	return false
}

// isGone returns whether the allocation of a firewall ended without a release.
func isGone(f *v1alpha4.MetalStackFirewall) bool {
	ready := meta.FindStatusCondition(f.Status.Conditions, infrastructure.ConditionReady)
	return ready != nil && ready.Status != metav1.ConditionTrue && ready.Reason == infrastructure.ReasonAllocationGone
}
