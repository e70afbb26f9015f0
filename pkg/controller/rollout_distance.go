// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

// The distances of firewalls. Of two that serve, the one with the shorter distance has the
// traffic.
const (
	shortestDistance = 0
	// rollingDistance is that of a firewall that has not taken over yet.
	rollingDistance = 3
	// longestDistance is that of a firewall whose successor takes over.
	longestDistance = 8
)

// exchangeTimeout is for how long a rollout waits until a firewall-controller reports its
// distance, and, once a takeover has begun, until the workload cluster can be read again.
const exchangeTimeout = time.Minute

// A firewallDistance is a distance that a firewall is to have, and what its condition
// DistanceApplied is to say; applied is empty if it has none.
type firewallDistance struct {
	firewall *v1alpha4.MetalStackFirewall
	distance int32
	applied  metav1.ConditionStatus
}

// planExchange decides about the distances of a firewall that is like the spec and of those
// that serve in its place, and returns what the takeover waits for; nothing if the others
// may go. Where it has got is recorded in the distances themselves, and since when in the
// condition DistanceApplied.
func (r *rollout) planExchange(chosen *v1alpha4.MetalStackFirewall, others []*v1alpha4.MetalStackFirewall, now time.Time) (waiting string) {
	serving := slices.DeleteFunc(slices.Clone(others), func(f *v1alpha4.MetalStackFirewall) bool { return !serves(f) })
	if len(serving) == 0 {
		r.planDistance(chosen, shortestDistance)
		return ""
	}
	begun := slices.ContainsFunc(serving, func(f *v1alpha4.MetalStackFirewall) bool { return f.Status.Distance == longestDistance })
	connected := connectedCondition(chosen)
	switch {
	case canTakeOver(chosen, serving):
	case begun && chosen.Status.Ready && connected.Status == metav1.ConditionUnknown && now.Before(connected.LastTransitionTime.Add(exchangeTimeout)):
		// The connections of the controller manager are among those that change their way.
		r.requeueWithin(connected.LastTransitionTime.Add(exchangeTimeout).Sub(now))
		return "its firewall-controller must be connected: " + connected.Message
	case chosen.Status.Ready && chosen.Status.Distance == shortestDistance && !slices.ContainsFunc(serving, hasShortestDistance) &&
		!(begun && connected.Status == metav1.ConditionUnknown):
		return "its firewall-controller must be connected: " + connected.Message
	default:
		r.planDistance(chosen, rollingDistance)
		for _, f := range serving {
			r.planDistance(f, shortestDistance)
		}
		return "its firewall-controller must be connected: " + connected.Message
	}
	for _, f := range serving {
		if !r.hasDistance(f, longestDistance, now) {
			waiting = fmt.Sprintf("MetalStackFirewall %s must report distance %d", f.Name, longestDistance)
		}
	}
	if waiting == "" && !r.hasDistance(chosen, shortestDistance, now) {
		waiting = fmt.Sprintf("it must report distance %d", shortestDistance)
	}
	return waiting
}

// planBestServing has the firewall that serves best have the traffic while there is none
// like the spec.
func (r *rollout) planBestServing(others []*v1alpha4.MetalStackFirewall) {
	serving := slices.DeleteFunc(slices.Clone(others), func(f *v1alpha4.MetalStackFirewall) bool { return !serves(f) })
	if len(serving) > 0 {
		r.planDistance(slices.MinFunc(serving, compareFirewalls), shortestDistance)
	}
}

// planNoDistances takes back the distances of firewalls that have no firewall-controller any
// more.
func (r *rollout) planNoDistances(owned []*v1alpha4.MetalStackFirewall) {
	for _, f := range owned {
		if f.DeletionTimestamp == nil && (f.Status.Distance != shortestDistance || distanceCondition(f) != nil) {
			r.distances = append(r.distances, firewallDistance{firewall: f, distance: shortestDistance})
		}
	}
}

// planDistance gives a firewall a distance, and keeps its condition as its firewall-controller
// reports. A firewall that always had the shortest distance needs no condition.
func (r *rollout) planDistance(f *v1alpha4.MetalStackFirewall, distance int32) {
	condition := distanceCondition(f)
	want := firewallDistance{f, distance, distanceApplied(f, distance)}
	switch {
	case f.DeletionTimestamp != nil:
	case f.Status.Distance != distance, condition != nil && condition.Status != want.applied:
		r.distances = append(r.distances, want)
	}
}

// hasDistance returns whether a firewall has a distance, or is not waited for any more.
func (r *rollout) hasDistance(f *v1alpha4.MetalStackFirewall, distance int32, now time.Time) bool {
	r.planDistance(f, distance)
	applied := distanceApplied(f, distance)
	condition := distanceCondition(f)
	switch connected := connectedCondition(f); {
	case connected.Status != metav1.ConditionTrue && connected.Status != metav1.ConditionUnknown:
		return true
	case f.Status.Distance != distance:
		return applied == ""
	case applied != metav1.ConditionFalse:
		return true
	case condition == nil || condition.Status != metav1.ConditionFalse:
		if condition == nil {
			r.distances = append(r.distances, firewallDistance{f, distance, applied})
		}
		r.requeueWithin(exchangeTimeout)
		return false
	}
	left := condition.LastTransitionTime.Add(exchangeTimeout).Sub(now)
	r.requeueWithin(left)
	return left <= 0
}

// distanceApplied is what there is to say of a distance that a firewall has or is given;
// nothing if its firewall-controller knows of none.
func distanceApplied(f *v1alpha4.MetalStackFirewall, distance int32) metav1.ConditionStatus {
	switch reported := f.Status.Controller; {
	case reported != nil && reported.Distance != nil && *reported.Distance == distance:
		return metav1.ConditionTrue
	case reported != nil && reported.Distance == nil && connectedCondition(f).Status == metav1.ConditionTrue:
		return ""
	}
	return metav1.ConditionFalse
}

// canTakeOver returns whether a firewall may take the place of those that serve: it
// runs, and its firewall-controller is connected, unless it can never be and none is.
func canTakeOver(chosen *v1alpha4.MetalStackFirewall, serving []*v1alpha4.MetalStackFirewall) bool {
	connected := connectedCondition(chosen)
	return chosen.Status.Ready && (connected.Status == metav1.ConditionTrue ||
		(connected.Reason == infrastructure.ReasonNoKubeconfig && !slices.ContainsFunc(serving, isConnected)))
}

// serves returns whether a firewall has the traffic, or would have it without another one.
func serves(f *v1alpha4.MetalStackFirewall) bool {
	ready := meta.FindStatusCondition(f.Status.Conditions, infrastructure.ConditionReady)
	unobserved := ready != nil && ready.Reason == infrastructure.ReasonNotObserved
	return f.DeletionTimestamp == nil && hasPhonedHome(f) && (f.Status.Ready || unobserved)
}

func hasShortestDistance(f *v1alpha4.MetalStackFirewall) bool {
	return f.Status.Distance == shortestDistance
}

func isConnected(f *v1alpha4.MetalStackFirewall) bool {
	return connectedCondition(f).Status == metav1.ConditionTrue
}

// connectedCondition returns the condition ControllerConnected; an empty one if there is none.
func connectedCondition(f *v1alpha4.MetalStackFirewall) metav1.Condition {
	if c := meta.FindStatusCondition(f.Status.Conditions, infrastructure.ConditionControllerConnected); c != nil {
		return *c
	}
	return metav1.Condition{Message: "it has not been observed yet"}
}

func distanceCondition(f *v1alpha4.MetalStackFirewall) *metav1.Condition {
	return meta.FindStatusCondition(f.Status.Conditions, infrastructure.ConditionDistanceApplied)
}

// setDistance writes a distance and its condition into a status. The condition says since when
// this distance is set.
func setDistance(status *v1alpha4.MetalStackFirewallStatus, d firewallDistance, now time.Time) {
	if status.Distance != d.distance || d.applied == "" {
		meta.RemoveStatusCondition(&status.Conditions, infrastructure.ConditionDistanceApplied)
	}
	status.Distance = d.distance
	condition := metav1.Condition{
		Type: infrastructure.ConditionDistanceApplied, Status: d.applied, LastTransitionTime: metav1.NewTime(now),
		Reason: infrastructure.ReasonDistanceApplied, Message: fmt.Sprintf("The firewall-controller reports distance %d", d.distance),
	}
	switch d.applied {
	case "":
		return
	case metav1.ConditionFalse:
		condition.Reason = infrastructure.ReasonDistancePending
		condition.Message = fmt.Sprintf("The firewall-controller does not report distance %d yet", d.distance)
	}
	meta.SetStatusCondition(&status.Conditions, condition)
}
