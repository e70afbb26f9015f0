// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"cmp"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

// limits are how long firewalls may take for something before they are replaced.
type limits struct {
	unhealthy, provisioning time.Duration
	// silence is 0 if there is no limit.
	silence time.Duration
}

func firewallLimits(wanted *v1alpha4.MetalStackFirewallSpec, options Options) limits {
	l := limits{unhealthy: options.FirewallUnhealthyTimeout, provisioning: options.FirewallProvisioningTimeout}
	if wanted.ProvisioningTimeout != nil {
		l.provisioning = wanted.ProvisioningTimeout.Duration
	}
	if wanted.Controller != nil && wanted.Controller.SilenceTimeout != nil {
		l.silence = wanted.Controller.SilenceTimeout.Duration
	}
	return l
}

// checkHealth returns why a firewall is to be replaced, or for how long it may still
// be as it is until then. One that is gone is at once; one that crashes or is
// silent, or came back to an earlier step, after a while, and so is one that does not phone
// home, or whose firewall-controller is silent. One that is reinstalled has as long as for its first
// installation.
func checkHealth(f *v1alpha4.MetalStackFirewall, now time.Time, l limits) (left time.Duration, why string) {
	ready := meta.FindStatusCondition(f.Status.Conditions, infrastructure.ConditionReady)
	switch {
	case ready == nil || allocationOf(f).Phase != v1alpha4.AllocationAllocated:
		return 0, ""
	case ready.Status == metav1.ConditionTrue:
		connected := connectedCondition(f)
		if l.silence == 0 || connected.Status != metav1.ConditionFalse || connected.Reason != infrastructure.ReasonControllerSilent {
			return 0, ""
		}
		return timeLeft(connected.LastTransitionTime.Time, l.silence, now, "its firewall-controller has reported nothing since")
	}
	switch ready.Reason {
	case infrastructure.ReasonAllocationGone:
		return 0, "it is gone"
	case infrastructure.ReasonNotObserved:
		return 0, ""
	case infrastructure.ReasonReinstalling:
		// Ready may have been False before that, as of one that crashed.
		since := ready.LastTransitionTime.Time
		if requested := reinstallRequested(f); requested.After(since) {
			since = requested
		}
		return timeLeft(since, l.provisioning, now, "its reinstallation has not ended since")
	case infrastructure.ReasonCrashLoop, infrastructure.ReasonFailedReclaim, infrastructure.ReasonUnreachable:
	default:
		if !hasPhonedHome(f) {
			began := allocationOf(f).StartTime
			if ready.Reason != infrastructure.ReasonProvisioning || began == nil {
				return 0, ""
			}
			return timeLeft(began.Time, l.provisioning, now, "it has not phoned home since its allocation at")
		}
	}
	since := ready.LastTransitionTime.Time
	if began := allocationOf(f).StartTime; began != nil && began.After(since) {
		since = began.Time
	}
	return timeLeft(since, l.unhealthy, now, "it has not been ready since")
}

// reinstallRequested returns when a reinstallation of a firewall was requested last for its
// allocation; zero if none was.
func reinstallRequested(f *v1alpha4.MetalStackFirewall) time.Time {
	op, a := f.Status.LastOperation, f.Status.Allocation
	if op == nil || a == nil || op.Action != infrastructure.OperationReinstall || op.Outcome == v1alpha4.OperationRefused ||
		op.AllocationUUID != a.AllocationUUID || op.RequestTime == nil {
		return time.Time{}
	}
	return op.RequestTime.Time
}

// timeLeft returns how much of a time is left, or what has been since its begin.
func timeLeft(since time.Time, limit time.Duration, now time.Time, what string) (left time.Duration, why string) {
	if left = since.Add(limit).Sub(now); left > 0 {
		return left, ""
	}
	return 0, what + " " + since.UTC().Format(time.RFC3339)
}

// divideByConnection takes out of the candidates those whose firewall-controller does not
// connect, so that they cannot take over from another one, which goes on serving. While it is
// unknown whether it does, nothing is concluded.
func (r *rollout) divideByConnection(candidates, others []*v1alpha4.MetalStackFirewall, now time.Time, l limits) (kept, failed []*v1alpha4.MetalStackFirewall) {
	serving := slices.DeleteFunc(r.servingOf(others), func(f *v1alpha4.MetalStackFirewall) bool { return isUnreachable(f) && !isConnected(f) })
	for _, f := range candidates {
		connected, began := connectedCondition(f), allocationOf(f).StartTime
		if len(serving) > 0 && f.Status.Ready && connected.Status == metav1.ConditionFalse && began != nil && !canTakeOver(f, serving) {
			since := connected.LastTransitionTime.Time
			if began.After(since) {
				since = began.Time
			}
			left, why := timeLeft(since, l.provisioning, now, "its firewall-controller has not connected since")
			if why != "" {
				r.reasons[f] = why
				failed = append(failed, f)
				continue
			}
			r.requeueWithin(left)
		}
		kept = append(kept, f)
	}
	return kept, failed
}

// compareFirewalls orders firewalls by how well they serve. Of two that do, the one that has
// the traffic comes first.
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
	return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.Status.Distance, b.Status.Distance), a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
}

// hasPhonedHome returns whether a firewall has ever phoned home. That it has now is
// seen a moment before it is written down. One that is unreachable, and of which it
// is unknown whether it is ready, had phoned home last.
func hasPhonedHome(f *v1alpha4.MetalStackFirewall) bool {
	return f.Status.Ready || isProvisioned(f) || isUnreachable(f)
}

// isUnreachable returns whether a firewall phoned home last, and is silent now.
func isUnreachable(f *v1alpha4.MetalStackFirewall) bool {
	ready := meta.FindStatusCondition(f.Status.Conditions, infrastructure.ConditionReady)
	return ready != nil && ready.Status == metav1.ConditionUnknown && ready.Reason == infrastructure.ReasonUnreachable
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
