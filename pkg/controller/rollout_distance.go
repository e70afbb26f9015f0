// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"cmp"
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

const (
	// minExchangeTimeout is for how long a takeover waits for a report, if three intervals of
	// the firewall-controller are shorter.
	minExchangeTimeout = 3 * time.Minute
	// unreachableTimeout is for how long a takeover goes on while the workload cluster cannot be
	// read.
	unreachableTimeout = time.Minute
	// takeoverRetry is how soon after a takeover was taken back the next one begins.
	takeoverRetry = 15 * time.Minute
)

// exchangeTimeout is for how long a takeover waits for a report.
func exchangeTimeout(wanted *v1alpha4.MetalStackFirewallSpec) time.Duration {
	if c := wanted.Controller; c != nil && c.Interval != nil {
		return max(minExchangeTimeout, 3*c.Interval.Duration)
	}
	return minExchangeTimeout
}

// A firewallDistance is a distance that a firewall is to have, and what its condition
// DistanceApplied is to say; applied is empty if it has none.
type firewallDistance struct {
	firewall *v1alpha4.MetalStackFirewall
	distance int32
	applied  metav1.ConditionStatus
}

// planExchange decides about the distances of a firewall that is like the spec and of those
// that serve in its place, and returns what the takeover waits for; nothing if the others
// may go. They go only after its firewall-controller has reported once more since they
// lost the traffic; if it does not in time, they get the traffic back, and the takeover is tried
// again later. Where it has got is recorded in the distances themselves, and since when in the
// condition DistanceApplied.
func (r *rollout) planExchange(chosen *v1alpha4.MetalStackFirewall, others []*v1alpha4.MetalStackFirewall, now time.Time) (waiting string) {
	serving := r.servingOf(others)
	if len(serving) == 0 {
		r.planDistance(chosen, shortestDistance)
		return ""
	}
	begun := slices.ContainsFunc(serving, hasLongestDistance)
	connected := connectedCondition(chosen)
	switch {
	case canTakeOver(chosen, serving):
	case begun && chosen.Status.Ready && connected.Status == metav1.ConditionUnknown && now.Before(connected.LastTransitionTime.Add(unreachableTimeout)):
		// The connections of the controller manager are among those that change their way.
		r.requeueWithin(connected.LastTransitionTime.Add(unreachableTimeout).Sub(now))
		return "its firewall-controller must be connected: " + connected.Message
	default:
		r.takeBack(chosen, serving)
		return "its firewall-controller must be connected: " + connected.Message
	}
	if !begun {
		if retry := takenBackAt(chosen, serving).Add(takeoverRetry); now.Before(retry) {
			r.takeBack(chosen, serving)
			r.requeueWithin(retry.Sub(now))
			return "it did not report in time when it had the traffic, which was taken back; this is tried again at " + retry.UTC().Format(time.RFC3339)
		}
		// Otherwise a report of the shortest distance could be one from before.
		if isConnected(chosen) && reportsOtherDistance(chosen) {
			r.planDistance(chosen, chosen.Status.Distance)
			return fmt.Sprintf("it must report distance %d", chosen.Status.Distance)
		}
	}
	for _, f := range serving {
		if !r.hasDistance(f, longestDistance, now) {
			waiting = fmt.Sprintf("MetalStackFirewall %s must report distance %d", f.Name, longestDistance)
		}
	}
	if waiting != "" {
		return waiting
	}
	was := chosen.Status.Distance
	r.planDistance(chosen, shortestDistance)
	switch left := latestChange(append(serving, chosen)).Add(r.exchange).Sub(now); {
	case hasTakenOver(chosen, serving) || !isConnected(chosen):
		return ""
	case was != shortestDistance:
		r.requeueWithin(r.exchange)
	case left <= 0:
		r.distances = nil
		r.takeBack(chosen, serving)
	default:
		r.requeueWithin(left)
	}
	return fmt.Sprintf("it must report distance %d", shortestDistance)
}

// takeBack gives those that serve the traffic, and not yet the one that is to take over.
func (r *rollout) takeBack(chosen *v1alpha4.MetalStackFirewall, serving []*v1alpha4.MetalStackFirewall) {
	r.planDistance(chosen, rollingDistance)
	for _, f := range serving {
		r.planDistance(f, shortestDistance)
	}
}

// takenBackAt returns when a takeover was taken back last: those that serve have the shortest
// distance since then. It is zero if that was before there was the one that is to take over.
func takenBackAt(chosen *v1alpha4.MetalStackFirewall, serving []*v1alpha4.MetalStackFirewall) time.Time {
	if last := latestChange(serving); last.After(chosen.CreationTimestamp.Time) {
		return last
	}
	return time.Time{}
}

// hasTakenOver returns whether the firewall-controller of a firewall has reported since those
// that served have the longest distance. If their firewall-controllers know of no distance, it
// is enough that its own is connected.
func hasTakenOver(f *v1alpha4.MetalStackFirewall, serving []*v1alpha4.MetalStackFirewall) bool {
	if !isConnected(f) || f.Status.Distance != shortestDistance {
		return false
	}
	since := latestChange(slices.DeleteFunc(slices.Clone(serving), func(f *v1alpha4.MetalStackFirewall) bool { return !hasLongestDistance(f) }))
	if since.IsZero() {
		return true
	}
	reported, applied := f.Status.Controller, distanceCondition(f)
	if reported == nil || reportsOtherDistance(f) {
		return false
	}
	return reported.LastRun != nil && reported.LastRun.After(since) ||
		applied != nil && !applied.LastTransitionTime.Time.Before(since)
}

// latestChange returns when the condition DistanceApplied of firewalls changed last.
func latestChange(all []*v1alpha4.MetalStackFirewall) (latest time.Time) {
	for _, f := range all {
		if c := distanceCondition(f); c != nil {
			latest = later(latest, c.LastTransitionTime.Time)
		}
	}
	return latest
}

// planBestServing has the firewall that serves best have the traffic while there is none
// like the spec.
func (r *rollout) planBestServing(others []*v1alpha4.MetalStackFirewall) {
	if serving := r.servingOf(others); len(serving) > 0 {
		r.planDistance(slices.MinFunc(serving, r.compareServing(serving)), shortestDistance)
	}
}

// compareServing orders firewalls that are not like the spec by how well they serve: those
// come last whose firewall-controller does not connect, or that have not taken over yet.
func (r *rollout) compareServing(all []*v1alpha4.MetalStackFirewall) func(a, b *v1alpha4.MetalStackFirewall) int {
	serving := r.servingOf(all)
	begun := slices.ContainsFunc(serving, hasLongestDistance)
	rank := func(f *v1alpha4.MetalStackFirewall) int {
		switch {
		case slices.Contains(r.failed, f):
			return 2
		case begun && !hasLongestDistance(f) && !hasTakenOver(f, serving) && slices.Contains(serving, f):
			return 1
		}
		return 0
	}
	return func(a, b *v1alpha4.MetalStackFirewall) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), compareFirewalls(a, b))
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
		r.requeueWithin(r.exchange)
		return false
	}
	left := condition.LastTransitionTime.Add(r.exchange).Sub(now)
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
		(connected.Reason == infrastructure.ReasonNoKubeconfig && !slices.ContainsFunc(serving, mayBeConnected)))
}

// servingOf returns the firewalls that have the traffic, or would have it without another one.
// One that is unreachable may run all the same: its firewall-controller tells, and otherwise
// it is given as long as a firewall that is to be replaced.
func (r *rollout) servingOf(all []*v1alpha4.MetalStackFirewall) (serving []*v1alpha4.MetalStackFirewall) {
	for _, f := range all {
		ready := meta.FindStatusCondition(f.Status.Conditions, infrastructure.ConditionReady)
		serves := f.Status.Ready
		switch {
		case f.DeletionTimestamp != nil || !hasPhonedHome(f):
			continue
		case ready != nil && ready.Reason == infrastructure.ReasonNotObserved:
			serves = true
		case isUnreachable(f):
			left, why := timeLeft(ready.LastTransitionTime.Time, r.unhealthy, r.now, "")
			serves = why == "" || isConnected(f)
			r.requeueWithin(left)
		}
		if serves {
			serving = append(serving, f)
		}
	}
	return serving
}

func hasLongestDistance(f *v1alpha4.MetalStackFirewall) bool {
	return f.Status.Distance == longestDistance
}

// areExchanged returns whether one of the firewalls takes over from another one.
func areExchanged(all []*v1alpha4.MetalStackFirewall) bool {
	return slices.ContainsFunc(all, func(f *v1alpha4.MetalStackFirewall) bool { return f.DeletionTimestamp == nil && hasLongestDistance(f) })
}

// reportsOtherDistance returns whether the firewall-controller of a firewall reports another
// distance than it has.
func reportsOtherDistance(f *v1alpha4.MetalStackFirewall) bool {
	reported := f.Status.Controller
	return reported != nil && reported.Distance != nil && *reported.Distance != f.Status.Distance
}

// mayBeConnected returns whether the firewall-controller of a firewall is connected, or was
// when the workload cluster could be read last.
func mayBeConnected(f *v1alpha4.MetalStackFirewall) bool {
	status := connectedCondition(f).Status
	return status == metav1.ConditionTrue || status == metav1.ConditionUnknown
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
